# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers."""

from dataclasses import dataclass, replace

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import WEIGHTED, Decision, Stage, weighted


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """``y = W x + b`` on the last axis; shape (..., inputs) -> (..., outputs).

    Parameters
    ----------
    weight : floats, shape (outputs, inputs)
    bias : floats, shape (outputs,)
    """

    weight: Floats
    bias: Floats

    decides = WEIGHTED
    rectifiable = True

    def shape(self, source: Shape) -> Shape:
        if not source or source[-1] != self.weight.shape[1]:
            raise InputError(
                f"Linear {self.name} input must have {self.weight.shape[1]} elements "
                f"on its last axis, not shape {source}"
            )
        return (*source[:-1], self.weight.shape[0])

    def evaluate(self, x: Floats) -> Floats:
        return ordered_product(x, self.weight) + self.bias

    def quantise(self, stage: Stage) -> Decision:
        found = weighted(stage, self.weight, self.bias, lambda x, weight, dot: dot(x, weight))
        block = blocks.Linear(stage.inputs[0], **found.arguments)
        return stage.decision(block, found.low, found.high, block.sum_format)

    def scaled(self, weight: Floats, bias: Floats) -> "Linear | None":
        factor, offset = per_channel(weight), per_channel(bias)
        if factor is None or offset is None:
            return None
        return replace(
            self,
            weight=self.weight * factor[:, np.newaxis],
            bias=self.bias * factor + offset,
        )

    def fed_scaled(self, weight: Floats, bias: Floats) -> "Linear | None":
        factor, offset = per_channel(weight), per_channel(bias)
        if factor is None or offset is None:
            return None
        return replace(self, weight=self.weight * factor, bias=self.evaluate(offset))


def ordered_product(x: Floats, weight: Floats) -> Floats:
    """``x @ weight.T`` summed in index order: the same bits on every machine."""
    y = np.zeros((*x.shape[:-1], len(weight)))
    for index, column in enumerate(weight.T):
        y += x[..., index, np.newaxis] * column
    return y


def per_channel(values: Floats) -> Floats | None:
    """The values along the last axis, if they are the same at every position."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[0] if (rows == rows[0]).all() else None
