# SPDX-License-Identifier: Apache-2.0
"""Independent statements of blocks that slide windows over a frame, or reduce its axes."""

from fractions import Fraction
from typing import Any

import numpy as np
from oracle_numbers import narrowed, number, statement

from blocks import AveragePool, Convolution, MaxPool, Reduce, TransposedConvolution
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


def _pooled(block: Any, x: Ints, result: Any) -> Ints:
    """``result(values, taps)`` of the numbers that each window sees of a channel; ``taps``: how
    many lie in the frame or its padding.
    """
    sizes, channels = block.input.shape[:-1], block.input.shape[-1]
    shape = block.outputs["o"].shape
    y = np.zeros((len(x), *shape), np.int64)
    for place in np.ndindex(*shape[:-1]):
        seen, taps = [], 0
        for tap in np.ndindex(*block.kernel_shape):
            pixel = tuple(
                o * stride + k * dilation - before
                for o, k, stride, dilation, (before, _) in zip(
                    place, tap, block.stride, block.dilation, block.padding, strict=True
                )
            )
            if all(0 <= p < size for p, size in zip(pixel, sizes, strict=True)):
                seen.append(pixel)
            ends = [size + after for size, (_, after) in zip(sizes, block.padding, strict=True)]
            taps += all(p < end for p, end in zip(pixel, ends, strict=True))
        for n, frame in enumerate(x):
            for c in range(channels):
                values = [number(frame[(*pixel, c)], block.input.format) for pixel in seen]
                y[(n, *place, c)] = result(values, taps)
    return y


@statement(MaxPool)
def _max_pool(block: MaxPool, x: Ints) -> Ints:
    frac = block.input.format.frac
    return _pooled(block, x, lambda values, _: int(max(values) * Fraction(2) ** frac))


@statement(AveragePool)
def _average_pool(block: AveragePool, x: Ints) -> Ints:
    def mean(values: list[Fraction], taps: int) -> int:
        count = taps if block.count_padding else len(values)
        return narrowed(sum(values, Fraction(0)) / count, block)

    return _pooled(block, x, mean)


@statement(Reduce)
def _reduce(block: Reduce, x: Ints) -> Ints:
    made = {
        "sum": sum,
        "mean": lambda values: sum(values) / len(values),
        "maximum": max,
        "minimum": min,
    }[block.function]
    shape = block.outputs["o"].shape
    y = np.zeros((len(x), *shape), np.int64)
    for place in np.ndindex(*y.shape):
        along = [
            [k] if axis - 1 not in block.axes else range(block.input.shape[axis - 1])
            for axis, k in enumerate(place)
        ]
        values = [number(n, block.input.format) for n in x[np.ix_(*along)].ravel().tolist()]
        y[place] = narrowed(made(values), block)
    return y
