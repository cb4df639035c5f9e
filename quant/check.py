# SPDX-License-Identifier: Apache-2.0
"""Refusing wrong arguments, in the same words everywhere."""

import numpy as np
from numpy.typing import ArrayLike


def check_shape(array: ArrayLike, shape: tuple[int | str, ...], name: str) -> None:
    """Raise ValueError unless ``array`` has ``shape``; a string stands for any length above 0.

    >>> check_shape([1, 2], ("outputs", "inputs"), "Linear weight")
    Traceback (most recent call last):
    ValueError: Linear weight must have shape (outputs, inputs), not (2,)
    """
    actual = np.shape(array)
    if len(actual) != len(shape) or any(
        have != want if isinstance(want, int) else have < 1
        for want, have in zip(shape, actual, strict=True)
    ):
        expected = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        raise ValueError(f"{name} must have shape {expected}, not {actual}")
