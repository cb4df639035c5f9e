# SPDX-License-Identifier: Apache-2.0
"""Layers that treat the numbers of a frame one by one."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.dense import Linear
from bitblocks.layers.movement import Reshape
from bitblocks.quantisation import NARROWED, Decision, Stage
from quant import sum_format

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


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """``y = a + b``, two tensors of one shape."""

    decides = NARROWED
    rectifiable = True

    def shape(self, source_a: Shape, source_b: Shape) -> Shape:
        if source_a != source_b:
            raise InputError(
                f"Add {self.name} inputs must have one shape, not {source_a} and {source_b}"
            )
        return source_a

    def evaluate(self, a: Floats, b: Floats) -> Floats:
        return a + b

    def quantise(self, stage: Stage) -> Decision:
        a, b = stage.sources
        exact = sum_format(a.format, b.format, name="sum")
        left_a, left_b = exact.frac - a.format.frac, exact.frac - b.format.frac
        sums = (a.frames << left_a) + (b.frames << left_b)
        low = (a.low << left_a) + (b.low << left_b)
        high = (a.high << left_a) + (b.high << left_b)
        format = stage.output_format(sums, low, high, exact.frac)
        input_a, input_b = stage.inputs
        block = blocks.Add(input_a, input_b, format, *stage.modes)
        return stage.decision(block, low, high, exact)


@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """``y = weight * x + bias``, element by element: what is left of a batch normalisation.

    Parameters
    ----------
    weight, bias : floats of the frame's shape
    """

    weight: Floats
    bias: Floats

    def shape(self, source: Shape) -> Shape:
        if source != self.weight.shape or source != self.bias.shape:
            raise InputError(
                f"Scale {self.name} input must have shape {self.weight.shape}, not {source}"
            )
        return source

    def evaluate(self, x: Floats) -> Floats:
        return x * self.weight + self.bias

    def lowered(self, shape: Shape, free: Any) -> tuple[Layer, ...]:
        """A Linear of a diagonal matrix."""
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
