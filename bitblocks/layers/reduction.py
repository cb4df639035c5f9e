# SPDX-License-Identifier: Apache-2.0
"""Layers that make one number of many."""

import math
from dataclasses import dataclass

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.pooling import GUARD
from bitblocks.quantisation import NARROWED, Decision, Stage
from quant import Format, Ints


@dataclass(frozen=True, eq=False)
class Reduce(Layer):
    """The sum, the mean, the largest or the smallest number along axes, which keep a length of 1.

    Parameters
    ----------
    function : "sum", "mean", "maximum" or "minimum"
    axes : that follow each other
    """

    function: str
    axes: Shape

    decides = NARROWED
    rectifiable = True

    def shape(self, source: Shape) -> Shape:
        if max(self.axes) >= len(source):
            raise InputError(
                f"Reduce {self.name} input must have axes {self.axes}, not shape {source}"
            )
        return tuple(1 if axis in self.axes else length for axis, length in enumerate(source))

    def _apart(self, x: Floats | Ints) -> Floats | Ints:
        """(..., places before the axes, numbers along them, numbers behind them)."""
        rank = self.axes[-1] + 1
        sizes = [math.prod(x.shape[1 : 1 + rank - len(self.axes)]), -1]
        return x.reshape(len(x), *sizes, math.prod(x.shape[1 + rank :]))

    def evaluate(self, x: Floats) -> Floats:
        """Sums in index order."""
        apart, shape = self._apart(x), (len(x), *self.shape(x.shape[1:]))
        if self.function in ("maximum", "minimum"):
            return getattr(np, self.function).reduce(apart, axis=2).reshape(shape)
        total = np.zeros_like(apart[:, :, 0])
        for index in range(apart.shape[2]):
            total += apart[:, :, index]
        return (total / apart.shape[2] if self.function == "mean" else total).reshape(shape)

    def quantise(self, stage: Stage) -> Decision:
        (x,), (tensor,) = stage.sources, stage.inputs
        frac, shape = x.format.frac, self.shape(tensor.shape)
        parts = [self._apart(n) for n in (x.frames, x.low[np.newaxis], x.high[np.newaxis])]
        if self.function in ("maximum", "minimum"):
            join = getattr(np, self.function)
            values, low, high = (join.reduce(n, axis=2) for n in parts)
        else:
            values, low, high = (n.sum(axis=2) for n in parts)
        if self.function == "mean":
            count, frac = parts[0].shape[2], frac + GUARD
            values, low = (values << GUARD) // count, (low << GUARD) // count
            high = -(-(high << GUARD) // count)
        values, low, high = values.reshape(-1, *shape), low.reshape(shape), high.reshape(shape)
        exact = Format.containing(int(low.min()), int(high.max()), frac)
        format = stage.output_format(values, low, high, frac)
        block = blocks.Reduce(tensor, self.function, self.axes, format, *stage.modes)
        return stage.decision(block, low, high, exact)
