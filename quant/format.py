# SPDX-License-Identifier: Apache-2.0
"""Fixed-point formats."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
"""Array of fixed-point numbers, each stored as the integer its format scales."""


@dataclass(frozen=True)
class Format:
    """A fixed-point format: integer ``n`` stands for ``n / 2**frac``.

    Parameters
    ----------
    width : int, 1 to 63
        Number of bits, sign bit included.
    frac : int
        Number of fraction bits; negative, or more than ``width``, is allowed.
    signed : bool
        Two's complement, or unsigned.
    """

    width: int
    frac: int
    signed: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "frac"):
            if type(getattr(self, name)) is not int:
                raise TypeError(f"Format {name} must be an int, not {getattr(self, name)!r}")
        if type(self.signed) is not bool:
            raise TypeError(f"Format signed must be a bool, not {self.signed!r}")
        if not 1 <= self.width <= 63:
            raise ValueError(f"Format width must be between 1 and 63 bits, not {self.width}")
        if not -1000 <= self.frac <= 1000:
            raise ValueError(f"Format frac must be between -1000 and 1000 bits, not {self.frac}")

    @classmethod
    def containing(cls, low: int, high: int, frac: int) -> "Format":
        """The narrowest format that holds every integer from ``low`` to ``high``.

        Unsigned where ``low`` is not negative. Raises ValueError where 63 bits do not suffice.

        >>> str(Format.containing(-3, 4, 0)), str(Format.containing(0, 4, 2))
        ('s4.0', 'u3.2')
        """
        low, high = int(low), int(high)
        if low > high:
            raise ValueError(f"Format low must not exceed high, not {low} and {high}")
        signed = low < 0
        magnitudes = (~n if n < 0 else n for n in (low, high))
        return cls(max(1, signed + max(m.bit_length() for m in magnitudes)), frac, signed)

    @classmethod
    def parse(cls, text: str) -> "Format":
        """The format that ``str`` writes as ``text``: ``s8.4``, ``u5.-1``.

        >>> Format.parse("u5.-1")
        Format(width=5, frac=-1, signed=False)
        """
        match = re.fullmatch(r"([su])(\d{1,2})\.(-?\d{1,4})", text, re.ASCII)
        if not match:
            raise ValueError(f"Format must be written like s8.4 or u5.-1, not {text!r}")
        return cls(int(match[2]), int(match[3]), match[1] == "s")

    @property
    def min(self) -> int:
        """Smallest integer of this format."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """Largest integer of this format."""
        return (1 << (self.width - self.signed)) - 1

    def check(self, values: ArrayLike, name: str) -> Ints:
        """Return ``values`` as int64, refusing anything this format cannot hold."""
        array = np.asarray(values)
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} must be integers, not {array.dtype}")
        if array.size and not (self.min <= array.min() and array.max() <= self.max):
            raise ValueError(
                f"{name} must be in [{self.min}, {self.max}] for format {self}, "
                f"not span [{array.min()}, {array.max()}]"
            )
        return array.astype(np.int64)

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}.{self.frac}"
