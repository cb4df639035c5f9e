# SPDX-License-Identifier: Apache-2.0
"""Streams of fixed-point words, and the circuits that only move them."""

from collections.abc import Sequence

import numpy as np
from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from quant import Format

from .cost import (
    Inventory,
    Product,
    counter,
    level,
    logic,
    mux2,
    operand_register,
    ram,
    register,
)
from .events import NEVER, Events


def shape(number: Format) -> Shape:
    """Amaranth shape of one number of a format."""
    return Shape(number.width, number.signed)


def stream_signature(number: Format, lanes: int) -> stream.Signature:
    """Stream whose transfers carry ``lanes`` numbers, lane 0 in the lowest bits."""
    return stream.Signature(data.ArrayLayout(shape(number), lanes))


def elastic(m: Module, valid, stages: int, ready, name: str = "stage"):
    """Control of an elastic pipeline: a valid bit a stage, which moves when the next one can.

    A stage may move when it is empty or the next one moves, so bubbles close up under stalls and
    the whole is a buffer of ``stages`` words with a latency of ``stages`` cycles.

    Returns (enables, valids): both one bit a stage; the pipeline takes a word when ``enables[0]``
    and offers one when ``valids[-1]``.
    """
    valids = Signal(stages, name=f"{name}_valid")
    enables = Signal(stages, name=f"{name}_enable")
    for s in range(stages):
        m.d.comb += enables[s].eq(ready | ~valids[s:].all())
        with m.If(enables[s]):
            m.d.sync += valids[s].eq(valids[s - 1] if s else valid)
    return enables, valids


def joined(m: Module, inputs: list, stages: int, output, name: str = "stage"):
    """Elastic pipeline that takes a word of each of several streams in one cycle.

    Returns the enables of its stages; the handshakes of ``inputs`` and ``output`` are connected.
    """
    valid = Cat(i.valid for i in inputs).all()
    enables, valids = elastic(m, valid, stages, output.ready, name)
    m.d.comb += output.valid.eq(valids[-1] if stages else valid)
    for i in inputs:
        others = Cat(other.valid for other in inputs if other is not i)
        ready = enables[0] if stages else output.ready
        m.d.comb += i.ready.eq(ready & others.all() if len(inputs) > 1 else ready)
    return enables


