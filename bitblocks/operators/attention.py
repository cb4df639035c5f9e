# SPDX-License-Identifier: Apache-2.0
"""Attention as one operator: the layers that it stands for, which become one again where they can.

See :func:`bitblocks.attending.fold_attention`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.graph import Floats
from bitblocks.onnx_model import PerBatch
from bitblocks.operators.elementwise import joined
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value, raster

PLAIN, TOKENS = (0, 1, 2), (1, 0, 2)
"""Orders of the axes (heads, tokens, depth)."""


@operator(
    "Attention",
    honours=(
        "is_causal",
        "kv_num_heads",
        "left_window_size",
        "q_num_heads",
        "qk_matmul_output_mode",
        "right_window_size",
        "scale",
        "softcap",
    ),
    idle=("softmax_precision",),
    outputs=4,
    label="attention",
)
def attention(op: Operation) -> list[Value]:
    """All that it gives, the scores of one of four stages last."""
    if op.has(6):
        op.refuse("input 'nonpad_kv_seqlen' is not supported")
    label, attributes = op.label, op.attributes
    query = _heads(op, 0, "q_num_heads")
    key, value = (_heads(op, index, "kv_num_heads") for index in (1, 2))
    past = 0
    if op.has(4):
        past = op.value(4).shape[1]
        key, value = (_behind(op, label, op.value(4 + n), x) for n, x in enumerate((key, value)))
    (heads, queries, depth), (groups, keys, _) = query.shape, key.shape
    if heads % groups or key.shape[2] != depth or value.shape[:2] != key.shape[:2]:
        op.refuse(
            f"must have heads that fit, not {[*query.shape]}, {[*key.shape]} and {[*value.shape]}"
        )
    shared = np.arange(heads) * groups // heads
    k, v = key, value
    if groups < heads:
        k, v = (
            op.rearranged(f"{label}_{name}", x, raster(x.shape)[shared], 0)
            for name, x in (("keys", key), ("values", value))
        )
    sources = op.arranged(query, PLAIN), op.arranged(k, PLAIN)
    scores = op.add(layers.MatMul, f"{label}_scores", sources)
    scale = attributes["scale"]
    stages = [op.given(scores.name, (heads, queries, keys), PLAIN)]
    stages[0] = _scaled(op, stages[0], 1 / math.sqrt(depth) if scale is None else scale)
    stages.append(_capped(op, stages[0], attributes["softcap"] or 0.0))
    seen = _seen(op, queries, keys, past)
    masked, shown = _masked(op, stages[1], seen)
    stages.append(masked)
    if not shown.any(axis=-1).all():
        op.refuse("must leave each query a key to see")
    mode = attributes["qk_matmul_output_mode"] or 0
    if mode not in range(4):
        op.refuse(f"attribute 'qk_matmul_output_mode' must be from 0 to 3, not {mode}")
    if mode == 2 and op.is_read(3) and not shown.all():
        op.refuse("attribute 'qk_matmul_output_mode' must not be 2 where a mask hides keys")
    source = op.arranged(masked, PLAIN)
    mask = None if shown.all() else shown
    shares = op.add(layers.Softmax, f"{label}_shares", (source,), False, mask)
    stages.append(op.given(shares.name, masked.shape, PLAIN))
    mixed = op.add(layers.MatMul, label, (shares.name, op.arranged(v, (0, 2, 1))))
    y = op.given(mixed.name, (heads, queries, value.shape[2]), PLAIN)
    if op.value(0).rank == 3:
        y = y.transposed(TOKENS).reshaped((queries, heads * value.shape[2]))
    return [y, key, value, stages[mode]]


def _heads(op: Operation, index: int, attribute: str) -> Value:
    """An input as (heads, tokens, depth)."""
    value = op.value(index)
    if value.rank == 4:
        return value
    count = op.attributes[attribute]
    if value.rank != 3 or count is None or count < 1 or value.shape[1] % count:
        op.refuse(
            f"must have 4 axes, or 3 and attribute '{attribute}' that divides the last, "
            f"not {count} for {[*value.shape]}"
        )
    tokens, width = value.shape
    return value.reshaped((tokens, count, width // count)).transposed(TOKENS)


def _behind(op: Operation, label: str, past: Value, present: Value) -> Value:
    """Tokens behind those of the past."""
    heads, tokens, depth = present.shape
    if past.rank != 4 or (past.shape[0], past.shape[2]) != (heads, depth):
        op.refuse(f"must have a past like {[*present.shape]}, not {[*past.shape]}")
    names = op.arranged(past, TOKENS), op.arranged(present, TOKENS)
    layer = op.add(layers.Concat, f"{label}_present", names, 0)
    return op.given(layer.name, (heads, past.shape[1] + tokens, depth), TOKENS)


def _scaled(op: Operation, value: Value, factor: float) -> Value:
    return op.scaled(value, np.full(value.shape, factor), np.zeros(value.shape))


def _capped(op: Operation, value: Value, cap: float) -> Value:
    """``cap * tanh(x / cap)``; as it is for 0."""
    if not cap:
        return value
    inside = op.elementwise(layers.Activation, _scaled(op, value, 1 / cap), "tanh", ())
    return _scaled(op, inside, cap)


def _seen(op: Operation, queries: int, keys: int, past: int) -> NDArray[np.bool_]:
    """What attributes let each query see: keys up to its own, or a window around it."""
    ahead = np.arange(keys) - (np.arange(queries)[:, np.newaxis] + past)
    seen = np.ones((queries, keys), bool)
    if op.attributes["is_causal"]:
        seen &= ahead <= 0
    for name, distance in (("left_window_size", -ahead), ("right_window_size", ahead)):
        size = op.attributes[name]
        if size is not None and size >= 0:
            seen &= distance <= size
    return seen


def _masked(
    op: Operation, scores: Value, seen: NDArray[np.bool_]
) -> tuple[Value, NDArray[np.bool_]]:
    """Scores with a mask added, and which of them count."""
    shown = np.broadcast_to(seen, scores.shape)
    if not op.has(3):
        return scores, shown
    if not op.is_constant(3):
        added = op.value(3)
        if added.rank < 4:
            op.refuse("must have a mask of 4 axes where it differs from frame to frame")
        return joined(op, f"{op.label}_mask", layers.Add, scores, added), shown
    array = op.importer.model.constant(op.node.input[3])
    if isinstance(array, PerBatch):
        op.refuse("must have one mask, whatever the batch")
    if array.dtype == bool:
        return scores, shown & _of_frame(op, array, scores)
    bias: Floats = _of_frame(op, array.astype(np.float64), scores)
    hidden = np.isneginf(bias)
    if not np.isfinite(bias[~hidden]).all():
        op.refuse("must have a mask of numbers, or of -inf where nothing is to be seen")
    bias = np.where(hidden, 0.0, bias)
    added = op.scaled(scores, np.ones(bias.shape), bias) if bias.any() else scores
    return added, shown & ~hidden


def _of_frame(op: Operation, array: NDArray, scores: Value) -> NDArray:
    """A constant mask for one frame, whatever the batch."""
    full = array[(np.newaxis,) * max(0, 4 - array.ndim)]
    fits = full.ndim == 4 and full.shape[0] == 1
    if not fits or any(a not in (1, b) for a, b in zip(full.shape[1:], scores.shape, strict=True)):
        op.refuse(f"must have a mask for {[*scores.shape]}, not {[*array.shape]}")
    return np.broadcast_to(full[0], scores.shape)
