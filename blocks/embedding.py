# SPDX-License-Identifier: Apache-2.0
"""Embedding: a row of a table for every code."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from amaranth.lib import wiring
from numpy.typing import ArrayLike

import quant
from hdl import Cost, Events, Lookup, Target
from hdl.cost import memory_style
from quant import Format, Ints, PlainKernel

from .block import Candidate, Tensor, check_format, check_mapping, check_tensor, divisors
from .configurations import Configuration, draw_format, draw_integers, draw_shape


@dataclass(frozen=True)
class Reads:
    """Plan of an Embedding: ``lanes`` numbers of a row at a time.

    Parameters
    ----------
    lanes : int, dividing the width of a row
    table_style : "block" or "logic", what the memory of the table becomes
    """

    lanes: int
    table_style: str = "logic"

    def __post_init__(self) -> None:
        check_mapping(self, rom="table_style")


@dataclass(frozen=True, eq=False)
class Embedding:
    """``y = table[x]``: rows of constants, looked up in a memory.

    Source: ONNX Gather (https://onnx.ai/onnx/operators/onnx__Gather.html)

    Parameters
    ----------
    input : Tensor of the codes, unsigned whole numbers
    table : ints in table_format, shape (entries, width), an entry for every code of the format
    table_format : Format of the table and of y

    >>> rows = np.random.default_rng(0).integers(-128, 128, (16, 4))
    >>> codes = Tensor((16,), Format(4, 0, signed=False))
    >>> block = Embedding(codes, rows, Format(8, 4))
    >>> print(block.reference(np.arange(16))[:2])
    [[  89   35    2  -59]
     [ -50 -118 -109 -124]]
    """

    input: Tensor
    table: Ints
    table_format: Format

    def __post_init__(self) -> None:
        check_tensor(self.input, "Embedding input")
        check_format(self.table_format, "Embedding table_format")
        codes = self.input.format
        if codes.signed or codes.frac:
            raise ValueError(f"Embedding input must be unsigned whole numbers, not {codes}")
        quant.check_shape(self.table, (1 << codes.width, "width"), "Embedding table")
        table = self.table_format.check(self.table, "Embedding table")
        table.setflags(write=False)
        object.__setattr__(self, "table", table)

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor((*self.input.shape, self.table.shape[1]), self.table_format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Codes in, integers out, shape (..., *input.shape) -> (..., *input.shape, width)."""
        return self.table[self.input.check(x, "Embedding input")]

    def kernel(self) -> PlainKernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.outputs["o"].size)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One number of a row at a time, ..., whole rows; the memory suits the target."""
        width = self.table.shape[1]
        for lanes in divisors(width):
            stored = _design(self, Reads(lanes)).tables
            memory = stored.depth, stored.width
            style = memory_style(target, *memory, writable=False, by_data=True)
            plan = Reads(lanes, style)
            interval = self.input.size * (width // lanes)
            yield Candidate(plan, interval, partial(self.cost, plan, target))

    def lanes(self, plan: Reads) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        if not isinstance(plan, Reads):
            raise TypeError(f"Embedding plan must be Reads, not {plan!r}")
        width = self.table.shape[1]
        if plan.lanes < 1 or width % plan.lanes:
            raise ValueError(f"Embedding lanes must divide {width}, not be {plan.lanes}")
        return {"i": 1, "o": plan.lanes}

    def design(self, plan: Reads) -> Lookup:
        """The circuit."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Reads) -> wiring.Component:
        """A new circuit."""
        return self.design(plan).circuit()

    def timing(self, plan: Reads) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events(self.input.size)

    def cost(self, plan: Reads, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(block: Embedding, plan: Reads) -> Lookup:
    return Lookup(block.table, block.input.format, block.table_format, plan.lanes, plan.table_style)


def embedding_configuration(random: np.random.Generator, index: int) -> Configuration:
    codes = Format(1 if index == 0 else int(random.integers(2, 7)), 0, False)
    number = draw_format(random, index)
    width = 1 if index == 0 else int(random.integers(1, 5 + index // 2))
    table = draw_integers(random, number, (1 << codes.width, width))
    block = Embedding(Tensor(draw_shape(random, index)[:2], codes), table, number)
    style = "block" if index % 3 == 2 else "logic"
    return Configuration(block, Reads(int(random.choice(divisors(width))), style))
