# SPDX-License-Identifier: Apache-2.0
"""Operators that move numbers, or only name them anew."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.graph import Shape
from bitblocks.onnx_model import BATCHES
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value, inverse, moves, raster
from blocks.block import divisors

OUTPUTS_LIMIT = 1024
"""Most parts into which a frame is split."""


@operator("Flatten", honours=("axis",))
def flatten(op: Operation) -> Value:
    axis = op.attributes["axis"]
    value = op.value(0, joined=op.importer.whole)
    rank = value.rank
    if not -rank <= axis <= rank:
        op.refuse(f"attribute 'axis' must be in [{-rank}, {rank}], not {axis}")
    axis += rank * (axis < 0)
    if op.importer.whole:
        lengths = value.lengths(1)
        shape = math.prod(lengths[:axis]), math.prod(lengths[axis:])
        return value.reshaped(shape, joined=(0, 1))
    merged = math.prod(value.shape[: axis - 1]) if axis else op.importer.model.batch
    if merged != 1:
        op.refuse(f"attribute 'axis' must leave axis 0 the batch, not be {axis}")
    return reshaped(op, value, (math.prod(value.shape),))


@operator("Reshape", honours=("allowzero",))
def reshape(op: Operation) -> Value:
    """A reshape in which the frames stay apart, whatever the length of the batch."""
    worlds = op.lengths(1, "shape")
    value = op.value(0, batch=None, joined=True)
    for target in worlds:
        if (
            target.count(-1) > 1
            or min(target, default=0) < -1
            or (op.attributes["allowzero"] and 0 in target)
        ):
            op.refuse(f"must have a shape of at most one -1 and no 0, not {target}")
        if any(length == 0 and axis >= value.rank for axis, length in enumerate(target)):
            op.refuse(f"must take a 0 in its shape from an axis of the input: {target}")
    found = [_full(t, full) for t, full in zip(worlds, op.full_shape(0), strict=True)]
    place = _batch_place(value, *found)
    fixed = op.importer.model.batch  # where the file fixes the batch it may stand in the shape
    alone = place is not None and not any(place[2])
    if not alone and value.batch == 0 and fixed is not None and worlds[0][:1] == [fixed]:
        frame = _full([1, *worlds[0][1:]], value.lengths(1))
        found = [None if frame is None else [length, *frame[1:]] for length in BATCHES]
        place = _batch_place(value, *found) or place
    if place is None or not place[0]:
        length = "batch" if fixed is None else str(fixed)
        have = [*map(str, value.shape)]
        have.insert(value.batch, length)
        op.refuse(
            f"must leave axis {value.batch} the batch, "
            f"not reshape [{', '.join(have)}] to {_written(*worlds)}"
        )
    return reshaped(op, value, *place)


def _written(first: list[int], second: list[int]) -> str:
    """Lengths as messages tell them, with those that depend on the batch as what they are."""
    texts = []
    for a, b in zip(first, second, strict=True):
        times, rest = divmod(a, BATCHES[0])
        if a == b:
            texts.append(str(a))
        elif rest or times * BATCHES[1] != b:
            texts.append("?")
        else:
            texts.append("batch" if times == 1 else f"{times}*batch")
    return f"[{', '.join(texts)}]"


def _full(target: list[int], lengths: list[int]) -> list[int] | None:
    """Every length of a reshape to ``target``; None where it does not keep the count."""
    full = [lengths[axis] if n == 0 else n for axis, n in enumerate(target)]
    size = math.prod(lengths)
    if -1 in full:
        known = -math.prod(full)
        if known < 1 or size % known:
            return None
        full[full.index(-1)] = size // known
    return full if math.prod(full) == size else None


Place = tuple[Shape, int, tuple[int, int]]
"""Shape of a frame, where the batch lies in it, and what is joined with that: see Value."""


def _batch_place(value: Value, first: list[int] | None, second: list[int] | None) -> Place | None:
    """Where the batch is in both worlds, so that as many numbers lie before it as did."""
    if first is None or second is None:
        return None
    for axis, pair in enumerate(zip(first, second, strict=True)):
        times = pair[0] // BATCHES[0]
        if not times or pair != tuple(times * batch for batch in BATCHES):
            continue
        if first[:axis] + first[axis + 1 :] != second[:axis] + second[axis + 1 :]:
            return None
        before, rest = divmod(math.prod(value.shape[: value.batch]), math.prod(first[:axis]))
        if not rest and before and not times % before:
            return _place(first, axis, before, times // before)
    return None


def _place(lengths: Sequence[int], axis: int, before: int, behind: int) -> Place:
    """Of a batch on an axis that it shares with as many numbers before and behind it."""
    joined = int(before > 1), int(behind > 1)
    apart = (before,) * joined[0] + (behind,) * joined[1]
    return (*lengths[:axis], *apart, *lengths[axis + 1 :]), axis + joined[0], joined


def reshaped(
    op: Operation,
    value: Value,
    shape: Shape,
    batch: int = 0,
    joined: tuple[int, int] = (0, 0),
) -> Value:
    """``value`` under another shape; a layer only where its order on the stream is the model's."""
    name = value.name
    if (value.order is None or len(shape) == 1) and op.importer.shapes[name] != shape:
        name = op.add(layers.Reshape, op.label, (name,), shape or (1,)).name
    return Value(name, shape, value.order, batch, joined)


