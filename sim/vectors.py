# SPDX-License-Identifier: Apache-2.0
"""Frames of integers as the words that travel over a stream, and back."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from quant import Format, Ints


def element_bits(format: Format, whole_bytes: bool) -> int:
    """Bits one element takes in a word: its width, on AXI rounded up to whole bytes."""
    return -(-format.width // 8) * 8 if whole_bytes else format.width


def to_words(frames: ArrayLike, format: Format, lanes: int, whole_bytes: bool = False) -> list[int]:
    """Words of a batch of frames, (frames, ...) integers in stream order, lane 0 lowest.

    The last word of each frame is padded with zeros. ``whole_bytes``: AXI, elements sign- or
    zero-extended to whole bytes.

    >>> [hex(word) for word in to_words([[1, -1, 2]], Format(4, 0), 2)]
    ['0xf1', '0x2']
    """
    array = format.check(frames, "Stream data")
    array = array.reshape(len(array), -1)
    bits = element_bits(format, whole_bytes)
    short = -array.shape[1] % lanes
    padded = np.pad(array, ((0, 0), (0, short))).reshape(-1, lanes)
    codes = padded.astype(np.uint64) & np.uint64((1 << bits) - 1)
    if lanes * bits <= 64:
        shifts = np.arange(lanes, dtype=np.uint64) * np.uint64(bits)
        return (codes << shifts).sum(axis=1, dtype=np.uint64).tolist()
    words = []
    for row in codes.tolist():
        word = 0
        for code in reversed(row):
            word = word << bits | code
        words.append(word)
    return words


def from_words(
    words: Sequence[int],
    format: Format,
    elements: int,
    lanes: int,
    whole_bytes: bool = False,
) -> Ints:
    """Frames of ``elements`` integers, (frames, elements): the inverse of :func:`to_words`.

    An unfinished frame at the end is left out. Raises ValueError where the padding is not zero or
    an element is not properly extended.

    >>> from_words([0xF1, 0x2], Format(4, 0), 3, 2)
    array([[ 1, -1,  2]])
    """
    bits = element_bits(format, whole_bytes)
    transfers = -(-elements // lanes)
    mask = (1 << bits) - 1
    frames = len(words) // transfers
    shifts = [bits * lane for lane in range(lanes)]
    codes = [word >> shift & mask for word in words[: frames * transfers] for shift in shifts]
    values = np.array(codes, dtype=np.uint64).reshape(frames, transfers * lanes).astype(np.int64)
    if format.signed:
        values = values << (64 - bits) >> (64 - bits)
    if values[:, elements:].any():
        raise ValueError("Stream padding must be zero, not hold other bits")
    return format.check(values[:, :elements], "Stream data")
