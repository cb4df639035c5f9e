# SPDX-License-Identifier: Apache-2.0
"""Weight: every number times a constant, or times the number of a second stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import (
    Cost,
    Elementwise,
    ElementwiseArray,
    Events,
    Narrowing,
    Parallel,
    ParallelArray,
    Requantisation,
    Requantiser,
    Scale,
    ScaleArray,
    Series,
    Target,
    chain,
)
from hdl.requantise import requantised
from quant import Format, Ints, Kernel, Overflow, ProductKernel, Rounding, SumKernel

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

    Parameters
    ----------
    input : Tensor of x, shape (..., channels)
    weight : ints in weight_format, shape () for all numbers or (channels,) for each channel;
        or a Tensor in the shape of x: a second stream, port ``i_b`` (x comes at ``i_a``)
    weight_format, output_format : Format of w and of y
    rounding, overflow : how the products are narrowed
    """

    input: Tensor
    weight: Ints | Tensor
    weight_format: Format
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Weight input")
        check_format(self.weight_format, "Weight weight_format")
        check_format(self.output_format, "Weight output_format")
        check_modes(self)
        if isinstance(self.weight, Tensor):
            if self.weight != Tensor(self.input.shape, self.weight_format):
                wanted = Tensor(self.input.shape, self.weight_format)
                raise ValueError(f"Weight weight must be {wanted}, not {self.weight}")
        else:
            shape = () if np.ndim(self.weight) == 0 else (self.input.shape[-1],)
            quant.check_shape(self.weight, shape, "Weight weight")
            weight = self.weight_format.check(self.weight, "Weight weight")
            weight.setflags(write=False)
            object.__setattr__(self, "weight", weight)
        _ = self.product_format

    @property
    def streamed(self) -> bool:
        """Whether the weights are a second stream."""
        return isinstance(self.weight, Tensor)

    @property
    def inputs(self) -> dict[str, Tensor]:
        if isinstance(self.weight, Tensor):
            return {"i_a": self.input, "i_b": self.weight}
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @property
    def product_format(self) -> Format:
        """Format of w * x for any w of its format, before it is narrowed."""
        return quant.product_format(self.weight_format, self.input.format, "Weight")

    def reference(self, x: ArrayLike, weight: ArrayLike | None = None) -> Ints:
        """Integers in, integers out, shape (..., *shape); the weights too where they stream."""
        values = self.input.check(x, "Weight input")
        factor = self.weight
        if isinstance(factor, Tensor):
            if weight is None:
                raise TypeError("Weight inputs must be 2 arrays, not 1")
            factor = factor.check(weight, "Weight weight")
        elif weight is not None:
            raise TypeError("Weight inputs must be 1 array, not 2")
        return quant.narrow(
            values * factor, self.product_format, self.output_format, self.rounding, self.overflow
        )

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        size, x, w = self.input.size, self.input.format, self.weight_format
        modes = self.output_format, self.rounding, self.overflow
        if isinstance(self.weight, Tensor):
            return ProductKernel(size, size, x, w, *modes, name="Weight")
        weights, fracs = (self.weight,), (w.frac,)
        return SumKernel(size, (x,), *modes, weights=weights, weight_fracs=fracs, name="Weight")

    @property
    def _period(self) -> int:
        """Numbers after which the constants repeat, which lanes must divide."""
        one_for_all = isinstance(self.weight, Tensor) or self.weight.ndim == 0
        return self.input.size if one_for_all else self.input.shape[-1]

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

    def design(self, plan: Lanes) -> Elementwise | tuple[Parallel | Scale, Requantisation]:
        """The circuit; for constants exact products, and what narrows them."""
        lanes = self.lanes(plan)["o"]
        modes = self.output_format, self.rounding, self.overflow
        product = self.product_format
        if isinstance(self.weight, Tensor):
            x, w = self.input.format, self.weight_format
            corners = [a * b for a in (x.min, x.max) for b in (w.min, w.max)]
            narrowing = Narrowing(product, min(corners), max(corners), *modes)
            return Elementwise(
                {"i_a": x, "i_b": w},
                lanes,
                _product,
                narrowing,
                exact_stage=True,
                product=True,
            )
        constants = np.broadcast_to(self.weight, (max(lanes, self.weight.size),)).reshape(-1, lanes)
        part: Parallel | Scale
        if len(constants) == 1 or not constants.any():
            part = Parallel(np.diag(constants[0]), self.input.format, 1)
        else:
            part = Scale(constants, self.input.format)
        zeros = np.zeros(lanes, np.int64)
        return requantised(part, zeros, zeros, product.frac, *modes)

    def rtl(self, plan: Lanes) -> wiring.Component:
        """A new circuit."""
        design = self.design(plan)
        if isinstance(design, Elementwise):
            return ElementwiseArray(design)
        part, requantisation = design
        products = ScaleArray(part) if isinstance(part, Scale) else ParallelArray(part)
        return Series(products=products, narrow=Requantiser(requantisation))

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        design, words = self.design(plan), self.input.size // self.lanes(plan)["o"]
        if isinstance(design, Elementwise):
            return design.events(words)
        part, requantisation = design
        products = part.events(words) if isinstance(part, Scale) else part.events().repeated(words)
        return chain(products, requantisation.events().repeated(words))

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        design = self.design(plan)
        parts: tuple[Any, ...] = design if isinstance(design, tuple) else (design,)
        return sum((part.inventory().cost(target) for part in parts), Cost())


def _product(x, w):
    return x * w


def weight_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    number = draw_format(random, index)
    modes = draw_modes(random, index)
    kind = index % 3
    shape = ((), tensor.shape[-1:])[kind - 1]
    weight: Any = (
        Tensor(tensor.shape, number) if kind == 0 else draw_integers(random, number, shape)
    )
    extremes = np.array([number.min, number.max]) if kind == 0 else weight
    corners = [int(w) * x for w in extremes.ravel() for x in (tensor.format.min, tensor.format.max)]
    frac = tensor.format.frac + number.frac
    target = draw_fitting(random, min(corners), max(corners), frac)
    block = Weight(tensor, weight, number, target, *modes)
    period = tensor.shape[-1] if kind == 2 else tensor.size
    return Configuration(block, draw_lanes(random, period))
