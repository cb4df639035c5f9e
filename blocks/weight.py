# SPDX-License-Identifier: Apache-2.0
"""Weight: every number times a constant."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import Cost, Events, Scaling, Target
from quant import Format, Ints, Kernel, Overflow, Rounding, SumKernel

from .block import (
    Candidate,
    Lanes,
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
    """``y = narrow(w * x)``, number by number.

    Constants are shift-add graphs where each lane always meets the same one, else a multiplier a
    lane with a table.

    Source: ONNX Mul (https://onnx.ai/onnx/operators/onnx__Mul.html); shift-add graphs as of Linear

    Parameters
    ----------
    input : Tensor of x, shape (..., channels)
    weight : ints in weight_format, shape () for all numbers or (channels,) for each channel
    weight_format, output_format : Format of w and of y
    rounding, overflow : how the products are narrowed

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

    def __post_init__(self) -> None:
        check_tensor(self.input, "Weight input")
        check_format(self.weight_format, "Weight weight_format")
        check_format(self.output_format, "Weight output_format")
        check_modes(self)
        shape = () if np.ndim(self.weight) == 0 else (self.input.shape[-1],)
        quant.check_shape(self.weight, shape, "Weight weight")
        weight = self.weight_format.check(self.weight, "Weight weight")
        weight.setflags(write=False)
        object.__setattr__(self, "weight", weight)
        _ = self.product_format

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @property
    def product_format(self) -> Format:
        """Format of w * x for any w of its format, before it is narrowed."""
        return quant.product_format(self.weight_format, self.input.format, "Weight")

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        products = self.input.check(x, "Weight input") * self.weight
        modes = self.output_format, self.rounding, self.overflow
        return quant.narrow(products, self.product_format, *modes)

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        size, x, w = self.input.size, self.input.format, self.weight_format
        modes = self.output_format, self.rounding, self.overflow
        weights, fracs = (self.weight,), (w.frac,)
        return SumKernel(size, (x,), *modes, weights=weights, weight_fracs=fracs, name="Weight")

    @property
    def _period(self) -> int:
        """Numbers after which the constants repeat, which lanes must divide."""
        return self.input.size if self.weight.ndim == 0 else self.input.shape[-1]

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., as many as can be."""
        for lanes in divisors(self._period):
            plan = Lanes(lanes)
            interval = self.input.size // lanes
            yield Candidate(plan, interval, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self._period, "Weight")
        return dict.fromkeys((*self.inputs, *self.outputs), lanes)

    def design(self, plan: Lanes) -> Scaling:
        """The circuit."""
        lanes = self.lanes(plan)["o"]
        weight = np.broadcast_to(self.weight, (max(lanes, self.weight.size),)).reshape(-1, lanes)
        zeros, modes = np.zeros_like(weight), (self.output_format, self.rounding, self.overflow)
        return Scaling(self.input.format, weight, zeros, zeros, self.product_format.frac, *modes)

    def rtl(self, plan: Lanes) -> wiring.Component:
        """A new circuit."""
        return self.design(plan).circuit()

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events(self.input.size // self.lanes(plan)["o"])

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


def weight_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    number = draw_format(random, index)
    modes = draw_modes(random, index)
    shape = tensor.shape[-1:] if index % 2 else ()
    weight = draw_integers(random, number, shape)
    corners = [int(w) * x for w in weight.ravel() for x in (tensor.format.min, tensor.format.max)]
    frac = tensor.format.frac + number.frac
    target = draw_fitting(random, min(corners), max(corners), frac)
    block = Weight(tensor, weight, number, target, *modes)
    period = tensor.shape[-1] if shape else tensor.size
    return Configuration(block, draw_lanes(random, period))
