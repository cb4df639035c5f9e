# SPDX-License-Identifier: Apache-2.0
"""Layers that move numbers and compute nothing."""

import math
from dataclasses import dataclass

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import Decision, Stage


@dataclass(frozen=True, eq=False)
class Reshape(Layer):
    """The same elements in the same raster order under another ``target`` shape."""

    target: Shape

    reorders = True

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

    def unmoved(self, values: Floats, source: Shape) -> Floats:
        return values.reshape(source)


@dataclass(frozen=True, eq=False)
class Transpose(Layer):
    """Axis ``axes[k]`` of x becomes axis k of y."""

    axes: Shape

    reorders = True

    def shape(self, source: Shape) -> Shape:
        if sorted(self.axes) != list(range(len(source))):
            raise InputError(
                f"Transpose {self.name} axes must order those of its input, "
                f"not be {self.axes} for shape {source}"
            )
        return tuple(source[axis] for axis in self.axes)

    def evaluate(self, x: Floats) -> Floats:
        return x.transpose(0, *(axis + 1 for axis in self.axes))

    def unmoved(self, values: Floats, source: Shape) -> Floats:
        return values.transpose(np.argsort(self.axes))
