# SPDX-License-Identifier: Apache-2.0
"""Where the largest or the smallest number of a row is."""

from dataclasses import dataclass

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import Decision, Stage


@dataclass(frozen=True, eq=False)
class Arg(Layer):
    """The index of the extreme number of the last axis, which becomes an axis of length 1.

    Parameters
    ----------
    largest : whether it is the largest number, not the smallest
    last : whether the last of equal numbers wins, not the first
    """

    largest: bool
    last: bool = False

    def shape(self, source: Shape) -> Shape:
        if not source or source[-1] < 2:
            raise InputError(
                f"Arg {self.name} input must have 2 numbers or more on its last axis, "
                f"not shape {source}"
            )
        return (*source[:-1], 1)

    def evaluate(self, x: Floats) -> Floats:
        x = x if self.largest else -x
        found = np.argmax(x[..., ::-1] if self.last else x, axis=-1, keepdims=True)
        return (x.shape[-1] - 1 - found if self.last else found).astype(np.float64)

    def quantise(self, stage: Stage) -> Decision:
        (tensor,), kind = stage.inputs, blocks.ArgMax if self.largest else blocks.ArgMin
        shape = (*tensor.shape[:-1], 1)
        ends = np.zeros(shape, np.int64), np.full(shape, tensor.shape[-1] - 1)
        return Decision(kind(tensor, self.last), (ends,))
