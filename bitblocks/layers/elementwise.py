# SPDX-License-Identifier: Apache-2.0
"""Layers that treat the numbers of a frame one by one."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.activation import at_pole
from bitblocks.layers.dense import Linear
from bitblocks.layers.movement import Reshape
from bitblocks.quantisation import NARROWED, WEIGHTED, Decision, Stage, frac_for
from quant import Format, from_float

SCALES_LIMIT = 1024
"""Most numbers of a Scale that becomes a diagonal matrix."""


@dataclass(frozen=True, eq=False)
class Relu(Layer):
    """``y = max(x, 0)``."""

    decides = NARROWED
    rectifies = True

    def shape(self, source: Shape) -> Shape:
        return source

    def evaluate(self, x: Floats) -> Floats:
        return np.maximum(x, 0.0)

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        values, low, high = (np.maximum(n, 0) for n in (x.frames, x.low, x.high))
        format = stage.output_format(values, low, high, x.format.frac)
        block = blocks.ReLU(stage.inputs[0], format, *stage.modes)
        return stage.decision(block, low, high, x.format)


@dataclass(frozen=True, eq=False)
class Identity(Layer):
    """``y = x``."""

    def shape(self, source: Shape) -> Shape:
        return source

    def evaluate(self, x: Floats) -> Floats:
        return x

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        return Decision(blocks.Identity(stage.inputs[0], x.format), ((x.low, x.high),))


def _one_shape(layer: Layer, source_a: Shape, source_b: Shape) -> Shape:
    """The shape of both; raises InputError where they differ."""
    if source_a != source_b:
        raise InputError(
            f"{type(layer).__name__} {layer.name} inputs must have one shape, "
            f"not {source_a} and {source_b}"
        )
    return source_a


@dataclass(frozen=True, eq=False)
class Binary(Layer):
    """What ``join`` makes of a and b, two tensors of one shape, number by number.

    A kind of it is its function of arrays and its block, no more.
    """

    decides = NARROWED
    join: ClassVar[np.ufunc]
    block: ClassVar[Any]

    def shape(self, source_a: Shape, source_b: Shape) -> Shape:
        return _one_shape(self, source_a, source_b)

    def evaluate(self, a: Floats, b: Floats) -> Floats:
        return self.join(a, b)

    def quantise(self, stage: Stage) -> Decision:
        """The extremes of a monotone or bilinear function lie at ends of its intervals."""
        a, b = stage.sources
        exact = self.block(*stage.inputs, a.format).exact_format  # refuses more than 63 bits
        gain_a, gain_b = exact.frac - a.format.frac, exact.frac - b.format.frac
        if self.join is np.multiply:
            gain_a = gain_b = 0
        values = self.join(a.frames << gain_a, b.frames << gain_b)
        ends = [
            self.join(x << gain_a, y << gain_b) for x in (a.low, a.high) for y in (b.low, b.high)
        ]
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        format = stage.output_format(values, low, high, exact.frac)
        block = self.block(*stage.inputs, format, *stage.modes)
        return stage.decision(block, low, high, exact)


class Add(Binary):
    """``y = a + b``."""

    rectifiable = True
    join, block = np.add, blocks.Add


class Sub(Binary):
    """``y = a - b``."""

    rectifiable = True
    join, block = np.subtract, blocks.Sub


class Mul(Binary):
    """``y = a * b``."""

    rectifiable = True
    join, block = np.multiply, blocks.Mul


class Maximum(Binary):
    """``y = max(a, b)``."""

    join, block = np.maximum, blocks.Maximum


class Minimum(Binary):
    """``y = min(a, b)``."""

    join, block = np.minimum, blocks.Minimum


@dataclass(frozen=True, eq=False)
class Divide(Layer):
    """``y = a / b`` of two tensors of one shape, number by number.

    A divisor of 0 is refused, unless ``pole`` says what to give.

    Parameters
    ----------
    pole : float
    """

    pole: float | None = None

    decides = (*NARROWED, "pole")

    def shape(self, source_a: Shape, source_b: Shape) -> Shape:
        return _one_shape(self, source_a, source_b)

    def evaluate(self, a: Floats, b: Floats) -> Floats:
        """Raises InputError for a divisor of 0."""
        if self.pole is None and not b.all():
            raise at_pole(self.name, "a quotient", 0.0)
        return np.where(b == 0, 0.0 if self.pole is None else self.pole, a / np.where(b == 0, 1, b))

    def quantise(self, stage: Stage) -> Decision:
        """Rounded once."""
        a, b = stage.sources
        least, most = int(b.low.min()), int(b.high.max())
        reachable = least <= 0 <= most
        if reachable and self.pole is None:
            raise at_pole(self.name, "a quotient", 0.0)
        divisor = 1 if reachable else min(abs(least), abs(most))
        dividend = max(-int(a.low.min()), int(a.high.max()))
        peak = float(np.ldexp(dividend / divisor, b.format.frac - a.format.frac))
        signed = int(a.low.min()) < 0 or least < 0
        if self.pole is not None:
            peak, signed = max(peak, abs(self.pole)), signed or self.pole < 0
        format = stage.range_format(peak, signed)
        pole = int(from_float(np.float64(self.pole), format)) if reachable else None
        left, right = stage.inputs
        block = blocks.Divide(left, right, format, pole, *stage.modes)
        shape = a.low.shape
        return Decision(block, ((np.full(shape, format.min), np.full(shape, format.max)),))


@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """``y = weight * x + bias``, element by element: what is left of a batch normalisation.

    Parameters
    ----------
    weight, bias : floats of the frame's shape
    """

    weight: Floats
    bias: Floats

    decides = WEIGHTED
    rectifiable = True

    def shape(self, source: Shape) -> Shape:
        if source != self.weight.shape or source != self.bias.shape:
            raise InputError(
                f"Scale {self.name} input must have shape {self.weight.shape}, not {source}"
            )
        return source

    def evaluate(self, x: Floats) -> Floats:
        return x * self.weight + self.bias

    def quantise(self, stage: Stage) -> Decision:
        """One factor for all numbers, and what is added to each."""
        (x,), factor = stage.sources, float(self.weight.flat[0])
        bits, format = stage.settings.weight_bits, stage.settings.weight_format
        weight_format = format or Format(bits, frac_for(abs(factor), bits, signed=True))
        weight = int(from_float(np.float64(factor), weight_format))
        frac = x.format.frac + weight_format.frac
        bias = from_float(self.bias, Format(61, frac))
        low, high = np.sort([x.low * weight + bias, x.high * weight + bias], axis=0)
        target = stage.output_format(x.frames * weight + bias, low, high, frac)
        while bias.ndim and (bias == bias[:1]).all():
            bias = bias[0]
        block = blocks.Weight(
            stage.inputs[0], np.array(weight), weight_format, target, *stage.modes, bias
        )
        return stage.decision(block, low, high, block.sum_format)

    def lowered(self, shape: Shape, free: Any) -> tuple[Layer, ...]:
        """A Linear of a diagonal matrix, unless all numbers have one factor."""
        if (self.weight == self.weight.flat[0]).all():
            return (self,)
        rows = [part.reshape(-1, shape[-1]) for part in (self.weight, self.bias)]
        if all((part == part[0]).all() for part in rows):
            weight, bias = rows[0][0], rows[1][0]
        else:
            weight, bias = self.weight.ravel(), self.bias.ravel()
        if len(weight) > SCALES_LIMIT:
            raise InputError(
                f"layer {self.name} must scale at most {SCALES_LIMIT} numbers by themselves, "
                f"not {len(weight)}"
            )
        if len(weight) == shape[-1]:
            return (Linear(self.name, self.sources, np.diag(weight), bias),)
        flat, scaled = free(f"{self.name}_flat"), free(f"{self.name}_scale")
        return (
            Reshape(flat, self.sources, (len(weight),)),
            Linear(scaled, (flat,), np.diag(weight), bias),
            Reshape(self.name, (scaled,), shape),
        )

    def scaled(self, weight: Floats, bias: Floats) -> "Scale":
        return replace(self, weight=self.weight * weight, bias=self.bias * weight + bias)
