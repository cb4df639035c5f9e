# SPDX-License-Identifier: Apache-2.0
"""Exact functions of one number in hardware: pieces of polynomials, and quotients by a constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import Shape

from quant import Format, Ints, accumulator_format
from quant.piecewise import Polynomial, piecewise, piecewise_bounds

from .adder_graph import ZERO, AdderGraph, bits_of, build_adder_graph
from .cost import (
    Inventory,
    compare_place,
    constant_adder,
    ended_adder,
    logic,
    squarer,
    subtract,
)
from .elementwise import Step, at_least, bit_sources
from .narrow import trailing_zeros

WIDEST_LISTED = 16
"""Numbers of so many bits are gone through code by code, to find bits that never change."""


@dataclass(frozen=True)
class Pieces:
    """``polynomial(x)`` of the piece that x lies in: comparators, one graph of adders, a choice.

    The powers of x meet all polynomials' constants in one shift-add graph; the square, if any
    piece needs it, takes the only multiplier.

    Parameters
    ----------
    number : Format of x
    breaks : codes at which the second and following pieces begin, ascending
    polynomials : of each piece the factors of 1, x and x * x
    """

    number: Format
    breaks: tuple[int, ...]
    polynomials: tuple[Polynomial, ...]

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest result."""
        return piecewise_bounds(self.number, self.breaks, self.polynomials)

    @cached_property
    def values(self) -> Ints | None:
        """The result of every code; None for more codes than are listed."""
        if self.number.width > WIDEST_LISTED:
            return None
        codes = np.arange(self.number.min, self.number.max + 1)
        return piecewise(codes, self.breaks, self.polynomials)

    @property
    def _squared(self) -> bool:
        return any(square for _, _, square in self.polynomials)

    @cached_property
    def _rows(self) -> list[tuple[int, ...]]:
        """The distinct factors of x and x * x, but for none of either."""
        found = dict.fromkeys(p[1:] if self._squared else p[1:2] for p in self.polynomials)
        return [row for row in found if any(row)]

    @cached_property
    def _graph(self) -> AdderGraph | None:
        low, high = self.number.min, self.number.max
        ends = [(low, high), (0, max(low * low, high * high))][: 1 + self._squared]
        return build_adder_graph(np.array(self._rows, np.int64), ends) if self._rows else None

    @property
    def simple(self) -> bool:
        """Whether no piece takes an adder or a multiplier: only wires, constants and a choice."""
        return not ((self._graph and self._graph.adders) or self._squared) and not any(
            constant and (linear or square) for constant, linear, square in self.polynomials
        )

    @cached_property
    def step(self) -> Step:
        """As a step of a lane; registered unless it is simple."""
        low, high = self.bounds
        number = accumulator_format(low, high, 0, "Pieces")
        sources = () if self.values is None else bit_sources(self.values, number.width)
        registered = not self.simple
        choice = tuple(self._choice(bit, registered) for bit in range(number.width))
        gates = self.inventory(number.width)
        return Step(self._result, number, gates, registered, sources, choice=choice)

    def _choice(self, bit: int, registered: bool) -> int:
        """Inputs of the gates that choose a bit of the result, from the pieces and where they end.

        Pieces in which it is constant may reset a register instead.
        """
        kinds: list[Polynomial | int] = []
        for constant, linear, square in self.polynomials:
            fixed = trailing_zeros(linear | square) if linear or square else bit + 1
            kinds.append(constant >> bit & 1 if bit < fixed else (constant, linear, square))
        moving = {kind for kind in kinds if isinstance(kind, tuple)}
        if moving and registered and len(set(kinds) - moving) == 1:
            kinds = [kind for kind in kinds if isinstance(kind, tuple)]
        ends = sum(one != other for one, other in pairwise(kinds))
        return len(moving) + ends if len(moving) + ends > 1 else 0

    def _result(self, m: Module, x: Value) -> Value:
        graph, rows = self._graph, self._rows
        products: list[Value] = []
        if graph is not None:
            powers = [x]
            if self._squared:
                top = max(self.number.min**2, self.number.max**2)
                square = Signal(top.bit_length(), name="square")
                m.d.comb += square.eq(x * x)
                powers.append(square)
            products = graph_outputs(m, graph, powers)
        result: Value | None = None
        for n, (constant, *factors) in enumerate(self.polynomials):
            row = tuple(factors[: 1 + self._squared])
            value = products[rows.index(row)] + constant if any(row) else Value.cast(constant)
            if result is None:
                result = value
            else:
                beyond = Signal(name=f"piece_{n}")
                place = self.breaks[n - 1]
                m.d.comb += beyond.eq(x >= place if self.simple else at_least(x, place))
                result = Mux(beyond, value, result)
        assert result is not None  # there is a piece
        return result

    def inventory(self, width: int) -> Inventory:
        """What it is made of if so many bits of the result are read."""
        number, total = self.number, Inventory()
        if self._squared:
            sides = number.width, number.signed
            top = max(number.min**2, number.max**2)
            total += squarer(*sides, top.bit_length())
        if self._graph is not None:
            total += graph_inventory(self._graph, width)
        moving = {p for p in self.polynomials if any(p[1:])}
        for constant, linear, square in moving:
            if constant:
                fixed = max(trailing_zeros(constant), trailing_zeros(linear | square))
                total += constant_adder(width - fixed)
        for place in self.breaks:
            bits = number.width - trailing_zeros(place - number.min)
            total += compare_place(bits) if self.simple else logic(bits)
        return total


