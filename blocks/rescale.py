# SPDX-License-Identifier: Apache-2.0
"""Rescale: between scales and zero points of networks that are not quantised by powers of two."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import Cost, Events, Scaling, Target, rescaling
from quant import Format, Ints, Kernel, Overflow, PlainKernel, Rule

from .block import Candidate, Lanes, Tensor, check_format, check_lanes, check_tensor, divisors
from .configurations import Configuration, draw_format, draw_lanes, draw_modes, draw_shape

LARGEST_BITS = 59
"""Bits of products with the multipliers, aligned to the channel of the largest shift."""


@dataclass(frozen=True, eq=False)
class Rescale:
    """``y = zero_point_out + round((x - zero_point_in) * multiplier / 2**shift)``.

    Integers throughout: the fraction bits of both formats play no part.

    Source: B. Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, 2018, section 2.2 (https://arxiv.org/abs/1712.05877); ONNX
    QuantizeLinear (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., channels)
    multiplier : ints, shape () for all numbers or (channels,) for each channel; none is 0
    shift : ints from 0 to 62, in the shape of ``multiplier``
    output_format : Format of y
    zero_point_in, zero_point_out : ints of the two formats that stand for 0
    rounding : a ``quant.Rule``: TFLITE_SINGLE, TFLITE_DOUBLE, ONNX, or any rounding
    overflow : how the result is fitted

    >>> block = Rescale(Tensor((64,), Format(8, 0)), 5 << 28, 33, Format(8, 0), 3, -2)
    >>> print(block.reference(np.arange(64))[:12])
    [-2 -2 -2 -2 -2 -2 -2 -1 -1 -1 -1 -1]
    """

    input: Tensor
    multiplier: Ints
    shift: Ints
    output_format: Format
    zero_point_in: int = 0
    zero_point_out: int = 0
    rounding: Rule = Rule.TFLITE_SINGLE
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Rescale input")
        check_format(self.output_format, "Rescale output_format")
        for field, modes in (("rounding", Rule), ("overflow", Overflow)):
            value = getattr(self, field)
            if value not in tuple(modes):
                known = ", ".join(modes)
                raise ValueError(f"Rescale {field} must be one of {known}, not {value!r}")
            object.__setattr__(self, field, modes(value))
        shape = () if np.ndim(self.multiplier) == 0 else (self.input.shape[-1],)
        for name in ("multiplier", "shift"):
            array = np.asarray(getattr(self, name))
            if not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"Rescale {name} must be integers, not {array.dtype}")
            quant.check_shape(array, shape, f"Rescale {name}")
            array = array.astype(np.int64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not self.multiplier.all():
            raise ValueError("Rescale multiplier must not be 0")
        points = ("zero_point_in", self.input.format), ("zero_point_out", self.output_format)
        for name, number in points:
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"Rescale {name} must be an int, not {value!r}")
            number.check(value, f"Rescale {name}")
        quant.rescale_bounds(
            self.input.format,
            self.multiplier,
            self.shift,
            self.rounding,
            self.zero_point_in,
            self.zero_point_out,
            "Rescale",
        )
        drop = self.shift if len(self.rounding.roundings) == 1 else np.minimum(self.shift, 31)
        gained, number, point = drop.max() - drop, self.input.format, self.zero_point_in
        span = max(number.max - min(point, 0), max(point, 0) - number.min)
        for factor, more in zip(self.multiplier.flat, gained.flat, strict=True):
            bits = (abs(int(factor)) * span << int(more)).bit_length() + 1
            if bits > LARGEST_BITS:
                raise ValueError(
                    f"Rescale sums must fit {LARGEST_BITS} bits at the largest shift, not {bits}"
                )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        x = self.input.check(x, "Rescale input")
        return quant.rescale(
            x,
            self.input.format,
            self.output_format,
            self.multiplier,
            self.shift,
            self.rounding,
            self.overflow,
            self.zero_point_in,
            self.zero_point_out,
        )

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.input.size)

    @property
    def _period(self) -> int:
        """Numbers after which the constants repeat, which lanes must divide."""
        return self.input.size if self.multiplier.ndim == 0 else self.input.shape[-1]

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., as many as can be."""
        for lanes in divisors(self._period):
            plan = Lanes(lanes)
            yield Candidate(plan, self.input.size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self._period, "Rescale")
        return dict.fromkeys((*self.inputs, *self.outputs), lanes)

    def design(self, plan: Lanes) -> Scaling:
        """The circuit."""
        lanes = self.lanes(plan)["o"]
        multiplier, shift = (
            np.broadcast_to(n, (max(lanes, n.size),)).reshape(-1, lanes)
            for n in (self.multiplier, self.shift)
        )
        return rescaling(
            self.input.format,
            multiplier,
            shift,
            self.output_format,
            self.rounding,
            self.overflow,
            self.zero_point_in,
            self.zero_point_out,
        )

    def rtl(self, plan: Lanes) -> wiring.Component:
        """A new circuit."""
        return self.design(plan).circuit()

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events(self.input.size // self.lanes(plan)["o"])

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


def rescale_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    rule = list(Rule)[(3 * index + 1) % len(Rule)]
    _, overflow = draw_modes(random, index)
    shape = tensor.shape[-1:] if index % 4 < 2 else ()
    bits = int(random.integers(2, 13))
    multiplier = random.integers(1 << (bits - 1), 1 << bits, shape)
    shift = bits + random.integers(-2 if index else -1, 3 if index else 0, shape)
    if rule is Rule.TFLITE_DOUBLE:  # some of the 31 bits are dropped in either rounding
        shift, multiplier = shift + (32 - bits), multiplier << (31 - bits)
    elif not index % 3:
        multiplier = -multiplier
    number = tensor.format
    zero_in = int(random.integers(number.min, number.max + 1)) if index % 2 else 0
    least, most = quant.rescale_bounds(
        number, multiplier, shift := np.maximum(shift, 0), rule, zero_in, 0
    )
    width = max(1, (most - least).bit_length() - int(random.integers(0, 2)))
    target = Format(width, 0, bool(random.integers(2)))
    middle = (target.min + target.max) // 2 - (least + most) // 2
    zero_out = min(max(middle, target.min), target.max) if index % 4 else 0
    block = Rescale(tensor, multiplier, shift, target, zero_in, zero_out, rule, overflow)
    return Configuration(block, draw_lanes(random, tensor.shape[-1] if shape else tensor.size))
