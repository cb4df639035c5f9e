# SPDX-License-Identifier: Apache-2.0
"""Blocks that treat their numbers one by one: what they share, Identity, ReLU."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from amaranth import Module, Mux, Value
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import Cost, Elementwise, Events, LaneFunction, Narrowing, Step, Target
from hdl.cost import logic
from quant import Format, Ints, Kernel, Overflow, Rounding, SumKernel

from .block import (
    Candidate,
    Lanes,
    Tensor,
    check_format,
    check_lanes,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_format,
    draw_lanes,
    draw_modes,
    draw_near,
    draw_shape,
)


class ElementwiseBlock(ABC):
    """The views that follow from the circuit of one lane; a plan is a number of :class:`Lanes`."""

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Tensor]: ...

    @property
    @abstractmethod
    def outputs(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def kernel(self) -> Kernel | None:
        """The reference on tiles of floats; None for the same numbers."""

    @abstractmethod
    def circuit(self, lanes: int) -> Any:
        """Of so many lanes, with ``circuit()``, ``events(words)`` and ``inventory()``."""

    @property
    def _size(self) -> int:
        return self.outputs["o"].size

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., all numbers of a frame at once."""
        for lanes in divisors(self._size):
            plan = Lanes(lanes)
            yield Candidate(plan, self._size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self._size, type(self).__name__)
        return dict.fromkeys((*self.inputs, *self.outputs), lanes)

    def mapped(self, plan: Any) -> Any:
        """The circuit of a plan."""
        return self.circuit(self.lanes(plan)["o"])

    def rtl(self, plan: Any) -> wiring.Component:
        """A new circuit."""
        return self.mapped(plan).circuit()

    def timing(self, plan: Any) -> Events:
        """When every transfer of a frame happens."""
        return self.mapped(plan).events(self._size // self.lanes(plan)["o"])

    def cost(self, plan: Any, target: Target) -> Cost:
        """What it takes on a target."""
        return self.mapped(plan).inventory().cost(target)


@dataclass(frozen=True)
class Identity(ElementwiseBlock):
    """``y = narrow(x)``: wires where the format stays, else one stage.

    Source: the modes of `ap_fixed`, Vitis HLS User Guide UG1399

    Parameters
    ----------
    input : Tensor of x
    output_format : Format of y, which has the shape of x
    rounding, overflow : how x is narrowed

    >>> block = Identity(Tensor((64,), Format(8, 4)), Format(6, 2))
    >>> print(block.reference(np.arange(64))[:8])
    [0 0 1 1 1 1 2 2]
    """

    input: Tensor
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Identity input")
        check_format(self.output_format, "Identity output_format")
        check_modes(self)

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        values = self.input.check(x, "Identity input")
        return quant.narrow(
            values, self.input.format, self.output_format, self.rounding, self.overflow
        )

    def kernel(self) -> Kernel | None:
        """The reference on tiles of floats; None for the same numbers."""
        x, modes = self.input.format, (self.output_format, self.rounding, self.overflow)
        if x == self.output_format and Narrowing(x, x.min, x.max, *modes).bounds == (x.min, x.max):
            return None
        return SumKernel(self.input.size, (x,), *modes, name="Identity")

    def circuit(self, lanes: int) -> Elementwise:
        """The circuit of so many lanes."""
        x, modes = self.input.format, (self.output_format, self.rounding, self.overflow)
        narrowing = Narrowing(x, x.min, x.max, *modes)
        function = LaneFunction((), narrowing, narrow_stage=x != modes[0])
        return Elementwise({"i": x}, lanes, (function,))


@dataclass(frozen=True)
class ReLU(ElementwiseBlock):
    """``y = narrow(max(x, 0))``, one stage.

    A Linear or Add with an unsigned output that saturates needs no ReLU behind it.

    Source: V. Nair, G. Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010;
    ONNX Relu (https://onnx.ai/onnx/operators/onnx__Relu.html)

    Parameters
    ----------
    input : Tensor of x
    output_format : Format of y, which has the shape of x
    rounding, overflow : how the result is narrowed

    >>> block = ReLU(Tensor((64,), Format(8, 4)), Format(8, 4, signed=False))
    >>> print(block.reference(np.arange(-32, 32))[30:36])
    [0 0 0 1 2 3]
    """

    input: Tensor
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "ReLU input")
        check_format(self.output_format, "ReLU output_format")
        check_modes(self)

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @property
    def positive_format(self) -> Format:
        """Format of max(x, 0)."""
        return Format.containing(0, self.input.format.max, self.input.format.frac)

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        positive = np.maximum(self.input.check(x, "ReLU input"), 0)
        return quant.narrow(
            positive, self.positive_format, self.output_format, self.rounding, self.overflow
        )

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        modes = self.output_format, self.rounding, self.overflow
        size, formats = self.input.size, (self.input.format,)
        return SumKernel(size, formats, *modes, rectify=True, name="ReLU")

    def circuit(self, lanes: int) -> Elementwise:
        """The circuit of so many lanes."""
        positive = self.positive_format
        modes = (self.output_format, self.rounding, self.overflow)
        narrowing = Narrowing(positive, 0, self.input.format.max, *modes)
        step = Step(_positive, positive, logic(2, positive.width), registered=False)
        x = self.input.format
        function = LaneFunction((step,) if x.signed else (), narrowing)
        return Elementwise({"i": x}, lanes, (function,))


def _positive(m: Module, x: Value) -> Value:
    return Mux(x[-1], 0, x[:-1])


def identity_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    target = tensor.format if index == 1 else draw_near(random, tensor.format)
    block = Identity(tensor, target, *draw_modes(random, index))
    return Configuration(block, draw_lanes(random, tensor.size))


def relu_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    block = ReLU(tensor, draw_near(random, tensor.format), *draw_modes(random, index))
    return Configuration(block, draw_lanes(random, tensor.size))
