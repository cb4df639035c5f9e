# SPDX-License-Identifier: Apache-2.0
"""Memory: a table that is written and read where its heads are told to."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import BankedMemory, Banks, Cost, Events, Target
from hdl.cost import memory_style
from quant import Format, Ints, PlainKernel

from .block import Candidate, Tensor, check_format, check_mapping
from .configurations import Configuration, draw_format, draw_integers


@dataclass(frozen=True)
class Heads:
    """Plan of a Memory, all of whose heads act in the same cycle.

    Parameters
    ----------
    style : "block", "distributed" or "registers", what the banks become
    """

    style: str

    def __post_init__(self) -> None:
        check_mapping(self, ram="style")


@dataclass(frozen=True, eq=False)
class Memory:
    """A table of words: in each step its heads write words, then others read words.

    Every frame begins with the initial words. Of two heads that write one word in a step the later
    one wins; a word that is written in the step in which it is read is read as written. An address
    that the table does not have is written without effect and read as zeros.

    Source: C. E. LaForest, J. G. Steffan, Efficient multi-ported memories for FPGAs, 2010
    (https://doi.org/10.1145/1723112.1723122)

    Parameters
    ----------
    sizes : tuple of ints from 1, the dimensions of the table
    width : int from 1, numbers of a word
    word_format : Format of the numbers
    steps : int from 2, of a frame
    reads, writes : ints from 1, heads
    initial : ints in word_format, shape (*sizes, width); zeros if left out

    >>> block = Memory((16,), 2, Format(8, 4), steps=4)  # address 7, 3, 7, 3; read 0, 7, 3, 3
    >>> to, of = np.array([7, 3, 7, 3]), np.array([0, 7, 3, 3])
    >>> words = np.arange(8).reshape(4, 1, 2)
    >>> print(block.reference(to.reshape(4, 1, 1), words, of.reshape(4, 1, 1)).reshape(4, 2))
    [[0 0]
     [0 1]
     [2 3]
     [6 7]]
    """

    sizes: tuple[int, ...]
    width: int
    word_format: Format
    steps: int
    reads: int = 1
    writes: int = 1
    initial: Ints | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, tuple) or not all(type(n) is int for n in self.sizes):
            raise TypeError(f"Memory sizes must be a tuple of ints, not {self.sizes!r}")
        if not self.sizes or min(self.sizes) < 1 or max(self.sizes) < 2:
            raise ValueError(f"Memory sizes must hold at least 2 words, not {self.sizes}")
        for name, least in (("width", 1), ("steps", 2), ("reads", 1), ("writes", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"Memory {name} must be an int from {least}, not {value!r}")
        check_format(self.word_format, "Memory word_format")
        shape = (*self.sizes, self.width)
        initial = np.zeros(shape, np.int64) if self.initial is None else self.initial
        quant.check_shape(initial, shape, "Memory initial")
        initial = self.word_format.check(initial, "Memory initial")
        initial.setflags(write=False)
        object.__setattr__(self, "initial", initial)

    @property
    def index_format(self) -> Format:
        """Format of the indices of an address."""
        return Format((max(self.sizes) - 1).bit_length(), 0, False)

    @property
    def inputs(self) -> dict[str, Tensor]:
        axes = len(self.sizes)
        return {
            "i_write_address": Tensor((self.steps, self.writes, axes), self.index_format),
            "i_write": Tensor((self.steps, self.writes, self.width), self.word_format),
            "i_read_address": Tensor((self.steps, self.reads, axes), self.index_format),
        }

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor((self.steps, self.reads, self.width), self.word_format)}

    def reference(self, to: ArrayLike, words: ArrayLike, of: ArrayLike) -> Ints:
        """Addresses and words to write, addresses to read -> words, all (..., steps, heads, n)."""
        given = [
            tensor.check(values, f"Memory input {port}")
            for (port, tensor), values in zip(self.inputs.items(), (to, words, of), strict=True)
        ]
        batch = given[0].shape[:-3]
        to, words, of = (values.reshape(-1, *values.shape[-3:]) for values in given)
        frames, count = np.arange(len(words)), prod(self.sizes)
        to, of = self._places(to), self._places(of)
        table = np.zeros((len(frames), count + 1, self.width), np.int64)  # the last word is none
        table[:, :count] = np.reshape(np.asarray(self.initial), (count, self.width))
        y = np.empty((len(frames), *self.outputs["o"].shape), np.int64)
        for step in range(self.steps):
            for head in range(self.writes):
                table[frames, to[:, step, head]] = words[:, step, head]
            table[:, count] = 0
            y[:, step] = table[frames[:, None], of[:, step]]
        return y.reshape(*batch, *y.shape[1:])

    def _places(self, address: Ints) -> Ints:
        """Number of the word at each address, the number of words where there is none."""
        inside = (address < np.array(self.sizes)).all(axis=-1)
        place = np.zeros(address.shape[:-1], np.int64)
        for axis, size in enumerate(self.sizes):
            place = place * size + address[..., axis]
        return np.where(inside, place, prod(self.sizes))

    def kernel(self) -> PlainKernel:
        """The reference on tiles."""
        shapes = tuple(tensor.shape for tensor in self.inputs.values())
        return PlainKernel(self.reference, shapes, self.outputs["o"].size)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """A step a cycle; the memory suits the target."""
        design = _design(self, Heads("block"))
        plan = Heads(memory_style(target, design.depth, design.word))
        yield Candidate(plan, self.steps, partial(self.cost, plan, target))

    def lanes(self, plan: Heads) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        if not isinstance(plan, Heads):
            raise TypeError(f"Memory plan must be Heads, not {plan!r}")
        tensors = {**self.inputs, **self.outputs}
        return {port: tensor.size // self.steps for port, tensor in tensors.items()}

    def design(self, plan: Heads) -> Banks:
        """The circuit."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Heads) -> BankedMemory:
        """A new circuit."""
        return BankedMemory(self.design(plan))

    def timing(self, plan: Heads) -> Events:
        """When every transfer of a frame happens."""
        return self.design(plan).events()

    def cost(self, plan: Heads, target: Target) -> Cost:
        """What it takes on a target."""
        return self.design(plan).inventory().cost(target)


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(block: Memory, plan: Heads) -> Banks:
    heads = block.reads, block.writes, block.steps
    initial: Any = block.initial
    return Banks(block.sizes, block.word_format, block.width, *heads, initial, plan.style)


def memory_configuration(random: np.random.Generator, index: int) -> Configuration:
    sizes: tuple[int, ...] = (2,)
    if index:
        sizes = tuple(int(n) for n in random.integers(1, 5, random.integers(1, 4)))
        sizes = (*sizes[:-1], sizes[-1] + 1)
    number = draw_format(random, index)
    width = 1 if index == 0 else int(random.integers(1, 4))
    initial = draw_integers(random, number, (*sizes, width)) if index % 2 else None
    steps, reads, writes = 2 + index, 1 + index % 3, 1 + index // 2 % 3
    block = Memory(sizes, width, number, steps, reads, writes, initial)
    return Configuration(block, Heads(("distributed", "block", "registers")[index % 3]))
