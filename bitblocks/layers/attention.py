# SPDX-License-Identifier: Apache-2.0
"""Tokens that attend to others."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.dense import ordered_products
from bitblocks.layers.normalisation import Softmax
from bitblocks.quantisation import NARROWED, Decision, Stage
from quant import Format, from_float, narrow_bounds


@dataclass(frozen=True, eq=False)
class Attention(Layer):
    """``softmax(scale * q @ k.T + bias) @ v`` for every head; see :func:`blocks.attention`.

    Parameters
    ----------
    scale : float above 0
    bias : floats, broadcast to (queries, heads, keys)
    mask : bools, broadcast likewise: which keys a query sees
    """

    scale: float
    bias: Floats
    mask: NDArray[np.bool_]

    decides = NARROWED

    def shape(self, query: Shape, key: Shape, value: Shape) -> Shape:
        fits = len(query) == len(key) == len(value) == 3 and key[:2] == value[:2]
        if not fits or query[2] != key[2] or query[1] % key[1]:
            raise InputError(
                f"Attention {self.name} inputs must be tokens of heads that fit, "
                f"not of shapes {query}, {key} and {value}"
            )
        return (*query[:2], value[2])

    def _scores(self, q: Floats, k: Floats) -> Floats:
        """Shape (..., queries, heads, keys)."""
        k = np.repeat(k, q.shape[-2] // k.shape[-2], axis=-2)
        sums = ordered_products(q.swapaxes(1, 2), k.swapaxes(1, 2)).swapaxes(1, 2)
        return sums * self.scale + self.bias

    def _shares(self, scores: Floats) -> Floats:
        return Softmax("", (), mask=self.mask).evaluate(scores)

    def evaluate(self, q: Floats, k: Floats, v: Floats) -> Floats:
        shares = self._shares(self._scores(q, k))
        v = np.repeat(v, q.shape[-2] // v.shape[-2], axis=-2)
        turned = v.transpose(0, 2, 3, 1)  # (..., heads, width, keys)
        return ordered_products(shares.swapaxes(1, 2), turned).swapaxes(1, 2)

    def quantise(self, stage: Stage) -> Decision:
        """Scores and shares have formats of their own, with as many bits as what it gives."""
        q, k, v = stage.sources
        scores = self._scores(q.floats(), k.floats())
        shares = self._shares(scores)
        inside = replace(stage, settings=replace(stage.settings, output_format=None))
        inside = replace(inside, bits=min(stage.bits, 16))
        seen = np.where(self.mask, scores, 0.0)
        tall = [np.maximum(np.abs(x.low), np.abs(x.high)).max() for x in (q, k)]
        bound = float(tall[0]) * float(tall[1]) * q.low.shape[-1]
        peak = self.scale * float(np.ldexp(bound, -q.format.frac - k.format.frac))
        peak += float(np.abs(np.where(self.mask, self.bias, 0.0)).max())
        score = replace(inside, target=seen).range_format(peak, signed=True)
        share = replace(inside, target=shares).range_format(1 - 2.0**-32, signed=False)
        bias = from_float(np.where(self.mask, self.bias, 0.0), Format(40, score.frac))

        def block(format: Format) -> blocks.Network:
            query, key, value = stage.inputs
            options = self.scale, self.mask, bias, *stage.modes
            return blocks.attention(query, key, value, score, share, format, *options)

        one = (1 << share.frac) + v.low.shape[0]  # shares sum to 1 but for their errors
        shape = *q.low.shape[:2], v.low.shape[2]
        low = np.full(shape, min(int(v.low.min()), 0) * one)
        high = np.full(shape, max(int(v.high.max()), 0) * one)
        exact = Format.containing(int(low[0, 0, 0]), int(high[0, 0, 0]), share.frac + v.format.frac)
        sums = block(exact).reference(*(x.frames for x in stage.sources))
        format = stage.output_format(sums, low, high, exact.frac)
        return Decision(block(format), (narrow_bounds(low, high, exact, format, *stage.modes),))
