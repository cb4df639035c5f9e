# SPDX-License-Identifier: Apache-2.0
"""Deinterleave: numbers that lie in turns become several tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from hdl import Cost, Events, Target, Unzip
from quant import Format, Ints, MoveKernel

from .block import Candidate, Lanes, Tensor, check_lanes, check_tensor, divisors
from .configurations import Configuration, draw_format, draw_shape


@dataclass(frozen=True)
class Deinterleave:
    """``y_n = x[..., n::parts]``, each on a port of its own; wires, taken when all have taken.

    Source: ONNX Split (https://onnx.ai/onnx/operators/onnx__Split.html), of numbers that lie
    between each other

    Parameters
    ----------
    input : Tensor of x, shape (..., parts * numbers)
    parts : int from 2; ports ``o_0``, ``o_1``, ...

    >>> from quant import Format
    >>> block = Deinterleave(Tensor((64,), Format(8, 4)), 4)
    >>> even, *_, last = block.reference(np.arange(64))
    >>> print(even[:4], last[:4])
    [ 0  4  8 12] [ 3  7 11 15]
    """

    input: Tensor
    parts: int

    def __post_init__(self) -> None:
        check_tensor(self.input, "Deinterleave input")
        numbers = self.input.shape[-1]
        if type(self.parts) is not int or self.parts < 2 or numbers % self.parts:
            raise ValueError(
                f"Deinterleave parts must be an int from 2 that divides {numbers}, "
                f"not {self.parts!r}"
            )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        number, ends = self.input.format, self.input.ends
        shape = (*self.input.shape[:-1], self.input.shape[-1] // self.parts)
        return {
            f"o_{n}": Tensor(shape, number, ends and ends[n :: self.parts])
            for n in range(self.parts)
        }

    def reference(self, x: ArrayLike) -> tuple[Ints, ...]:
        """Integers in, integers out, shape (..., numbers * parts) -> (..., numbers) each."""
        values = self.input.check(x, "Deinterleave input")
        return tuple(values[..., n :: self.parts] for n in range(self.parts))

    def kernel(self) -> tuple[MoveKernel, ...]:
        """The reference on tiles."""
        number: Format = self.input.format
        size, places = self.input.size, np.arange(self.input.size)
        return tuple(
            MoveKernel(places[n :: self.parts], (size,), number) for n in range(self.parts)
        )

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One number of each at a time, ..., all at once."""
        size = self.input.size // self.parts
        for lanes in divisors(size):
            plan = Lanes(lanes)
            yield Candidate(plan, size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self.input.size // self.parts, "Deinterleave")
        return {"i": self.parts * lanes, **dict.fromkeys(self.outputs, lanes)}

    def rtl(self, plan: Lanes) -> Unzip:
        """A new circuit."""
        return Unzip(self.input.format, self.lanes(plan)["o_0"], self.parts)

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        return Unzip.events(self.parts, self.input.size // self.lanes(plan)["i"])

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        self.lanes(plan)
        return Unzip.inventory(self.parts).cost(target)


def deinterleave_configuration(random: np.random.Generator, index: int) -> Configuration:
    parts = 2 if index == 0 else int(random.integers(2, 6))
    shape = draw_shape(random, index)
    tensor = Tensor((*shape[:-1], shape[-1] * parts), draw_format(random, index))
    lanes = [n for n in divisors(tensor.size // parts) if n <= 8]
    return Configuration(Deinterleave(tensor, parts), Lanes(int(random.choice(lanes))))
