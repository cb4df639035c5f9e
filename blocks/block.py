# SPDX-License-Identifier: Apache-2.0
"""What every block is: a specification with four views (reference, rtl, timing, cost)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from math import gcd, prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

from hdl.adder_graph import bits_of
from hdl.cost import Cost
from hdl.events import Events
from hdl.target import Target
from quant import Format, Ints, Overflow, Rounding

ROM_STYLES = ("block", "logic")
RAM_STYLES = ("block", "distributed", "registers")
"""What a memory of constants may become, and one that is written."""


@dataclass(frozen=True)
class Tensor:
    """One frame of numbers: its shape, channels last, and their format.

    Parameters
    ----------
    shape : ints, at least one axis
    format : Format
    ends : (lowest, highest) number of each channel of the last axis, 0 among them, where not every
        channel has all numbers of the format; a promise that makes what reads them smaller
    """

    shape: tuple[int, ...]
    format: Format
    ends: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.format, Format):
            raise TypeError(f"Tensor format must be a Format, not {self.format!r}")
        if not isinstance(self.shape, tuple) or not all(type(n) is int for n in self.shape):
            raise TypeError(f"Tensor shape must be a tuple of ints, not {self.shape!r}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"Tensor shape must have axes of at least 1, not {self.shape}")
        if self.ends is None:
            return
        if len(self.ends) != self.shape[-1]:
            raise ValueError(
                f"Tensor ends must be one pair for each of {self.shape[-1]} channels, "
                f"not {len(self.ends)}"
            )
        for low, high in self.ends:
            if not self.format.min <= low <= 0 <= high <= self.format.max:
                raise ValueError(
                    f"Tensor ends must lie around 0 in [{self.format.min}, {self.format.max}], "
                    f"not at ({low}, {high})"
                )

    @classmethod
    def between(cls, shape: tuple[int, ...], format: Format, low: Ints, high: Ints) -> "Tensor":
        """With channels between ``low`` and ``high``, shape (channels,), and 0."""
        pairs = zip(np.minimum(low, 0).tolist(), np.maximum(high, 0).tolist(), strict=True)
        tensor = cls(shape, format, tuple(pairs))
        whole = all(pair == (format.min, format.max) for pair in tensor.channels)
        return cls(shape, format) if whole else tensor

    @property
    def channels(self) -> tuple[tuple[int, int], ...]:
        """Lowest and highest number of each channel."""
        return self.ends or ((self.format.min, self.format.max),) * self.shape[-1]

    def holds(self, other: "Tensor") -> bool:
        """Whether every frame of ``other`` is one of this tensor."""
        return (self.shape, self.format) == (other.shape, other.format) and all(
            low <= least and most <= high
            for (low, high), (least, most) in zip(self.channels, other.channels, strict=True)
        )

    def lane_bits(self, lanes: int) -> int:
        """Bits that a transfer of ``lanes`` numbers really has."""
        around = gcd(lanes, self.shape[-1])
        channels = self.channels
        pairs = [zip(*channels[lane % around :: around], strict=True) for lane in range(lanes)]
        return sum(bits_of(min(low), max(high)) for low, high in pairs if any(low) or any(high))

    @property
    def size(self) -> int:
        """Numbers in a frame."""
        return prod(self.shape)

    def check(self, values: ArrayLike, name: str) -> Ints:
        """``values`` as int64 of shape (..., *shape), refusing anything else."""
        array = np.asarray(values)
        trailing = array.shape[max(0, array.ndim - len(self.shape)) :]
        if trailing != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"{name} must have shape (..., {shape}), not {array.shape}")
        values = self.format.check(array, name)
        if self.ends is not None:
            for channel, (low, high) in enumerate(self.ends):
                found = values[..., channel]
                if found.size and not low <= found.min() <= found.max() <= high:
                    raise ValueError(
                        f"{name} channel {channel} must be in [{low}, {high}], "
                        f"not span [{found.min()}, {found.max()}]"
                    )
        return values

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.format}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to map a block: the plan, its interval in cycles, and what it costs.

    ``unrolled`` says that a whole matrix lies in one graph of adders, or a window in one tree, a
    position a cycle.
    """

    plan: Any
    interval: int
    price: Callable[[], Cost]
    unrolled: bool = False

    @cached_property
    def cost(self) -> Cost:
        """Computed when it is first asked for."""
        return self.price()


