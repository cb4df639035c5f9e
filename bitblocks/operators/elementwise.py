# SPDX-License-Identifier: Apache-2.0
"""Operators that treat the numbers of a frame one by one."""

import math

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats, Shape
from bitblocks.operators.activation import clipped, function_of
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value, raster


@operator("Relu")
def relu(op: Operation) -> Value:
    return op.elementwise(layers.Relu, op.value(0, batch=None, joined=True))


@operator("Identity")
def identity(op: Operation) -> Value:
    return op.value(0, batch=None)


@operator("Dropout", idle=("ratio", "seed"))
def dropout(op: Operation) -> Value:
    if op.flag(2, False):
        op.refuse("must be in inference mode, not training_mode")
    return op.value(0, batch=None)


@operator("Add")
def add(op: Operation) -> Value:
    if op.is_constant(0) or op.is_constant(1):
        hidden = op.masked(0 if op.is_constant(0) else 1)
        if hidden is not None:
            return hidden
        value, addend, _ = _beside_constant(op)
        return op.scaled(value, np.ones_like(addend), addend)
    return joined(op, op.label, layers.Add, op.value(0, None, True), op.value(1, None, True))


@operator("Sub")
def subtract(op: Operation) -> Value:
    if not (op.is_constant(0) or op.is_constant(1)):
        return joined(op, op.label, layers.Sub, op.value(0, None), op.value(1, None))
    value, constant, first = _beside_constant(op)
    ones = np.ones_like(constant)
    return op.scaled(value, -ones, constant) if first else op.scaled(value, ones, -constant)


@operator("Mul")
def multiply(op: Operation) -> Value:
    if not (op.is_constant(0) or op.is_constant(1)):
        return joined(op, op.label, layers.Mul, op.value(0, None), op.value(1, None))
    value, factor, _ = _beside_constant(op)
    return op.scaled(value, factor, np.zeros_like(factor))


@operator("Div")
def divide(op: Operation) -> Value:
    if not (op.is_constant(0) or op.is_constant(1)):
        return joined(op, op.label, layers.Divide, op.value(0, None), op.value(1, None))
    value, constant, first = _beside_constant(op)
    nothing = np.zeros_like(constant)
    if not first:
        if not constant.all():
            op.refuse("must divide by numbers other than 0")
        with np.errstate(over="ignore"):
            return op.scaled(value, 1 / constant, nothing)
    if (constant == constant.flat[0]).all():
        return function_of(op, value, "reciprocal", float(constant.flat[0]))
    return op.scaled(function_of(op, value, "reciprocal", 1.0), constant, nothing)


@operator("Neg")
def negate(op: Operation) -> Value:
    value = op.value(0, batch=None)
    return op.scaled(value, np.full(value.shape, -1.0), np.zeros(value.shape))


def _beside_constant(op: Operation) -> tuple[Value, Floats, bool]:
    """The frame, the constant as one frame in the model's order, and whether it comes first."""
    first = op.is_constant(0)
    value = op.value(1 if first else 0, batch=None, joined=True)
    value = op.widened(0 if first else 1, value)
    return value, op.frame_constant(0 if first else 1, value), first


@operator("Sum")
def add_all(op: Operation) -> Value:
    """Constants first, each in turn; then one frame after the other."""
    inputs = range(len(op.node.input))
    frames = [op.value(index, None) for index in inputs if not op.is_constant(index)]
    result = frames[0] if frames else op.value(0)
    for index in inputs:
        if op.is_constant(index):
            result = op.widened(index, result)
            addend = op.frame_constant(index, result)
            result = op.scaled(result, np.ones_like(addend), addend)
    for frame in frames[1:]:
        result = joined(op, op.label, layers.Add, result, frame)
    return result


@operator("Mean")
def mean(op: Operation) -> Value:
    result, count = add_all(op), len(op.node.input)
    shares = np.full(result.shape, 1 / count)
    return op.scaled(result, shares, np.zeros_like(shares)) if count > 1 else result


@operator("Max")
def maximum(op: Operation) -> Value:
    return _extreme(op, layers.Maximum)


@operator("Min")
def minimum(op: Operation) -> Value:
    return _extreme(op, layers.Minimum)


def _extreme(op: Operation, kind: type) -> Value:
    """Of frames in turn, and then of constants."""
    inputs = range(len(op.node.input))
    result, *frames = (op.value(index, None) for index in inputs if not op.is_constant(index))
    for frame in frames:
        result = joined(op, op.label, kind, result, frame)
    for index in inputs:
        if op.is_constant(index):
            result = op.widened(index, result)
            result = _limited(op, result, op.frame_constant(index, result), kind)
    return result


def _limited(op: Operation, value: Value, limit: Floats, kind: type) -> Value:
    """The larger or the smaller of a frame and a constant; one for all of it is a Clip."""
    first = float(limit.flat[0])
    if (limit == first).all():
        ends = (first, math.inf) if kind is layers.Maximum else (-math.inf, first)
        return clipped(op, value, *ends)
    sign = np.full(limit.shape, 1.0 if kind is layers.Maximum else -1.0)
    above = op.elementwise(layers.Relu, op.scaled(value, sign, -sign * limit))
    return op.scaled(above, sign, limit)


@operator("Where")
def where(op: Operation) -> Value:
    """Frames are picked from, number by number; of a constant it is left what was not picked."""
    if not op.is_constant(0):
        op.refuse("must have a constant condition")
    frames = [op.value(index, None) for index in (1, 2) if not op.is_constant(index)]
    if len(frames) == 2:
        shape = _broadcast(op, *frames)
        a, b = (op.widened(0, op.repeated(value, shape)) for value in frames)
        shape = a.shape
        chosen = op.frame_flags(0, a)
        size = chosen.size
        names = tuple(op.viewed(op.reordered(x, None, shape), (size,)) for x in (a, b))
        both = Value(op.add(layers.Concat, op.label, names, 0).name, (2 * size,))
        index = raster(shape) + np.where(chosen, 0, size)
        return op.rearranged(op.label, both, index, a.batch)
    (value,) = frames
    value = op.widened(0, op.widened(2 if op.is_constant(2) else 1, value))
    first = op.is_constant(2)
    chosen = op.frame_flags(0, value) == first
    if op.is_endless(2 if first else 1):
        return op.elementwise(layers.Mask, value, op.streamed(value, chosen))
    constant = op.frame_constant(2 if first else 1, value)
    return op.scaled(value, chosen.astype(np.float64), np.where(chosen, 0.0, constant))


def joined(op: Operation, label: str, kind: type, a: Value, b: Value) -> Value:
    """A layer of two tensors, the shorter axes of either repeated as ONNX broadcasts them."""
    if a.batch_axis - a.rank == b.batch_axis - b.rank:
        a, b = (op.deeper(value, max(a.rank, b.rank)) for value in (a, b))
    shape = _broadcast(op, a, b)
    a, b = (op.repeated(value, shape) for value in (a, b))
    sources = (a.name, op.reordered(b, a.order, op.importer.shapes[a.name]))
    return Value(op.add(kind, label, sources).name, shape, a.order, a.batch, a.joined)


def _broadcast(op: Operation, a: Value, b: Value) -> Shape:
    """The common shape; frames stay apart where both have the batch on one axis from the end."""
    if (a.rank, a.batch, a.joined) == (b.rank, b.batch, b.joined):
        try:
            return np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            pass
    word = {"Add": "add", "Sum": "add", "Gemm": "add"}.get(op.node.op_type, "join")
    op.refuse(f"must {word} equal shapes, not {list(a.shape)} and {list(b.shape)}")
