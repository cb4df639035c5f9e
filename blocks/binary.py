# SPDX-License-Identifier: Apache-2.0
"""Blocks of two streams, number by number: Add, Sub, Mul, Minimum, Maximum, Gate."""

import operator
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth import Module, Mux, Value
from numpy.typing import ArrayLike

import quant
from hdl import ZERO, Elementwise, Inventory, LaneFunction, Narrowing, Step, Target, less
from hdl.cost import CHAINED, Product, adder, compare, logic, subtract
from hdl.elementwise import product_of
from hdl.narrow import trailing_zeros
from quant import Format, Ints, Kernel, Overflow, PlainKernel, ProductKernel, Rounding, SumKernel

from .block import (
    Candidate,
    Lanes,
    Tensor,
    check_format,
    check_lanes,
    check_mapping,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_modes,
    draw_near,
    draw_shape,
)
from .elementwise import ElementwiseBlock


@dataclass(frozen=True)
class Prompt:
    """Plan of a block of two streams that has fewer registers than usual, for short loops.

    Parameters
    ----------
    lanes : int, dividing the numbers of a frame
    stages : int, 1 for a register behind the narrowed result alone, or 0 for none
    """

    lanes: int
    stages: int = 1

    def __post_init__(self) -> None:
        check_mapping(self)
        if self.stages not in (0, 1):
            raise ValueError(f"Prompt stages must be 0 or 1, not {self.stages!r}")


