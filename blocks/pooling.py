# SPDX-License-Identifier: Apache-2.0
"""Pooling: the largest number or the mean of every window, channel by channel."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hdl import (
    Cost,
    Events,
    MacCore,
    Raster,
    Reduction,
    Series,
    Target,
    Tree,
    Window,
    WindowAxis,
    Windowed,
    chain,
)
from hdl.cost import memory_style
from hdl.requantise import requantised
from hdl.window import steps
from quant import Format, Ints, Kernel, MaximumKernel, Overflow, PlainKernel, Rounding
from quant.quotient import Reciprocals, narrow_quotient

from .block import (
    Candidate,
    Tensor,
    check_format,
    check_mapping,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import Configuration, draw_format, draw_modes, draw_near
from .convolution import Pairs, check_axes, places_of, raster_axes
from .reduce import averaged, series


@dataclass(frozen=True)
class Pooled:
    """Plan: so many channels of one place of a window in a cycle.

    Parameters
    ----------
    lanes : int, dividing the channels
    buffer_style : "block", "distributed" or "registers", what the memory of the frame becomes
    """

    lanes: int
    buffer_style: str = "registers"

    def __post_init__(self) -> None:
        check_mapping(self, ram="buffer_style")


@dataclass(frozen=True)
class WholeWindows:
    """Plan: all places and channels of a window in a cycle, from delays and through a tree.

    Parameters
    ----------
    buffer_style : "block", "distributed" or "registers", what the memories of the delays become
    """

    buffer_style: str = "block"

    def __post_init__(self) -> None:
        check_mapping(self, ram="buffer_style")


Plan = Pooled | WholeWindows


class PoolingBlock(ABC):
    """The views that follow from the windows; a plan is :class:`Pooled` or :class:`WholeWindows`.

    There are no whole windows where they would mean different counts of numbers, nor where a window
    is one place.
    """

    input: Tensor
    kernel_shape: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Pairs
    ceil: bool

    @property
    @abstractmethod
    def outputs(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def design(self, plan: Plan) -> tuple[Any, ...]:
        """The parts of the circuit, in the order of the data."""

    def _check(self) -> None:
        """Refuse what is no pooling; what was left out becomes what it stands for."""
        name = type(self).__name__
        check_tensor(self.input, f"{name} input")
        check_axes(self, ("kernel_shape", "stride", "dilation"))
        if type(self.ceil) is not bool:
            raise TypeError(f"{name} ceil must be a bool, not {self.ceil!r}")
        sizes = [axis.outputs for axis in self.axes]
        if min(sizes) < 1:
            shown = " x ".join(map(str, sizes))
            raise ValueError(f"{name} kernel must fit the padded input, not leave {shown} outputs")
        for n, axis in enumerate(self.axes):
            empty = np.flatnonzero(axis.met[2] == 0)
            if empty.size:
                raise ValueError(
                    f"{name} windows must meet the input, not lie in the padding of axis {n} "
                    f"at output {empty[0]}"
                )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @cached_property
    def axes(self) -> list[WindowAxis]:
        """Which places of the frame the outputs meet.

        With ``ceil`` a last window may reach over the padding, if it begins before the padding
        behind the frame does.
        """
        result = []
        for size, kernel, stride, dilation, (before, after) in zip(
            self.input.shape[:-1],
            self.kernel_shape,
            self.stride,
            self.dilation,
            self.padding,
            strict=True,
        ):
            room = size + before + after - dilation * (kernel - 1) - 1
            outputs = room // stride + 1
            if self.ceil and room >= 0:
                outputs = -(-room // stride) + 1
                if (outputs - 1) * stride >= size + before:
                    outputs -= 1
            result.append(WindowAxis(size, kernel, outputs, stride, dilation, before))
        return result

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return (*(axis.outputs for axis in self.axes), self.input.shape[-1])

    @property
    def positions(self) -> int:
        """Windows in a frame."""
        return prod(self.shape[:-1])

    def _windows(self, x: Ints, missing: int) -> Iterator[Ints]:
        """For each tap what the windows of frames (batch, *shape) see, ``missing`` outside."""
        after = [
            max(0, (axis.outputs - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1)
            for axis in self.axes
        ]
        padding = [
            (axis.before, max(0, reach - axis.size - axis.before))
            for axis, reach in zip(self.axes, after, strict=True)
        ]
        padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=missing)
        for tap in np.ndindex(*self.kernel_shape):
            taken: tuple[Any, ...] = tuple(
                slice(k * axis.dilation, k * axis.dilation + reach, axis.stride)
                for k, axis, reach in zip(
                    tap,
                    self.axes,
                    [(axis.outputs - 1) * axis.stride + 1 for axis in self.axes],
                    strict=True,
                )
            )
            yield padded[(slice(None), *taken)]

    def _batched(self, x: ArrayLike) -> tuple[Ints, tuple[int, ...]]:
        """Frames of shape (batch, *shape), and the axes that the batch had."""
        values = self.input.check(x, f"{type(self).__name__} input")
        lead = values.shape[: values.ndim - len(self.input.shape)]
        return values.reshape(-1, *self.input.shape), lead

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One channel at a time, ..., all of them."""
        channels = self.input.shape[-1]
        for lanes in divisors(channels):
            axes = self._cropped
            inner = prod(axis.size for axis in axes[1:])
            rows = axes[0].dilation * (axes[0].kernel - 1) + axes[0].stride
            words = min(rows, 2 * axes[0].size) * inner * channels // lanes
            ring = 1 << (words - 1).bit_length()
            style = memory_style(target, ring, lanes * self.input.format.width)
            plan = Pooled(lanes, style)
            words = channels // lanes
            interval = max(steps(axes, 1), prod(self.input.shape[:-1])) * words
            yield Candidate(plan, interval, partial(self.cost, plan, target))
        if self.unrollable:
            plain = self._raster(WholeWindows(), 0)
            if plain.steps < interval:
                styles = [memory_style(target, *memory) for memory in plain.memories().values()]
                whole = WholeWindows(max(styles, key=BUFFER_STYLES.index, default="block"))
                price = partial(self.cost, whole, target)
                yield Candidate(whole, plain.steps, price, unrolled=True)

    @property
    def unrollable(self) -> bool:
        """Whether there is a circuit that takes a whole window in a cycle."""
        return prod(axis.kernel for axis in self._cropped) > 1 and bool(raster_axes(self._cropped))

    def _raster(self, plan: WholeWindows, fill: int, largest: bool = False) -> Raster:
        """The windows, with ``fill`` outside the frame; ``largest`` as of a Raster."""
        axes, channels = raster_axes(self._cropped), self.input.shape[-1]
        styles = [plan.buffer_style] * (len(axes) - 1)
        return Raster(axes, channels, self.input.format, fill, styles, largest=largest)

    @property
    def _cropped(self) -> list[WindowAxis]:
        return [axis.cropped for axis in self.axes]

    def lanes(self, plan: Plan) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        name, channels = type(self).__name__, self.input.shape[-1]
        if isinstance(plan, WholeWindows):
            if not self.unrollable:
                raise ValueError(f"{name} plan must be Pooled for these windows, not {plan!r}")
            return {"i": channels, "o": channels}
        if not isinstance(plan, Pooled):
            raise TypeError(f"{name} plan must be Pooled or WholeWindows, not {plan!r}")
        if plan.lanes < 1 or channels % plan.lanes:
            raise ValueError(f"{name} lanes must divide {channels} channels, not be {plan.lanes}")
        return {"i": plan.lanes, "o": plan.lanes}

    def _window(self, plan: Pooled, **options: Any) -> Window:
        words = self.input.shape[-1] // plan.lanes
        return Window(self._cropped, words, words, 1, plan.buffer_style, **options)

    def rtl(self, plan: Plan) -> Series:
        """A new circuit."""
        return series(self.design(plan))

    def timing(self, plan: Plan) -> Events:
        """When every transfer of a frame happens."""
        window, *rest = self.design(plan)
        transfers = self.positions * self.input.shape[-1] // self.lanes(plan)["o"]
        return chain(window.events(), *(part.events().repeated(transfers) for part in rest))

    def cost(self, plan: Plan, target: Target) -> Cost:
        """What it takes on a target."""
        return sum((part.inventory().cost(target) for part in self.design(plan)), Cost())