@dataclass(frozen=True)
class Quotient:
    """``value / divisor``, as ``quant.quotient`` has it for every narrowing, by a multiplication.

    The result has ``more`` fraction bits: the quotient rounded down, and whether it is exact, told
    by these bits being 0. With a multiplier a little above ``2**shift / divisor`` and a constant
    that keeps the error from being negative, the error stays below ``2**-more`` and so below the
    distance of one quotient to the next.

    Source: T. Granlund, P. L. Montgomery, Division by invariant integers using multiplication,
    PLDI 1994, section 4.

    Parameters
    ----------
    low, high : smallest and largest value
    divisor : odd, above 1
    """

    low: int
    high: int
    divisor: int

    @property
    def more(self) -> int:
        """Fraction bits of the result."""
        return self.divisor.bit_length()

    @cached_property
    def _constants(self) -> tuple[int, int, int]:
        """Multiplier, constant and shift."""
        shift = self.more
        while True:
            factor = -(-(1 << shift) // self.divisor)
            excess = factor * self.divisor - (1 << shift)
            constant = max(0, -(self.low * excess // self.divisor))
            error = max(self.high * excess, self.low * excess) + constant * self.divisor
            if error < self.divisor << (shift - self.more):
                return factor, constant, shift
            shift += 1

    def of(self, value: int) -> int:
        """The result for one value."""
        factor, constant, shift = self._constants
        return (value * factor + constant) >> (shift - self.more)

    @cached_property
    def _graph(self) -> AdderGraph:
        factor, _, _ = self._constants
        widest = max(1, 58 - factor.bit_length())
        half = 1 << min(widest, max(-self.low, self.high, 1).bit_length())
        return build_adder_graph([[factor]], [(-half if self.low < 0 else 0, half - 1)])

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest result."""
        return self.of(self.low), self.of(self.high)

    def step(self, values: Ints | None = None) -> Step:
        """As a step of a lane; ``values`` are all that come, if they are known."""
        low, high = self.bounds
        number = accumulator_format(low, high, 0, "Quotient")
        sources: tuple[int, ...] = ()
        if values is not None:
            results = np.array([self.of(n) for n in values.tolist()], np.int64)
            sources = bit_sources(results, number.width)
        return Step(self._result, number, self.inventory(number.width), True, sources)

    def _result(self, m: Module, value: Value) -> Value:
        _, constant, shift = self._constants
        (product,) = graph_outputs(m, self._graph, [value])
        return (product + constant) >> (shift - self.more)

    def inventory(self, width: int) -> Inventory:
        """What it is made of if so many bits of the result are read."""
        _, constant, shift = self._constants
        width += shift - self.more
        total = graph_inventory(self._graph, width)
        return total + (constant_adder(width) if constant else Inventory())


def graph_outputs(m: Module, graph: AdderGraph, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of a graph for these inputs, without registers; none of its rows is zero."""
    nodes = list(inputs)
    for adder_ in graph.adders:
        right = nodes[adder_.right] << adder_.right_shift
        left = Value.cast(0) if adder_.left == ZERO else nodes[adder_.left] << adder_.left_shift
        total = left - right if adder_.subtract else left + right
        signed = total.shape().signed
        node = Signal(Shape(len(total) - adder_.drop, signed), name=f"node_{len(nodes)}")
        m.d.comb += node.eq(total >> adder_.drop)
        nodes.append(node)
    results = []
    for output in graph.outputs:
        assert output is not None  # zero rows are left out
        value = nodes[output.node] << output.shift
        results.append(-value if output.negate else value)
    return results


def graph_inventory(graph: AdderGraph, width: int) -> Inventory:
    """The adders of a graph of whose outputs ``width`` bits are read."""
    total, read = Inventory(), [0] * (len(graph.inputs) + len(graph.adders))
    for output in graph.outputs:
        assert output is not None  # zero rows are left out
        read[output.node] = max(read[output.node], width - output.shift)
    for node in reversed(range(len(graph.inputs), len(read))):
        adder_ = graph.adders[node - len(graph.inputs)]
        terms = (adder_.left, adder_.left_shift), (adder_.right, adder_.right_shift)
        for operand, shift in terms:
            if operand != ZERO:
                read[operand] = max(read[operand], read[node] + adder_.drop - shift)
        unread = max(0, bits_of(*graph.bounds[node]) - read[node])
        bits = max(0, graph.adder_bits(node) - unread)
        if adder_.left == ZERO:  # the adder before it is turned round instead
            total += logic(2, min(bits, graph.adder_bits(adder_.right)))
        elif adder_.subtract:
            total += subtract(bits)
        else:
            ends = [
                bits_of(*graph.bounds[operand]) + shift
                for operand, shift in terms
                if graph.bounds[operand][0] >= 0
            ]
            start = max(shift for _, shift in terms)
            both = min(bits, max(0, min(ends, default=start + bits) - start))
            total += ended_adder(bits, bits - both)
    return total
