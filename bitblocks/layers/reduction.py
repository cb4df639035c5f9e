# SPDX-License-Identifier: Apache-2.0
"""Layers that make one number of many."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.pooling import GUARD
from bitblocks.quantisation import NARROWED, Decision, Stage
from blocks.topk import GIVEN
from quant import Format


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

    def _apart(self, x: Any) -> Any:
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


@dataclass(frozen=True, eq=False)
class TopK(Layer):
    """The largest numbers of the last axis, the largest first, and where they are.

    Parameters
    ----------
    count : of numbers
    smallest : whether the smallest are sought, the smallest first
    gives : "both", "values" or "indices"
    """

    count: int
    smallest: bool
    gives: str

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{part}" for part in GIVEN[self.gives])

    def shape(self, source: Shape) -> Any:
        if not source or self.count > source[-1]:
            raise InputError(
                f"TopK {self.name} input must have {self.count} numbers or more, not shape {source}"
            )
        shapes = ((*source[:-1], self.count),) * len(self.tensors)
        return shapes if len(shapes) > 1 else shapes[0]

    def evaluate(self, x: Floats) -> Any:
        """Of equals the first comes first."""
        indices = np.argsort(x if self.smallest else -x, axis=-1, kind="stable")[..., : self.count]
        both = {"values": np.take_along_axis(x, indices, -1), "indices": indices.astype(np.float64)}
        results = tuple(both[part] for part in GIVEN[self.gives])
        return results if len(results) > 1 else results[0]

    def quantise(self, stage: Stage) -> Decision:
        """Numbers as they are; the nth largest is never above the nth largest of all bounds."""
        (x,), (tensor,) = stage.sources, stage.inputs
        block = blocks.TopK(tensor, self.count, self.smallest, self.gives)
        sort = replace(block, gives="values").reference
        low, high = sort(x.low), sort(x.high)
        both = {
            "values": (low, high),
            "indices": (np.zeros_like(low), np.full_like(low, tensor.shape[-1] - 1)),
        }
        return Decision(block, tuple(both[part] for part in GIVEN[self.gives]))
