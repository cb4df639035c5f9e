# SPDX-License-Identifier: Apache-2.0
"""Random configurations of blocks: what the generators of the catalogue are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from quant import Format, Overflow, Rounding

from .block import Lanes, Tensor, divisors


@dataclass(frozen=True, eq=False)
class Configuration:
    """A block and one way to map it."""

    block: Any
    plan: Any


def draw_format(random: np.random.Generator, index: int) -> Format:
    """One bit first, then up to 10 bits, the point anywhere."""
    signed = bool(random.integers(2))
    if index == 0:
        return Format(1, 0, signed)
    width = int(random.integers(2, 11))
    return Format(width, int(random.integers(-1, width + 2)), signed)


def draw_modes(random: np.random.Generator, index: int) -> tuple[Rounding, Overflow]:
    """Half of the time the usual pair, else any of the 28."""
    if index % 2:
        return Rounding.RND, Overflow.SAT
    rounding = list(Rounding)[random.integers(len(Rounding))]
    return rounding, list(Overflow)[random.integers(len(Overflow))]


def draw_shape(random: np.random.Generator, index: int) -> tuple[int, ...]:
    """One number first; then one to three axes that grow slowly."""
    if index == 0:
        return (1,)
    largest = 3 + index // 4
    axes = [int(n) for n in random.integers(1, largest + 1, random.integers(1, 4))]
    axes[-1] = int(random.integers(1, 2 * largest))
    return tuple(axes)


def draw_near(random: np.random.Generator, source: Format) -> Format:
    """A format to narrow ``source`` to: a few bits and places away."""
    width = max(1, source.width + int(random.integers(-4, 3)))
    frac = source.frac + int(random.integers(-3, 2))
    return Format(min(width, 20), frac, bool(random.integers(2)))


def draw_fitting(random: np.random.Generator, low: int, high: int, frac: int) -> Format:
    """A format that keeps the upper bits of numbers from ``low`` to ``high``, about as they are.

    Up to two bits short of the largest, so that some saturate; unsigned now and then, as a ReLU is.
    """
    signed = low < 0 and (high <= 0 or bool(random.integers(3)))
    bits = max(abs(low), abs(high), 1).bit_length() - int(random.integers(0, 3))
    dropped = int(random.integers(-1, max(1, bits)))
    return Format(max(1, bits - dropped) + signed, frac - dropped, signed)


def draw_ends(random: np.random.Generator, tensor: Tensor) -> Tensor:
    """``tensor`` with channels that have few of their numbers, some none but 0."""
    shifts = random.integers(0, tensor.format.width + 1, (2, tensor.shape[-1]))
    low = -(-tensor.format.min >> shifts[0])
    high = tensor.format.max >> shifts[1]
    return Tensor.between(tensor.shape, tensor.format, low, high)


def draw_frames(random: np.random.Generator, tensor: Tensor, count: int) -> np.ndarray:
    """Frames of a tensor, shape (count, *shape)."""
    low, high = (tensor.format.min, tensor.format.max)
    if tensor.ends is not None:
        low, high = np.transpose(tensor.ends)
    return random.integers(low, high, (count, *tensor.shape), np.int64, endpoint=True)


def draw_lanes(random: np.random.Generator, size: int) -> Lanes:
    """Up to 16 lanes that divide ``size``."""
    return Lanes(int(random.choice([d for d in divisors(size) if d <= 16])))


def draw_integers(
    random: np.random.Generator, number: Format, shape: tuple[int, ...]
) -> np.ndarray:
    """Random numbers of a format, its smallest and its largest among them."""
    values = random.integers(number.min, number.max, shape, np.int64, endpoint=True)
    if values.size > 1:
        values.flat[0], values.flat[-1] = number.min, number.max
    return values
