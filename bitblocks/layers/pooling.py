# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, channel by channel."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape, check_size
from bitblocks.layers.convolution import Padding, reach, window_outputs, window_taps
from bitblocks.quantisation import NARROWED, Decision, Stage
from quant import Format, Ints

GUARD = 16
"""Fraction bits that means have more than their numbers while a format is chosen for them."""


@dataclass(frozen=True, eq=False)
class _Pool(Layer):
    """What both kinds have: where their windows lie."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Padding
    ceil: bool = False

    def outputs(self, spatial: Shape) -> Shape:
        """How many windows lie on each axis.

        With ``ceil`` a last window may reach over the padding, if it begins before the padding
        behind the frame does.
        """
        where = zip(spatial, self.kernel, self.stride, self.dilation, self.padding, strict=True)
        whole = window_outputs(spatial, self.kernel, self.stride, self.dilation, self.padding)
        if not self.ceil:
            return whole
        result = []
        for count, (n, k, s, d, (before, after)) in zip(whole, where, strict=True):
            over = (count - 1) * s + reach(k, d) < n + before + after
            count += over
            result.append(count - ((count - 1) * s >= n + before))
        return tuple(result)

    def shape(self, source: Shape) -> Shape:
        kind = type(self).__name__
        if len(source) != len(self.kernel) + 1:
            raise InputError(
                f"{kind} {self.name} input must have {len(self.kernel)} spatial axes and channels, "
                f"not shape {source}"
            )
        outputs = self.outputs(source[:-1])
        if min(outputs) < 1:
            raise InputError(
                f"{kind} {self.name} window must fit into its padded input of shape {source}"
            )
        check_size(self.name, (*outputs, source[-1]))
        met = self.joined(np.ones((*source[:-1], 1), np.int64), np.add, 0)
        if not met.all():
            raise InputError(f"{kind} {self.name} windows must each meet something of their input")
        return (*outputs, source[-1])

    def joined(self, x: Any, join: np.ufunc, start: Any) -> Any:
        """Of frames (..., *spatial, channels) what ``join`` makes of each window, in tap order."""
        spatial = x.shape[x.ndim - 1 - len(self.kernel) : -1]
        outputs = self.outputs(spatial)
        y = np.full((*x.shape[: x.ndim - 1 - len(spatial)], *outputs, x.shape[-1]), start, x.dtype)
        where = (spatial, outputs, self.kernel, self.stride, self.dilation, self.padding)
        for _, outer, inner in window_taps(*where):
            there: Any = (..., *outer, slice(None))
            y[there] = join(y[there], x[(..., *inner, slice(None))])
        return y


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """The largest number that every window meets; shape (*spatial, channels).

    Parameters
    ----------
    kernel, stride, dilation : along each spatial axis
    padding : places before and after the frame, along each spatial axis, that are never largest
    ceil : whether a last window that reaches over the padding counts
    """

    def evaluate(self, x: Floats) -> Floats:
        return self.joined(x, np.maximum, -np.inf)

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        least = np.iinfo(np.int64).min
        low, high = (self.joined(n, np.maximum, least) for n in (x.low, x.high))
        where = (self.kernel, self.stride, self.dilation, self.padding, self.ceil)
        return Decision(blocks.MaxPool(stage.inputs[0], *where), ((low, high),))


@dataclass(frozen=True, eq=False)
class AveragePool(_Pool):
    """The mean of the places that every window meets; shape (*spatial, channels).

    Parameters
    ----------
    kernel, stride, dilation : along each spatial axis
    padding : places before and after the frame, along each spatial axis
    ceil : whether a last window that reaches over the padding counts
    count_padding : whether the padding is part of the mean, as zeros
    """

    count_padding: bool = False

    decides = NARROWED

    def counts(self, spatial: Shape) -> Ints:
        """How many places each window averages; shape (*outputs, 1)."""
        total = np.ones((), np.int64)
        for axis, count in enumerate(self.outputs(spatial)):
            starts = np.arange(count) * self.stride[axis] - self.padding[axis][0]
            places = starts[:, np.newaxis] + np.arange(self.kernel[axis]) * self.dilation[axis]
            before, after = self.padding[axis] if self.count_padding else (0, 0)
            inside = (places >= -before) & (places < spatial[axis] + after)
            total = total[..., np.newaxis] * inside.sum(axis=1)
        return total[..., np.newaxis]

    def evaluate(self, x: Floats) -> Floats:
        return self.joined(x, np.add, 0.0) / self.counts(x.shape[1:-1])

    def quantise(self, stage: Stage) -> Decision:
        (x,) = stage.sources
        counts = self.counts(stage.inputs[0].shape[:-1])
        sums, low, high = (self.joined(n, np.add, 0) << GUARD for n in (x.frames, x.low, x.high))
        means, low, high = sums // counts, low // counts, -(-high // counts)
        frac = x.format.frac + GUARD
        format = stage.output_format(means, low, high, frac)
        where = (self.stride, self.dilation, self.padding, self.ceil, self.count_padding)
        block = blocks.AveragePool(stage.inputs[0], self.kernel, format, *where, *stage.modes)
        least, most = int(low.min()), int(high.max())
        return stage.decision(block, low, high, Format.containing(least, most, frac))