class Fifo(wiring.Component):
    """First-in first-out buffer of ``depth`` words, one cycle from input to output.

    Neither handshake passes through it: ``ready`` and ``valid`` come from registers. A buffer of
    one word moves one word every two cycles, a deeper one a word every cycle. Up to two words are
    registers; more lie in a memory, read a cycle ahead so that it may be a block RAM; a word that
    arrives at an empty buffer passes through a bypass register, because no memory port relies on
    reading a word while it is being written.

    Parameters
    ----------
    payload : ArrayLayout of one word
    depth : int, words, at least 1
    style : "block", "distributed" or "registers": what the memory of more than two words becomes
    full : bool, whether it is full after reset, of words without a meaning

    Members
    -------
    i, o : streams of the words
    level : Signal, words held
    """

    def __init__(
        self, payload: data.ArrayLayout, depth: int, style: str = "block", full: bool = False
    ):
        if depth < 1:
            raise ValueError(f"Fifo depth must be at least 1 word, not {depth}")
        self.depth, self.style = depth, style
        signature = stream.Signature(payload)
        super().__init__({"i": In(signature), "o": Out(signature)})
        self.level = Signal(range(depth + 1), init=depth if full else 0)

    def elaborate(self, platform):
        m = Module()
        i, o, level = self.i, self.o, self.level
        word, head = i.payload.as_value(), o.payload.as_value()
        put, take = Signal(), Signal()
        m.d.comb += [
            i.ready.eq(level != self.depth),
            o.valid.eq(level != 0),
            put.eq(i.valid & i.ready),
            take.eq(o.valid & o.ready),
        ]
        if self.depth == 1:
            m.d.sync += level.eq(Mux(level, ~o.ready, i.valid))
            first = Signal.like(word, reset_less=True)
            with m.If(put):
                m.d.sync += first.eq(word)
            m.d.comb += head.eq(first)
            return m
        with m.If(put & ~take):
            m.d.sync += level.eq(level + 1)
        with m.If(take & ~put):
            m.d.sync += level.eq(level - 1)
        if self.depth == 2:
            first, second = (
                Signal.like(word, name=n, reset_less=True) for n in ("first", "second")
            )
            with m.If(put):
                m.d.sync += second.eq(word)
            with m.If((level == 0) | take):
                m.d.sync += first.eq(Mux(level[1], second, word))
            m.d.comb += head.eq(first)
            return m
        m.submodules.memory = memory = Memory(
            shape=len(word), depth=self.depth, init=[], attrs={"ram_style": self.style}
        )
        write, read = memory.write_port(), memory.read_port(domain="sync")
        write_address, read_address, next_address = (
            Signal(range(self.depth), name=n)
            for n in ("write_address", "read_address", "next_address")
        )
        last = self.depth - 1
        m.d.comb += [
            write.addr.eq(write_address),
            write.data.eq(word),
            write.en.eq(put),
            next_address.eq(read_address),
        ]
        with m.If(put):
            m.d.sync += write_address.eq(Mux(write_address == last, 0, write_address + 1))
        with m.If(take):
            m.d.comb += next_address.eq(Mux(read_address == last, 0, read_address + 1))
        m.d.sync += read_address.eq(next_address)
        # The next head is the word being written exactly when nothing else is left.
        passing = Signal()
        m.d.comb += passing.eq(put & ((level == 0) | (take & (level == 1))))
        bypass, bypassed = Signal.like(word, name="bypass", reset_less=True), Signal()
        with m.If(passing):
            m.d.sync += bypass.eq(word)
        with m.If(passing | take):
            m.d.sync += bypassed.eq(passing)
        m.d.comb += [
            read.addr.eq(next_address),
            read.en.eq(take & ~passing),
            head.eq(Mux(bypassed, bypass, read.data)),
        ]
        return m

    @staticmethod
    def events(depth: int, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` a frame."""
        graph = Events()
        graph.event("i", words)
        graph.event("o", words)
        graph.after("o", "i", 1)
        graph.after("i", "o", 1, np.arange(words) - depth)
        return graph

    @staticmethod
    def inventory(depth: int, bits: int, style: str, products: Sequence[Product] = ()) -> Inventory:
        """What a buffer of ``depth`` words of ``bits`` is made of.

        ``products`` are the multipliers that alone read the word it offers, if there are any.
        """
        head = operand_register(bits, products) if products else register(bits)
        if depth == 1:
            return register(1) + head + logic(3) + logic(2)
        if depth == 2:
            return level(2) + register(bits) + head + mux2(bits) + logic(2) + logic(4)
        addresses = (depth - 1).bit_length()
        pointers = 2 * counter(depth) + mux2(addresses)
        bypass = register(bits + 1) + mux2(bits) + logic(5) + logic(2, 4)
        return level(depth) + pointers + ram(depth, bits, style) + bypass


class Fork(wiring.Component):
    """Gives every word to each of ``branches`` consumers, which may take it at different times.

    The word is taken from ``i`` in the cycle in which the last consumer takes it.

    Members
    -------
    i : stream of the words
    o_0, o_1, ... : the same words
    """

    def __init__(self, payload: data.ArrayLayout, branches: int):
        if branches < 2:
            raise ValueError(f"Fork branches must be at least 2, not {branches}")
        signature = stream.Signature(payload)
        self.branches = branches
        outputs = {f"o_{b}": Out(signature) for b in range(branches)}
        super().__init__({"i": In(signature), **outputs})

    def elaborate(self, platform):
        m = Module()
        i, outputs = self.i, [getattr(self, f"o_{b}") for b in range(self.branches)]
        done, served = Signal(self.branches), Signal(self.branches)
        for b, o in enumerate(outputs):
            m.d.comb += [
                o.valid.eq(i.valid & ~done[b]),
                o.payload.eq(i.payload),
                served[b].eq(done[b] | o.ready),
            ]
        m.d.comb += i.ready.eq(served.all())
        with m.If(i.valid):
            m.d.sync += done.eq(Mux(i.ready, 0, served))
        return m

    @staticmethod
    def events(branches: int, words: int) -> Events:
        """Transfers of ``i``, ``o_0``, ..., ``words`` a frame."""
        graph = Events()
        graph.event("i", words)
        for b in range(branches):
            graph.event(f"o_{b}", words)
            graph.after(f"o_{b}", "i", 1, np.arange(words) - 1)
            graph.after("i", f"o_{b}", 0)
        return graph

    @staticmethod
    def inventory(branches: int) -> Inventory:
        """What it is made of; the words are wires."""
        return register(branches) + branches * (logic(2) + logic(3)) + logic(2 * branches)


class Unzip(wiring.Component):
    """Gives every number of a word to one of ``parts`` consumers, in turns; else a :class:`Fork`.

    Members
    -------
    i : stream of ``lanes * parts`` numbers
    o_0, o_1, ... : streams of ``lanes`` numbers; ``o_n`` has every ``parts``-th from the n-th on
    """

    def __init__(self, number: Format, lanes: int, parts: int):
        self.parts = parts
        narrow = stream_signature(number, lanes)
        outputs = {f"o_{n}": Out(narrow) for n in range(parts)}
        super().__init__({"i": In(stream_signature(number, lanes * parts)), **outputs})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fork = fork = Fork(self.i.payload.shape(), self.parts)
        wiring.connect(m, wiring.flipped(self.i), fork.i)
        for n in range(self.parts):
            branch, o = getattr(fork, f"o_{n}"), getattr(self, f"o_{n}")
            m.d.comb += [o.valid.eq(branch.valid), branch.ready.eq(o.ready)]
            for lane in range(len(o.payload)):
                m.d.comb += o.payload[lane].eq(branch.payload[lane * self.parts + n])
        return m

    @staticmethod
    def events(parts: int, words: int) -> Events:
        """Transfers of ``i``, ``o_0``, ..., ``words`` a frame."""
        graph = Fork.events(parts, words)
        graph.branches["i"] = tuple(f"o_{n}" for n in range(parts))
        return graph

    @staticmethod
    def inventory(parts: int) -> Inventory:
        """What it is made of; the words are wires."""
        return Fork.inventory(parts)


class Gather(wiring.Component):
    """Lane converter: ``ratio`` narrow words, the first in the lowest lanes, make one wide word.

    Full rate: while the wide word leaves, the first narrow word of the next may come in.

    Members
    -------
    i : stream of ``lanes`` numbers
    o : stream of ``lanes * ratio`` numbers
    """

    def __init__(self, number: Format, lanes: int, ratio: int):
        if ratio < 2:
            raise ValueError(f"Gather ratio must be at least 2, not {ratio}")
        self.ratio = ratio
        narrow, wide = stream_signature(number, lanes), stream_signature(number, lanes * ratio)
        super().__init__({"i": In(narrow), "o": Out(wide)})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        word, wide = i.payload.as_value(), o.payload.as_value()
        held = Signal(len(wide), reset_less=True)
        place, last = Signal(range(self.ratio)), Signal()
        full = Signal()
        m.d.comb += [
            o.valid.eq(full),
            wide.eq(held),
            i.ready.eq(~full | o.ready),
            last.eq(place == self.ratio - 1),
        ]
        with m.If(i.ready):
            m.d.sync += full.eq(i.valid & last)
        with m.If(i.ready & i.valid):
            m.d.sync += [
                place.eq(Mux(last, 0, place + 1)),
                held.eq(Cat(held[len(word) :], word)),
            ]
        return m

    @staticmethod
    def events(ratio: int, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` of ``o`` a frame."""
        graph = Events()
        graph.event("i", words * ratio)
        graph.event("o", words)
        graph.after("o", "i", 1, np.arange(words) * ratio + ratio - 1)
        place = np.arange(words * ratio)
        graph.after("i", "o", 0, np.where(place % ratio, NEVER, place // ratio - 1))
        return graph

    @staticmethod
    def inventory(bits: int, ratio: int) -> Inventory:
        """What one to words of ``bits`` is made of."""
        return register(bits + 1) + counter(ratio) + logic(3, 3)


class Scatter(wiring.Component):
    """Lane converter: one wide word becomes ``ratio`` narrow ones, the lowest lanes first.

    Full rate: while the last narrow word leaves, the next wide word may come in.

    Members
    -------
    i : stream of ``lanes * ratio`` numbers
    o : stream of ``lanes`` numbers
    """

    def __init__(self, number: Format, lanes: int, ratio: int):
        if ratio < 2:
            raise ValueError(f"Scatter ratio must be at least 2, not {ratio}")
        self.ratio = ratio
        narrow, wide = stream_signature(number, lanes), stream_signature(number, lanes * ratio)
        super().__init__({"i": In(wide), "o": Out(narrow)})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        wide, word = i.payload.as_value(), o.payload.as_value()
        held = Signal(len(wide), reset_less=True)
        place, last = Signal(range(self.ratio)), Signal()
        full = Signal()
        m.d.comb += [
            o.valid.eq(full),
            word.eq(held[: len(word)]),
            last.eq(place == self.ratio - 1),
            i.ready.eq(~full | (o.ready & last)),
        ]
        with m.If(full & o.ready):
            m.d.sync += [
                place.eq(Mux(last, 0, place + 1)),
                held[: -len(word)].eq(held[len(word) :]),
            ]
        with m.If(i.ready):
            m.d.sync += full.eq(i.valid)
            with m.If(i.valid):
                m.d.sync += held.eq(wide)
        return m

    @staticmethod
    def events(ratio: int, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` of ``i`` a frame."""
        graph = Events()
        graph.event("i", words)
        graph.event("o", words * ratio)
        place = np.arange(words * ratio)
        graph.after("o", "i", 1, np.where(place % ratio, NEVER, place // ratio))
        graph.after("i", "o", 0, np.arange(words) * ratio - 1)
        return graph

    @staticmethod
    def inventory(bits: int, ratio: int) -> Inventory:
        """What one from words of ``bits`` is made of."""
        shifted = bits - bits // ratio
        return register(bits + 1) + counter(ratio) + mux2(shifted) + logic(3, 4)