MOVING = {
    "DepthToSpace": ("blocksize", "mode"),
    "Expand": (),
    "Gather": ("axis",),
    "Slice": ("axes", "ends", "starts"),
    "SpaceToDepth": ("blocksize", "mode"),
    "Split": ("axis", "num_outputs", "split"),
    "Squeeze": ("axes",),
    "Tile": (),
    "Transpose": ("perm",),
    "Unsqueeze": ("axes",),
}
"""Operators that only move numbers, or leave some out, and their attributes."""


def move(op: Operation) -> list[Value]:
    """What an operator of MOVING gives."""
    return _moved(op, op.node, {})


for _name, _attributes in MOVING.items():
    operator(_name, honours=_attributes, outputs=OUTPUTS_LIMIT)(move)


@operator("Pad", honours=("mode", "pads", "value"))
def pad(op: Operation) -> list[Value]:
    """What negative numbers cut off is cut off first."""
    fill, node, model = op.attributes["value"] or 0.0, type(op.node)(), op.importer.model
    node.CopyFrom(op.node)
    helper = model.onnx.helper
    if model.opset < 11:
        pads = op.attributes["pads"]
        kept = [attribute for attribute in node.attribute if attribute.name == "mode"]
        del node.attribute[:]
        added = [max(n, 0) for n in pads]
        node.attribute.extend([*kept, helper.make_attribute("value", -1.0)])
        node.attribute.append(helper.make_attribute("pads", added))
        return _moved(op, node, {}, fill, _cut(op, pads))
    if op.has(2):
        values = op.floats(2, "value")
        if values.size != 1:
            op.refuse(f"must pad with one value, not {values.size}")
        fill = values.item()
    pads, other = op.lengths(1, "list of pads")
    if pads != other:
        op.refuse("must pad by numbers that do not depend on the length of the batch")
    node.input.extend([""] * (3 - len(node.input)))
    node.input[1], node.input[2] = ADDED, FILL
    axes = None
    if op.has(3):
        axes = [op.axis(n, op.value(0, None).rank, "axes") for n in op.array(3, "axes").tolist()]
    known = {FILL: np.array(-1), ADDED: np.array([max(n, 0) for n in pads], np.int64)}
    return _moved(op, node, known, fill, _cut(op, pads, axes))


def _cut(op: Operation, pads: list[int], axes: list[int] | None = None) -> tuple[slice, ...]:
    """What negative pads leave of the axes of the model's tensor."""
    rank = op.value(0, batch=None).rank
    axes = [*range(rank)] if axes is None else axes
    if len(pads) != 2 * len(axes):
        op.refuse(f"must have {2 * len(axes)} pads, not {len(pads)}")
    left = [slice(None)] * rank
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        left[axis] = slice(max(-before, 0), min(after, 0) or None)
    return tuple(left)


FILL, ADDED = "what pads", "how much it pads"
"""Names of inputs of a node that is evaluated."""


