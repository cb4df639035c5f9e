# SPDX-License-Identifier: Apache-2.0
"""Independent statements of blocks that slide windows over a frame."""

from fractions import Fraction
from typing import Any

import numpy as np
from oracle_numbers import narrowed, number, statement

from blocks import Convolution, TransposedConvolution
from quant import Ints


def _sums(block: Any, x: Ints, met: Any) -> Ints:
    """Number by number: ``met(axis, output, tap)`` is the place of a frame that a tap meets, from
    the definition, or None.
    """
    shape = block.outputs["o"].shape
    rows = shape[-1] // block.groups
    width = block.weight.shape[-1]
    frac = block.weight_format.frac + block.input.format.frac
    shift = block.shift if block.shift is not None else [0] * shape[-1]
    y = np.zeros((len(x), *shape), np.int64)
    taps = list(np.ndindex(*block.weight.shape[1:-1]))
    for place in np.ndindex(*shape):
        output = place[-1]
        weight_unit = Fraction(2) ** int(shift[output])
        meetings = []
        for tap in taps:
            pixel = tuple(
                met(a, o, k) for a, (o, k) in enumerate(zip(place[:-1], tap, strict=True))
            )
            if None not in pixel:
                for c in range(width):
                    w = number(block.weight[(output, *tap, c)], block.weight_format) * weight_unit
                    meetings.append(((*pixel, output // rows * width + c), w))
        bias = Fraction(int(block.bias[output])) / Fraction(2) ** frac
        for n, frame in enumerate(x):
            total = sum((w * number(frame[at], block.input.format) for at, w in meetings), bias)
            y[(n, *place)] = narrowed(total, block)
    return y


@statement(Convolution)
def _convolution(block: Convolution, x: Ints) -> Ints:
    def met(axis: int, output: int, tap: int) -> int | None:
        place = output * block.stride[axis] + tap * block.dilation[axis] - block.padding[axis][0]
        return place if 0 <= place < block.input.shape[axis] else None

    return _sums(block, x, met)


@statement(TransposedConvolution)
def _transposed(block: TransposedConvolution, x: Ints) -> Ints:
    def met(axis: int, output: int, tap: int) -> int | None:
        for place in range(block.input.shape[axis]):
            reached = place * block.stride[axis] + tap * block.dilation[axis]
            if reached - block.padding[axis][0] == output:
                return place
        return None

    return _sums(block, x, met)
