# SPDX-License-Identifier: Apache-2.0
"""Convolutions over one to three axes, transposed ones, grouped and depthwise ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import (
    Axis,
    Cost,
    Events,
    MacCore,
    Parallel,
    ParallelArray,
    Raster,
    RasterWindow,
    Requantisation,
    Requantiser,
    Series,
    Target,
    Window,
    WindowAxis,
    Windowed,
    WindowedArray,
    can_unroll,
    chain,
)
from hdl.cost import memory_style
from hdl.requantise import requantised
from hdl.window import steps
from quant import Format, Ints, Kernel, Overflow, Rounding, WindowKernel

from .block import (
    Candidate,
    Tensor,
    check_format,
    check_mapping,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_integers,
    draw_modes,
)
from .linear import MAX_SHIFT, Folded, Unrolled

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Columns:
    """Plan: ``pe`` outputs and a whole row of the kernel in a cycle, for few channels.

    In front of the folded window a window along the last axis alone makes one word of each column
    of outputs, with zeros for the padding.

    Parameters
    ----------
    pe : int, dividing the outputs
    weight_style : "block" or "logic", what the memory of the weights becomes
    buffer_style : "block", "distributed" or "registers", what the memory of the words becomes
    """

    pe: int
    weight_style: str = "logic"
    buffer_style: str = "registers"

    def __post_init__(self) -> None:
        check_mapping(self, rom="weight_style", ram="buffer_style")


Plan = Folded | Columns | Unrolled


class ConvolutionBlock(ABC):
    """The views that follow from the windows of a convolution.

    A plan is Folded: ``pe`` outputs and ``simd`` channels of one tap in a cycle, where both divide
    their group's, or several whole groups side by side; Columns, where there is one group; or
    Unrolled: a window a cycle.
    """

    input: Tensor
    weight: Ints
    bias: Ints
    weight_format: Format
    output_format: Format
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Pairs
    groups: int
    shift: Ints | None
    rounding: Rounding
    overflow: Overflow

    @property
    @abstractmethod
    def axes(self) -> list[WindowAxis]:
        """Which places of the frame the outputs meet."""

    @property
    @abstractmethod
    def kernels(self) -> Ints:
        """The weights in the order of the taps of ``axes``, shape (outputs, *kernel, channels)."""

    @property
    def unrollable(self) -> bool:
        """Whether there is an unrolled circuit."""
        return self.pointwise or bool(self.raster_axes)

    @property
    def pointwise(self) -> bool:
        """Whether every output meets the one place of its own number."""
        return all(axis.pointwise for axis in self._cropped[0])

    @cached_property
    def raster_axes(self) -> list[Axis]:
        """The axes as the unrolled window takes them; none if it cannot.

        Where every output meets the one place of its own number, no window is needed.
        """
        return raster_axes(self.axes)

    def _check(self) -> None:
        """Refuse what is no convolution; what was left out becomes what it stands for."""
        name = type(self).__name__
        check_tensor(self.input, f"{name} input")
        check_format(self.weight_format, f"{name} weight_format")
        check_format(self.output_format, f"{name} output_format")
        check_modes(self)
        check_axes(self, ("stride", "dilation"))
        axes, channels = len(self.input.shape) - 1, self.input.shape[-1]
        if type(self.groups) is not int:
            raise TypeError(f"{name} groups must be an int, not {self.groups!r}")
        if self.groups < 1 or channels % self.groups:
            raise ValueError(f"{name} groups must divide {channels} channels, not be {self.groups}")
        shape = np.shape(self.weight)
        if len(shape) != axes + 2 or shape[-1] != channels // self.groups or 0 in shape:
            wanted = ", ".join(["outputs", *["kernel"] * axes, str(channels // self.groups)])
            raise ValueError(f"{name} weight must have shape ({wanted}), not {shape}")
        outputs = shape[0]
        if outputs % self.groups:
            raise ValueError(f"{name} groups must divide {outputs} outputs, not be {self.groups}")
        quant.check_shape(self.bias, (outputs,), f"{name} bias")
        weight = self.weight_format.check(self.weight, f"{name} weight")
        bias = Format(63, self._frac).check(self.bias, f"{name} bias")
        shift = np.zeros(outputs, np.int64) if self.shift is None else self.shift
        quant.check_shape(shift, (outputs,), f"{name} shift")
        if not np.issubdtype(np.asarray(shift).dtype, np.integer):
            raise TypeError(f"{name} shift must be integers, not {np.asarray(shift).dtype}")
        shift = np.asarray(shift).astype(np.int64)
        if shift.min() < 0 or shift.max() > MAX_SHIFT:
            raise ValueError(
                f"{name} shift must be between 0 and {MAX_SHIFT}, "
                f"not span [{shift.min()}, {shift.max()}]"
            )
        for attribute, value in (("weight", weight), ("bias", bias), ("shift", shift)):
            value.setflags(write=False)
            object.__setattr__(self, attribute, value)
        sizes = [axis.outputs for axis in self.axes]
        if min(sizes) < 1:
            raise ValueError(
                f"{name} kernel must fit the padded input, not leave {_shown(sizes)} outputs"
            )
        _ = self.sum_format

    @property
    def _frac(self) -> int:
        return self.weight_format.frac + self.input.format.frac

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        shape = (*(axis.outputs for axis in self.axes), len(self.weight))
        return {"o": Tensor(shape, self.output_format)}

    @property
    def positions(self) -> int:
        """Windows in a frame."""
        return prod(axis.outputs for axis in self.axes)

    @property
    def shifts(self) -> Ints:
        """``shift``, zeros if it was left out, shape (outputs,)."""
        return np.zeros(len(self.weight), np.int64) if self.shift is None else self.shift

    @cached_property
    def sum_format(self) -> Format:
        """Format of the sums before they are narrowed, exact for these weights."""
        name = type(self).__name__
        matrix = (self.weight << _column(self.shifts, self.weight)).reshape(len(self.weight), -1)
        low, high = quant.dot_bounds(matrix, self.input.format, name)
        # In Python's integers: the sum of two int64 could wrap.
        ends = [
            n + b
            for n, b in zip((*low.tolist(), *high.tolist()), 2 * self.bias.tolist(), strict=True)
        ]
        return quant.accumulator_format(min(ends), max(ends), self._frac, name)

    def _narrowed(self, sums: Ints) -> Ints:
        return quant.narrow(sums, self.sum_format, self.output_format, self.rounding, self.overflow)

    def _products(self, x: Ints, tap: tuple[int, ...]) -> Ints:
        """What one tap makes of pixels, shape (..., channels) -> (..., outputs)."""
        place: tuple[Any, ...] = (slice(None), *tap)
        weight = self.weight[place] << self.shifts[:, None]
        weight = weight.reshape(self.groups, -1, weight.shape[-1])
        grouped = x.reshape(*x.shape[:-1], self.groups, 1, -1)
        products = (grouped @ weight.transpose(0, 2, 1))[..., 0, :]
        return products.reshape(*x.shape[:-1], len(self.weight))

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        kernels = self.kernels << _column(self.shifts, self.weight)
        return WindowKernel(
            kernels.reshape(len(kernels), -1, kernels.shape[-1]),
            self.bias,
            self.weight_format.frac,
            self.input.format,
            self.output_format,
            self.rounding,
            self.overflow,
            places_of(self.axes),
            self.input.size // self.input.shape[-1],
            self.groups,
            type(self).__name__,
        )

    @cached_property
    def _cropped(self) -> tuple[list[WindowAxis], Ints]:
        """Axes and weights without taps that never meet the frame.

        Those between others stay, with the weights of the one before: nobody reads them.
        """
        axes = [axis.cropped for axis in self.axes]
        used: tuple[Any, ...] = tuple(slice(*axis.used) for axis in self.axes)
        kernels = self.kernels[(slice(None), *used)]
        for n, axis in enumerate(axes):
            met = np.unique([tap for taps in _met_taps(axis) for tap in taps.tolist()] or [0])
            before = np.searchsorted(met, np.arange(axis.kernel), "right") - 1
            kernels = kernels.take(met[before], axis=1 + n)
        return axes, kernels

    def _foldings(self) -> Iterator[tuple[int, int]]:
        """Every pe and simd that leaves no multiplier idle."""
        rows, channels = len(self.weight) // self.groups, self.weight.shape[-1]
        yield from ((pe, simd) for pe in divisors(rows) for simd in divisors(channels))
        yield from ((n * rows, n * channels) for n in divisors(self.groups) if n > 1)

    def _words(self, pe: int, simd: int) -> tuple[int, int, int]:
        """Groups one after the other, folds of each, words of a pixel in each."""
        rows, channels = len(self.weight) // self.groups, self.weight.shape[-1]
        side = max(1, pe // rows)  # groups side by side
        return self.groups // side, max(1, rows // pe), max(1, channels // simd)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """Every folding that divides, from few multipliers to many, then unrolled."""
        axes, kernels = self._cropped
        taps, transfers = prod(axis.kernel for axis in axes), self.input.size
        if kernels.any() or not self.unrollable:
            for pe, simd in sorted(self._foldings(), key=lambda pair: (prod(pair), pair)):
                groups, folds, words = self._words(pe, simd)
                if groups * folds * words * taps > 1 or not self.unrollable:
                    plan = self._folded(pe, simd, target)
                    interval = max(steps(axes, words) * groups * folds, transfers // simd)
                    yield Candidate(plan, interval, partial(self.cost, plan, target))
            yield from self._column_plans(target)
        if self.unrollable:
            price = partial(self.cost, Unrolled(), target)
            raster = self._raster  # not the graph behind it, which takes long to find
            interval = self.positions if raster is None else raster.steps
            yield Candidate(Unrolled(), interval, price, unrolled=True)

    def _folded(self, pe: int, simd: int, target: Target) -> Folded:
        """The folding with the memories that suit the target."""
        axes, _ = self._cropped
        depth = prod(self._words(pe, simd)) * prod(axis.kernel for axis in axes)
        weights = memory_style(target, depth, pe * simd * self.weight_format.width, writable=False)
        inner = [axis.size for axis in axes[1:]]
        rows = axes[0].dilation * (axes[0].kernel - 1) + axes[0].stride
        words = min(rows, 2 * axes[0].size) * prod(inner) * self.input.shape[-1] // simd
        ring = 1 << (words - 1).bit_length()
        return Folded(pe, simd, weights, memory_style(target, ring, simd * self.input.format.width))

    @property
    def by_columns(self) -> "Convolution | None":
        """The convolution of words that hold a row of the kernel each; None if there is none."""
        return None

    def _column_plans(self, target: Target) -> Iterator[Candidate]:
        """From few multipliers to many."""
        inner = self.by_columns
        if inner is None:
            return
        simd = inner.input.shape[-1]
        raster = self._column_raster()
        for candidate in inner.plans(target):
            folded = candidate.plan
            if isinstance(folded, Folded) and folded.simd == simd:
                plan = Columns(folded.pe, folded.weight_style, folded.buffer_style)
                interval = max(candidate.interval, raster.steps)
                yield Candidate(plan, interval, partial(self.cost, plan, target))

    @property
    def _raster(self) -> Raster | None:
        """The unrolled window; None where a window is one pixel."""
        if self.pointwise:
            return None
        return Raster(self.raster_axes, self.input.shape[-1], self.input.format)

    def _column_raster(self) -> Raster:
        """The window along the last axis."""
        axes = [Axis(axis.size, 1) for axis in self.axes[:-1]]
        return Raster(
            [*axes, self.raster_axes[-1]],
            self.input.shape[-1],
            self.input.format,
            styles=["registers"] * len(axes),
        )

    def lanes(self, plan: Plan) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        name = type(self).__name__
        if isinstance(plan, Columns):
            if self.by_columns is None:
                raise ValueError(f"{name} plan must not be Columns for these windows, not {plan!r}")
            if plan.pe < 1 or len(self.weight) % plan.pe:
                raise ValueError(
                    f"{name} pe must divide {len(self.weight)} outputs, not be {plan.pe}"
                )
            return {"i": self.input.shape[-1], "o": plan.pe}
        if isinstance(plan, Unrolled):
            if not self.unrollable:
                raise ValueError(f"{name} plan must be Folded for these windows, not {plan!r}")
            return {"i": self.input.shape[-1], "o": len(self.weight)}
        if not isinstance(plan, Folded):
            raise TypeError(f"{name} plan must be Folded, Columns or Unrolled, not {plan!r}")
        if (plan.pe, plan.simd) not in self._foldings():
            known = ", ".join(f"{pe} x {simd}" for pe, simd in self._foldings())
            raise ValueError(
                f"{name} pe x simd must be one of {known}, not {plan.pe} x {plan.simd}"
            )
        return {"i": plan.simd, "o": plan.pe}

    def _core(self, plan: Folded, window: Window) -> MacCore:
        """The weights as they are folded; groups side by side meet their own lanes only."""
        _, kernels = self._cropped
        outputs, channels = len(kernels), kernels.shape[-1]
        rows = outputs // self.groups
        if plan.pe <= rows:
            folded = kernels.reshape(outputs // plan.pe, plan.pe, -1, plan.simd)
        else:
            flat = kernels.reshape(outputs // plan.pe, plan.pe, -1, channels)
            folded = np.zeros((*flat.shape[:3], plan.simd), np.int64)
            for row in range(plan.pe):
                lane = row // rows * channels
                folded[:, row, :, lane : lane + channels] = flat[:, row]
        style, number = plan.weight_style, self.input.format
        return MacCore(folded, number, style, window.accumulates, window.empties, self._bounds())

    def _bounds(self) -> tuple[Ints, Ints]:
        """Smallest and largest sum of every output, whatever taps a window meets."""
        axes, kernels = self._cropped
        lows = highs = [np.zeros(len(kernels), np.int64)]
        for taps in product(*(_met_taps(axis) for axis in axes)):
            place: tuple[Any, ...] = (slice(None), *np.ix_(*taps))
            met = kernels[place].reshape(len(kernels), -1)
            low, high = quant.dot_bounds(met, self.input.format, type(self).__name__)
            lows, highs = [*lows, low], [*highs, high]
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def _matrix(self) -> Ints:
        """The weights of a whole window, shape (outputs, taps * channels)."""
        kernels, groups = self.kernels, self.groups
        taps = np.zeros((len(kernels), *kernels.shape[1:-1], groups, kernels.shape[-1]), np.int64)
        used: tuple[Any, ...] = tuple(slice(*axis.used) for axis in self.axes)
        rows = len(kernels) // groups
        for group in range(groups):
            part = slice(group * rows, (group + 1) * rows)
            taps[(part, *used, group)] = kernels[(part, *used)]
        if self.pointwise:
            taps = taps[(slice(None), *used)]
        return taps.reshape(len(kernels), -1)

    def design(self, plan: Plan) -> "Design":
        """The parts of the circuit."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Plan) -> Series:
        """A new circuit: windows, exact sums, and what narrows them."""
        raster, sums, requantisation = self.design(plan)
        narrow = Requantiser(requantisation)
        windows = {} if raster is None else {"window": RasterWindow(raster)}
        array = WindowedArray(sums) if isinstance(sums, Windowed) else ParallelArray(sums)
        return Series(**windows, sums=array, narrow=narrow)

    def timing(self, plan: Plan) -> Events:
        """When every transfer of a frame happens."""
        raster, sums, requantisation = self.design(plan)
        windows = [raster.events()] if raster else []
        made = sums.events()
        if not isinstance(sums, Windowed):
            made = made.repeated(self.positions)
        transfers = self.positions * sums.groups
        return chain(*windows, made, requantisation.events().repeated(transfers))

    def cost(self, plan: Plan, target: Target) -> Cost:
        """What it takes on a target."""
        raster, *others = self.design(plan)
        held = isinstance(plan, Unrolled) and plan.held
        windows = raster.inventory(held).cost(target) if raster else Cost()
        return sum((part.inventory().cost(target) for part in others), windows)


