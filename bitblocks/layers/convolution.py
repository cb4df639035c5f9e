# SPDX-License-Identifier: Apache-2.0
"""Convolutions over frames of any number of spatial axes, channels last."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.dense import ordered_product, per_channel
from bitblocks.quantisation import WEIGHTED, Decision, Dot, Stage, weighted

Padding = tuple[tuple[int, int], ...]


def reach(kernel: int, dilation: int) -> int:
    """Places from the first tap of a window to the last, both included."""
    return (kernel - 1) * dilation + 1


def window_outputs(
    spatial: Shape, kernel: Shape, stride: Shape, dilation: Shape, padding: Padding
) -> Shape:
    """How many whole windows lie on each padded axis; may be less than 1."""
    axes = zip(spatial, kernel, stride, dilation, padding, strict=True)
    return tuple((n + b + a - reach(k, d)) // s + 1 for n, k, s, d, (b, a) in axes)


def window_taps(
    spatial: Shape, outputs: Shape, kernel: Shape, stride: Shape, dilation: Shape, padding: Padding
) -> Iterator[tuple[Shape, tuple[slice, ...], tuple[slice, ...]]]:
    """Every tap of a window, the outputs at which it lies inside, and the places that it meets."""
    for tap in np.ndindex(*kernel):
        inner, outer = [], []
        for k, n, count, s, d, (before, _) in zip(
            tap, spatial, outputs, stride, dilation, padding, strict=True
        ):
            start = k * d - before  # of the window at output 0
            first = max(0, -(start // s))
            last = min(count - 1, (n - 1 - start) // s)
            outer.append(slice(first, max(last + 1, first)))
            inner.append(slice(start + first * s, max(start + last * s + 1, start + first * s), s))
        yield tap, tuple(outer), tuple(inner)


def grouped_sums(
    x: Any,
    weight: Any,
    groups: int,
    outputs: Shape,
    taps: list[tuple[Shape, tuple[slice, ...], tuple[slice, ...]]],
    dot: Dot,
) -> Any:
    """For each tap, what ``dot`` makes of the places of x that it meets, added up in tap order.

    Parameters
    ----------
    x : numbers, shape (..., *spatial, inputs)
    weight : numbers, shape (channels, *kernel, inputs / groups)
    taps : tap, slices of the outputs, slices of the places
    """
    channels, inputs = len(weight) // groups, weight.shape[-1]
    lead = x.shape[: x.ndim - len(outputs) - 1]
    y: Any = np.zeros((*lead, *outputs, len(weight)), x.dtype)
    for group in range(groups):
        read = slice(group * inputs, (group + 1) * inputs)
        rows = slice(group * channels, (group + 1) * channels)
        for tap, outer, inner in taps:
            y[(..., *outer, rows)] += dot(x[(..., *inner, read)], weight[(rows, *tap)])
    return y


@dataclass(frozen=True, eq=False)
class _Convolved(Layer, ABC):
    """What Convolution and TransposedConvolution share; ``rule``: what holds where outputs are."""

    weight: Floats
    bias: Floats
    stride: Shape
    dilation: Shape
    padding: Padding
    groups: int = 1

    rule: ClassVar[str]
    decides = WEIGHTED
    rectifiable = True

    @property
    def kernel(self) -> Shape:
        return self.weight.shape[1:-1]

    @abstractmethod
    def outputs(self, spatial: Shape) -> Shape:
        """Places along each spatial axis of the result; may be less than 1."""

    @abstractmethod
    def sums(self, x: Any, weight: Any, dot: Dot) -> Any:
        """The sums of products, as :func:`bitblocks.quantisation.weighted` asks."""

    def spatial(self, x: Any) -> Shape:
        """The lengths of the spatial axes of frames."""
        return x.shape[x.ndim - 1 - len(self.kernel) : -1]

    def shape(self, source: Shape) -> Shape:
        name, inputs = f"{type(self).__name__} {self.name}", self.weight.shape[-1] * self.groups
        if len(source) != len(self.kernel) + 1 or source[-1] != inputs:
            raise InputError(
                f"{name} input must have {len(self.kernel)} spatial axes and {inputs} channels, "
                f"not shape {source}"
            )
        outputs = self.outputs(source[:-1])
        if min(outputs) < 1:
            raise InputError(f"{name} {self.rule} of shape {source}")
        return (*outputs, len(self.weight))

    def evaluate(self, x: Floats) -> Floats:
        return self.sums(x, self.weight, ordered_product) + self.bias

    def scaled(self, weight: Floats, bias: Floats) -> Self | None:
        factor, offset = per_channel(weight), per_channel(bias)
        if factor is None or offset is None:
            return None
        columns = factor.reshape(-1, *(1,) * (self.weight.ndim - 1))
        return replace(self, weight=self.weight * columns, bias=self.bias * factor + offset)


@dataclass(frozen=True, eq=False)
class Convolution(_Convolved):
    """A Linear on every window of a frame; shape (*spatial, inputs) -> (*spatial, outputs).

    Parameters
    ----------
    weight : floats, shape (outputs, *kernel, inputs / groups)
    bias : floats, shape (outputs,)
    stride, dilation : along each spatial axis
    padding : zeros before and after the frame, along each spatial axis
    groups : output channels and input channels are split into so many, each seeing only its own
    """

    rule = "window must fit into its padded input"

    def outputs(self, spatial: Shape) -> Shape:
        return window_outputs(spatial, self.kernel, self.stride, self.dilation, self.padding)

    def sums(self, x: Any, weight: Any, dot: Dot) -> Any:
        spatial = self.spatial(x)
        outputs = self.outputs(spatial)
        where = (spatial, outputs, self.kernel, self.stride, self.dilation, self.padding)
        return grouped_sums(x, weight, self.groups, outputs, list(window_taps(*where)), dot)

    def quantise(self, stage: Stage) -> Decision:
        found = weighted(stage, self.weight, self.bias, self.sums)
        block = blocks.Convolution(
            stage.inputs[0],
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            groups=self.groups,
            **found.arguments,
        )
        return stage.decision(block, found.low, found.high, block.sum_format)

    def fed_scaled(self, weight: Floats, bias: Floats) -> "Convolution | None":
        factor, offset = per_channel(weight), per_channel(bias)
        if factor is None or offset is None:
            return None
        if offset.any() and any(end for ends in self.padding for end in ends):
            return None  # the padding is 0, not the offset
        inputs, taps = self.weight.shape[-1], math.prod(self.kernel)
        channels = len(self.weight) // self.groups
        ones = (1,) * len(self.kernel)
        factors = factor.reshape(self.groups, 1, *ones, inputs)
        grouped = self.weight.reshape(self.groups, channels, *self.kernel, inputs)
        shifts = [
            ordered_product(np.tile(part, taps), rows.reshape(channels, -1))
            for part, rows in zip(offset.reshape(self.groups, inputs), grouped, strict=True)
        ]
        return replace(
            self,
            weight=(grouped * factors).reshape(self.weight.shape),
            bias=self.bias + np.concatenate(shifts),
        )


@dataclass(frozen=True, eq=False)
class TransposedConvolution(_Convolved):
    """Every place of a frame adds a window to the result, ``stride`` places from the next.

    Tap k of place i goes to place ``i * stride + k * dilation - before`` of the result, if that is
    there; shape (*spatial, inputs) -> (*spatial, outputs).

    Parameters
    ----------
    weight : floats, shape (outputs, *kernel, inputs / groups)
    bias : floats, shape (outputs,)
    stride, dilation : along each spatial axis
    padding : places cut off before and after; less than 0 after adds places
    groups : output channels and input channels are split into so many, each seeing only its own
    """

    rule = "must leave something"

    def outputs(self, spatial: Shape) -> Shape:
        axes = zip(spatial, self.kernel, self.stride, self.dilation, self.padding, strict=True)
        return tuple((n - 1) * s + reach(k, d) - b - a for n, k, s, d, (b, a) in axes)

    def sums(self, x: Any, weight: Any, dot: Dot) -> Any:
        spatial = self.spatial(x)
        outputs = self.outputs(spatial)
        turned = window_taps(  # a window of the result lies on the frame as on its own padding
            outputs, spatial, self.kernel, self.stride, self.dilation, self.padding
        )
        taps = [(tap, inner, outer) for tap, outer, inner in turned]
        return grouped_sums(x, weight, self.groups, outputs, taps, dot)

    def quantise(self, stage: Stage) -> Decision:
        found = weighted(stage, self.weight, self.bias, self.sums)
        block = blocks.TransposedConvolution(
            stage.inputs[0],
            stride=self.stride,
            dilation=self.dilation,
            padding=tuple((before, max(after, 0)) for before, after in self.padding),
            output_padding=tuple(max(-after, 0) for _, after in self.padding),
            groups=self.groups,
            **found.arguments,
        )
        return stage.decision(block, found.low, found.high, block.sum_format)
