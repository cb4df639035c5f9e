# SPDX-License-Identifier: Apache-2.0
"""Operators that treat the numbers of a frame one by one."""

import numpy as np

from bitblocks import layers
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
        frame, constant = (1, 0) if op.is_constant(0) else (0, 1)
        value = op.value(frame)
        addend = op.frame_constant(constant, value)
        return op.scaled(value, np.ones_like(addend), addend)
    return total(op, op.label, op.value(0), op.value(1))


def total(op: Operation, label: str, a: Value, b: Value) -> Value:
    """The sum of two tensors of one shape."""
    if a.shape != b.shape:
        op.refuse(f"must add equal shapes, not {list(a.shape)} and {list(b.shape)}")
    sources = (a.name, op.reordered(b, a.order, op.importer.shapes[a.name]))
    return Value(op.add(layers.Add, label, sources).name, a.shape, a.order)
