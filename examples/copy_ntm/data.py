# SPDX-License-Identifier: Apache-2.0
"""Sequences of words to copy, the same on every machine."""

import numpy as np
from numpy.typing import NDArray

from examples.draws import Draws

BITS = 8
"""Bits of a word."""
TRAINED, TESTED = 10, 20
"""The longest sequence of the training, and the length of the held-out ones."""


def sequences(draws: Draws, count: int, length: int) -> tuple[NDArray, NDArray]:
    """``(x, bits)`` of random words, shapes (count, 2 length, 9) and (count, length, 8).

    For ``length`` steps x shows a word; for as many more it shows zeros and its last element, which
    asks for the words in the same order, is 1. ``bits``, 0 or 1, are the words.
    """
    bits = draws.below(2, count, length, BITS).astype(np.float32)
    x = np.zeros((count, 2 * length, BITS + 1), np.float32)
    x[:, :length, :BITS] = bits
    x[:, length:, BITS] = 1
    return x, bits


def held_out() -> tuple[NDArray, NDArray]:
    """The 100 sequences of 20 words for checking."""
    return sequences(Draws(2), 100, TESTED)
