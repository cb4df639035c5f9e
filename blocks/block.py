# SPDX-License-Identifier: Apache-2.0
"""What every block is: a specification with four views (reference, rtl, timing, cost)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

from hdl.cost import Cost
from hdl.events import Events
from hdl.target import Target
from quant import Format, Ints, Overflow, Rounding


@dataclass(frozen=True)
class Tensor:
    """One frame of numbers: its shape, channels last, and their format."""

    shape: tuple[int, ...]
    format: Format

    def __post_init__(self) -> None:
        if not isinstance(self.format, Format):
            raise TypeError(f"Tensor format must be a Format, not {self.format!r}")
        if not isinstance(self.shape, tuple) or not all(type(n) is int for n in self.shape):
            raise TypeError(f"Tensor shape must be a tuple of ints, not {self.shape!r}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"Tensor shape must have axes of at least 1, not {self.shape}")

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
        return self.format.check(array, name)

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


def divisors(n: int) -> list[int]:
    """All divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [d for d in range(1, n + 1) if n % d == 0]


def check_format(value: object, name: str) -> None:
    """Raise TypeError unless ``value`` is a Format."""
    if not isinstance(value, Format):
        raise TypeError(f"{name} must be a Format, not {value!r}")


def check_tensor(value: object, name: str) -> None:
    """Raise TypeError unless ``value`` is a Tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, not {value!r}")


def check_modes(block: Any) -> None:
    """Turn the names of a block's ``rounding`` and ``overflow`` into modes; refuse unknown ones."""
    for field, modes in (("rounding", Rounding), ("overflow", Overflow)):
        value = getattr(block, field)
        if value not in tuple(modes):
            known = ", ".join(modes)
            name = type(block).__name__
            raise ValueError(f"{name} {field} must be one of {known}, not {value!r}")
        object.__setattr__(block, field, modes(value))


def check_lanes(plan: Any, size: int, name: str, kind: Any = Lanes) -> int:
    """The lanes of a plan of a kind, refused unless they divide ``size``."""
    if not isinstance(plan, kind):
        raise TypeError(f"{name} plan must be {kind.__name__}, not {plan!r}")
    if plan.lanes < 1 or size % plan.lanes:
        raise ValueError(f"{name} lanes must divide {size}, not be {plan.lanes}")
    return plan.lanes
