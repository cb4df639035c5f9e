# SPDX-License-Identifier: Apache-2.0
"""The unrolled product of a constant matrix and a stream of vectors, one vector a cycle."""

import numpy as np
from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints

from .adder_graph import build_adder_graph
from .cost import Inventory, adder, register, subtract
from .cost import elastic as elastic_stages
from .events import Events, pipeline_events
from .shift_add import Pipeline, ShiftAdd
from .stream import elastic, shape, stream_signature


class Parallel:
    """``W @ x`` as one shift-add graph in elastic stages, a vector a cycle.

    Parameters
    ----------
    weight : ints, shape (outputs, inputs)
    number : Format of x
    adders_per_stage : int, adders in a row between two registers
    skipped : ints, shape (outputs,): low bits of each output that nobody reads; only of outputs
        that come as they are, not as their opposite

    Members
    -------
    sums : Format of each distinct sum
    sources, negate : for each output, which of ``sums`` is its own, and whether it is its opposite
    scale : ints, shape (outputs,): low bits that the sums leave out
    low, high : ints, shape (outputs,): bounds of each output
    """

    groups = 1

    def __init__(self, weight: Ints, number: Format, adders_per_stage: int, skipped: Ints):
        self.simd = weight.shape[1]
        self.number = number
        ends = [(number.min, number.max)] * self.simd
        graph = build_adder_graph(weight, ends, negated=True)
        self.negate = [bool(output and output.negate) for output in graph.outputs]
        self.scale = np.where(self.negate, 0, skipped)
        skip = tuple(self.scale.tolist())
        self.pipeline = Pipeline(graph, adders_per_stage, skip)
        low, high = (np.array(n, np.int64) for n in zip(*graph.output_bounds, strict=True))
        self.low, self.high = low >> self.scale, high >> self.scale
        keys = [
            output and (output.node, output.shift, n)
            for output, n in zip(graph.outputs, skip, strict=True)
        ]
        self.fields = [n for n, key in enumerate(keys) if keys.index(key) == n]
        self.sources = [self.fields.index(keys.index(key)) for key in keys]
        shapes = [self.pipeline.output_shapes[n] for n in self.fields]
        self.sums = [Format(max(1, shape.width), 0, shape.signed) for shape in shapes]

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self.pipeline.stages

    def inventory(self) -> Inventory:
        """What it is made of."""
        cells = {"add": adder, "subtract": subtract}
        total = elastic_stages(self.stages) + register(self.pipeline.flip_flops)
        return sum((cells[kind](width) for kind, width in self.pipeline.operators), total)

    def events(self) -> Events:
        """Transfers of ``i`` and ``o``, one a vector."""
        return pipeline_events(self.stages)


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
        enables, valids = elastic(m, i.valid, design.stages, o.ready)
        m.d.comb += [
            i.ready.eq(enables[0]),
            o.valid.eq(valids[-1]),
            graph.x.as_value().eq(i.payload.as_value()),
            graph.enable.eq(enables),
        ]
        for n, field in enumerate(design.fields):
            m.d.comb += getattr(o.payload, f"sum_{n}").eq(graph.y[field])
        return m
