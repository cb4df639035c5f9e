# SPDX-License-Identifier: Apache-2.0
"""Operators that multiply frames by matrices."""

from dataclasses import replace

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats
from bitblocks.operators.elementwise import joined
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value, split_last


@operator(
    "Gemm",
    honours=("alpha", "beta", "transA", "transB"),
    label="linear",
)
def gemm(op: Operation) -> Value:
    alpha, beta = op.attributes["alpha"], op.attributes["beta"]
    if op.is_constant(0) or not op.is_constant(1):
        op.refuse("must multiply frames by a constant B")
    value, matrix = op.value(0, joined=True), op.floats(1, "B")
    if matrix.ndim != 2 or value.rank != 2:
        op.refuse(f"must multiply matrices, not {[*value.shape]} by {[*matrix.shape]}")
    if op.attributes["transA"]:
        if not op.importer.whole:
            op.refuse("attribute 'transA' must be 0, or it would mix the frames")
        value = replace(value.transposed((1, 0)), joined=value.joined)
    weight = matrix if op.attributes["transB"] else matrix.T
    shape = (*value.shape[:-1], len(weight))
    bias = np.zeros(shape)
    with np.errstate(over="ignore"):
        if op.is_constant(2):
            bias = beta * op.frame_constant(2, replace(value, shape=shape))
        weight = alpha * weight
    label, row = op.label, bias.reshape(-1, len(weight))[0]
    alike = bool((bias == row).all())
    result = linear(op, label, value, weight, row if alike else np.zeros(len(weight)))
    if not alike:
        result = op.scaled(result, np.ones(shape), bias)
    if not op.has(2) or op.is_constant(2):
        return result
    addend = op.value(2)
    if beta != 1.0:
        addend = op.scaled(addend, np.full(addend.shape, beta), np.zeros(addend.shape))
    return joined(op, f"{label}_add", layers.Add, result, addend)


def linear(op: Operation, label: str, value: Value, weight: Floats, bias: Floats) -> Value:
    """``weight @ value + bias`` along the last axis of a frame.

    Another order within the rows is absorbed by the columns of ``weight``, one of the rows is kept.
    """
    op.check_finite(weight, bias)
    if weight.shape[1] != value.shape[-1]:
        op.refuse(f"must have {value.shape[-1]} inputs to its weights, not {weight.shape[1]}")
    split = split_last(value.order, value.shape)
    if split is None:
        value = replace(value, name=op.reordered(value, None, value.shape), order=None)
        split = None, None
    outer, inner = split
    source = op.viewed(value.name, value.shape)
    layer = op.add(
        layers.Linear, label, (source,), weight if inner is None else weight[:, inner], bias
    )
    outputs = len(weight)
    order = None
    if outer is not None:
        order = (outer[:, np.newaxis] * outputs + np.arange(outputs)).ravel()
    return replace(value, name=layer.name, shape=(*value.shape[:-1], outputs), order=order)


@operator("MatMul", label="linear")
def matmul(op: Operation) -> Value:
    if not (op.is_constant(0) or op.is_constant(1)):
        return _matmul_of_frames(op)
    if op.is_constant(0) and op.is_constant(1):
        op.refuse("must multiply frames by a constant")
    left = op.is_constant(0)
    matrix = op.floats(0 if left else 1, "matrix")
    anywhere = not left and matrix.ndim > 1  # only the last axis is another afterwards
    value = op.value(0, None, joined=True) if anywhere else op.value(1 if left else 0)
    if value.batch_axis == value.rank - 1:
        op.refuse("must not mix the frames")
    rank = len(value.shape)
    while matrix.ndim > 2 and matrix.shape[0] == 1 and matrix.ndim <= rank + 1:
        matrix = matrix[0]
    vector = matrix.ndim == 1
    if vector:
        matrix = matrix[np.newaxis] if left else matrix[:, np.newaxis]
    if matrix.ndim != 2:
        op.refuse("must multiply by one matrix, the same for all frames")
    if left and rank == 1:
        op.refuse("must not mix the frames, as a constant on the left of them would")
    if vector and rank == 1:
        op.refuse("must leave an axis beside the batch, not multiply by a vector")
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if left:  # a Linear on frames whose last two axes travel swapped
        value = value.transposed(swapped)
    else:
        matrix = matrix.T
    result = linear(op, op.label, value, matrix, np.zeros(len(matrix)))
    if left:
        result = result.transposed(swapped)
    if vector:
        gone = rank - 2 if left else rank - 1
        result = result.reshaped((*result.shape[:gone], *result.shape[gone + 1 :]))
    return result


def _matmul_of_frames(op: Operation) -> Value:
    """Each matrix of a by that of b; matrices are repeated along axes of length 1."""
    a, b = op.value(0, None, joined=True), op.value(1, None, joined=True)
    rank = max(len(a.shape), len(b.shape))
    fits = len(a.shape) == len(b.shape) >= 2 and a.shape[-1] == b.shape[-2]
    pairs = list(zip(a.shape[:-2], b.shape[:-2], strict=False))
    if not fits or any(m != n and 1 not in (m, n) for m, n in pairs):
        op.refuse(f"must multiply matrices, not {[*a.shape]} by {[*b.shape]}")
    if a.batch_axis + 2 >= a.rank or (a.batch, a.joined) != (b.batch, b.joined):
        op.refuse("must not mix the frames")
    outer = tuple(max(pair) for pair in pairs)
    a, b = (op.repeated(x, (*outer, *x.shape[-2:])) for x in (a, b))
    plain = tuple(range(rank))
    swapped = (*plain[:-2], plain[-1], plain[-2])
    sources = op.arranged(a, plain), op.arranged(b, swapped)
    layer = op.add(layers.MatMul, op.label, sources)
    return op.given(layer.name, (*a.shape[:-1], b.shape[-1]), plain, a.batch, a.joined)
