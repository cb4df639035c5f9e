# SPDX-License-Identifier: Apache-2.0
"""Reduce: the sum, the mean, the largest or the smallest number along axes of a frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import (
    Cost,
    Elementwise,
    ElementwiseArray,
    Events,
    LaneFunction,
    Narrowing,
    Parallel,
    ParallelArray,
    Raster,
    RasterWindow,
    Requantisation,
    Requantiser,
    Series,
    Target,
    Tree,
    TreeArray,
    Windowed,
    WindowedArray,
    chain,
)
from hdl.cost import memory_style
from hdl.requantise import requantised
from quant import Format, Ints, Kernel, Overflow, PlainKernel, Rounding
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
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_modes,
    draw_shape,
)

FUNCTIONS = ("sum", "mean", "maximum", "minimum")


@dataclass(frozen=True)
class Accumulators:
    """Plan of a Reduce: ``lanes`` numbers of x at a time.

    Parameters
    ----------
    lanes : int
    buffer_style : "block", "distributed" or "registers", what the memory becomes where the next
        numbers belong to other results
    """

    lanes: int
    buffer_style: str = "registers"

    def __post_init__(self) -> None:
        check_mapping(self, ram="buffer_style")


@dataclass(frozen=True, eq=False)
class Reduce:
    """``y = narrow(function of the numbers along axes)``, which keep a length of 1: exact, narrowed
    once.

    Lanes divide the numbers behind the axes, or are a multiple of them that divides those along the
    axes too; no frame is stored.

    Source: ONNX ReduceSum (https://onnx.ai/onnx/operators/onnx__ReduceSum.html); ONNX ReduceMean
    (https://onnx.ai/onnx/operators/onnx__ReduceMean.html)

    Parameters
    ----------
    input : Tensor of x
    function : "sum", "mean", "maximum" or "minimum"
    axes : of a frame, ints that follow each other, with at least 2 numbers along them
    output_format : Format of y
    rounding, overflow : how the exact result is narrowed

    >>> block = Reduce(Tensor((8, 8), Format(8, 4)), "mean", (1,), Format(8, 4))
    >>> print(block.reference(np.arange(64).reshape(8, 8)).T)
    [[ 4 12 20 28 36 44 52 60]]
    """

    input: Tensor
    function: str
    axes: tuple[int, ...]
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Reduce input")
        if self.function not in FUNCTIONS:
            raise ValueError(
                f"Reduce function must be one of {', '.join(FUNCTIONS)}, not {self.function!r}"
            )
        if not isinstance(self.axes, tuple) or not all(type(n) is int for n in self.axes):
            raise TypeError(f"Reduce axes must be a tuple of ints, not {self.axes!r}")
        rank = len(self.input.shape)
        runs = [tuple(range(a, b)) for a in range(rank) for b in range(a + 1, rank + 1)]
        if self.axes not in runs:
            raise ValueError(
                f"Reduce axes must follow each other from 0 to {rank - 1}, not {self.axes}"
            )
        check_format(self.output_format, "Reduce output_format")
        check_modes(self)
        if self.count < 2:
            raise ValueError(
                f"Reduce axes must have at least 2 numbers, not 1 of shape {self.input.shape}"
            )
        _ = self.exact_format
        if self.function == "mean":
            bits = self._gain + max(abs(n) for n in self._ends).bit_length()
            if bits > 60:
                raise ValueError(f"Reduce quotient must fit 60 bits, not {bits}")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        shape = list(self.input.shape)
        for axis in self.axes:
            shape[axis] = 1
        return {"o": Tensor(tuple(shape), self.output_format)}

    @property
    def count(self) -> int:
        """Numbers along the axes."""
        return prod(self.input.shape[axis] for axis in self.axes)

    @property
    def _inner(self) -> int:
        """Numbers behind the axes."""
        return prod(self.input.shape[self.axes[-1] + 1 :])

    @property
    def _outer(self) -> int:
        """Places before the axes."""
        return prod(self.input.shape[: self.axes[0]])

    @property
    def _ends(self) -> tuple[int, int]:
        """Smallest and largest sum, or extreme."""
        times = self.count if self.function in ("sum", "mean") else 1
        return times * self.input.format.min, times * self.input.format.max

    @property
    def exact_format(self) -> Format:
        """Format of the sum or the extreme."""
        return quant.accumulator_format(*self._ends, self.input.format.frac, "Reduce")

    @property
    def _gain(self) -> int:
        """Fraction bits that half a unit of y has more than x."""
        return self.output_format.frac + 1 - self.input.format.frac

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape); the axes become 1."""
        values = self.input.check(x, "Reduce input")
        lead = values.shape[: values.ndim - len(self.input.shape)]
        apart = values.reshape(*lead, self._outer, self.count, self._inner)
        modes = self.output_format, self.rounding, self.overflow
        shape = self.outputs["o"].shape
        if self.function == "mean":
            sums, frac = apart.sum(axis=-2), self.input.format.frac
            y = narrow_quotient(sums, np.array(self.count), frac, *modes)
        else:
            join = {"sum": np.add, "maximum": np.maximum, "minimum": np.minimum}[self.function]
            y = quant.narrow(join.reduce(apart, axis=-2), self.exact_format, *modes)
        return y.reshape(*lead, *shape)

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.outputs["o"].size)

    @property
    def _lanes(self) -> list[int]:
        inner = self._inner
        return divisors(inner) + [inner * n for n in divisors(self.count) if n > 1]

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One number at a time, ..., all of a place; the memory suits the target."""
        for lanes in self._lanes:
            tree = _design(self, Accumulators(lanes))[0]
            bits = tree.channels * tree.result.width
            plan = Accumulators(lanes, memory_style(target, tree.words, bits))
            yield Candidate(plan, self.input.size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Accumulators) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        if not isinstance(plan, Accumulators):
            raise TypeError(f"Reduce plan must be Accumulators, not {plan!r}")
        if plan.lanes not in self._lanes:
            known = ", ".join(map(str, self._lanes))
            raise ValueError(f"Reduce lanes must be one of {known}, not {plan.lanes}")
        return {"i": plan.lanes, "o": min(plan.lanes, self._inner)}

    def design(self, plan: Accumulators) -> tuple[Any, ...]:
        """The parts of the circuit, in the order of the data."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Accumulators) -> Series:
        """A new circuit."""
        return series(self.design(plan))

    def timing(self, plan: Accumulators) -> Events:
        """When every transfer of a frame happens."""
        tree, *rest = self.design(plan)
        transfers = self._outer * tree.words
        after = [
            part.events(transfers)
            if isinstance(part, Elementwise)
            else part.events().repeated(transfers)
            for part in rest
        ]
        return chain(tree.events(self._outer), *after)

    def cost(self, plan: Accumulators, target: Target) -> Cost:
        """What it takes on a target."""
        return sum((part.inventory().cost(target) for part in self.design(plan)), Cost())


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(block: Reduce, plan: Accumulators) -> tuple[Any, ...]:
    inner, lanes = block._inner, plan.lanes
    fan = max(1, lanes // inner)
    kind, channels = "sum" if block.function == "mean" else block.function, lanes // fan
    rows, words = block.count // fan, inner // channels
    tree = Tree(kind, block.input.format, channels, fan, rows, words, plan.buffer_style)
    target, modes = block.output_format, (block.rounding, block.overflow)
    if block.function == "mean":
        frac = block.input.format.frac
        rest = averaged(tree.result, channels, block.count, block._ends, frac, target, *modes)
        return replace(tree, needed=rest[0].needed), *rest
    narrowing = Narrowing(tree.result, *block._ends, target, *modes)
    if tree.result == target and narrowing.bounds == block._ends:
        return (tree,)
    narrow = Elementwise({"i": tree.result}, channels, (LaneFunction((), narrowing),))
    return replace(tree, needed=narrowing.needed), narrow


def averaged(
    sums: Format,
    lanes: int,
    count: int,
    ends: tuple[int, int],
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
) -> tuple[Parallel, Requantisation]:
    """What makes means of ``count`` numbers from their sums between ``ends``, narrowed once."""
    reciprocals = Reciprocals.of([count], [ends], target.frac + 1 - frac)
    return requantised(
        Parallel(np.eye(lanes, dtype=np.int64) * reciprocals.factors[0], sums, 1),
        np.zeros(lanes, np.int64),
        np.full(lanes, reciprocals.offset),
        frac + reciprocals.shift,
        target,
        rounding,
        overflow,
        cut=reciprocals.cut,
    )


_CIRCUITS: dict[type, tuple[str, Any]] = {
    Raster: ("window", RasterWindow),
    Windowed: ("windows", WindowedArray),
    Tree: ("tree", TreeArray),
    Elementwise: ("narrow", ElementwiseArray),
    Parallel: ("factor", ParallelArray),
    Requantisation: ("narrow", Requantiser),
}


def series(parts: tuple[Any, ...]) -> Series:
    """The circuits of what windows, reduces and narrows, one behind the other."""
    made = [(*_CIRCUITS[type(part)], part) for part in parts]
    return Series(**{name: circuit(part) for name, circuit, part in made})


def reduce_configuration(random: np.random.Generator, index: int) -> Configuration:
    shape = draw_shape(random, index)
    first = int(random.integers(len(shape)))
    axes = tuple(range(first, int(random.integers(first + 1, len(shape) + 1))))
    if prod(shape[axis] for axis in axes) < 2:
        shape = tuple(n + (axis == first) for axis, n in enumerate(shape))
    tensor, kind = Tensor(shape, draw_format(random, index)), FUNCTIONS[index % 4]
    exact = Reduce(tensor, kind, axes, tensor.format)
    frac = tensor.format.frac
    low, high = exact._ends
    if kind == "mean":
        low, high = tensor.format.min, tensor.format.max
    target = tensor.format if kind == "maximum" else draw_fitting(random, low, high, frac)
    block = Reduce(tensor, kind, axes, target, *draw_modes(random, index // 4))
    lanes = int(random.choice([n for n in block._lanes if n <= 16]))
    return Configuration(
        block, Accumulators(lanes, ("registers", "distributed", "block")[index % 3])
    )
