# SPDX-License-Identifier: Apache-2.0
"""Functions compiled by numba, kept beside their module, or in numba's cache folder."""

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """The function as machine code, made on first use, once an installation."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it, so every process compiles it for itself
        return njit(function)
