# SPDX-License-Identifier: Apache-2.0
"""Operators that treat the numbers of a frame one by one."""

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value


@operator("Relu")
def relu(op: Operation) -> Value:
    return op.elementwise(layers.Relu, op.value(0, batch=None))


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
    return total(op, op.label, op.value(0), op.value(1))


@operator("Sub")
def subtract(op: Operation) -> Value:
    value, constant, first = _beside_constant(op)
    ones = np.ones_like(constant)
    return op.scaled(value, -ones, constant) if first else op.scaled(value, ones, -constant)


@operator("Mul")
def multiply(op: Operation) -> Value:
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
    value = op.value(1 if first else 0, batch=None)
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
        result = total(op, op.label, result, frame)
    return result


def total(op: Operation, label: str, a: Value, b: Value) -> Value:
    """The sum of two tensors of one shape."""
    if a.shape != b.shape:
        op.refuse(f"must add equal shapes, not {list(a.shape)} and {list(b.shape)}")
    sources = (a.name, op.reordered(b, a.order, op.importer.shapes[a.name]))
    return Value(op.add(layers.Add, label, sources).name, a.shape, a.order)
