# SPDX-License-Identifier: Apache-2.0
"""Operators that say where a number is."""

from bitblocks import layers
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value


def arg(op: Operation) -> Value:
    """ArgMax or ArgMin along an axis, which is put last."""
    value = op.value(0, batch=None)
    axis = op.frame_axis(value, op.attributes["axis"])
    if value.shape[axis] < 2:
        op.refuse("must choose among 2 numbers or more, not 1")
    axes = (*(a for a in op.framed(value)[1] if a != axis), axis)
    largest, last = op.operator.name == "ArgMax", bool(op.attributes["select_last_index"])
    layer = op.add(layers.Arg, op.label, (op.arranged(value, axes),), largest, last)
    kept = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
    result = op.given(layer.name, kept, axes, value.batch)
    if op.attributes["keepdims"]:
        return result
    batch = value.batch - (axis < value.batch)
    return result.reshaped((*kept[:axis], *kept[axis + 1 :]), batch)


for _name in ("ArgMax", "ArgMin"):
    operator(_name, honours=("axis", "keepdims", "select_last_index"))(arg)