def _moved(
    op: Operation,
    node: Any,
    more: dict[str, NDArray[Any]],
    fill: float = 0.0,
    left: tuple[slice, ...] = (),
) -> list[Value]:
    """What a node gives that moves numbers, or leaves some out, or puts -1 for ``fill``.

    ONNX's own evaluator moves the numbers of the elements, of several frames at once, for both
    lengths of the batch: so it is seen that frames are not mixed, whatever the operator. Where all
    numbers are kept, once each, the axes are only known by other names; else it is a Rearrange.
    Of the numbers those in ``left`` are taken at all.
    """
    value = op.value(0, batch=None, joined=True)
    size = math.prod(value.shape)
    worlds = []
    for world, batch in enumerate(BATCHES):
        frames = [raster(value.shape) + size * n for n in range(batch)]
        stacked = np.stack(frames, value.batch).reshape(value.lengths(batch))
        known = more | {op.node.input[0]: stacked[left]}
        worlds.append(op.evaluated(node, world, known))
    found = [_frame_index(op, size, *pair) for pair in zip(*worlds, strict=True)]
    kept = [is_permutation(index, size) for index, _, _ in found]
    label = "" if all(kept) else op.label
    names = [label] if len(found) == 1 else [f"{label}_{n}" for n in range(1, len(found) + 1)]
    return [
        value.moved(index, batch, joined)
        if free
        else op.rearranged(name, value, index, batch, fill, joined)
        for name, (index, batch, joined), free in zip(names, found, kept, strict=True)
    ]


def is_permutation(index: NDArray[np.int64], size: int) -> bool:
    return np.array_equal(np.sort(index, None), np.arange(size))


def _frame_index(
    op: Operation, size: int, first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[np.int64], int, tuple[int, int]]:
    """Which element of its frame each one is, the same for all frames, and where the batch is."""
    if not first.size:
        op.refuse(f"must leave something of its input, not shape {list(first.shape[1:])}")
    for axis, pair in enumerate(zip(first.shape, second.shape, strict=False)):
        times = pair[0] // BATCHES[0]
        if not times or pair != tuple(times * batch for batch in BATCHES):
            continue
        for before in divisors(times):
            shape, place, joined = _place(first.shape, axis, before, times // before)
            found = [
                world.reshape(*shape[:place], batch, *shape[place:])
                for world, batch in zip((first, second), BATCHES, strict=True)
            ]
            index = found[0].take(0, place)
            whole = [
                np.stack([np.where(index < 0, -1, index + size * n) for n in range(batch)], place)
                for batch in BATCHES
            ]
            same = (np.array_equal(*pair) for pair in zip(whole, found, strict=True))
            if all(same) and index.ndim:
                return index, place, joined
    op.refuse("must not mix the frames")


@operator("Concat", honours=("axis",))
def concat(op: Operation) -> Value:
    first = op.value(0, batch=None)
    values = [op.value(index, first.batch_axis) for index in range(len(op.node.input))]
    axis = op.frame_axis(first, op.attributes["axis"])
    for value in values:
        others = (value.shape[:axis] + value.shape[axis + 1 :] for value in (first, value))
        if len({len(value.shape), len(first.shape)}) > 1 or len(set(others)) > 1:
            op.refuse(f"must join equal shapes, not {list(first.shape)} and {list(value.shape)}")
    if len(values) == 1:
        return first
    along = sum(value.shape[axis] for value in values)
    shape = (*first.shape[:axis], along, *first.shape[axis + 1 :])
    if len(shape) == 1:  # whatever order the parts have, what reads them may take it
        names = tuple(op.viewed(value.name, value.shape) for value in values)
        layer = op.add(layers.Concat, op.label, names, 0)
        orders = [moves(None, value.order, value.shape[0]) for value in values]
        starts = np.cumsum([0, *map(len, orders)])
        order = np.concatenate([n + start for n, start in zip(orders, starts, strict=False)])
        return Value(layer.name, shape).moved(inverse(order), first.batch)
    _, axes = op.framed(first)
    names = tuple(op.arranged(value, axes) for value in values)
    layer = op.add(layers.Concat, op.label, names, axes.index(axis))
    return op.given(layer.name, shape, axes, first.batch)
