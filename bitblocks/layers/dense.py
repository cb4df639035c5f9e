# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers."""

from dataclasses import dataclass, replace

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import NARROWED, WEIGHTED, Decision, Stage, weighted
from quant import accumulator_format, narrow_bounds


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


@dataclass(frozen=True, eq=False)
class MatMul(Layer):
    """``y = a @ b.T`` of two tensors: shapes (..., r, k) and (..., c, k) -> (..., r, c)."""

    decides = NARROWED

    def shape(self, source_a: Shape, source_b: Shape) -> Shape:
        fits = len(source_a) == len(source_b) >= 2 and source_a[-1] == source_b[-1]
        if not fits or source_a[:-2] != source_b[:-2]:
            raise InputError(
                f"MatMul {self.name} inputs must be rows of one length, "
                f"not of shapes {source_a} and {source_b}"
            )
        return (*source_a[:-1], source_b[-2])

    def evaluate(self, a: Floats, b: Floats) -> Floats:
        return ordered_products(a, b)

    def quantise(self, stage: Stage) -> Decision:
        a, b = stage.sources
        ends = [
            x[..., :, np.newaxis, :] * y[..., np.newaxis, :, :]
            for x in (a.low, a.high)
            for y in (b.low, b.high)
        ]
        low, high = np.minimum.reduce(ends).sum(axis=-1), np.maximum.reduce(ends).sum(axis=-1)
        exact = accumulator_format(low, high, a.format.frac + b.format.frac, stage.name)
        sums = a.frames @ b.frames.swapaxes(-1, -2)
        format = stage.output_format(sums, low, high, exact.frac)
        (left, right), modes = stage.inputs, stage.modes
        block = blocks.matmul(left, right, format, *modes, transpose_b=True)
        return Decision(block, (narrow_bounds(low, high, exact, format, *stage.modes),))


def ordered_product(x: Floats, weight: Floats) -> Floats:
    """``x @ weight.T`` summed in index order: the same bits on every machine."""
    y = np.zeros((*x.shape[:-1], len(weight)))
    for index, column in enumerate(weight.T):
        y += x[..., index, np.newaxis] * column
    return y


def ordered_products(a: Floats, b: Floats) -> Floats:
    """``a @ b.T`` of each pair of matrices, likewise."""
    y = np.zeros((*a.shape[:-1], b.shape[-2]))
    for index in range(a.shape[-1]):
        y += a[..., index, np.newaxis] * b[..., np.newaxis, :, index]
    return y


def per_channel(values: Floats) -> Floats | None:
    """The values along the last axis, if they are the same at every position."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[0] if (rows == rows[0]).all() else None
