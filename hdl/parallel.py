# SPDX-License-Identifier: Apache-2.0
"""The unrolled product of a constant matrix and a stream of vectors, one vector a cycle."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property, reduce
from operator import or_

import numpy as np
from amaranth import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints

from .adder_graph import build_adder_graph
from .cost import Inventory, adder, logic, register, subtract
from .cost import elastic as elastic_stages
from .events import Events, pipeline_events
from .mac import trailing_zeros
from .shift_add import Pipeline, ShiftAdd
from .stream import elastic, shape, stream_signature


class Parallel:
    """``W @ x`` as one shift-add graph in elastic stages, a vector a cycle.

    The graph is as shallow as possible: each further stage keeps more bits than sharing one adder
    more saves.

    Row j of ``W @ x`` is ``(sum << scale) + offset``, where an inverted sum comes as ``-sum - 1``.

    Parameters
    ----------
    weight : ints, shape (outputs, inputs)
    number : Format of x
    adders_per_stage : int, adders in a row between two registers
    ends : lowest and highest number of every element of x; those of ``number`` if left out
    held : whether a vector stays in a register at the entry until its sums are taken

    Members
    -------
    sums : Format of each distinct sum
    sources, inverted : for each output, which of ``sums`` is its own, and whether it is inverted
    scale, offset : ints, shape (outputs,)
    low, high : ints, shape (outputs,): bounds of each sum
    twofold : for each output, whether its sum is always one of those, as of a single bit
    """

    groups = 1

    def __init__(
        self,
        weight: Ints,
        number: Format,
        adders_per_stage: int,
        ends: Sequence[tuple[int, int]] | None = None,
        held: bool = False,
    ):
        self.simd, self.held = weight.shape[1], held
        self.number, self.adders_per_stage = number, adders_per_stage
        ends = [(number.min, number.max)] * self.simd if ends is None else ends
        self._graph = build_adder_graph(weight, ends, extra_depth=0, negated=True)
        self.inverted = [bool(output and output.negate) for output in self._graph.outputs]
        self.scale = np.array([trailing_zeros(row) for row in weight], np.int64)
        self.offset = np.array(self.inverted, np.int64) << self.scale
        low, high = (np.array(n, np.int64) for n in zip(*self._graph.output_bounds, strict=True))
        self.low, self.high = ((n >> self.scale) - self.inverted for n in (low, high))
        spans = np.array([high - low for low, high in ends], object)
        self.twofold = [list(spans[row != 0]) == [1] for row in weight]
        self._kept, self._gaps = np.full_like(self.scale, 64), np.zeros_like(self.scale)
        self._skipped = np.zeros_like(self.scale)

    @property
    def needed(self) -> int:
        """Mask of the bits of any x that the sums depend on, as far as those are read."""
        return reduce(or_, self.pipeline.needed)

    def reading(self, skipped: Ints, kept: Ints, gaps: Ints) -> "Parallel":
        """The same without what nobody reads of the sums: they begin ``skipped`` bits higher.

        ``kept`` bits of each, the skipped ones included, are read, but those in the masks ``gaps``.
        """
        part = copy(self)
        for name, member in vars(Parallel).items():
            if isinstance(member, cached_property):  # of what was read before
                vars(part).pop(name, None)
        part._kept = np.maximum(kept - skipped, 0)
        part._gaps, part._skipped = gaps >> skipped, skipped
        part.scale = self.scale + skipped
        part.low, part.high = self.low >> skipped, self.high >> skipped
        return part

    @cached_property
    def pipeline(self) -> Pipeline:
        """The graph in stages."""
        skip, kept = tuple(self.scale.tolist()), tuple(self._kept.tolist())
        gaps = tuple(self._gaps.tolist())
        return Pipeline(self._graph, self.adders_per_stage, skip, kept, gaps, self.held)

    @cached_property
    def _keys(self) -> list:
        """What makes two sums one."""
        cuts = (n.tolist() for n in (self.scale, self._kept, self._gaps))
        return [
            output and kept and (output.node, output.shift, skip, kept, gaps)
            for output, skip, kept, gaps in zip(self._graph.outputs, *cuts, strict=True)
        ]

    @cached_property
    def fields(self) -> list[int]:
        """The first output with each of the distinct sums."""
        return [n for n, key in enumerate(self._keys) if self._keys.index(key) == n]

    @cached_property
    def sources(self) -> list[int]:
        return [self.fields.index(self._keys.index(key)) for key in self._keys]

    @cached_property
    def sums(self) -> list[Format]:
        shapes = [self.pipeline.output_shapes[n] for n in self.fields]
        return [Format(max(1, shape.width), 0, shape.signed) for shape in shapes]

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self.pipeline.stages

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = register(self.pipeline.flip_flops)
        if self.held:
            bits = sum(mask.bit_count() for mask in self.pipeline.needed)
            total += register(1 + self.stages + bits) + logic(2, self.stages) + logic(3)
        else:
            total += elastic_stages(self.stages)
        for cell in self.pipeline.sums:
            total += (subtract if cell.subtract else adder)(cell.width, cell.wired)
        return total

    def events(self) -> Events:
        """Transfers of ``i`` and ``o``, one a vector."""
        if not self.held:
            return pipeline_events(self.stages)
        graph = Events()
        graph.event("i", 1)
        graph.event("o", 1)
        graph.after("o", "i", 1 + self.stages)
        graph.after("i", "o", 1, -1)
        return graph


class ParallelArray(wiring.Component):
    """Hardware of :class:`Parallel`.

    Members
    -------
    i : stream of x, a vector a transfer
    o : stream of the sums, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: Parallel):
        self.design = design
        sums = {f"sum_{n}": shape(number) for n, number in enumerate(design.sums)}
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.simd)),
                "o": Out(stream.Signature(data.StructLayout(sums))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        m.submodules.graph = graph = ShiftAdd(design.pipeline)
        width = design.pipeline.input_shape.width  # less where every x keeps off the ends
        x = Cat(Value.cast(i.payload[n])[:width] for n in range(design.simd))
        if design.held:
            entry = Signal(len(x), name="entry", reset_less=True)
            full, age = Signal(), Signal(design.stages)
            m.d.comb += [i.ready.eq(~full), o.valid.eq(age[-1]), graph.x.as_value().eq(entry)]
            with m.If(~full):
                m.d.sync += [full.eq(i.valid), entry.eq(x)]
            m.d.sync += age.eq(Cat(full, age[:-1]))
            with m.If(o.valid & o.ready):
                m.d.sync += [full.eq(0), age.eq(0)]
        else:
            enables, valids = elastic(m, i.valid, design.stages, o.ready)
            m.d.comb += [i.ready.eq(enables[0]), o.valid.eq(valids[-1])]
            m.d.comb += [graph.enable.eq(enables), graph.x.as_value().eq(x)]
        for n, field in enumerate(design.fields):
            m.d.comb += getattr(o.payload, f"sum_{n}").eq(graph.y[field])
        return m