Design = tuple[Raster | None, Any, Requantisation]
"""The unrolled window if there is one, what makes the sums, what narrows them."""


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(block: ConvolutionBlock, plan: Plan) -> Design:
    rest = (
        block.shifts,
        block.bias,
        block._frac,
        block.output_format,
        block.rounding,
        block.overflow,
    )
    if isinstance(plan, Unrolled):
        sums = Parallel(block._matrix(), block.input.format, plan.adders_per_stage, held=plan.held)
        return block._raster, *requantised(sums, *rest, stages=plan.narrow_stages)
    if isinstance(plan, Columns) and block.by_columns is not None:
        inner = block.by_columns
        styles = plan.weight_style, plan.buffer_style
        _, *parts = _design(inner, Folded(plan.pe, inner.input.shape[-1], *styles))
        return block._column_raster(), *parts
    assert isinstance(plan, Folded)
    axes, _ = block._cropped
    groups, folds, words = block._words(plan.pe, plan.simd)
    window = Window(axes, groups * words, groups, folds, plan.buffer_style)
    core, requantisation = requantised(block._core(plan, window), *rest)
    return None, Windowed(window, core), requantisation


def _check_numbers(value: object, count: int, least: int, name: str) -> None:
    """Raise unless ``value`` is a tuple of ``count`` ints, none below ``least``."""
    if not isinstance(value, tuple) or not all(type(n) is int for n in value):
        raise TypeError(f"{name} must be a tuple of ints, not {value!r}")
    if len(value) != count or min(value) < least:
        raise ValueError(f"{name} must be {count} ints of at least {least}, not {value}")


