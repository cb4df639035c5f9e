# SPDX-License-Identifier: Apache-2.0
"""Layers that set the numbers of a vector in proportion to each other."""

from dataclasses import dataclass

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.activation import exp, log1p
from bitblocks.quantisation import Decision, Stage

LN2 = 0.6931471805599453


def _log(x: Floats) -> Floats:
    """log(x) of finite numbers from 1 on."""
    fraction, power = np.frexp(x)
    return log1p(2.0 * fraction - 1.0) + (power - 1) * LN2


def _sum_last(x: Floats) -> Floats:
    """Sums along the last axis, which is kept, in index order."""
    total = np.zeros((*x.shape[:-1], 1))
    for index in range(x.shape[-1]):
        total += x[..., index : index + 1]
    return total


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along the last axis, or the logarithm of it."""

    logarithm: bool = False

    decides = ("output_format",)

    def shape(self, source: Shape) -> Shape:
        if not source:
            raise InputError(f"Softmax {self.name} input must have an axis, not shape {source}")
        return source

    def evaluate(self, x: Floats) -> Floats:
        distance = x - x.max(axis=-1, keepdims=True)
        shares = exp(distance)
        total = _sum_last(shares)
        return distance - _log(total) if self.logarithm else shares / total

    def quantise(self, stage: Stage) -> Decision:
        """Less than one unit of the output wrong; 1 saturates where no bit is left for it."""
        (x,) = stage.sources
        spread = float(np.ldexp(float(int(x.high.max()) - int(x.low.min())), -x.format.frac))
        size = stage.inputs[0].shape[-1]
        peak = spread + float(_log(np.array(float(size)))) if self.logarithm else 1 - 2.0**-32
        format = stage.range_format(peak, self.logarithm)
        make = blocks.log_softmax if self.logarithm else blocks.softmax
        block = make(stage.inputs[0], format)
        low, high = (format.min, 0) if self.logarithm else (0, format.max)
        return Decision(block, ((np.full(x.low.shape, low), np.full(x.low.shape, high)),))
