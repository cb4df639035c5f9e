# SPDX-License-Identifier: Apache-2.0
"""Reshape: the same numbers in the same order under another shape; wires."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from hdl import Elementwise, LaneFunction, Narrowing
from quant import Ints

from .block import Tensor, check_tensor, divisors
from .configurations import Configuration, draw_format, draw_lanes, draw_shape
from .elementwise import ElementwiseBlock


@dataclass(frozen=True)
class Reshape(ElementwiseBlock):
    """``y`` holds the numbers of ``x``, in raster order, in ``shape``: no hardware.

    Source: ONNX Reshape (https://onnx.ai/onnx/operators/onnx__Reshape.html)

    Parameters
    ----------
    input : Tensor of x
    shape : of y, of equally many numbers

    >>> from quant import Format
    >>> block = Reshape(Tensor((64,), Format(8, 4)), (8, 8))
    >>> print(block.reference(np.arange(64))[1])
    [ 8  9 10 11 12 13 14 15]
    """

    input: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_tensor(self.input, "Reshape input")
        if not isinstance(self.shape, tuple) or not all(type(n) is int for n in self.shape):
            raise TypeError(f"Reshape shape must be a tuple of ints, not {self.shape!r}")
        if min(self.shape, default=0) < 1 or prod(self.shape) != self.input.size:
            raise ValueError(f"Reshape shape must have {self.input.size} numbers, not {self.shape}")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.shape, self.input.format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *input.shape) -> (..., *shape)."""
        values = self.input.check(x, "Reshape input")
        return values.reshape(values.shape[: values.ndim - len(self.input.shape)] + self.shape)

    def kernel(self) -> None:
        """None: the same numbers."""
        return None

    def circuit(self, lanes: int) -> Elementwise:
        """The circuit of so many lanes."""
        number = self.input.format
        narrowing = Narrowing(number, number.min, number.max, number)
        function = LaneFunction((), narrowing, narrow_stage=False)
        return Elementwise({"i": number}, lanes, (function,))


def reshape_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    first = int(random.choice(divisors(tensor.size)))
    block = Reshape(tensor, (first, tensor.size // first))
    return Configuration(block, draw_lanes(random, tensor.size))
