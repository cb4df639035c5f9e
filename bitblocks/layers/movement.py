# SPDX-License-Identifier: Apache-2.0
"""Layers that move numbers and compute nothing."""

import math
from dataclasses import dataclass

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import NARROWED, Decision, Stage
from quant import Ints, from_float, narrow_bounds, sum_format


@dataclass(frozen=True, eq=False)
class Reshape(Layer):
    """The same elements in the same raster order under another ``target`` shape."""

    target: Shape

    def shape(self, source: Shape) -> Shape:
        if math.prod(source) != math.prod(self.target):
            raise InputError(
                f"Reshape {self.name} input must have {math.prod(self.target)} elements, "
                f"not shape {source}"
            )
        return self.target

    def evaluate(self, x: Floats) -> Floats:
        return x.reshape(len(x), *self.target)

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        block = blocks.Reshape(stage.inputs[0], self.target)
        return Decision(block, ((x.low.reshape(self.target), x.high.reshape(self.target)),))

    def reorders(self, source: Shape) -> bool:
        return True

    def unmoved(self, values: Floats, source: Shape) -> Floats:
        return values.reshape(source)


@dataclass(frozen=True, eq=False)
class Rearrange(Layer):
    """``y = x.ravel()[index]``, or ``fill`` where the index is -1.

    Parameters
    ----------
    index : ints, in the shape of y
    fill : float
    """

    index: Ints
    fill: float = 0.0

    def shape(self, source: Shape) -> Shape:
        if self.index.max() >= math.prod(source):
            raise InputError(
                f"Rearrange {self.name} index must lie in its input of shape {source}, "
                f"not reach {self.index.max()}"
            )
        return self.index.shape

    def evaluate(self, x: Floats) -> Floats:
        return np.where(self.index < 0, self.fill, x.reshape(len(x), -1)[:, self.index])

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        fill = int(from_float(np.float64(self.fill), x.format))
        block = blocks.Rearrange(stage.inputs[0], self.index, fill)
        low, high = (block.reference(n) for n in (x.low, x.high))
        return Decision(block, ((low, high),))

    def reorders(self, source: Shape) -> bool:
        size = math.prod(source)
        return self.index.size == size and np.array_equal(
            np.sort(self.index, None), np.arange(size)
        )

    def unmoved(self, values: Floats, source: Shape) -> Floats:
        moved = np.empty(values.size)
        moved[self.index.ravel()] = values.ravel()
        return moved.reshape(source)


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Tensors of one shape but for ``axis``, one behind the other along it."""

    axis: int

    decides = NARROWED

    def shape(self, *sources: Shape) -> Shape:
        first = sources[0]
        for source in sources:
            if len(source) != len(first) or any(
                a != b for n, (a, b) in enumerate(zip(source, first, strict=True)) if n != self.axis
            ):
                raise InputError(
                    f"Concat {self.name} inputs must have one shape but for axis {self.axis}, "
                    f"not {first} and {source}"
                )
        along = sum(source[self.axis] for source in sources)
        return (*first[: self.axis], along, *first[self.axis + 1 :])

    def evaluate(self, *sources: Floats) -> Floats:
        return np.concatenate(sources, self.axis + 1)

    def quantise(self, stage: Stage) -> Decision:
        """Sources of several formats are converted to one before they are joined."""
        exact = sum_format(*(x.format for x in stage.sources), name="Concat")
        shifts = [exact.frac - x.format.frac for x in stage.sources]
        parts = list(zip(stage.sources, shifts, strict=True))
        frames = np.concatenate([x.frames << n for x, n in parts], self.axis + 1)
        low = np.concatenate([x.low << n for x, n in parts], self.axis)
        high = np.concatenate([x.high << n for x, n in parts], self.axis)
        formats = {x.format for x in stage.sources}
        if len(formats) == 1 and stage.settings.output_format is None:
            (format,) = formats
        else:
            format = stage.output_format(frames, low, high, exact.frac)
        conversions = tuple(
            None if tensor.format == format else blocks.Identity(tensor, format, *stage.modes)
            for tensor in stage.inputs
        )
        block = blocks.Concat(
            tuple(blocks.Tensor(tensor.shape, format) for tensor in stage.inputs), self.axis
        )
        ends = narrow_bounds(low, high, exact, format, *stage.modes)
        return Decision(block, (ends,), conversions)