BUFFER_STYLES = ("registers", "distributed", "block")
"""From the smallest memories to the largest."""


@dataclass(frozen=True, eq=False)
class MaxPool(PoolingBlock):
    """``y`` is the largest number of every window, channel by channel; padding is not seen.

    Over one to three axes, as ONNX MaxPool.

    Source: ONNX MaxPool (https://onnx.ai/onnx/operators/onnx__MaxPool.html)

    Parameters
    ----------
    input : Tensor of x, shape (*sizes, channels)
    kernel_shape : of the window, an int for each axis
    stride, dilation : an int from 1 for each axis; 1 if left out
    padding : for each axis places (before, after) the frame; none if left out
    ceil : whether windows that reach over the padding behind the frame count

    >>> block = MaxPool(Tensor((4, 4, 4), Format(8, 4)), (2, 2), (2, 2))
    >>> print(block.reference(np.arange(64).reshape(4, 4, 4))[0])
    [[20 21 22 23]
     [28 29 30 31]]
    """

    input: Tensor
    kernel_shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: Pairs = ()
    ceil: bool = False

    def __post_init__(self) -> None:
        self._check()

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.shape, self.input.format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *sizes, channels) -> (..., *sizes, channels)."""
        values, lead = self._batched(x)
        y = np.full((len(values), *self.shape), self.input.format.min)
        for seen in self._windows(values, self.input.format.min):
            y = np.maximum(y, seen)
        return y.reshape(*lead, *self.shape)

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        *sizes, channels = self.input.shape
        return MaximumKernel(places_of(self.axes), prod(sizes), channels, self.input.format)

    def design(self, plan: Plan) -> tuple[Any, ...]:
        """The parts of the circuit, in the order of the data."""
        self.lanes(plan)
        return _largest(self, plan)


@lru_cache(maxsize=256)
def _largest(block: MaxPool, plan: Plan) -> tuple[Any, ...]:
    if isinstance(plan, WholeWindows):
        raster = block._raster(plan, block.input.format.min, largest=True)
        x, channels = block.input.format, raster.channels
        return raster, Tree("maximum", x, channels, raster.taps, apart=raster.apart)
    window = block._window(plan)
    terms = int(window.lengths.max())
    return (Windowed(window, Reduction("maximum", block.input.format, plan.lanes, terms)),)


@dataclass(frozen=True, eq=False)
class AveragePool(PoolingBlock):
    """``y = narrow(mean)`` of every window, channel by channel: the exact quotient, narrowed once.

    Over one to three axes, as ONNX AveragePool.

    Source: ONNX AveragePool (https://onnx.ai/onnx/operators/onnx__AveragePool.html)

    Parameters
    ----------
    input : Tensor of x, shape (*sizes, channels)
    kernel_shape : of the window, an int for each axis
    output_format : Format of y
    stride, dilation : an int from 1 for each axis; 1 if left out
    padding : for each axis zeros (before, after) the frame; none if left out
    ceil : whether windows that reach over the padding behind the frame count
    count_padding : whether the zeros of the padding are among the numbers of a mean
    rounding, overflow : how the mean is narrowed

    >>> block = AveragePool(Tensor((4, 4, 4), Format(8, 4)), (4, 4), Format(8, 4))
    >>> print(block.reference(np.arange(64).reshape(4, 4, 4)))
    [[[30 31 32 33]]]
    """

    input: Tensor
    kernel_shape: tuple[int, ...]
    output_format: Format
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: Pairs = ()
    ceil: bool = False
    count_padding: bool = False
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_format(self.output_format, "AveragePool output_format")
        check_modes(self)
        if type(self.count_padding) is not bool:
            raise TypeError(f"AveragePool count_padding must be a bool, not {self.count_padding!r}")
        self._check()
        bits = self._gain + max(abs(n) for n in self._ends).bit_length()
        if bits > 60:
            raise ValueError(f"AveragePool quotient must fit 60 bits, not {bits}")

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.shape, self.output_format)}

    @property
    def unrollable(self) -> bool:
        """Whether there is a circuit that takes a whole window in a cycle."""
        return super().unrollable and all(len(np.unique(count)) == 1 for count in self.counts)

    @property
    def _gain(self) -> int:
        """Fraction bits that half a unit of y has more than x."""
        return self.output_format.frac + 1 - self.input.format.frac

    @property
    def _terms(self) -> int:
        """Most numbers that a window meets."""
        return prod(int(axis.met[2].max()) for axis in self.axes)

    @property
    def _ends(self) -> tuple[int, int]:
        """Smallest and largest sum of a window."""
        return self._terms * self.input.format.min, self._terms * self.input.format.max

    @cached_property
    def counts(self) -> list[Ints]:
        """For each axis the numbers in a mean along it, one for each output."""
        if not self.count_padding:
            return [axis.met[2] for axis in self.axes]
        result = []
        for axis, (before, after) in zip(self.axes, self.padding, strict=True):
            left = axis.size + before + after - np.arange(axis.outputs) * axis.stride
            result.append(np.minimum(axis.kernel, (left - 1) // axis.dilation + 1))
        return result

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *sizes, channels) -> (..., *sizes, channels)."""
        values, lead = self._batched(x)
        return self._means(values).reshape(*lead, *self.shape)

    def _means(self, values: Ints) -> Ints:
        sums = np.zeros((len(values), *self.shape), np.int64)
        for seen in self._windows(values, 0):
            sums += seen
        counts = np.ones((1,), np.int64)
        for count in self.counts:
            counts = counts[..., None] * count
        modes = self.output_format, self.rounding, self.overflow
        return narrow_quotient(
            sums, counts.reshape(*self.shape[:-1], 1), self.input.format.frac, *modes
        )

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        return PlainKernel(self._means, (self.input.shape,), prod(self.shape))

    def design(self, plan: Plan) -> tuple[Any, ...]:
        """The parts of the circuit, in the order of the data."""
        self.lanes(plan)
        return _mean(self, plan)


@lru_cache(maxsize=256)
def _mean(block: AveragePool, plan: Plan) -> tuple[Any, ...]:
    """Sums, times a reciprocal; where the counts differ, every number times that of its window."""
    x, low_high = block.input.format, block._ends
    modes = block.output_format, block.rounding, block.overflow
    if isinstance(plan, WholeWindows):
        raster = block._raster(plan, 0)
        tree = Tree("sum", x, raster.channels, raster.taps)
        count = prod(int(counts[0]) for counts in block.counts)
        rest = averaged(tree.result, raster.channels, count, low_high, x.frac, *modes)
        return raster, replace(tree, needed=rest[0].needed), *rest
    lanes = plan.lanes
    kinds = [np.unique(count) for count in block.counts]
    if prod(map(len, kinds)) == 1:
        window = block._window(plan)
        total = Reduction("sum", x, lanes, int(window.lengths.max()))
        count = prod(int(kind[0]) for kind in kinds)
        rest = averaged(total.result, lanes, count, low_high, x.frac, *modes)
        return Windowed(window, replace(total, needed=rest[0].needed)), *rest
    counts = [1]
    for kind in kinds:
        counts = [before * int(n) for before in counts for n in kind]
    reciprocals = Reciprocals.of(counts, [low_high] * len(counts), block._gain)
    strides = [prod(map(len, kinds[a + 1 :])) for a in range(len(kinds))]
    classes = [
        np.searchsorted(kind, count) * stride
        for kind, count, stride in zip(kinds, block.counts, strides, strict=True)
    ]
    window = block._window(plan, classes=classes)
    factors = np.array(reciprocals.factors)
    weight = np.eye(lanes, dtype=np.int64)[None, :, None] * factors[:, None]
    low, high = (np.full(lanes, end * int(factors.max())) for end in low_high)
    core = MacCore(weight, x, "logic", window.accumulates, False, (low, high))
    core, requantisation = requantised(
        core,
        np.zeros(lanes, np.int64),
        np.full(lanes, reciprocals.offset),
        x.frac + reciprocals.shift,
        block.output_format,
        block.rounding,
        block.overflow,
        cut=reciprocals.cut,
    )
    return Windowed(window, core), requantisation


def _pooling_parts(random: np.random.Generator, index: int) -> dict[str, Any]:
    """Arguments of either kind."""
    axes = 1 + index % 3 if index else 1
    largest = (12, 6, 4)[axes - 1]
    sizes = [int(n) for n in random.integers(1, largest + 1, axes)] if index else [1]
    kernel = random.integers(1, 5 - axes // 2, axes).tolist() if index else [1]
    channels = int(random.integers(1, 7)) if index else 1
    if index % 5 == 4:  # global
        kernel = sizes
    pads = tuple(tuple(random.integers(0, (n + 1) // 2 + 1, 2).tolist()) for n in kernel)
    return {
        "input": Tensor((*sizes, channels), draw_format(random, index)),
        "kernel_shape": tuple(kernel),
        "stride": tuple(random.integers(1, 4, axes).tolist()),
        "dilation": tuple(random.integers(1, 3, axes).tolist()) if index % 2 else (),
        "padding": pads if index % 3 else (),
        "ceil": bool(random.integers(2)),
    }


def _pooling_plan(random: np.random.Generator, block: PoolingBlock, index: int) -> Plan:
    tall = all(axis.size > 1 or axis.kernel == 1 for axis in block._cropped)
    if index % 3 == 2 and block.unrollable and tall:  # else masks tell what a tree need not add
        return WholeWindows(BUFFER_STYLES[random.integers(3)])
    plans = [candidate.plan for candidate in block.plans(Target.named("ecp5"))]
    return plans[random.integers(len(plans))]


def max_pool_configuration(random: np.random.Generator, index: int) -> Configuration:
    while True:
        try:
            block = MaxPool(**_pooling_parts(random, index))
        except ValueError:  # a window that does not fit, or meets nothing
            continue
        return Configuration(block, _pooling_plan(random, block, index))


def average_pool_configuration(random: np.random.Generator, index: int) -> Configuration:
    while True:
        parts = _pooling_parts(random, index)
        modes = draw_modes(random, index)
        target = draw_near(random, parts["input"].format)
        padded = bool(random.integers(2))
        try:
            block = AveragePool(
                **parts,
                output_format=target,
                count_padding=padded,
                rounding=modes[0],
                overflow=modes[1],
            )
        except ValueError:  # a window that does not fit, or meets nothing
            continue
        return Configuration(block, _pooling_plan(random, block, index))
