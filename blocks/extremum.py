# SPDX-License-Identifier: Apache-2.0
"""ArgMax and ArgMin: where the largest or smallest number of the last axis is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from hdl import Cost, Events, Extremum, ExtremumFinder, Target
from quant import Ints, Kernel, PlainKernel

from .block import Candidate, Lanes, Tensor, check_lanes, check_tensor
from .configurations import Configuration, draw_format, draw_shape


@dataclass(frozen=True)
class Arg(ABC):
    """The index of the extreme number of the last axis, which becomes an axis of length 1.

    A plan is a number of :class:`Lanes` of x, a power of two that divides the channels.

    Parameters
    ----------
    input : Tensor of x, shape (..., channels), at least 2 channels
    select_last_index : whether the last of equal numbers wins, not the first
    """

    input: Tensor
    select_last_index: bool = False

    @property
    @abstractmethod
    def _smallest(self) -> bool: ...

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_tensor(self.input, f"{name} input")
        if type(self.select_last_index) is not bool:
            raise TypeError(
                f"{name} select_last_index must be a bool, not {self.select_last_index!r}"
            )
        if self.input.shape[-1] < 2:
            raise ValueError(f"{name} input must have at least 2 channels, not 1")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor((*self.input.shape[:-1], 1), self._design(1).index)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, indices out, shape (..., channels) -> (..., 1)."""
        values = self.input.check(x, f"{type(self).__name__} input")
        values = -values if self._smallest else values
        if not self.select_last_index:
            return np.argmax(values, axis=-1, keepdims=True).astype(np.int64)
        found = np.argmax(values[..., ::-1], axis=-1, keepdims=True).astype(np.int64)
        return values.shape[-1] - 1 - found

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        size = self.input.size // self.input.shape[-1]
        return PlainKernel(self.reference, (self.input.shape,), size)

    def _design(self, lanes: int) -> Extremum:
        number, channels = self.input.format, self.input.shape[-1]
        return Extremum(number, lanes, channels // lanes, self._smallest, self.select_last_index)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, two, four, ..., as many as can be."""
        lanes, channels = 1, self.input.shape[-1]
        while channels % lanes == 0:
            plan = Lanes(lanes)
            yield Candidate(plan, self.input.size // lanes, partial(self.cost, plan, target))
            lanes *= 2

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self.input.shape[-1], type(self).__name__)
        if lanes & (lanes - 1):
            raise ValueError(f"{type(self).__name__} lanes must be a power of two, not {lanes}")
        return {"i": lanes, "o": 1}

    def rtl(self, plan: Lanes) -> ExtremumFinder:
        """A new circuit."""
        return ExtremumFinder(self._design(self.lanes(plan)["i"]))

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        design = self._design(self.lanes(plan)["i"])
        return design.events(self.input.size // self.input.shape[-1])

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self._design(self.lanes(plan)["i"]).inventory().cost(target)


@dataclass(frozen=True)
class ArgMax(Arg):
    """The index of the largest number of the last axis, which becomes an axis of length 1.

    A plan is a number of :class:`Lanes` of x, a power of two that divides the channels.

    Source: ONNX ArgMax (https://onnx.ai/onnx/operators/onnx__ArgMax.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., channels), at least 2 channels
    select_last_index : whether the last of equal numbers wins, not the first

    >>> from quant import Format
    >>> block = ArgMax(Tensor((64,), Format(8, 4)))
    >>> print(block.reference(np.arange(64) * 37 % 64))
    [19]
    """

    @property
    def _smallest(self) -> bool:
        return False


@dataclass(frozen=True)
class ArgMin(Arg):
    """The index of the smallest number of the last axis, which becomes an axis of length 1.

    A plan is a number of :class:`Lanes` of x, a power of two that divides the channels.

    Source: ONNX ArgMin (https://onnx.ai/onnx/operators/onnx__ArgMin.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., channels), at least 2 channels
    select_last_index : whether the last of equal numbers wins, not the first

    >>> from quant import Format
    >>> block = ArgMin(Tensor((64,), Format(8, 4)))
    >>> print(block.reference(np.arange(64) * 37 % 64))
    [0]
    """

    @property
    def _smallest(self) -> bool:
        return True


def arg_configuration(kind: type[Arg], random: np.random.Generator, index: int) -> Configuration:
    shape = draw_shape(random, index)
    channels = max(2, shape[-1] << int(random.integers(0, 3)))
    tensor = Tensor((*shape[:-1], channels), draw_format(random, index))
    block = kind(tensor, bool(random.integers(2)))
    lanes = [n for n in (1, 2, 4, 8, 16) if channels % n == 0]
    return Configuration(block, Lanes(int(random.choice(lanes))))
