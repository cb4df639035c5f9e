# SPDX-License-Identifier: Apache-2.0
"""Division and square root, exact: rounded once from the true result."""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import Division, RecurrenceArray, Root
from quant import Format, Ints, Overflow, PlainKernel, Rounding

from .block import Lanes, Tensor, check_format, check_modes, check_tensor
from .configurations import (
    Configuration,
    draw_format,
    draw_integers,
    draw_lanes,
    draw_modes,
    draw_shape,
)
from .elementwise import ElementwiseBlock


@dataclass(frozen=True)
class Divide(ElementwiseBlock):
    """``y = narrow(a / b)``, number by number; a stage for every bit of y and four more.

    Source: M. D. Ercegovac, T. Lang, Digital Arithmetic, 2004, chapter 5; ONNX Div
    (https://onnx.ai/onnx/operators/onnx__Div.html)

    Parameters
    ----------
    input_a, input_b : Tensors of one shape
    output_format : Format of y
    pole : int in output_format that overflow leaves alone, y where b is 0; None if b is known
        never to be, which reference checks
    rounding, overflow : how the true quotient is narrowed

    >>> x = Tensor((64,), Format(8, 4))
    >>> block = Divide(x, x, Format(8, 4), pole=127)
    >>> print(block.reference(np.arange(64), np.full(64, 24))[20:28])
    [13 14 15 15 16 17 17 18]
    """

    input_a: Tensor
    input_b: Tensor
    output_format: Format
    pole: int | None
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input_a, "Divide input_a")
        check_tensor(self.input_b, "Divide input_b")
        check_format(self.output_format, "Divide output_format")
        check_modes(self)
        if self.input_a.shape != self.input_b.shape:
            raise ValueError(
                f"Divide input_b must have shape {self.input_a.shape} like input_a, "
                f"not {self.input_b.shape}"
            )
        if self.pole is not None:
            pole = int(self.output_format.check(np.asarray(self.pole), "Divide pole"))
            kept = _pole(pole, self.output_format, self.overflow)
            if pole != kept:
                raise ValueError(
                    f"Divide pole must be {kept} or more under {self.overflow}, not {pole}"
                )
            object.__setattr__(self, "pole", pole)
        bits = self.circuit(1).numerator.bit_length() + 1
        if bits > 62:
            raise ValueError(f"Divide quotient must fit 62 bits, not {bits}")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i_a": self.input_a, "i_b": self.input_b}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input_a.shape, self.output_format)}

    def reference(self, a: ArrayLike, b: ArrayLike) -> Ints:
        """Integers in, integers out, each of shape (..., *shape)."""
        x, y = self.input_a.check(a, "Divide input_a"), self.input_b.check(b, "Divide input_b")
        zero = y == 0
        if self.pole is None and zero.any():
            raise ValueError("Divide input_b must not be 0, as the block has no pole")
        shift = self.output_format.frac + 1 - self.input_a.format.frac + self.input_b.format.frac
        low = min(max(-shift, 0), 62)  # bits of a below those of the quotient
        halves, left = np.divmod(np.abs(x) >> low << max(shift, 0), np.where(zero, 1, np.abs(y)))
        left |= np.abs(x) & ((1 << low) - 1)
        exact = np.where((x < 0) ^ (y < 0), -1, 1) * (2 * halves + (left != 0))
        source = Format(63, self.output_format.frac + 2)
        narrowed = quant.narrow(exact, source, self.output_format, self.rounding, self.overflow)
        return narrowed if self.pole is None else np.where(zero, self.pole, narrowed)

    def kernel(self) -> PlainKernel:
        """The reference on tiles."""
        shape = self.input_a.shape
        return PlainKernel(self.reference, (shape, shape), self.input_a.size)

    def circuit(self, lanes: int) -> Division:
        """The circuit of so many lanes."""
        inputs = {"i_a": self.input_a.format, "i_b": self.input_b.format}
        modes = self.output_format, self.rounding, self.overflow
        return Division(inputs, *modes, lanes, self.pole)

    def rtl(self, plan: Lanes) -> RecurrenceArray:
        """A new circuit."""
        return RecurrenceArray(self.circuit(self.lanes(plan)["o"]))


