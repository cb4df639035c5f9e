# SPDX-License-Identifier: Apache-2.0
"""Blocks that only move numbers: Rearrange (transpose, slice, pad, upsample, ...) and Concat."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import hdl
from hdl import Cost, Events, MergeArray, RearrangeArray, Target
from hdl.cost import memory_style
from quant import Format, Ints, MoveKernel, check_shape

from .block import Candidate, Lanes, Tensor, check_lanes, check_tensor, divisors
from .configurations import Configuration, draw_format

MODES = ("constant", "edge", "reflect")


@dataclass(frozen=True)
class Moves:
    """Plan of a Rearrange: ``lanes`` numbers at a time.

    Parameters
    ----------
    lanes : int
    buffer_style : "block", "distributed" or "registers", what a memory of words becomes
    table_style : "block" or "logic", what a table of addresses becomes
    """

    lanes: int
    buffer_style: str = "registers"
    table_style: str = "logic"


@dataclass(frozen=True, eq=False)
class Rearrange:
    """``y = x.ravel()[index]``, or ``fill`` where the index is -1.

    Numbers that follow each other in x and in y travel together. There is no memory if what is left
    of x leaves in the order in which it came.

    Source: ONNX Transpose (https://onnx.ai/onnx/operators/onnx__Transpose.html); ONNX Slice
    (https://onnx.ai/onnx/operators/onnx__Slice.html); ONNX Pad
    (https://onnx.ai/onnx/operators/onnx__Pad.html); ONNX Gather
    (https://onnx.ai/onnx/operators/onnx__Gather.html)

    Parameters
    ----------
    input : Tensor of x
    index : ints below ``input.size``, in the shape of y; not -1 everywhere
    fill : int in the format of x

    >>> block = transpose(Tensor((8, 8), Format(8, 4)), (1, 0))
    >>> print(type(block).__name__, block.index[1])
    Rearrange [ 1  9 17 25 33 41 49 57]
    >>> print(block.reference(np.arange(64).reshape(8, 8))[1])
    [ 1  9 17 25 33 41 49 57]
    """

    input: Tensor
    index: Ints
    fill: int = 0

    def __post_init__(self) -> None:
        check_tensor(self.input, "Rearrange input")
        index = np.asarray(self.index)
        if not np.issubdtype(index.dtype, np.integer):
            raise TypeError(f"Rearrange index must be integers, not {index.dtype}")
        if not index.ndim or not index.size:
            raise ValueError(
                f"Rearrange index must have axes of at least 1, not the shape {index.shape}"
            )
        if index.min() < -1 or index.max() >= self.input.size or index.max() < 0:
            raise ValueError(
                f"Rearrange index must be from -1 to {self.input.size - 1} and not -1 everywhere, "
                f"not span [{index.min()}, {index.max()}]"
            )
        check_shape(self.fill, (), "Rearrange fill")
        fill = int(self.input.format.check(self.fill, "Rearrange fill"))
        index = index.astype(np.int64)
        index.setflags(write=False)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "fill", fill)

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.index.shape, self.input.format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *input.shape) -> (..., *index.shape)."""
        values = self.input.check(x, "Rearrange input")
        batch = values.shape[: values.ndim - len(self.input.shape)]
        y = values.reshape(*batch, -1)[..., self.index]
        return np.where(self.index < 0, self.fill, y)

    def kernel(self) -> MoveKernel | None:
        """The reference on tiles; None for the same numbers."""
        if self._lanes[-1] == self.input.size == self.index.size:
            return None
        return MoveKernel(self.index, (self.input.size,), self.input.format, self.fill)

    @cached_property
    def _lanes(self) -> list[int]:
        """How many numbers may travel together: runs in x and in y that never are separated."""
        found = []
        for lanes in divisors(gcd(self.input.size, self.index.size)):
            words = self.index.reshape(-1, lanes)
            first = words[:, :1]
            together = words == np.where(first < 0, first, first + np.arange(lanes))
            if together.all() and not (first[first >= 0] % lanes).any():
                found.append(lanes)
        return found

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One number at a time, ..., as many as stay together; the memories suit the target."""
        for lanes in self._lanes:
            first = _design(self, Moves(lanes))
            bits = lanes * self.input.format.width
            buffer = memory_style(target, first.depth, bits)
            tables = {
                memory_style(target, table.depth, table.width, writable=False)
                for table in first.tables
            }
            plan = Moves(lanes, buffer, "block" if "block" in tables else "logic")
            interval = max(self.input.size, self.index.size) // lanes
            yield Candidate(plan, interval, partial(self.cost, plan, target))

    def lanes(self, plan: Moves) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        if not isinstance(plan, Moves):
            raise TypeError(f"Rearrange plan must be Moves, not {plan!r}")
        if plan.lanes not in self._lanes:
            raise ValueError(
                f"Rearrange lanes must be one of {', '.join(map(str, self._lanes))}, "
                f"not {plan.lanes}"
            )
        return {"i": plan.lanes, "o": plan.lanes}

    def design(self, plan: Moves) -> hdl.Rearrange:
        """The circuit."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Moves) -> RearrangeArray:
        """A new circuit."""
        return RearrangeArray(self.design(plan))

    def timing(self, plan: Moves) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events()

    def cost(self, plan: Moves, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(block: Rearrange, plan: Moves) -> hdl.Rearrange:
    words = block.index.reshape(-1, plan.lanes)[:, 0]
    return hdl.Rearrange(
        np.where(words < 0, words, words // plan.lanes),
        block.input.size // plan.lanes,
        block.input.format,
        plan.lanes,
        block.fill,
        plan.buffer_style,
        plan.table_style,
    )


# What is made with it. Axes are those of a frame, channels last.


def transpose(input: Tensor, axes: Sequence[int]) -> Rearrange:
    """Axis n of y is axis ``axes[n]`` of x."""
    shape = _shape(input, "transpose")
    if sorted(_ints(axes, "transpose axes")) != list(range(len(shape))):
        raise ValueError(f"transpose axes must be all from 0 to {len(shape) - 1}, not {axes}")
    return Rearrange(input, _raster(input).transpose(axes))


def cut(input: Tensor, slices: Sequence[slice]) -> Rearrange:
    """``y = x[slices]``, a Python slice for each axis, the last axes whole if they are left out.

    A split is several of them.
    """
    shape = _shape(input, "cut")
    if not all(isinstance(part, slice) for part in slices):
        raise TypeError(f"cut slices must be slices, not {slices!r}")
    if len(slices) > len(shape):
        raise ValueError(f"cut slices must be at most {len(shape)}, not {len(slices)}")
    index = _raster(input)[tuple(slices)]
    if not index.size:
        raise ValueError(f"cut slices must leave something of {shape}, not {index.shape}")
    return Rearrange(input, index)


def pad(
    input: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    mode: str = "constant",
    fill: int = 0,
) -> Rearrange:
    """So many numbers more before and after each axis of x.

    Parameters
    ----------
    before, after : ints from 0, one for each axis
    mode : "constant" for ``fill``, "edge" for the outermost number, "reflect" for those within it
    fill : int in the format of x
    """
    shape = _shape(input, "pad")
    for name, widths in (("before", before), ("after", after)):
        _per_axis(widths, shape, f"pad {name}", 0)
        if mode == "reflect" and any(n >= size for n, size in zip(widths, shape, strict=True)):
            raise ValueError(f"pad {name} must be less than {shape} to reflect, not {widths}")
    if mode not in MODES:
        raise ValueError(f"pad mode must be one of {', '.join(MODES)}, not {mode!r}")
    options: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {}
    around = list(zip(before, after, strict=True))
    index = np.pad(_raster(input), around, mode, **options)  # type: ignore[call-overload]
    return Rearrange(input, index, fill)


def upsample(input: Tensor, factors: Sequence[int]) -> Rearrange:
    """Each number so many times along each axis: the nearest neighbour."""
    _per_axis(factors, _shape(input, "upsample"), "upsample factors", 1)
    index = _raster(input)
    for axis, factor in enumerate(factors):
        index = np.repeat(index, factor, axis)
    return Rearrange(input, index)


def depth_to_space(input: Tensor, size: int, mode: str = "DCR") -> Rearrange:
    """Channels of a pixel become a square of ``size`` by ``size`` pixels.

    Parameters
    ----------
    input : Tensor of x, shape (height, width, channels)
    mode : "DCR" if the channels of a pixel of y lie together in x, "CRD" if those of a square do
    """
    height, width, channels = _image(input, "depth_to_space")
    _square(size, mode, "depth_to_space")
    if channels % size**2:
        raise ValueError(f"depth_to_space channels must be a multiple of {size**2}, not {channels}")
    left = channels // size**2
    order = (size, size, left) if mode == "DCR" else (left, size, size)
    axes = (0, 2, 1, 3, 4) if mode == "DCR" else (0, 3, 1, 4, 2)
    squares = _raster(input).reshape(height, width, *order).transpose(axes)
    return Rearrange(input, squares.reshape(height * size, width * size, left))


def space_to_depth(input: Tensor, size: int, mode: str = "DCR") -> Rearrange:
    """Squares of ``size`` by ``size`` pixels become channels: :func:`depth_to_space` undone."""
    height, width, channels = _image(input, "space_to_depth")
    _square(size, mode, "space_to_depth")
    if height % size or width % size:
        raise ValueError(
            f"space_to_depth height and width must be multiples of {size}, not {height} and {width}"
        )
    squares = _raster(input).reshape(height // size, size, width // size, size, channels)
    axes = (0, 2, 1, 3, 4) if mode == "DCR" else (0, 2, 4, 1, 3)
    shape = height // size, width // size, channels * size**2
    return Rearrange(input, squares.transpose(axes).reshape(shape))


def expand(input: Tensor, shape: Sequence[int]) -> Rearrange:
    """x broadcast to a larger shape: axes of 1 are repeated, missing ones added in front."""
    have = _shape(input, "expand")
    wanted = tuple(_ints(shape, "expand shape"))
    aligned = (1,) * (len(wanted) - len(have)) + have
    if len(aligned) != len(wanted) or not all(
        a in (1, b) and b > 0 for a, b in zip(aligned, wanted, strict=True)
    ):
        raise ValueError(f"expand shape must be one that {have} broadcasts to, not {wanted}")
    return Rearrange(input, np.broadcast_to(_raster(input), wanted))


def gather(input: Tensor, indices: ArrayLike, axis: int = 0) -> Rearrange:
    """``y = take(x, indices, axis)`` with constant indices; negative ones count from the end.

    Indices of several axes take the place of the one axis.
    """
    shape = _shape(input, "gather")
    chosen = np.asarray(indices)
    if not np.issubdtype(chosen.dtype, np.integer):
        raise TypeError(f"gather indices must be integers, not {chosen.dtype}")
    if type(axis) is not int or not 0 <= axis < len(shape):
        raise ValueError(f"gather axis must be from 0 to {len(shape) - 1}, not {axis}")
    size = shape[axis]
    if chosen.size and not -size <= chosen.min() <= chosen.max() < size:
        raise ValueError(
            f"gather indices must be from {-size} to {size - 1}, "
            f"not span [{chosen.min()}, {chosen.max()}]"
        )
    return Rearrange(input, np.take(_raster(input), chosen, axis))


def _shape(input: Tensor, name: str) -> tuple[int, ...]:
    check_tensor(input, f"{name} input")
    return input.shape


def _raster(input: Tensor) -> Ints:
    return np.arange(input.size).reshape(input.shape)


def _ints(values: Sequence[int], name: str) -> list[int]:
    if not all(type(n) is int for n in values):
        raise TypeError(f"{name} must be ints, not {values!r}")
    return list(values)


def _per_axis(values: Sequence[int], shape: tuple[int, ...], name: str, least: int) -> None:
    if len(_ints(values, name)) != len(shape) or min(values) < least:
        raise ValueError(f"{name} must be {len(shape)} ints from {least}, not {values}")


def _image(input: Tensor, name: str) -> tuple[int, ...]:
    if len(_shape(input, name)) != 3:
        raise ValueError(f"{name} input must have 3 axes, not {len(input.shape)}")
    return input.shape


def _square(size: int, mode: str, name: str) -> None:
    if type(size) is not int or size < 1:
        raise ValueError(f"{name} size must be an int from 1, not {size!r}")
    if mode not in ("DCR", "CRD"):
        raise ValueError(f"{name} mode must be DCR or CRD, not {mode!r}")


@dataclass(frozen=True)
class Concat:
    """``y``: several tensors one behind the other along an axis; one stage.

    Source: ONNX Concat (https://onnx.ai/onnx/operators/onnx__Concat.html)

    Parameters
    ----------
    tensors : two or more, of one format and, but for that axis, of one shape; ports ``i_0``, ...
    axis : int from 0, of a frame

    >>> x = Tensor((32,), Format(8, 4))
    >>> block = Concat((x, x))
    >>> print(block.reference(np.zeros(32, int), np.ones(32, int))[29:35])
    [0 0 0 1 1 1]
    """

    tensors: tuple[Tensor, ...]
    axis: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.tensors, tuple):
            raise TypeError(f"Concat tensors must be a tuple, not {self.tensors!r}")
        if len(self.tensors) < 2:
            raise ValueError(f"Concat tensors must be at least 2, not {len(self.tensors)}")
        for n, tensor in enumerate(self.tensors):
            check_tensor(tensor, f"Concat tensor {n}")
        first = self.tensors[0]
        if type(self.axis) is not int or not 0 <= self.axis < len(first.shape):
            raise ValueError(
                f"Concat axis must be from 0 to {len(first.shape) - 1}, not {self.axis!r}"
            )
        for n, tensor in enumerate(self.tensors):
            if tensor.format != first.format or self._others(tensor) != self._others(first):
                raise ValueError(
                    f"Concat tensor {n} must be like {first} but for axis {self.axis}, not {tensor}"
                )

    def _others(self, tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tensor.shape[: self.axis], tensor.shape[self.axis + 1 :]

    @property
    def format(self) -> Format:
        """Of all numbers."""
        return self.tensors[0].format

    @property
    def runs(self) -> list[int]:
        """Numbers of each tensor that follow each other in y."""
        return [prod(tensor.shape[self.axis :]) for tensor in self.tensors]

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {f"i_{n}": tensor for n, tensor in enumerate(self.tensors)}

    @property
    def outputs(self) -> dict[str, Tensor]:
        before, after = self._others(self.tensors[0])
        along = sum(tensor.shape[self.axis] for tensor in self.tensors)
        return {"o": Tensor((*before, along, *after), self.format)}

    def reference(self, *frames: ArrayLike) -> Ints:
        """Integers in, integers out, each of shape (..., *shape)."""
        values = [
            tensor.check(x, f"Concat input {n}")
            for n, (x, tensor) in enumerate(zip(frames, self.tensors, strict=True))
        ]
        return np.concatenate(values, axis=self.axis - len(self.tensors[0].shape))

    def kernel(self) -> MoveKernel:
        """The reference on tiles."""
        ends = np.cumsum([tensor.size for tensor in self.tensors])
        index = [
            np.arange(end - tensor.size, end).reshape(tensor.shape)
            for end, tensor in zip(ends, self.tensors, strict=True)
        ]
        sizes = tuple(tensor.size for tensor in self.tensors)
        return MoveKernel(np.concatenate(index, axis=self.axis), sizes, self.format)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., as many as divide every run."""
        size = self.outputs["o"].size
        for lanes in divisors(gcd(*self.runs)):
            plan = Lanes(lanes)
            yield Candidate(plan, size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, gcd(*self.runs), "Concat")
        return dict.fromkeys((*self.inputs, "o"), lanes)

    def design(self, plan: Lanes) -> hdl.Merge:
        """The circuit."""
        lanes = self.lanes(plan)["o"]
        runs = tuple(run // lanes for run in self.runs)
        return hdl.Merge(runs, self.tensors[0].size // self.runs[0], self.format, lanes)

    def rtl(self, plan: Lanes) -> MergeArray:
        """A new circuit."""
        return MergeArray(self.design(plan))

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events()

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


def _draw_axes(random: np.random.Generator, index: int, count: int) -> tuple[int, ...]:
    """Sizes of axes that grow slowly with the index."""
    least = 1 if index < 4 or random.integers(4) == 0 else 2
    return tuple(int(n) for n in random.integers(least, 4 + index // 4, count))


def _draw_transpose(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    tensor = Tensor(_draw_axes(random, index, int(random.integers(2, 5))), number)
    return transpose(tensor, random.permutation(len(tensor.shape)).tolist())


def _draw_cut(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    tensor = Tensor(_draw_axes(random, index + 4, int(random.integers(1, 4))), number)
    slices = []
    for size in tensor.shape:
        start, step = int(random.integers(size)), int(random.integers(1, 4))
        stop = int(random.integers(start + 1, size + 1))
        backwards = slice(stop - 1, start - 1 if start else None, -step)
        slices.append(slice(start, stop, step) if random.integers(3) else backwards)
    return cut(tensor, slices)


def _draw_pad(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    tensor = Tensor(_draw_axes(random, index, int(random.integers(1, 4))), number)
    mode = MODES[random.integers(3)]
    sizes = [size if mode == "reflect" else 3 for size in tensor.shape]
    before, after = ([int(random.integers(min(3, n))) for n in sizes] for _ in range(2))
    fill = int(random.integers(number.min, number.max + 1)) if mode == "constant" else 0
    return pad(tensor, before, after, mode, fill)


def _draw_upsample(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    tensor = Tensor(_draw_axes(random, index, int(random.integers(1, 4))), number)
    return upsample(tensor, random.integers(1, 4, len(tensor.shape)).tolist())


def _draw_squares(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    height, width, channels = _draw_axes(random, index // 2, 3)
    size, mode = int(random.integers(1, 4)), ("DCR", "CRD")[random.integers(2)]
    if random.integers(2):
        return depth_to_space(Tensor((height, width, channels * size**2), number), size, mode)
    return space_to_depth(Tensor((height * size, width * size, channels), number), size, mode)


def _draw_expand(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    shape = np.array(_draw_axes(random, index, 4))
    first = int(random.integers(0, 3))
    kept = np.where(random.integers(0, 2, 4), shape, 1)[first:]
    return expand(Tensor(tuple(kept.tolist()), number), shape.tolist())


def _draw_gather(random: np.random.Generator, index: int, number: Format) -> Rearrange:
    tensor = Tensor(_draw_axes(random, index + 4, int(random.integers(1, 4))), number)
    axis = int(random.integers(len(tensor.shape)))
    size = tensor.shape[axis]
    return gather(tensor, random.integers(-size, size, random.integers(1, 6)), axis)


_DRAWN: tuple[Callable[[np.random.Generator, int, Format], Rearrange], ...] = (
    _draw_transpose,
    _draw_pad,
    _draw_cut,
    _draw_upsample,
    _draw_transpose,
    _draw_gather,
    _draw_squares,
    _draw_expand,
)


def rearrange_configuration(random: np.random.Generator, index: int) -> Configuration:
    number = draw_format(random, index)
    if index == 0:
        return Configuration(Rearrange(Tensor((1,), number), np.array([0, -1])), Moves(1))
    block = _DRAWN[index % len(_DRAWN)](random, index, number)
    lanes = int(random.choice([n for n in block._lanes if n * number.width <= 128]))
    styles = "registers", "distributed", "block"
    small = _design(block, Moves(lanes)).depth <= 64
    plan = Moves(lanes, styles[index % 3 if small else 2], "block" if index % 4 == 1 else "logic")
    return Configuration(block, plan)


def concat_configuration(random: np.random.Generator, index: int) -> Configuration:
    number = draw_format(random, index)
    count = 2 if index == 0 else int(random.integers(2, 5))
    shape = (1,) if index == 0 else _draw_axes(random, index, int(random.integers(1, 4)))
    axis = int(random.integers(len(shape)))
    along = _draw_axes(random, index, count) if index else (1, 1)
    tensors = tuple(Tensor((*shape[:axis], n, *shape[axis + 1 :]), number) for n in along)
    block = Concat(tensors, axis)
    return Configuration(block, Lanes(int(random.choice(divisors(gcd(*block.runs))))))
