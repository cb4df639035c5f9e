# SPDX-License-Identifier: Apache-2.0
"""TopK: the largest or smallest numbers of the last axis, sorted, and where they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hdl import Cost, Events, Sort, SortArray, Target
from quant import Ints, Kernel, PlainKernel

from .block import Candidate, Lanes, Tensor, check_lanes, check_tensor
from .configurations import Configuration, draw_format, draw_shape

GIVEN: dict[str, tuple[str, ...]] = {
    "both": ("values", "indices"),
    "values": ("values",),
    "indices": ("indices",),
}


@dataclass(frozen=True)
class TopK:
    """The ``count`` largest numbers of the last axis, the largest first; of equals the first first.

    A plan is a number of :class:`Lanes` of x: a power of two that divides the channels, or all of
    them. All results of a row leave together.

    Source: ONNX TopK (https://onnx.ai/onnx/operators/onnx__TopK.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., channels), at least 2 channels
    count : int from 1 to channels
    smallest : whether the smallest are sought, the smallest first
    gives : "both", "values" or "indices": ports ``o_values`` and ``o_indices``

    >>> from quant import Format
    >>> block = TopK(Tensor((64,), Format(8, 4)), 3)
    >>> print(*block.reference(np.arange(64) * 37 % 64))
    [63 62 61] [19 38 57]
    """

    input: Tensor
    count: int
    smallest: bool = False
    gives: str = "both"

    def __post_init__(self) -> None:
        check_tensor(self.input, "TopK input")
        channels = self.input.shape[-1]
        if channels < 2:
            raise ValueError("TopK input must have at least 2 channels, not 1")
        if type(self.count) is not int:
            raise TypeError(f"TopK count must be an int, not {self.count!r}")
        if not 1 <= self.count <= channels:
            raise ValueError(f"TopK count must be from 1 to {channels}, not {self.count}")
        if type(self.smallest) is not bool:
            raise TypeError(f"TopK smallest must be a bool, not {self.smallest!r}")
        if self.gives not in tuple(GIVEN):
            raise ValueError(f"TopK gives must be one of {', '.join(GIVEN)}, not {self.gives!r}")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        shape = (*self.input.shape[:-1], self.count)
        formats = self._design(1).formats()
        return {f"o_{name}": Tensor(shape, number) for name, number in formats.items()}

    def _sorted(self, name: str, x: ArrayLike) -> Ints:
        values = self.input.check(x, "TopK input")
        keys = values if self.smallest else -values
        indices = np.argsort(keys, axis=-1, kind="stable")[..., : self.count].astype(np.int64)
        return indices if name == "indices" else np.take_along_axis(values, indices, -1)

    def reference(self, x: ArrayLike) -> Any:
        """Integers in, values and indices out, shape (..., channels) -> (..., count) each."""
        results = tuple(self._sorted(name, x) for name in GIVEN[self.gives])
        return results if len(results) > 1 else results[0]

    def kernel(self) -> tuple[Kernel, ...]:
        """The reference on tiles, for each output."""
        size = self.input.size // self.input.shape[-1] * self.count
        return tuple(
            PlainKernel(partial(self._sorted, name), (self.input.shape,), size)
            for name in GIVEN[self.gives]
        )

    def _design(self, lanes: int) -> Sort:
        number, channels = self.input.format, self.input.shape[-1]
        rest = self.count, self.smallest, GIVEN[self.gives]
        return Sort(number, lanes, channels // lanes, *rest)

    @property
    def _lanes(self) -> list[int]:
        channels = self.input.shape[-1]
        powers = [1 << n for n in range(channels.bit_length()) if channels % (1 << n) == 0]
        return sorted({*powers, channels})

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, two, four, ..., all channels."""
        for lanes in self._lanes:
            plan = Lanes(lanes)
            yield Candidate(plan, self.input.size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: Lanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self.input.shape[-1], "TopK")
        if lanes not in self._lanes:
            known = ", ".join(map(str, self._lanes))
            raise ValueError(f"TopK lanes must be one of {known}, not {lanes}")
        return {"i": lanes, **dict.fromkeys(self.outputs, self.count)}

    def rtl(self, plan: Lanes) -> SortArray:
        """A new circuit."""
        return SortArray(self._design(self.lanes(plan)["i"]))

    def timing(self, plan: Lanes) -> Events:
        """When every transfer of a frame happens."""
        design = self._design(self.lanes(plan)["i"])
        return design.events(self.input.size // self.input.shape[-1])

    def cost(self, plan: Lanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self._design(self.lanes(plan)["i"]).inventory().cost(target)


def topk_configuration(random: np.random.Generator, index: int) -> Configuration:
    shape = draw_shape(random, index)
    channels = max(2, shape[-1] << int(random.integers(0, 2)))
    tensor = Tensor((*shape[:-1], channels), draw_format(random, index))
    count = int(random.integers(1, min(channels, 2 + index // 3) + 1))
    block = TopK(tensor, count, bool(random.integers(2)), list(GIVEN)[index % 3])
    lanes = [n for n in block._lanes if n <= 16]
    return Configuration(block, Lanes(int(random.choice(lanes))))