@dataclass(frozen=True)
class SquareRoot(ElementwiseBlock):
    """``y = narrow(sqrt(x))``, number by number; a stage for every bit of y and two or three more.

    Source: M. D. Ercegovac, T. Lang, Digital Arithmetic, 2004, chapter 6; ONNX Sqrt
    (https://onnx.ai/onnx/operators/onnx__Sqrt.html)

    Parameters
    ----------
    input : Tensor of x, unsigned
    output_format : Format of y
    rounding, overflow : how the true root is narrowed

    >>> x = Tensor((64,), Format(8, 4, signed=False))
    >>> block = SquareRoot(x, Format(8, 6, signed=False))
    >>> print(block.reference(np.arange(64))[:9])
    [ 0 16 23 28 32 36 39 42 45]
    """

    input: Tensor
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "SquareRoot input")
        check_format(self.output_format, "SquareRoot output_format")
        check_modes(self)
        if self.input.format.signed:
            raise ValueError(f"SquareRoot input must be unsigned, not {self.input.format}")
        bits = self.circuit(1).digits + 2
        if bits > 63:
            raise ValueError(f"SquareRoot root must fit 63 bits, not {bits}")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        values = self.input.check(x, "SquareRoot input")
        shift = 2 * self.output_format.frac + 2 - self.input.format.frac
        codes, places = np.unique(values, return_inverse=True)
        exact = [_root(code, shift) for code in codes.tolist()]
        source = Format(63, self.output_format.frac + 2)
        modes = self.output_format, self.rounding, self.overflow
        return quant.narrow(np.array(exact, np.int64), source, *modes)[places.reshape(values.shape)]

    def kernel(self) -> PlainKernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.input.size)

    def circuit(self, lanes: int) -> Root:
        """The circuit of so many lanes."""
        modes = self.output_format, self.rounding, self.overflow
        return Root({"i": self.input.format}, *modes, lanes)

    def rtl(self, plan: Lanes) -> RecurrenceArray:
        """A new circuit."""
        return RecurrenceArray(self.circuit(self.lanes(plan)["o"]))


def _pole(pole: int, output_format: Format, overflow: Overflow) -> int:
    """What becomes of a pole where it is narrowed: only a symmetric range leaves one out."""
    return int(quant.narrow(pole, output_format, output_format, overflow=overflow))


def _root(code: int, shift: int) -> int:
    """Twice the root of ``code * 2**shift``, and 1 more if it is not exact."""
    shifted = code << shift if shift >= 0 else code >> -shift
    root = isqrt(shifted)
    exact = root * root == shifted and (shift >= 0 or shifted << -shift == code)
    return 2 * root + (not exact)


def divide_configuration(random: np.random.Generator, index: int) -> Configuration:
    shape = draw_shape(random, index)
    a, b = (Tensor(shape, draw_format(random, index + 1)) for _ in range(2))
    width = int(random.integers(2, 9))
    frac = a.format.frac - b.format.frac + int(random.integers(-1, 5))
    target = Format(width, frac, bool(random.integers(3)) and (a.format.signed or b.format.signed))
    pole = int(draw_integers(random, target, (1,))[0]) if index % 4 else target.max
    rounding, overflow = draw_modes(random, index)
    block = Divide(a, b, target, _pole(pole, target, overflow), rounding, overflow)
    return Configuration(block, draw_lanes(random, a.size))


def square_root_configuration(random: np.random.Generator, index: int) -> Configuration:
    number = draw_format(random, index + 1)  # of 1 bit the root is x
    tensor = Tensor(draw_shape(random, index), Format(number.width, number.frac, False))
    width = max(1, (number.width + 1) // 2 + int(random.integers(-1, 5)))
    frac = -(-number.frac // 2) + int(random.integers(-1, 4))
    signed = width > 1 and not random.integers(3)
    block = SquareRoot(tensor, Format(width, frac, signed), *draw_modes(random, index))
    return Configuration(block, draw_lanes(random, tensor.size))