@runtime_checkable
class Block(Protocol):
    """The contract of every block; a plan says how it is mapped and never changes the numbers."""

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Port name -> one frame."""

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Port name -> one frame."""

    def reference(self, *frames: ArrayLike) -> Any:
        """The integers of the hardware; any leading batch axes; a tuple if outputs are several."""

    def kernel(self) -> Any:
        """The reference on tiles of floats; None where the numbers stay as they are.

        A block of several outputs gives a tuple, a kernel for each.
        """

    def plans(self, target: Target) -> Iterable[Candidate]:
        """Ways to map the block, from few multipliers to many."""

    def lanes(self, plan: Any) -> dict[str, int]:
        """Port name -> numbers in a transfer."""

    def rtl(self, plan: Any) -> wiring.Component:
        """A new circuit with a stream for every port."""

    def timing(self, plan: Any) -> Events:
        """When every transfer happens."""

    def cost(self, plan: Any, target: Target) -> Cost:
        """What it takes on a target."""


@dataclass(frozen=True)
class Lanes:
    """Plan of a block that treats its numbers one by one: how many at a time."""

    lanes: int

    def __post_init__(self) -> None:
        check_mapping(self)


@dataclass(frozen=True)
class TableLanes:
    """Plan: how many numbers at a time, and what the memory of their constants becomes.

    Parameters
    ----------
    lanes : int, dividing the numbers of a frame
    style : "logic" or "block"
    """

    lanes: int
    style: str = "logic"

    def __post_init__(self) -> None:
        check_mapping(self, rom="style")


def divisors(n: int) -> list[int]:
    """All divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [d for d in range(1, n + 1) if n % d == 0]


def check_mapping(plan: Any, rom: str = "", ram: str = "") -> None:
    """Raise an error unless a plan's counts are ints, and its memories of a style that there is.

    Parameters
    ----------
    rom, ram : name of the field with the style of a memory of constants, and of one that is written
    """
    styles = {rom: ROM_STYLES, ram: RAM_STYLES}
    for field in fields(plan):
        what, value = f"{type(plan).__name__} {field.name}", getattr(plan, field.name)
        kind, wanted = (bool, "a bool") if field.type is bool else (int, "an int")
        if field.name not in styles and type(value) is not kind:
            raise TypeError(f"{what} must be {wanted}, not {value!r}")
        if field.name in styles and value not in styles[field.name]:
            known = ", ".join(styles[field.name])
            raise ValueError(f"{what} must be one of {known}, not {value!r}")


def check_format(value: object, name: str) -> None:
    """Raise TypeError unless ``value`` is a Format."""
    if not isinstance(value, Format):
        raise TypeError(f"{name} must be a Format, not {value!r}")


def check_formats(name: str, **formats: object) -> None:
    """Likewise for arguments of ``name``, by their names."""
    for argument, value in formats.items():
        check_format(value, f"{name} {argument}")


def check_tensor(value: object, name: str) -> None:
    """Raise TypeError unless ``value`` is a Tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, not {value!r}")


def check_modes(block: Any) -> None:
    """Turn the names of a block's ``rounding`` and ``overflow`` into modes; refuse unknown ones."""
    modes = to_modes(type(block).__name__, block.rounding, block.overflow)
    for field, mode in zip(("rounding", "overflow"), modes, strict=True):
        object.__setattr__(block, field, mode)


def to_modes(name: str, rounding: Any, overflow: Any) -> tuple[Rounding, Overflow]:
    """The modes of ``name``, or of their names; raises ValueError for unknown ones."""
    for argument, value, kind in (
        ("rounding", rounding, Rounding),
        ("overflow", overflow, Overflow),
    ):
        if not isinstance(value, str) or value not in tuple(kind):
            known = ", ".join(kind)
            raise ValueError(f"{name} {argument} must be one of {known}, not {value!r}")
    return Rounding(rounding), Overflow(overflow)


def check_lanes(plan: Any, size: int, name: str, kind: Any = Lanes) -> int:
    """The lanes of a plan of a kind, refused unless they divide ``size``."""
    if not isinstance(plan, kind):
        raise TypeError(f"{name} plan must be {kind.__name__}, not {plan!r}")
    if plan.lanes < 1 or size % plan.lanes:
        raise ValueError(f"{name} lanes must divide {size}, not be {plan.lanes}")
    return plan.lanes
