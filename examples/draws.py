# SPDX-License-Identifier: Apache-2.0
"""Random integers that are the same on every machine and with every release of numpy."""

import numpy as np
from numpy.typing import NDArray


class Draws:
    """A stream of random integers, made from the raw words of PCG64 by integer arithmetic alone.

    Numpy promises these words for ever, unlike the streams of ``np.random.Generator``.
    Source: R. Kern, NEP 19, Random number generator policy, 2018.
    """

    def __init__(self, seed: int):
        self.words = np.random.PCG64(seed).random_raw

    def below(self, bound: int, *shape: int) -> NDArray[np.int64]:
        """Integers 0 to ``bound - 1``, evenly spread; bound at most 2**32."""
        high = self.words(shape) >> np.uint64(32)
        return (high * np.uint64(bound) >> np.uint64(32)).astype(np.int64)

    def noise(self, *shape: int) -> NDArray[np.int64]:
        """Bell-shaped integers of mean 0 and standard deviation 2**16 / sqrt(3), within 2**17."""
        words = self.words(shape)
        parts = [words >> np.uint64(bits) & np.uint64(0xFFFF) for bits in (0, 16, 32, 48)]
        return sum(part.astype(np.int64) for part in parts) - 2 * 0xFFFF