def _shown(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _column(values: Ints, like: Ints) -> Ints:
    """One number for each row of an array with as many axes as ``like``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def raster_axes(axes: Sequence[WindowAxis]) -> list[Axis]:
    """The axes as the unrolled window takes them; none if it cannot."""
    result = []
    for axis in axes:
        reach = (axis.outputs - 1) * axis.stride + axis.dilation * (axis.kernel - 1) + 1
        after = max(0, reach - axis.size - axis.before)
        made = Axis(axis.size, axis.kernel, axis.stride, axis.dilation, axis.before, after)
        if axis.upsample > 1 or made.windows != axis.outputs or not can_unroll([made]):
            return []
        result.append(made)
    return result


def places_of(axes: Sequence[WindowAxis]) -> Ints:
    """The pixel that each tap of each window meets, -1 outside the frame: (positions, taps)."""
    result = np.zeros((1, 1), np.int64)
    for axis in axes:
        places = np.arange(axis.outputs)[:, None] * axis.stride - axis.before
        places = places + np.arange(axis.kernel) * axis.dilation
        inside = (places % axis.upsample == 0) & (places >= 0)
        places = places // axis.upsample
        inside &= places < axis.size
        joined = result[:, None, :, None] * axis.size + places[None, :, None, :]
        inside = (result[:, None, :, None] >= 0) & inside[None, :, None, :]
        result = np.where(inside, joined, -1).reshape(len(result) * axis.outputs, -1)
    return result


def _met_taps(axis: WindowAxis) -> list[Ints]:
    """The taps that any output meets together."""
    first, _, count = axis.met
    kinds = dict.fromkeys(zip(first.tolist(), count.tolist(), strict=True))
    return [start + np.arange(number) * axis.steps[0] for start, number in kinds if number]


def check_axes(block: Any, fields: Sequence[str]) -> None:
    """Refuse numbers that are not one for each axis of a block's input; what was left out is filled
    in: ones, and no padding.
    """
    name, shape = type(block).__name__, block.input.shape
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"{name} input must have 1 to 3 axes and channels, not {len(shape)} axes")
    axes = len(shape) - 1
    for field in fields:
        value = getattr(block, field)
        value = (1,) * axes if value == () and field != "kernel_shape" else value
        _check_numbers(value, axes, 1, f"{name} {field}")
        object.__setattr__(block, field, value)
    padding = ((0, 0),) * axes if block.padding == () else block.padding
    if not isinstance(padding, tuple) or len(padding) != axes:
        raise ValueError(f"{name} padding must be {axes} pairs of ints, not {padding!r}")
    for pair in padding:
        _check_numbers(pair, 2, 0, f"{name} padding of an axis")
    object.__setattr__(block, "padding", padding)


@dataclass(frozen=True, eq=False)
class Convolution(ConvolutionBlock):
    """``y = narrow(sum over the taps of W @ x + b)`` at every position of a window.

    Exact sums over one to three axes, zeros outside the frame, narrowed once. As in ONNX Conv: the
    window is not mirrored.

    Source: ONNX Conv (https://onnx.ai/onnx/operators/onnx__Conv.html); V. Dumoulin, F. Visin, A
    Guide to Convolution Arithmetic, 2016 (https://arxiv.org/abs/1603.07285); mappings as of Linear

    Parameters
    ----------
    input : Tensor of x, shape (*sizes, channels)
    weight : ints in weight_format, shape (outputs, *kernel, channels / groups)
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (outputs,)
    weight_format, output_format : Format of W and of y
    stride, dilation : an int from 1 for each axis; 1 if left out
    padding : for each axis the zeros (before, after) the frame; none if left out
    groups : parts of the channels and of the outputs that meet each other only
    shift : ints 0 to 4, shape (outputs,), 0 if left out: the weights of output j stand for
        ``weight[j] << shift[j]``, they have ``shift[j]`` fraction bits less than weight_format
    rounding, overflow : how the sums are narrowed; an unsigned y that saturates is a free ReLU

    >>> x, y, around = Tensor((4, 4, 4), Format(8, 4)), Format(8, 0), ((1, 1), (1, 1))
    >>> weight = np.random.default_rng(0).integers(-128, 128, (4, 3, 3, 4))
    >>> block = Convolution(x, weight, np.arange(4) * 100, Format(8, 7), y, padding=around)
    >>> print(block.reference(np.arange(64).reshape(4, 4, 4))[0])
    [[ 0  2 -1  1]
     [ 0  4 -3  3]
     [ 0  5 -3  4]
     [ 3  5 -2  0]]
    """

    input: Tensor
    weight: Ints
    bias: Ints
    weight_format: Format
    output_format: Format
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: Pairs = ()
    groups: int = 1
    shift: Ints | None = None
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def axes(self) -> list[WindowAxis]:
        """Which places of the frame the outputs meet."""
        result = []
        for size, kernel, stride, dilation, (before, after) in _by_axis(self):
            room = size + before + after - dilation * (kernel - 1) - 1
            outputs = room // stride + 1
            result.append(WindowAxis(size, kernel, outputs, stride, dilation, before))
        return result

    @property
    def kernels(self) -> Ints:
        """The weights, shape (outputs, *kernel, channels / groups)."""
        return self.weight

    @cached_property
    def by_columns(self) -> "Convolution | None":
        """The convolution of words that hold a row of the kernel each; None if there is none."""
        kernel, sizes = self.weight.shape[1:-1], self.input.shape[:-1]
        if self.groups > 1 or kernel[-1] == 1 or not self.raster_axes or not self.weight.any():
            return None
        words = (*sizes[:-1], self.axes[-1].outputs, kernel[-1] * self.input.shape[-1])
        return replace(
            self,
            input=Tensor(words, self.input.format),
            weight=self.weight.reshape(len(self.weight), *kernel[:-1], 1, -1),
            stride=(*self.stride[:-1], 1),
            dilation=(*self.dilation[:-1], 1),
            padding=(*self.padding[:-1], (0, 0)),
        )

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *sizes, channels) -> (..., *sizes, outputs)."""
        values = self.input.check(x, "Convolution input")
        shape = self.outputs["o"].shape
        lead = values.shape[: values.ndim - len(self.input.shape)]
        values = values.reshape(-1, *self.input.shape)
        padded = np.pad(values, ((0, 0), *self.padding, (0, 0)))
        sums = np.broadcast_to(self.bias, (len(values), *shape)).copy()
        for tap in np.ndindex(*self.weight.shape[1:-1]):
            starts = [k * d for k, d in zip(tap, self.dilation, strict=True)]
            taken = tuple(
                slice(start, start + (outputs - 1) * stride + 1, stride)
                for start, outputs, stride in zip(starts, shape[:-1], self.stride, strict=True)
            )
            sums += self._products(padded[(slice(None), *taken)], tap)
        return self._narrowed(sums).reshape(*lead, *shape)


@dataclass(frozen=True, eq=False)
class TransposedConvolution(ConvolutionBlock):
    """The transpose of a strided convolution: every pixel adds its multiple of the weights to y.

    Exact sums over one to three axes, narrowed once. As in ONNX ConvTranspose: along an axis y has
    ``(size - 1) * stride + dilation * (kernel - 1) + 1 - before - after + output_padding`` places.

    Source: ONNX ConvTranspose (https://onnx.ai/onnx/operators/onnx__ConvTranspose.html); V.
    Dumoulin, F. Visin, A Guide to Convolution Arithmetic, 2016 (https://arxiv.org/abs/1603.07285)

    Parameters
    ----------
    input : Tensor of x, shape (*sizes, channels)
    weight : ints in weight_format, shape (outputs, *kernel, channels / groups)
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (outputs,)
    weight_format, output_format : Format of W and of y
    stride, dilation : an int from 1 for each axis; 1 if left out
    padding : for each axis the places (before, after) that are cut off y; none if left out
    output_padding : places that y has more behind each axis, less than stride or dilation
    groups : parts of the channels and of the outputs that meet each other only
    shift : ints 0 to 4, shape (outputs,), 0 if left out: the weights of output j stand for
        ``weight[j] << shift[j]``, they have ``shift[j]`` fraction bits less than weight_format
    rounding, overflow : how the sums are narrowed; an unsigned y that saturates is a free ReLU

    >>> weight = np.random.default_rng(0).integers(-128, 128, (4, 2, 2, 4))
    >>> x, y, bias = Tensor((4, 4, 4), Format(8, 4)), Format(8, 0), np.zeros(4, int)
    >>> block = TransposedConvolution(x, weight, bias, Format(8, 7), y, stride=(2, 2))
    >>> print(block.outputs["o"].shape, block.reference(np.arange(64).reshape(4, 4, 4))[0, 0])
    (8, 8, 4) [0 0 0 0]
    """

    input: Tensor
    weight: Ints
    bias: Ints
    weight_format: Format
    output_format: Format
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: Pairs = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1
    shift: Ints | None = None
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "TransposedConvolution input")
        axes = len(self.input.shape) - 1
        more = (0,) * axes if self.output_padding == () else self.output_padding
        _check_numbers(more, axes, 0, "TransposedConvolution output_padding")
        object.__setattr__(self, "output_padding", more)
        self._check()
        limits = [max(pair) for pair in zip(self.stride, self.dilation, strict=True)]
        if any(n >= limit for n, limit in zip(more, limits, strict=True)):
            raise ValueError(
                f"TransposedConvolution output_padding must be less than {tuple(limits)}, "
                f"not {more}"
            )

    @cached_property
    def axes(self) -> list[WindowAxis]:
        """Which places of the frame the outputs meet, the kernel mirrored."""
        result = []
        for (size, kernel, stride, dilation, (before, after)), more in zip(
            _by_axis(self), self.output_padding, strict=True
        ):
            reach = dilation * (kernel - 1)
            outputs = (size - 1) * stride + reach + 1 - before - after + more
            result.append(
                WindowAxis(size, kernel, outputs, 1, dilation, reach - before, upsample=stride)
            )
        return result

    @property
    def kernels(self) -> Ints:
        """The weights mirrored, shape (outputs, *kernel, channels / groups)."""
        return np.flip(self.weight, tuple(range(1, self.weight.ndim - 1)))

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *sizes, channels) -> (..., *sizes, outputs)."""
        values = self.input.check(x, "TransposedConvolution input")
        shape = self.outputs["o"].shape
        lead = values.shape[: values.ndim - len(self.input.shape)]
        values = values.reshape(-1, *self.input.shape)
        whole = [n + sum(pair) for n, pair in zip(shape[:-1], self.padding, strict=True)]
        sums = np.broadcast_to(self.bias, (len(values), *whole, shape[-1])).copy()
        for tap in np.ndindex(*self.weight.shape[1:-1]):
            starts = [k * d for k, d in zip(tap, self.dilation, strict=True)]
            reached = tuple(
                slice(start, start + (size - 1) * stride + 1, stride)
                for start, size, stride in zip(
                    starts, self.input.shape[:-1], self.stride, strict=True
                )
            )
            sums[(slice(None), *reached)] += self._products(values, tap)
        left = tuple(
            slice(before, n - after) for n, (before, after) in zip(whole, self.padding, strict=True)
        )
        return self._narrowed(sums[(slice(None), *left)]).reshape(*lead, *shape)


def _by_axis(block: ConvolutionBlock) -> Iterator[tuple[int, int, int, int, tuple[int, int]]]:
    """Size, kernel, stride, dilation and padding of each axis."""
    sizes, kernel = block.input.shape[:-1], block.weight.shape[1:-1]
    yield from zip(sizes, kernel, block.stride, block.dilation, block.padding, strict=True)


def _convolution_parts(random: np.random.Generator, index: int) -> dict[str, Any]:
    """Arguments of either kind, but for the padding."""
    axes = 1 + index % 3 if index else 1
    largest = (10, 6, 4)[axes - 1]
    sizes = [int(n) for n in random.integers(1, largest + 1, axes)] if index else [1]
    kernel = [int(n) for n in random.integers(1, 5 - axes // 2, axes)] if index else [1]
    groups = int(random.choice([1, 1, 2, 3])) if index > 2 else 1
    channels, outputs = (int(n) for n in random.integers(1, 5, 2)) if index else (1, 1)
    depthwise = index % 5 == 4
    channels, outputs = (1, 1 + index % 2) if depthwise else (channels, outputs)
    groups = int(random.integers(2, 5)) if depthwise else groups
    tensor = Tensor((*sizes, channels * groups), draw_format(random, index))
    number = draw_format(random, index)
    weight = draw_integers(random, number, (outputs * groups, *kernel, channels))
    frac = tensor.format.frac + number.frac
    lows, highs = quant.dot_bounds(weight.reshape(len(weight), -1), tensor.format)
    low, high = int(lows.min()), int(highs.max())
    bias = random.integers(low // 2 - 1, high // 2 + 2, len(weight))
    target = draw_fitting(random, low + int(bias.min()), high + int(bias.max()), frac)
    rounding, overflow = draw_modes(random, index)
    return {
        "input": tensor,
        "weight": weight,
        "bias": bias,
        "weight_format": number,
        "output_format": target,
        "stride": tuple(int(n) for n in random.integers(1, 4, axes)),
        "dilation": tuple(int(n) for n in random.integers(1, 3, axes)),
        "groups": groups,
        "shift": random.integers(0, 5, len(weight)) if index % 4 == 3 else None,
        "rounding": rounding,
        "overflow": overflow,
    }


def _configuration(random: np.random.Generator, block: Any, index: int) -> Configuration:
    """Any folding; now and then with a window that is unrolled, then without weights of 0, which
    free registers of it that its price counts.
    """
    kind = (Folded, Folded, Unrolled, Columns)[index % 4]
    plans = [candidate.plan for candidate in block.plans(Target.named("ecp5"))]
    chosen = [plan for plan in plans if isinstance(plan, kind)] or plans
    plan = chosen[random.integers(len(chosen))]
    if isinstance(plan, Folded):
        return Configuration(block, plan)
    if isinstance(plan, Unrolled):
        plan = replace(plan, held=index % 8 == 6)
    weight = np.where(block.weight == 0, block.weight_format.max or -1, block.weight)
    return Configuration(replace(block, weight=weight), plan)


def convolution_configuration(random: np.random.Generator, index: int) -> Configuration:
    while True:
        parts = _convolution_parts(random, index)
        kernel = parts["weight"].shape[1:-1]
        pads = tuple(tuple(random.integers(0, n + 1, 2).tolist()) for n in kernel)
        padding = pads if index % 3 else ()
        try:
            return _configuration(random, Convolution(**parts, padding=padding), index)
        except ValueError:  # the window does not fit
            continue


def transposed_configuration(random: np.random.Generator, index: int) -> Configuration:
    while True:
        parts = _convolution_parts(random, index)
        kernel = parts["weight"].shape[1:-1]
        limits = zip(parts["stride"], parts["dilation"], strict=True)
        more = tuple(int(random.integers(0, max(pair))) for pair in limits)
        padding = tuple(tuple(random.integers(0, n, 2).tolist()) for n in kernel)
        try:
            block = TransposedConvolution(**parts, padding=padding, output_padding=more)
            return _configuration(random, block, index)
        except ValueError:  # nothing is left of y
            continue
