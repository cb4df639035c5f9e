# SPDX-License-Identifier: Apache-2.0
"""Weight: every number times a constant, and a constant more."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import Cost, Events, Scaling, Target
from hdl.cost import memory_style
from quant import Format, Ints, Kernel, Overflow, PlainKernel, Rounding, SumKernel

from .block import (
    Candidate,
    TableLanes,
    Tensor,
    check_format,
    check_lanes,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_integers,
    draw_lanes,
    draw_modes,
    draw_shape,
)


@dataclass(frozen=True, eq=False)
class Weight:
    """``y = narrow(w * x + b)``, number by number.

    Factors are shift-add graphs where each lane always meets the same one, else a multiplier a
    lane with a table. With a factor of 1 and the shape of a frame b is what is added to each
    position: a table of positional encodings.

    Source: ONNX Mul (https://onnx.ai/onnx/operators/onnx__Mul.html); shift-add graphs as of Linear

    Parameters
    ----------
    input : Tensor of x
    weight : ints in weight_format, shape () for all numbers or that of the last axes of x
    weight_format, output_format : Format of w and of y
    rounding, overflow : how the exact sums are narrowed
    bias : ints with the fraction bits of w * x, shape () or that of the last axes of x

    >>> block = Weight(Tensor((64,), Format(8, 4)), 90, Format(8, 7), Format(8, 4))
    >>> print(block.reference(np.arange(64))[:8])
    [0 1 1 2 3 4 4 5]
    """

    input: Tensor
    weight: Ints
    weight_format: Format
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    bias: Ints | int = 0

    def __post_init__(self) -> None:
        check_tensor(self.input, "Weight input")
        check_format(self.weight_format, "Weight weight_format")
        check_format(self.output_format, "Weight output_format")
        check_modes(self)
        for name, number in (("weight", self.weight_format), ("bias", Format(63, 0))):
            value, axes = getattr(self, name), len(self.input.shape)
            shape = self.input.shape[axes - min(np.ndim(value) or axes, axes) :]
            quant.check_shape(value, shape if np.ndim(value) else (), f"Weight {name}")
            constants = number.check(value, f"Weight {name}")
            constants.setflags(write=False)
            object.__setattr__(self, name, constants)
        _ = self.sum_format

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @property
    def sum_format(self) -> Format:
        """Format of w * x + b for any w of its format, before it is narrowed."""
        product = quant.product_format(self.weight_format, self.input.format, "Weight")
        low, high = (int(n) for n in (np.min(self.bias), np.max(self.bias)))
        if not low and not high:
            return product
        ends = product.min + min(low, 0), product.max + max(high, 0)
        return quant.accumulator_format(*ends, product.frac, "Weight")

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        sums = self.input.check(x, "Weight input") * self.weight + self.bias
        modes = self.output_format, self.rounding, self.overflow
        return quant.narrow(sums, self.sum_format, *modes)

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        if np.any(self.bias):
            return PlainKernel(self.reference, (self.input.shape,), self.input.size)
        size, x, w = self.input.size, self.input.format, self.weight_format
        modes = self.output_format, self.rounding, self.overflow
        weights, fracs = (self.weight,), (w.frac,)
        return SumKernel(size, (x,), *modes, weights=weights, weight_fracs=fracs, name="Weight")

    @property
    def _period(self) -> int:
        """Numbers after which the constants repeat, which lanes must divide."""
        axes = max(np.ndim(self.weight), np.ndim(self.bias))
        return prod(self.input.shape[len(self.input.shape) - axes :]) if axes else self.input.size

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., as many as can be."""
        for lanes in divisors(self._period):
            plan = TableLanes(lanes, self._style(lanes, target))
            interval = self.input.size // lanes
            yield Candidate(plan, interval, partial(self.cost, plan, target))

    def _style(self, lanes: int, target: Target) -> str:
        """What suits the larger of the two memories, of factors and of what is added."""
        constants = (self.weight, self.weight_format), (self.bias, self.sum_format)
        widths = [lanes * number.width for n, number in constants if np.size(n) > lanes]
        depth = max(np.size(n) for n, _ in constants) // lanes
        styles = [memory_style(target, depth, width, writable=False) for width in widths]
        return "block" if "block" in styles else "logic"

    def lanes(self, plan: TableLanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self._period, "Weight", TableLanes)
        return dict.fromkeys((*self.inputs, *self.outputs), lanes)

    def design(self, plan: TableLanes) -> Scaling:
        """The circuit."""
        lanes = self.lanes(plan)["o"]
        constants = [np.ravel(n) for n in (self.weight, self.bias)]
        size = max(lanes, *(n.size for n in constants))
        weight, bias = (np.resize(n, size).reshape(-1, lanes) for n in constants)
        zeros, modes = np.zeros_like(weight), (self.output_format, self.rounding, self.overflow)
        frac, style = self.sum_format.frac, plan.style
        return Scaling(self.input.format, weight, zeros, bias, frac, *modes, style=style)

    def rtl(self, plan: TableLanes) -> wiring.Component:
        """A new circuit."""
        return self.design(plan).circuit()

    def timing(self, plan: TableLanes) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events(self.input.size // self.lanes(plan)["o"])

    def cost(self, plan: TableLanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


def weight_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    number = draw_format(random, index)
    modes = draw_modes(random, index)
    shape = tensor.shape[-1:] if index % 2 else ()
    weight = draw_integers(random, number, shape)
    bias = np.array(0)
    if index % 5 == 4:
        span = 1 << tensor.format.width + number.width - 2
        last = int(random.integers(len(tensor.shape) + 1))
        bias = random.integers(-span, span, tensor.shape[len(tensor.shape) - last :], endpoint=True)
    corners = [int(w) * x for w in weight.ravel() for x in (tensor.format.min, tensor.format.max)]
    corners = [corner + int(b) for corner in corners for b in (bias.min(), bias.max())]
    frac = tensor.format.frac + number.frac
    target = draw_fitting(random, min(corners), max(corners), frac)
    block = Weight(tensor, weight, number, target, *modes, bias)
    lanes = draw_lanes(random, block._period).lanes
    style = "block" if index % 3 == 2 else block._style(lanes, Target.named("ecp5"))
    return Configuration(block, TableLanes(lanes, style))
