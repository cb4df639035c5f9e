# SPDX-License-Identifier: Apache-2.0
"""Nonlinearity: any function of one variable, as a table or in pieces, with a proven error."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike

from hdl import Cost, Events, FunctionArray, FunctionUnit, Target
from hdl.function import cheapest
from quant import FUNCTIONS, Approximation, Format, Ints, TableKernel, candidates

from .block import Candidate, TableLanes, Tensor, check_lanes, check_tensor, divisors
from .configurations import Configuration, draw_shape


@dataclass(frozen=True, eq=False)
class Nonlinearity:
    """``y = f(x)``, number by number: a table, lines or parabolas, with a proven error.

    Error: less than 1 unit of the output at every code, or what was asked for

    Source: J. Detrey, F. de Dinechin, Table-Based Polynomials for Fast Hardware Function
    Evaluation, 2005, of tables of polynomials; segments, integers and proof are our own

    Parameters
    ----------
    input : Tensor of x, in the form's input format
    form : Approximation, whose error over every code was measured when it was made

    >>> from quant import approximate
    >>> tanh = approximate(FUNCTIONS["tanh"], Format(8, 5), Format(8, 7), degree=1)
    >>> print(tanh.storage_bits, tanh.max_error, tanh.monotone)
    135 0.9361935555934906 1
    >>> block = Nonlinearity(Tensor((64,), Format(8, 5)), tanh)
    >>> print(block.reference(np.arange(64))[:8])
    [ 0  4  8 12 15 19 23 27]
    """

    input: Tensor
    form: Approximation

    def __post_init__(self) -> None:
        check_tensor(self.input, "Nonlinearity input")
        if not isinstance(self.form, Approximation):
            raise TypeError(f"Nonlinearity form must be an Approximation, not {self.form!r}")
        if self.input.format != self.form.input_format:
            raise ValueError(
                f"Nonlinearity input must have format {self.form.input_format} like its form, "
                f"not {self.input.format}"
            )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.form.output_format)}

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        return self.form.reference(self.input.check(x, "Nonlinearity input"))

    @cached_property
    def _table(self) -> Ints:
        number = self.input.format
        return self.form.reference(np.arange(number.min, number.max + 1))

    def kernel(self) -> TableKernel:
        """The reference on tiles: a look-up of every number."""
        output = self.form.output_format
        return TableKernel(self._table, self.input.format, output, self.input.size)

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One lane, ..., all numbers of a frame at once."""
        _, style = cheapest([self.form], target)
        for lanes in divisors(self.input.size):
            plan = TableLanes(lanes, style)
            yield Candidate(plan, self.input.size // lanes, partial(self.cost, plan, target))

    def lanes(self, plan: TableLanes) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        lanes = check_lanes(plan, self.input.size, "Nonlinearity", TableLanes)
        return {"i": lanes, "o": lanes}

    def unit(self, plan: TableLanes) -> FunctionUnit:
        """The circuit's design."""
        return FunctionUnit(self.form, self.lanes(plan)["o"], plan.style)

    def rtl(self, plan: TableLanes) -> FunctionArray:
        """A new circuit."""
        return FunctionArray(self.unit(plan))

    def timing(self, plan: TableLanes) -> Events:
        """When every transfer of a frame happens."""
        unit = self.unit(plan)
        return unit.events(self.input.size // unit.lanes)

    def cost(self, plan: TableLanes, target: Target) -> Cost:
        """What it takes on a target."""
        return self.unit(plan).inventory().cost(target)


POSITIVE = ("sigmoid", "softplus", "exp", "exp2", "sqrt")
"""Functions that are never negative."""


def nonlinearity_configuration(random: np.random.Generator, index: int) -> Configuration:
    partial = ("log", "log2", "reciprocal", "rsqrt", "asin", "acos", "acosh", "atanh")
    smooth = [name for name in FUNCTIONS if name not in partial]
    name = smooth[(7 * index) % len(smooth)]
    width = 4 if index == 0 else int(random.integers(4, 10))
    signed = name != "sqrt"
    source = Format(width, width - signed - int(random.integers(1, 4)), signed)
    bits = int(random.integers(3, 10))
    frac = bits - 1 - int(random.integers(0, 3))
    target = Format(bits, frac, name not in POSITIVE)  # no bit of the sign that never changes
    forms = candidates(FUNCTIONS[name], source, target)
    form = forms[random.integers(len(forms))]
    tensor = Tensor(draw_shape(random, index), source)
    lanes = int(random.choice([d for d in divisors(tensor.size) if d <= 4]))
    style = "block" if index % 5 == 4 else "logic"
    return Configuration(Nonlinearity(tensor, form), TableLanes(lanes, style))
