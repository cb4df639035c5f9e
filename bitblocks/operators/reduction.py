# SPDX-License-Identifier: Apache-2.0
"""Operators that make one number, or a few, of those along some axes."""

import math
from collections.abc import Collection

from bitblocks import layers
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value

FUNCTIONS = {
    "ReduceMax": "maximum",
    "ReduceMean": "mean",
    "ReduceMin": "minimum",
    "ReduceSum": "sum",
}


def reduce(op: Operation) -> Value:
    """What an operator of FUNCTIONS gives; axes left out are all, or none if it says so."""
    value = op.value(0, batch=None)
    given = op.attributes["axes"]
    if op.has(1):
        given, other = op.lengths(1, "list of axes")
        if given != other:
            op.refuse("must have the same axes, whatever the batch")
    if not given:
        if op.attributes["noop_with_empty_axes"]:
            return value
        op.refuse("must leave the batch alone, not reduce all axes")
    axes = {op.frame_axis(value, axis, "axes") for axis in given}
    result = reduced(op, value, FUNCTIONS[op.operator.name], axes)
    if op.attributes["keepdims"]:
        return result
    shape = tuple(length for axis, length in enumerate(value.shape) if axis not in axes)
    if not shape:
        op.refuse("attribute 'keepdims' must be 1 where all axes of a frame are reduced")
    return result.reshaped(shape, value.batch - sum(axis < value.batch for axis in axes))


for _name in FUNCTIONS:
    operator(_name, honours=("axes", "keepdims", "noop_with_empty_axes"))(reduce)


def reduced(op: Operation, value: Value, function: str, axes: Collection[int]) -> Value:
    """What a Reduce makes of ``axes`` of the frame, which keep a length of 1.

    If they do not follow each other on the stream, they are moved behind the others.
    """
    shape = value.shape
    if math.prod(shape[axis] for axis in axes) == 1:
        return value
    order = op.importer.axes(value) or tuple(range(len(shape)))
    places = [n for n, axis in enumerate(order) if axis in axes and shape[axis] > 1]
    run = tuple(range(places[0], places[-1] + 1))
    if any(order[n] not in axes and shape[order[n]] > 1 for n in run):
        order = tuple(sorted(order, key=lambda axis: axis in axes))
        run = tuple(range(len(order) - len(axes), len(order)))
    layer = op.add(layers.Reduce, op.label, (op.arranged(value, order),), function, run)
    kept = tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    return op.given(layer.name, kept, order, value.batch)


@operator("TopK", honours=("axis", "k", "largest", "sorted"), outputs=2)
def top_k(op: Operation) -> list[Value | None]:
    """Sorted whether that is asked for or not."""
    value = op.value(0, batch=None)
    axis, shape = op.frame_axis(value, op.attributes["axis"]), value.shape
    counts = op.lengths(1, "K") if op.has(1) else ([op.attributes["k"]],) * 2
    if counts[0] != counts[1] or len(counts[0]) != 1:
        op.refuse("must have one K, whatever the batch")
    (count,) = counts[0]
    if shape[axis] < 2:
        op.refuse("must choose among at least 2 numbers, not 1")
    if not 1 <= count <= shape[axis]:
        op.refuse(f"must have a K from 1 to {shape[axis]}, not {count}")
    smallest = op.attributes["largest"] == 0
    read = [part for n, part in enumerate(("values", "indices")) if op.is_read(n)]
    order = op.importer.axes(value) or range(len(shape))
    axes = (*(a for a in order if a != axis), axis)
    gives = read[0] if len(read) == 1 else "both"
    source = op.arranged(value, axes)
    layer = op.add(layers.TopK, op.label, (source,), count, smallest, gives)
    kept = (*shape[:axis], count, *shape[axis + 1 :])
    return [
        op.given(f"{layer.name}.{part}", kept, axes, value.batch) if part in read else None
        for part in ("values", "indices")
    ]