@dataclass(frozen=True)
class Binary(ElementwiseBlock):
    """``y = narrow(operation(a, b))``: a stage for the exact result, another if that is narrowed.

    Where the last axes of b are 1 all numbers of a along these meet one number of b; lanes are then
    a divisor or a multiple of as many.

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the exact result is narrowed
    """

    input_a: Tensor
    input_b: Tensor
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    @property
    @abstractmethod
    def operation(self) -> Callable[[Any, Any], Any]:
        """Of arrays and of Python's integers; its extremes lie at ends of both formats."""

    @property
    def _on_values(self) -> Callable[[Value, Value], Value]:
        """The operation of a circuit."""
        return self.operation

    @abstractmethod
    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        """What the operation of one lane is made of."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_tensor(self.input_a, f"{name} input_a")
        check_tensor(self.input_b, f"{name} input_b")
        check_format(self.output_format, f"{name} output_format")
        check_modes(self)
        a, b = self.input_a.shape, self.input_b.shape
        if b not in [a[:n] + (1,) * (len(a) - n) for n in range(len(a) + 1)]:
            raise ValueError(
                f"{name} input_b must have shape {a} like input_a, or 1 on its last axes, not {b}"
            )
        _ = self.exact_format

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i_a": self.input_a, "i_b": self.input_b}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input_a.shape, self.output_format)}

    @property
    def _shared(self) -> int:
        """Numbers of a that meet one number of b."""
        return self.input_a.size // self.input_b.size

    def _fits(self, lanes: int) -> bool:
        return not self._shared % lanes or not lanes % self._shared

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., all numbers of a frame at once."""
        return (c for c in super().plans(target) if self._fits(c.plan.lanes))

    def lanes(self, plan: Lanes | Prompt) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        name, kind = type(self).__name__, Prompt if isinstance(plan, Prompt) else Lanes
        lanes = check_lanes(plan, self._size, name, kind)
        if not self._fits(lanes):
            raise ValueError(
                f"{name} lanes must be a divisor or a multiple of {self._shared}, not {lanes}"
            )
        return {"i_a": lanes, "i_b": max(1, lanes // self._shared), "o": lanes}

    @property
    def _frac(self) -> int:
        """Fraction bits of the exact result."""
        return max(self.input_a.format.frac, self.input_b.format.frac)

    @property
    def _gains(self) -> tuple[int, int]:
        """Fraction bits that a and b gain before they meet."""
        return self._frac - self.input_a.format.frac, self._frac - self.input_b.format.frac

    @property
    def _bounds(self) -> tuple[int, int]:
        """Smallest and largest exact result."""
        (a, b), (gain_a, gain_b) = (self.input_a.format, self.input_b.format), self._gains
        ends_a = np.array([a.min << gain_a, a.max << gain_a], object)
        ends_b = np.array([b.min << gain_b, b.max << gain_b], object)
        corners = self.operation(ends_a[:, None], ends_b).ravel()
        return int(min(corners)), int(max(corners))

    @property
    def exact_format(self) -> Format:
        """Format of the exact result before it is narrowed."""
        return quant.accumulator_format(*self._bounds, self._frac, type(self).__name__)

    def reference(self, a: ArrayLike, b: ArrayLike) -> Ints:
        """Integers in, integers out, each of its shape behind the same leading axes."""
        name = type(self).__name__
        x = self.input_a.check(a, f"{name} input_a")
        y = self.input_b.check(b, f"{name} input_b")
        gain_a, gain_b = self._gains
        exact = self.operation(x << gain_a, y << gain_b)
        modes = self.output_format, self.rounding, self.overflow
        return quant.narrow(exact, self.exact_format, *modes)

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        shapes = self.input_a.shape, self.input_b.shape
        return PlainKernel(self.reference, shapes, self.input_a.size)

    @property
    def _narrowing(self) -> Narrowing:
        """Of the exact result."""
        low, high = self._bounds
        modes = self.output_format, self.rounding, self.overflow
        return Narrowing(self.exact_format, low, high, *modes)

    def mapped(self, plan: Lanes | Prompt) -> Elementwise:
        """The circuit of a plan."""
        stages = plan.stages if isinstance(plan, Prompt) else 2
        return self.circuit(self.lanes(plan)["o"], stages)

    def circuit(self, lanes: int, stages: int = 2) -> Elementwise:
        """The circuit of so many lanes, in so many stages or fewer."""
        a, b, number = self.input_a.format, self.input_b.format, self.exact_format
        gain_a, gain_b = self._gains
        on_values = self._on_values

        def exact(m: Module, x: Value, y: Value) -> Value:
            return on_values(x.shift_left(gain_a), y.shift_left(gain_b))

        gates, product = self._arithmetic(gain_a, gain_b), isinstance(self, Mul)
        narrowing = self._narrowing
        same = number == self.output_format and narrowing.bounds == self._bounds
        registered = stages > (not same)
        sources, choice, alone = self._sources, self._choice(registered), self._alone
        step = Step(exact, number, gates, registered, sources, product, choice, alone)
        function = LaneFunction((step,), narrowing, not same and stages > 0)
        return Elementwise({"i_a": a, "i_b": b}, lanes, (function,), self._shared, self._read)

    @property
    def _sources(self) -> tuple[int, ...]:
        """``Step.sources``: between numbers that do not overlap lie copies of the lower sign."""
        gain_a, gain_b = self._gains
        lower = self.input_b.format if gain_a else self.input_a.format
        sign = lower.width - 1 if lower.signed else ZERO
        gap = range(lower.width, max(gain_a, gain_b))
        return tuple(sign if bit in gap else bit for bit in range(self.exact_format.width))

    def _choice(self, registered: bool) -> tuple[int, ...]:
        """``Step.choice``."""
        return ()

    @property
    def _alone(self) -> int:
        """``Step.alone``."""
        return 0

    @property
    def _read(self) -> int:
        """Bits of b that anyone reads."""
        return self.input_b.format.width


class Additive(Binary):
    """Add or Sub: bits of b, or of -b, where a has none are those of the result."""

    @property
    def _alone(self) -> int:
        gain_a, gain_b = self._gains
        everything, a = (1 << self.exact_format.width) - 1, self.input_a.format
        if not a.signed and a.width <= gain_b:
            return everything >> gain_b << gain_b
        return everything & ((1 << gain_a) - 1)


@dataclass(frozen=True)
class Add(Additive):
    """``y = narrow(a + b)``, the join of a residual module: a stage, and one to narrow.

    Source: K. He et al., Deep Residual Learning for Image Recognition, 2015
    (https://arxiv.org/abs/1512.03385); ONNX Add (https://onnx.ai/onnx/operators/onnx__Add.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the exact sum is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Add(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.full(64, 100))[25:30])
    [125 126 127 127 127]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return operator.add

    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        return adder(self.exact_format.width - max(gain_a, gain_b))

    @property
    def _read(self) -> int:
        """Not what rounding cuts off, where nothing carries."""
        (_, gain), b, needed = self._gains, self.input_b.format, self._narrowing.needed
        low = range(b.width - b.signed)
        cut = sum(self._alone >> n + gain & ~needed >> n + gain & 1 for n in low)
        return b.width - cut

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        if self._shared > 1:
            return super().kernel()
        modes = self.output_format, self.rounding, self.overflow
        formats = self.input_a.format, self.input_b.format
        return SumKernel(self.input_a.size, formats, *modes, name="Add")


@dataclass(frozen=True)
class Sub(Additive):
    """``y = narrow(a - b)``: a stage, and one to narrow.

    Source: ONNX Sub (https://onnx.ai/onnx/operators/onnx__Sub.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the exact difference is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Sub(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.full(64, 100))[25:30])
    [-75 -74 -73 -72 -71]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return operator.sub

    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        return subtract(self.exact_format.width - gain_b)

    @property
    def _sources(self) -> tuple[int, ...]:
        gain_a, _ = self._gains
        if not gain_a:
            return super()._sources
        sign = self.input_b.format.width  # -b needs one bit more than b
        gap = range(sign, gain_a)
        return tuple(sign if bit in gap else bit for bit in range(self.exact_format.width))

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        if self._shared > 1:
            return super().kernel()
        modes = self.output_format, self.rounding, self.overflow
        formats = self.input_a.format, self.input_b.format
        return SumKernel(self.input_a.size, formats, *modes, weights=(1, -1), name="Sub")


@dataclass(frozen=True)
class Mul(Binary):
    """``y = narrow(a * b)``, a multiplier a lane: a stage, and one to narrow.

    Source: ONNX Mul (https://onnx.ai/onnx/operators/onnx__Mul.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the exact product is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Mul(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.full(64, 24))[25:30])
    [38 39 41 42 44]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return operator.mul

    @property
    def _frac(self) -> int:
        return self.input_a.format.frac + self.input_b.format.frac

    @property
    def _gains(self) -> tuple[int, int]:
        return 0, 0

    @property
    def _sources(self) -> tuple[int, ...]:
        return ()

    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        return Inventory()  # the step knows that it is a product

    def multipliers(self) -> tuple[Product, ...]:
        """What alone reads the numbers that a buffer offers it."""
        if self._shared > 1:
            return ()
        needed = self._narrowing.needed
        return (product_of(self.input_a.format, self.input_b.format, needed),)

    @property
    def _read(self) -> int:
        """High bits decide nothing where the product wraps."""
        return min(self.input_b.format.width, self._narrowing.needed.bit_length())

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        if self._shared > 1:
            return super().kernel()
        size, a, b = self.input_a.size, self.input_a.format, self.input_b.format
        modes = self.output_format, self.rounding, self.overflow
        return ProductKernel(size, size, a, b, *modes, name="Mul")


class Extreme(Binary):
    """Minimum or Maximum: bits below the end of the coarser number, or below any that narrowing
    looks at, decide nothing.
    """

    @property
    @abstractmethod
    def _smallest(self) -> bool: ...

    @property
    def _cut(self) -> int:
        """Low bits that are not compared."""
        return max(*self._gains, trailing_zeros(self._narrowing.needed or 1))

    @property
    def _on_values(self) -> Callable[[Value, Value], Value]:
        cut, (gain_a, _) = self._cut, self._gains

        def choose(a: Value, b: Value) -> Value:
            coarse, fine = (a, b) if gain_a else (b, a)  # where these look equal fine is not below
            below = less(fine.shift_right(cut), coarse.shift_right(cut), chained=True)
            return Mux(below, fine, coarse) if self._smallest else Mux(below, coarse, fine)

        return choose

    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        a, b = self.input_a.format, self.input_b.format
        signed = a.signed or b.signed
        ends = a.width + gain_a - a.signed, b.width + gain_b - b.signed
        width = max(1, max(ends) + signed - self._cut)
        even = width + (width % 2 if width > 1 else 0)  # as less() makes it
        return compare(width if width in CHAINED else even, chained=True)

    def _choice(self, registered: bool) -> tuple[int, ...]:
        a, b = zip((self.input_a.format, self.input_b.format), self._gains, strict=True)
        return tuple(self._inputs(bit, a, b, registered) for bit in range(self.exact_format.width))

    def _inputs(
        self, bit: int, a: tuple[Format, int], b: tuple[Format, int], registered: bool
    ) -> int:
        """Of the gates that make a bit of the chosen number, given the numbers with their gains."""
        for (number, gain), (other, _) in ((a, b), (b, a)):
            above = bit >= number.width - number.signed + gain
            if above and not other.signed and not self.exact_format.signed:
                return 0  # chosen or not, the other has it: where it is not chosen it is as small
        moving = sum(gain <= bit and (n.signed or bit < n.width + gain) for n, gain in (a, b))
        if moving < 2 and not registered:
            narrowing = self._narrowing
            dropped = bit < self._frac - self.output_format.frac
            return 0 if dropped and narrowing.rounding is not Rounding.RND else moving + 1
        return 3 if moving == 2 else 1  # or a reset; what is dropped joins the gate that rounds

    @property
    def _alone(self) -> int:
        everything, (gain, _), a = (1 << self.exact_format.width) - 1, self._gains, self.input_a
        above = a.format.width + gain
        return 0 if a.format.signed else everything >> above << above

    @property
    def _read(self) -> int:
        _, gain = self._gains
        b = self.input_b.format
        unread = trailing_zeros(self._narrowing.needed or 1) - gain
        return max(int(b.signed), b.width - max(0, unread))


@dataclass(frozen=True)
class Minimum(Extreme):
    """``y = narrow(min(a, b))``: a stage, and one to narrow.

    Source: ONNX Min (https://onnx.ai/onnx/operators/onnx__Min.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the smaller number is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Minimum(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.full(64, 27))[25:30])
    [25 26 27 27 27]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return np.minimum

    @property
    def _smallest(self) -> bool:
        return True


@dataclass(frozen=True)
class Maximum(Extreme):
    """``y = narrow(max(a, b))``: a stage, and one to narrow.

    Source: ONNX Max (https://onnx.ai/onnx/operators/onnx__Max.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the larger number is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Maximum(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.full(64, 27))[25:30])
    [27 27 27 28 29]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return np.maximum

    @property
    def _smallest(self) -> bool:
        return False


@dataclass(frozen=True)
class Gate(Binary):
    """``y = narrow(a if b > 0 else 0)``: a hard gate; a stage, and one to narrow.

    Mul is the soft one.

    Source: E. Culurciello, Neural Networks Building Blocks, 2017, attention

    Parameters
    ----------
    input_a, input_b : Tensors of one shape, but for last axes of b that are 1; formats may differ
    output_format : Format of y
    rounding, overflow : how the number that passes is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Gate(x, x, Format(8, 4))
    >>> print(block.reference(np.arange(64), np.arange(64) - 28)[25:32])
    [ 0  0  0  0 29 30 31]
    """

    @property
    def operation(self) -> Callable[[Any, Any], Any]:
        return lambda a, b: np.where(b > 0, a, 0)

    @property
    def _on_values(self) -> Callable[[Value, Value], Value]:
        return lambda a, b: Mux(b > 0, a, 0)

    @property
    def _frac(self) -> int:
        return self.input_a.format.frac

    @property
    def _gains(self) -> tuple[int, int]:
        return 0, 0

    @property
    def _sources(self) -> tuple[int, ...]:
        return ()

    def _arithmetic(self, gain_a: int, gain_b: int) -> Inventory:
        return logic(self.input_b.format.width)

    def _choice(self, registered: bool) -> tuple[int, ...]:
        return () if registered else (2,) * self.exact_format.width  # a register is reset


def binary_configurations(
    kind: type[Binary],
) -> Callable[[np.random.Generator, int], Configuration]:
    """The generator of a kind of block."""

    def configuration(random: np.random.Generator, index: int) -> Configuration:
        shape = draw_shape(random, index)
        a = Tensor(shape, draw_format(random, index))
        kept = int(random.integers(len(shape))) if index % 4 == 3 else len(shape)
        alike = shape[:kept] + (1,) * (len(shape) - kept)
        b = Tensor(alike, a.format if index == 1 else draw_near(random, a.format))
        exact = kind(a, b, a.format)
        target = draw_fitting(random, *exact._bounds, exact._frac)
        block = kind(a, b, target, *draw_modes(random, index))
        known = [n for n in divisors(a.size) if n <= 16 and block._fits(n)]
        lanes = int(random.choice(known))
        plan = Prompt(lanes) if index % 4 == 2 else Lanes(lanes)
        return Configuration(block, plan)

    return configuration
