# SPDX-License-Identifier: Apache-2.0
"""The best numbers of every vector in their order, and where they were; some numbers at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format

from .cost import Inventory, compare, counter, late_mux, logic, mux2, register
from .cost import elastic as elastic_stages
from .elementwise import less
from .events import NEVER, Events, chain, pipeline_events
from .stream import Fork, elastic, shape, stream_signature


def batcher(count: int) -> Iterator[list[tuple[int, int]]]:
    """Comparators (better, worse place) that sort ``count`` numbers, layer by layer.

    Source: K. E. Batcher, Sorting networks and their applications, AFIPS 1968, odd-even merging.
    """
    size = 1 << (count - 1).bit_length()
    merged = 1
    while merged < size:
        step = merged
        while step:
            pairs = [
                (first + n, first + n + step)
                for first in range(step % merged, size - step, 2 * step)
                for n in range(step)
            ]
            yield [(a, b) for a, b in pairs if b < count and a // (2 * merged) == b // (2 * merged)]
            step //= 2
        merged *= 2


@dataclass(frozen=True, eq=False)
class Sort:
    """The ``count`` best numbers of every vector, the best first; of equals the first first.

    A network sorts what a transfer brings, a stage a layer. If a vector has several transfers, each
    is merged into cells in one cycle: every cell holds its number, or takes the number of a cell
    before it, or one of those that come. The first transfer finds the cells empty, so there is no
    gap between vectors; results leave a cycle after the last word.

    Parameters
    ----------
    number : Format of the numbers
    lanes : numbers a transfer; a power of two if there are several transfers
    groups : transfers a vector
    count : of numbers that are kept
    smallest : whether small numbers are better than large ones
    outputs : which of "values" and "indices" leave
    """

    number: Format
    lanes: int
    groups: int
    count: int
    smallest: bool = False
    outputs: tuple[str, ...] = ("values", "indices")

    @property
    def index(self) -> Format:
        """Format of an index."""
        return Format.containing(0, self.lanes * self.groups - 1, 0)

    @property
    def kept(self) -> int:
        """Numbers of a transfer that may be among the best."""
        return min(self.lanes, self.count)

    @cached_property
    def layers(self) -> list[tuple[list[tuple[int, int]], list[int], list[int]]]:
        """For each stage of the network its comparators, and the places behind it whose lanes, and
        whose values, are read.
        """
        alive, result = set(range(self.kept)), []
        valued = alive if self.groups > 1 or "values" in self.outputs else set()
        for layer in reversed(list(batcher(self.lanes))):
            pairs = [pair for pair in layer if not alive.isdisjoint(pair)]
            if pairs:
                result.append((pairs, sorted(alive), sorted(valued)))
                alive, valued = alive.union(*pairs), valued.union(*pairs)
        return result[::-1]

    @cached_property
    def ties(self) -> list[list[int]]:
        """For each layer, how many bits of the lanes each comparator compares behind the numbers:
        none if every number that may come to its first place is of a lower lane than those that may
        come to its second.
        """
        layers = []
        lanes = {place: (place, place) for place in range(self.lanes)}  # the lowest, the highest
        for pairs, _, _ in self.layers:
            bits = []
            for a, b in pairs:
                lowest, highest = min(lanes[a][0], lanes[b][0]), max(lanes[a][1], lanes[b][1])
                ordered = lanes[a][1] < lanes[b][0] or "indices" not in self.outputs
                bits.append(0 if ordered else (lowest ^ highest).bit_length())
                lanes[a] = lanes[b] = lowest, highest
            layers.append(bits)
        return layers

    def compared(self, cell: int) -> bool:
        """Whether a cell holds a number before the last transfer, to compare what comes with."""
        return cell // self.kept < self.groups - 1

    @property
    def _flags(self) -> int:
        """Registers that tell cells without a number: one for those that a transfer fills."""
        return 1 + max(c for c in range(self.count) if self.compared(c)) // self.kept

    @property
    def stages(self) -> int:
        """Elastic stages of the network: its layers but the one that holds the results."""
        return len(self.layers) - (self.groups == 1)

    def formats(self) -> dict[str, Format]:
        """Output -> Format."""
        named = {"values": self.number, "indices": self.index}
        return {name: named[name] for name in self.outputs}

    def better(self, a: Value, b: Value) -> Value:
        """Whether a number goes before an equal or other one that came earlier."""
        return less(a, b) if self.smallest else less(b, a)

    @cached_property
    def _index_bits(self) -> list[int]:
        """Bits of the places that are stored behind each layer: those that are not constant, nor
        what others are.
        """
        if "indices" not in self.outputs:
            return [0] * len(self.layers)
        width, counts = (self.lanes - 1).bit_length(), list[int]()
        wires: dict[int, list[Any]] = {
            place: [place >> bit & 1 for bit in range(width)] for place in range(self.lanes)
        }
        for pairs, alive, _ in self.layers:
            partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
            following = {}
            for place in alive:
                own = wires[place]
                other = wires[partner.get(place, place)]
                pair = frozenset((place, partner.get(place, place)))
                following[place] = [
                    a
                    if a == b and isinstance(a, int)
                    else (a, b, a != b and (min(pair), max(pair)))
                    for a, b in zip(own, other, strict=True)
                ]
            found = {bit for bits in following.values() for bit in bits if not isinstance(bit, int)}
            names = {bit: f"{len(counts)} {n}" for n, bit in enumerate(sorted(found, key=repr))}
            wires = {
                place: [bit if isinstance(bit, int) else names[bit] for bit in bits]
                for place, bits in following.items()
            }
            counts.append(len(found))
        return counts

    def inventory(self) -> Inventory:
        """What it is made of."""
        width, total = self.number.width, elastic_stages(self.stages)
        outputs = len(self.outputs)
        total += register(outputs) + logic(2 * outputs) + logic(2 * outputs + 1, outputs)
        for n, ((pairs, _, valued), index_bits) in enumerate(
            zip(self.layers, self._index_bits, strict=True)
        ):
            total += register(len(valued) * width + index_bits)
            total += sum((compare(width + ties) for ties in self.ties[n]), Inventory())
            chosen = sum(place in pair for pair in pairs for place in valued)
            total += chosen * mux2(width) + (mux2(index_bits) if n else Inventory())
        if self.groups > 1:
            index_bits = self.index.width if "indices" in self.outputs else 0
            total += register(self._flags) + logic(2, self._flags)
            total += counter(self.groups) + logic(2)
            for cell in range(self.count):
                compared = self.compared(cell)
                bits = index_bits + (width if compared or "values" in self.outputs else 0)
                choices = len(self._moves(cell))
                total += register(bits) + late_mux(choices, bits) + logic(2, choices - 1)
                total += compared * self.kept * (compare(width) + logic(2))
        return total

    def _moves(self, cell: int) -> list[tuple[str, int]]:
        """What a cell may take: the number of the cell so many before it, or a new one."""
        old = [("old", step) for step in range(1, min(cell, self.kept) + 1)]
        return old + [("new", n) for n in range(min(cell + 1, self.kept))]

    def events(self, vectors: int) -> Events:
        """Transfers of ``i`` and of the outputs."""
        words = vectors * self.groups
        parts = [pipeline_events(len(self.layers), words)] if self.layers else []
        if self.groups > 1:
            last = Events()
            last.event("i", words)
            last.event("o", vectors)
            last.after("o", "i", 1, np.arange(1, vectors + 1) * self.groups - 1)
            starts = np.full(words, NEVER)
            starts[:: self.groups] = np.arange(vectors) - 1
            last.after("i", "o", 0, starts)
            parts.append(last)
        graph, sorted_ = Events(), chain(*parts)
        if len(self.outputs) == 1:
            graph.include(sorted_, "sort.", {"i": "i", "o": f"o_{self.outputs[0]}"})
            return graph
        graph.include(sorted_, "sort.", {"i": "i", "o": "sorted"})
        offers = [e for e in graph.edges if e.target == "sorted" and e.source != "sorted"]
        ends = {f"o_{n}": f"o_{name}" for n, name in enumerate(self.outputs)}
        graph.include(Fork.events(2, vectors), "fork.", {"i": "sorted", **ends})
        for edge in offers:  # each output is offered a word as soon as it is there
            for end in ends.values():
                graph.after(end, edge.source, edge.delay, edge.index)
        return graph


class SortArray(wiring.Component):
    """Hardware of :class:`Sort`.

    Members
    -------
    i : stream of the numbers, ``lanes`` a transfer
    o_values, o_indices : streams of the best, ``count`` a transfer; those that are asked for
    """

    def __init__(self, design: Sort):
        self.design = design
        outputs = {
            f"o_{name}": Out(stream_signature(number, design.count))
            for name, number in design.formats().items()
        }
        super().__init__({"i": In(stream_signature(design.number, design.lanes)), **outputs})

    def elaborate(self, platform):
        m = Module()
        design = self.design
        outputs = {name: getattr(self, f"o_{name}") for name in design.outputs}
        offered, free = Signal(len(outputs)), Signal()
        taken = Cat(o.ready for o in outputs.values())
        m.d.comb += free.eq((~offered | taken).all())
        valid, numbers = self._network(m, free)
        if design.groups > 1:
            ends, numbers = self._cells(m, valid & free, numbers)
            valid = valid & ends
        # What an output has offered stays there until all have taken it.
        m.d.sync += offered.eq(Mux(free, valid.replicate(len(outputs)), offered & ~taken))
        for n, (value, index) in enumerate(numbers):
            for name, part in (("values", value), ("indices", index)):
                if name in outputs:
                    m.d.comb += outputs[name].payload[n].eq(part)
        for n, o in enumerate(outputs.values()):
            m.d.comb += o.valid.eq(offered[n])
        return m

    def _network(self, m: Module, ready: Value) -> tuple[Value, list[tuple[Value, Value]]]:
        """Sort a transfer: whether it is there, and its numbers with their lanes.

        Of a vector of one transfer the last layer is the register of the results, loaded where
        ``ready``; what is there are then the numbers before it.
        """
        design, i = self.design, self.i
        places = range(design.lanes) if design.lanes > 1 else [0]
        bits = (design.lanes - 1).bit_length() if "indices" in design.outputs else 0
        wires: dict[int, tuple[Value, Value]] = {
            place: (i.payload[place], Const(place, bits)) for place in places
        }
        valid, enables = i.valid, [ready]
        if design.stages:
            before, valids = elastic(m, i.valid, design.stages, ready, "layer")
            valid, enables = valids[-1], [*before, ready]
        m.d.comb += i.ready.eq(enables[0])
        for n, (pairs, alive, _) in enumerate(design.layers):
            following: dict[int, Any] = dict(wires)
            for (a, b), ties in zip(pairs, design.ties[n], strict=True):
                swap = Signal(name=f"swap_{n}_{a}_{b}")
                m.d.comb += swap.eq(self._goes_before(wires[b], wires[a], ties))
                following[a] = tuple(
                    Mux(swap, y, x) for x, y in zip(wires[a], wires[b], strict=True)
                )
                following[b] = tuple(
                    Mux(swap, x, y) for x, y in zip(wires[a], wires[b], strict=True)
                )
            wires = {}
            for place in alive:
                value = Signal(shape(design.number), name=f"value_{n}_{place}", reset_less=True)
                lane = Signal(bits, name=f"lane_{n}_{place}", reset_less=True)
                with m.If(enables[n]):
                    m.d.sync += [value.eq(following[place][0]), lane.eq(following[place][1])]
                wires[place] = value, lane
        return valid, [wires[place] for place in range(design.kept)]

    def _goes_before(self, a: tuple[Value, Value], b: tuple[Value, Value], ties: int) -> Value:
        """Whether a number of a transfer goes before another; of equals that of the lower lane,
        which is told by ``ties`` bits, or is the other one if there are none.
        """
        (value, lane), (other, other_lane) = a, b
        if not ties:
            return self.design.better(value, other)
        low = (lane, other_lane) if self.design.smallest else (other_lane, lane)
        keys = [Cat(tie[:ties], key) for tie, key in zip(low, (value, other), strict=True)]
        if self.design.number.signed:
            keys = [key.as_signed() for key in keys]
        return self.design.better(*keys)

    def _cells(
        self, m: Module, step: Value, new: list[tuple[Value, Value]]
    ) -> tuple[Value, list[tuple[Value, Value]]]:
        """Whether the transfer is the last of its vector, and the best so far; what they are in the
        end stays until it is taken.
        """
        design = self.design
        group, ends = Signal(range(design.groups)), Signal()
        m.d.comb += ends.eq(group == design.groups - 1)
        empty = Signal(design._flags, init=-1)  # flags rather than comparisons of the counter
        with m.If(step):
            m.d.sync += group.eq(Mux(ends, 0, group + 1))
            m.d.sync += empty.eq(Cat(Const(0, 1), empty)[: len(empty)] | ends.replicate(len(empty)))
        bits = design.index.width if "indices" in design.outputs else 0
        coming = [(value, Cat(lane, group)[:bits]) for value, lane in new]
        cells: list[tuple[Value, Value]] = [
            (
                Signal(shape(design.number), name=f"value_{c}", reset_less=True),
                Signal(bits, name=f"index_{c}", reset_less=True),
            )
            for c in range(design.count)
        ]
        before: dict[tuple[int, int], Value] = {}  # (cell, new number): whether that goes before
        for c, (held, _) in enumerate(cells):
            for n, (value, _) in enumerate(coming):
                before[c, n] = Signal(name=f"before_{c}_{n}")
                none = empty[c // design.kept] if design.compared(c) else Const(1)
                m.d.comb += before[c, n].eq(none | design.better(value, held))
        for c, cell in enumerate(cells):
            taken: Any = ()
            for kind, n in reversed(design._moves(c)):  # of the last there is no doubt
                if kind == "old":  # n new ones go before it
                    number, chosen = cells[c - n], before[c - n, n - 1]
                    if n < design.kept:
                        chosen = chosen & ~before[c - n, n]
                else:  # all c - n cells before it stay before it
                    number, chosen = coming[n], before[c - n, n]
                    if c > n:
                        chosen = chosen & ~before[c - n - 1, n]
                pairs = zip(number, taken or number, strict=True)
                taken = [Mux(chosen, x, y) for x, y in pairs] if taken else number
            with m.If(step & before[c, 0]):
                m.d.sync += [cell[0].eq(taken[0]), cell[1].eq(taken[1])]
        return ends, cells
