# SPDX-License-Identifier: Apache-2.0
"""Holding what a simulation gave against what was expected, and its cycles against definitions."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from quant import Ints


@dataclass(frozen=True)
class Mismatch:
    """The first value that differs."""

    frame: int
    output: str
    index: tuple[int, ...]
    expected: int
    actual: int

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        return (
            f"frame {self.frame}, output {self.output}[{place}]: "
            f"expected {self.expected}, got {self.actual}"
        )


@dataclass(frozen=True)
class Comparison:
    """Frames and values compared and differing; ``first`` is None where all are equal."""

    frames: int
    frames_differing: int
    values: int
    values_differing: int
    first: Mismatch | None

    @property
    def equal(self) -> bool:
        """Whether anything was compared and nothing differs."""
        return self.values > 0 and self.values_differing == 0


def compare(expected: Mapping[str, ArrayLike], actual: Mapping[str, ArrayLike]) -> Comparison:
    """Compare integer arrays (frames, ...) of every output, value by value.

    The first mismatch is that of the lowest frame, then of the first output, then of the lowest
    index. Raises ValueError where outputs, shapes or numbers of frames differ: a missing word is
    not a comparison that went well.
    """
    if list(expected) != list(actual):
        raise ValueError(
            f"compare outputs must be {', '.join(expected)}, not {', '.join(actual) or 'none'}"
        )
    pairs = {name: (np.asarray(expected[name]), np.asarray(actual[name])) for name in expected}
    for name, (right, came) in pairs.items():
        for array in (right, came):
            if not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"compare values of {name} must be integers, not {array.dtype}")
        if right.ndim < 1 or right.shape != came.shape:
            raise ValueError(
                f"compare values of {name} must have shape {right.shape}, not {came.shape}"
            )
    counts = {len(right) for right, _ in pairs.values()}
    if len(counts) != 1:
        numbers = ", ".join(map(str, sorted(counts)))
        raise ValueError(f"compare outputs must have equally many frames, not {numbers}")
    (frames,) = counts
    wrong = np.zeros(frames, dtype=bool)
    values = values_differing = 0
    first: Mismatch | None = None
    for name, (right, came) in pairs.items():
        differs = right != came
        values += differs.size
        values_differing += int(differs.sum())
        if not differs.any():
            continue
        wrong |= differs.reshape(frames, -1).any(axis=1)
        frame, *index = (int(n) for n in np.argwhere(differs)[0])
        if first is None or frame < first.frame:
            place = (frame, *index)
            first = Mismatch(frame, name, tuple(index), int(right[place]), int(came[place]))
    return Comparison(frames, int(wrong.sum()), values, values_differing, first)


def measured_latency(input_cycles: Mapping[str, Ints], output_cycles: Mapping[str, Ints]) -> int:
    """Cycles from the first input transfer of any port to the last output transfer of frame 0.

    Parameters
    ----------
    input_cycles : dict from port to the cycle of every transfer
    output_cycles : dict from port to the cycle of the last transfer of each frame
    """
    began = min(int(cycles[0]) for cycles in input_cycles.values() if len(cycles))
    return max(int(cycles[0]) for cycles in output_cycles.values()) - began


@dataclass(frozen=True)
class Interval:
    """Spacing of finished frames once it repeats: one number, or mean and maximum of a period."""

    mean: Fraction
    maximum: int
    period: int


def measured_interval(
    output_cycles: Mapping[str, Ints], longest_period: int = 8
) -> Interval | None:
    """Interval of frames offered back to back: spacing of the cycles at which frames end.

    A frame ends when its last word has left on every port. The spacing counts as steady where it
    repeats with one period, of at most ``longest_period`` frames, over the second half of the
    record and at least twice; None where it does not.
    """
    ends = np.max([np.asarray(cycles, dtype=np.int64) for cycles in output_cycles.values()], axis=0)
    spacing = np.diff(ends)
    for period in range(1, longest_period + 1):
        length = max(2 * period, len(spacing) // 2)
        if length > len(spacing):
            return None
        tail = spacing[-length:]
        if np.array_equal(tail[period:], tail[:-period]):
            cycles = tail[-period:]
            return Interval(Fraction(int(cycles.sum()), period), int(cycles.max()), period)
    return None


def frame_ends(cycles: Ints, transfers: int) -> Ints:
    """The cycle of the last of every ``transfers`` transfers; an unfinished frame is left out."""
    return np.asarray(cycles, dtype=np.int64)[transfers - 1 :: transfers]
