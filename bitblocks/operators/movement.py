# SPDX-License-Identifier: Apache-2.0
"""Operators that move numbers, or only name them anew."""

import math

from bitblocks import layers
from bitblocks.graph import Shape
from bitblocks.onnx_model import BATCHES
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value


@operator("Flatten", honours=("axis",))
def flatten(op: Operation) -> Value:
    axis = op.attributes["axis"]
    value = op.value(0)
    rank = value.rank
    if not -rank <= axis <= rank:
        op.refuse(f"attribute 'axis' must be in [{-rank}, {rank}], not {axis}")
    axis += rank * (axis < 0)
    merged = math.prod(value.shape[: axis - 1]) if axis else op.importer.model.batch
    if merged != 1:
        op.refuse(f"attribute 'axis' must leave axis 0 the batch, not be {axis}")
    return reshaped(op, value, (math.prod(value.shape),))


@operator("Reshape", honours=("allowzero",))
def reshape(op: Operation) -> Value:
    """A reshape in which the batch stays an axis of its own, whatever its length."""
    worlds = op.lengths(1, "shape")
    value = op.value(0, batch=None)
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
    batch = _batch_axis(value, *found)
    fixed = op.importer.model.batch  # where the file fixes the batch it may stand in the shape
    if batch is None and value.batch == 0 and fixed is not None and worlds[0][:1] == [fixed]:
        frame = _full([1, *worlds[0][1:]], [1, *value.shape])
        found = [None if frame is None else [length, *frame[1:]] for length in BATCHES]
        batch = _batch_axis(value, *found)
    first = found[0]
    if first is None or batch is None or len(first) < 2:
        length = "batch" if fixed is None else str(fixed)
        have = [*map(str, value.shape)]
        have.insert(value.batch, length)
        op.refuse(
            f"must leave axis {value.batch} the batch, "
            f"not reshape [{', '.join(have)}] to {_written(*worlds)}"
        )
    return reshaped(op, value, tuple(n for axis, n in enumerate(first) if axis != batch), batch)


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


def _batch_axis(value: Value, first: list[int] | None, second: list[int] | None) -> int | None:
    """The axis that is the batch in both worlds, and before which as many numbers lie as did."""
    if first is None or second is None:
        return None
    for axis, pair in enumerate(zip(first, second, strict=True)):
        if pair == BATCHES and math.prod(first[:axis]) == math.prod(value.shape[: value.batch]):
            rest = [n for n in range(len(first)) if n != axis]
            return axis if all(first[n] == second[n] for n in rest) else None
    return None


def reshaped(op: Operation, value: Value, shape: Shape, batch: int = 0) -> Value:
    """``value`` under another shape; a layer only where its order on the stream is the model's."""
    name = value.name
    if (value.order is None or len(shape) == 1) and op.importer.shapes[name] != shape:
        name = op.add(layers.Reshape, op.label, (name,), shape).name
    return Value(name, shape, value.order, batch)


@operator("Transpose", honours=("perm",))
def transpose(op: Operation) -> Value:
    """No layer: what comes behind finds the axes in another order."""
    value = op.value(0, batch=None)
    perm = op.attributes["perm"] or list(range(value.rank))[::-1]
    if sorted(perm) != list(range(value.rank)):
        op.refuse(f"attribute 'perm' must order {value.rank} axes, not {perm}")
    axes = tuple(axis - (axis > value.batch) for axis in perm if axis != value.batch)
    return value.transposed(axes, perm.index(value.batch))


@operator("Squeeze", honours=("axes",))
def squeeze(op: Operation) -> Value:
    value = op.value(0, batch=None)
    full = op.full_shape(0)[0]
    axes = _axes(op, value.rank)
    if axes is None:
        axes = [axis for axis, length in enumerate(full) if length == 1]
    if any(full[axis] != 1 for axis in axes):
        op.refuse(f"must remove axes of length 1, not {axes} of {_written(*op.full_shape(0))}")
    kept = [axis for axis in range(value.rank) if axis not in axes]
    if len(kept) < 2:
        op.refuse("must leave an axis beside the batch")
    shape = tuple(full[axis] for axis in kept if axis != value.batch)
    return reshaped(op, value, shape, kept.index(value.batch))


@operator("Unsqueeze", honours=("axes",))
def unsqueeze(op: Operation) -> Value:
    value = op.value(0, batch=None)
    count = len(op.lengths(1, "list of axes")[0]) if op.has(1) else len(op.attributes["axes"])
    axes = _axes(op, value.rank + count)
    lengths = list(op.full_shape(0)[0])
    full = [1 if axis in (axes or ()) else lengths.pop(0) for axis in range(value.rank + count)]
    places = [axis for axis in range(value.rank + count) if axis not in (axes or ())]
    batch = places[value.batch]
    return reshaped(op, value, tuple(n for axis, n in enumerate(full) if axis != batch), batch)


def _axes(op: Operation, rank: int) -> list[int] | None:
    """The axes of an attribute in old operator sets, of input 1 in new ones; each once."""
    given = op.lengths(1, "list of axes")[0] if op.has(1) else op.attributes["axes"]
    if given is None:
        return None
    axes = [op.axis(axis, rank, "axes") for axis in given]
    if len(set(axes)) < len(axes):
        op.refuse(f"must name each axis once, not {given}")
    return axes
