# SPDX-License-Identifier: Apache-2.0
"""Layers that set the numbers of a vector in proportion to each other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import blocks
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.activation import exp, log1p
from bitblocks.quantisation import Decision, Stage, frac_for
from quant import Format, from_float

LN2 = 0.6931471805599453


def _log(x: Floats) -> Floats:
    """log(x) of finite numbers from 1 on."""
    fraction, power = np.frexp(x)
    return log1p(2.0 * fraction - 1.0) + (power - 1) * LN2


def _sum_last(x: Floats) -> Floats:
    """Sums along the last axis, which is kept, in index order."""
    total = np.zeros((*x.shape[:-1], 1))
    for index in range(x.shape[-1]):
        total += x[..., index : index + 1]
    return total


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along the last axis, or the logarithm of it.

    Parameters
    ----------
    mask : bools, broadcast to a frame: the numbers that count, which the logarithm has all of
    """

    logarithm: bool = False
    mask: NDArray[np.bool_] | None = None

    decides = ("output_format",)

    def shape(self, source: Shape) -> Shape:
        if not source:
            raise InputError(f"Softmax {self.name} input must have an axis, not shape {source}")
        return source

    def evaluate(self, x: Floats) -> Floats:
        shown = np.ones(1, bool) if self.mask is None else self.mask
        peak = np.where(shown, x, -np.inf).max(axis=-1, keepdims=True)
        distance = np.where(shown, x, peak) - peak
        shares = exp(distance) * shown
        total = _sum_last(shares)
        return distance - _log(total) if self.logarithm else shares / total

    def quantise(self, stage: Stage) -> Decision:
        """Less than one unit of the output wrong; 1 saturates where no bit is left for it.

        Of an output that would be too fine for that, fraction bits are left out.
        """
        (x,) = stage.sources
        spread = float(np.ldexp(float(int(x.high.max()) - int(x.low.min())), -x.format.frac))
        size = stage.inputs[0].shape[-1]
        peak = spread + float(_log(np.array(float(size)))) if self.logarithm else 1 - 2.0**-32
        format = stage.range_format(peak, self.logarithm)
        (tensor,) = stage.inputs
        while True:
            try:
                if self.logarithm:
                    block = blocks.log_softmax(tensor, format)
                else:
                    block = blocks.softmax(tensor, format, mask=self.mask)
                break
            except ValueError:
                if stage.settings.output_format is not None or format.width < 4:
                    raise
                format = Format(format.width - 1, format.frac - 1, format.signed)
        low, high = (format.min, 0) if self.logarithm else (0, format.max)
        return Decision(block, ((np.full(x.low.shape, low), np.full(x.low.shape, high)),))


@dataclass(frozen=True, eq=False)
class Mask(Layer):
    """``y = x``, or -inf: numbers that do not count in the Softmax that this goes into.

    Parameters
    ----------
    mask : bools, in the shape of x: which of them do
    """

    mask: NDArray[np.bool_]

    def shape(self, source: Shape) -> Shape:
        return source

    def evaluate(self, x: Floats) -> Floats:
        return np.where(self.mask, x, -np.inf)


@dataclass(frozen=True, eq=False)
class Norm(Layer):
    """``x / sqrt(mean(x**2) + epsilon) * weight + bias``, x without its mean if ``centred``.

    Parameters
    ----------
    weight, bias : floats, one for each channel
    epsilon : float
    groups : over all positions of as many groups of channels; 0 for the last axis alone
    """

    weight: Floats
    bias: Floats
    epsilon: float
    groups: int = 0
    centred: bool = True

    decides = ("output_format",)

    def shape(self, source: Shape) -> Shape:
        if not source or source[-1] != len(self.weight):
            raise InputError(
                f"Norm {self.name} input must have {len(self.weight)} channels, not shape {source}"
            )
        return source

    def _distances(self, x: Floats) -> tuple[Floats, Floats]:
        """What is normalised, by rows, and its mean square in each."""
        rows = x
        if self.groups:
            apart = x.reshape(len(x), -1, self.groups, x.shape[-1] // self.groups)
            rows = apart.swapaxes(1, 2).reshape(len(x), self.groups, -1)
        count = rows.shape[-1]
        distance = rows - _sum_last(rows) / count if self.centred else rows
        return distance, _sum_last(distance * distance) / count

    def evaluate(self, x: Floats) -> Floats:
        distance, square = self._distances(x)
        y = distance / np.sqrt(square + self.epsilon)
        if self.groups:
            width = x.shape[-1] // self.groups
            y = y.reshape(len(x), self.groups, -1, width).swapaxes(1, 2).reshape(x.shape)
        return y * self.weight + self.bias

    def quantise(self, stage: Stage) -> Decision:
        """Less than one unit of the output wrong, but for what the weights are rounded by.

        The block rounds epsilon to a multiple of a unit of x squared over ``count**3``, or over
        ``count``. Where that is too coarse beside the data, x gets more fraction bits.
        """
        (tensor,) = stage.inputs
        count = tensor.size // self.groups if self.groups else tensor.shape[-1]
        largest = float(np.abs(self.weight).max())
        peak = largest * count**0.5 + float(np.abs(self.bias).max())
        format = stage.range_format(peak, signed=True)
        bits = stage.settings.weight_bits
        weight_format = Format(bits, frac_for(largest, bits, signed=True))
        parameters = (
            from_float(self.weight, weight_format),
            from_float(self.bias, Format(63, format.frac + 2)),
            weight_format,
            format,
            self.epsilon,
        )

        def made(number: Format) -> Any:
            source = blocks.Tensor(tensor.shape, number)
            if self.groups:
                return blocks.group_norm(source, self.groups, *parameters)
            return (blocks.layer_norm if self.centred else blocks.rms_norm)(source, *parameters)

        number, conversion = tensor.format, None
        block = made(number)
        for more in range(1, self._missing_bits(stage, count, format) + 1):
            finer = Format(number.width + more, number.frac + more, number.signed)
            try:
                block = made(finer)
            except ValueError:  # beyond 63 bits
                break
            conversion = blocks.Identity(tensor, finer)
        shape = stage.sources[0].low.shape
        ends = np.full(shape, format.min), np.full(shape, format.max)
        return Decision(block, (ends,), (conversion,))

    def _missing_bits(self, stage: Stage, count: int, format: Format) -> int:
        """Fraction bits without which epsilon would be wrong beside the mean squares of the data.

        It may be wrong by what makes half a unit of the output, and by a part in EPSILON_SHARE.
        """
        (x,) = stage.sources
        least = float(self._distances(x.floats())[1].min()) if stage.calibrated else 0.0
        allowed = max((least + self.epsilon) * 2.0**-format.width, self.epsilon / EPSILON_SHARE)
        step = 2.0 ** (-2 * x.format.frac) / count ** (3 if self.centred else 1)
        bits = 0
        while step > allowed:
            step, bits = step / 4, bits + 1
        return bits


EPSILON_SHARE = 16
"""Part of epsilon by which it may be wrong in any case."""
