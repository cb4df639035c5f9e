# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, channel by channel."""

from dataclasses import dataclass

import numpy as np

from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.convolution import Padding, window_outputs, window_taps


@dataclass(frozen=True, eq=False)
class MaxPool(Layer):
    """The largest number that every window meets; shape (*spatial, channels).

    Parameters
    ----------
    kernel, stride, dilation : along each spatial axis
    padding : places before and after the frame, along each spatial axis, that are never largest
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Padding

    def shape(self, source: Shape) -> Shape:
        outputs = _outputs(self, source)
        ones = np.ones((1, *source[:-1], 1), bool)
        if not _pooled(self, ones, np.logical_or, np.zeros((1, *outputs, 1), bool)).all():
            raise InputError(f"MaxPool {self.name} windows must each meet something of their input")
        return (*outputs, source[-1])

    def evaluate(self, x: Floats) -> Floats:
        nothing = np.full((len(x), *_outputs(self, x.shape[1:]), x.shape[-1]), -np.inf)
        return _pooled(self, x, np.maximum, nothing)


@dataclass(frozen=True, eq=False)
class AveragePool(Layer):
    """The mean of the places that every window meets; shape (*spatial, channels).

    Parameters
    ----------
    kernel, stride, dilation : along each spatial axis
    padding : places before and after the frame, along each spatial axis
    counted : how many of these count, as zeros; the rest is left out of the mean
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Padding
    counted: Padding

    def shape(self, source: Shape) -> Shape:
        outputs = _outputs(self, source)
        if not self.counts(source[:-1]).all():
            raise InputError(
                f"AveragePool {self.name} windows must each meet something of their input"
            )
        return (*outputs, source[-1])

    def counts(self, spatial: Shape) -> Floats:
        """How many places each window averages; shape (*outputs, 1)."""
        total = np.ones(())
        outputs = window_outputs(spatial, self.kernel, self.stride, self.dilation, self.padding)
        for axis, count in enumerate(outputs):
            starts = np.arange(count) * self.stride[axis] - self.padding[axis][0]
            places = starts[:, np.newaxis] + np.arange(self.kernel[axis]) * self.dilation[axis]
            before, after = self.counted[axis]
            inside = (places >= -before) & (places < spatial[axis] + after)
            total = total[..., np.newaxis] * inside.sum(axis=1)
        return total[..., np.newaxis]

    def evaluate(self, x: Floats) -> Floats:
        zeros = np.zeros((len(x), *_outputs(self, x.shape[1:]), x.shape[-1]))
        return _pooled(self, x, np.add, zeros) / self.counts(x.shape[1:-1])


def _outputs(pool: MaxPool | AveragePool, source: Shape) -> Shape:
    kind = type(pool).__name__
    if len(source) != len(pool.kernel) + 1:
        raise InputError(
            f"{kind} {pool.name} input must have {len(pool.kernel)} spatial axes and channels, "
            f"not shape {source}"
        )
    outputs = window_outputs(source[:-1], pool.kernel, pool.stride, pool.dilation, pool.padding)
    if min(outputs) < 1:
        raise InputError(f"{kind} {pool.name} window must fit into its padded input of {source}")
    return outputs


def _pooled(pool: MaxPool | AveragePool, x: Floats, join: np.ufunc, y: Floats) -> Floats:
    """``y`` joined with what each tap meets, in tap order."""
    spatial, outputs = x.shape[1:-1], y.shape[1:-1]
    where = (spatial, outputs, pool.kernel, pool.stride, pool.dilation, pool.padding)
    for _, outer, inner in window_taps(*where):
        y[(slice(None), *outer)] = join(y[(slice(None), *outer)], x[(slice(None), *inner)])
    return y
