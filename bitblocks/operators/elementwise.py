# SPDX-License-Identifier: Apache-2.0
"""Operators that treat the numbers of a frame one by one."""

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats, Shape
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value, raster


@operator("Relu")
def relu(op: Operation) -> Value:
    return op.elementwise(layers.Relu, op.value(0, batch=None, joined=True))


@operator("Identity")
def identity(op: Operation) -> Value:
    return op.value(0, batch=None)


@operator("Dropout", idle=("ratio", "seed"), outputs=2)
def dropout(op: Operation) -> Value:
    if op.flag(2, False):
        op.refuse("must be in inference mode, not training_mode")
    masks = set(filter(None, op.node.output[1:]))
    if any(not masks.isdisjoint(other.input) for other in op.importer.model.graph.node):
        op.refuse("mask must not be used")
    return op.value(0, batch=None)


@operator("Add")
def add(op: Operation) -> Value:
    if op.is_constant(0) or op.is_constant(1):
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
    value, divisor, first = _beside_constant(op)
    if first:
        op.refuse("must divide by a constant")
    if not divisor.all():
        op.refuse("must divide by numbers other than 0")
    with np.errstate(over="ignore"):
        return op.scaled(value, 1 / divisor, np.zeros_like(divisor))


@operator("Neg")
def negate(op: Operation) -> Value:
    value = op.value(0, batch=None)
    return op.scaled(value, np.full(value.shape, -1.0), np.zeros(value.shape))


def _beside_constant(op: Operation) -> tuple[Value, Floats, bool]:
    """The frame, the constant as one frame in the model's order, and whether it comes first."""
    first = op.is_constant(0)
    if not first and not op.is_constant(1):
        op.refuse("must have a constant beside its frames")
    value = op.value(1 if first else 0, batch=None, joined=True)
    return value, op.frame_constant(0 if first else 1, value), first


@operator("Sum")
def add_all(op: Operation) -> Value:
    """Constants first, each in turn; then one frame after the other."""
    inputs = range(len(op.node.input))
    frames = [op.value(index) for index in inputs if not op.is_constant(index)]
    result = frames[0]
    for index in inputs:
        if op.is_constant(index):
            addend = op.frame_constant(index, result)
            result = op.scaled(result, np.ones_like(addend), addend)
    for frame in frames[1:]:
        result = joined(op, op.label, layers.Add, result, frame)
    return result


@operator("Max")
def maximum(op: Operation) -> Value:
    return _extreme(op, layers.Maximum)


@operator("Min")
def minimum(op: Operation) -> Value:
    return _extreme(op, layers.Minimum)


def _extreme(op: Operation, kind: type) -> Value:
    result, *frames = (op.value(index, batch=None) for index in range(len(op.node.input)))
    for frame in frames:
        result = joined(op, op.label, kind, result, frame)
    return result


def joined(op: Operation, label: str, kind: type, a: Value, b: Value) -> Value:
    """A layer of two tensors, the shorter axes of either repeated as ONNX broadcasts them."""
    shape = _broadcast(op, a, b)
    a, b = (repeated(op, value, shape) for value in (a, b))
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


def repeated(op: Operation, value: Value, shape: Shape) -> Value:
    """``value`` along a longer ``shape`` of as many axes."""
    if value.shape == shape:
        return value
    index = np.broadcast_to(raster(value.shape), shape)
    return op.rearranged(f"{value.name}_repeat", value, index, value.batch, 0.0, value.joined)
