# SPDX-License-Identifier: Apache-2.0
"""Windows that slide over a frame of one to three axes: which words they meet, and the reader.

Frames are channels last, in raster order, some channels of one pixel a word. Words are written in
order of arrival to a ring whose depth is a power of two. What a window meets of each axis is an
arithmetic progression, so a small table for each axis and a nest of counters say which words to
read: padded taps are skipped, and one circuit serves convolution and transposed convolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from quant import Format, Ints

from . import cost
from .cost import Inventory
from .events import NEVER, Events
from .mac import MacCore, pick, reduction_events, trailing_zeros
from .memory import Rom, Tables
from .reduce import Reduction
from .stream import shape, stream_signature


@dataclass(frozen=True)
class WindowAxis:
    """One axis of a frame, and which of its places each output of a window meets.

    Tap k of output o meets place ``(o * stride + k * dilation - before) / upsample`` where that is
    a whole number from 0 to size - 1; every other tap lies in the padding.
    """

    size: int
    kernel: int = 1
    outputs: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    upsample: int = 1

    @property
    def steps(self) -> tuple[int, int]:
        """From a tap that meets a place to the next: taps, and places."""
        common = gcd(self.upsample, self.dilation)
        return self.upsample // common, self.dilation // common

    @cached_property
    def met(self) -> tuple[Ints, Ints, Ints]:
        """First tap, first place and number of places met, each of shape (outputs,).

        Outputs that meet nothing have those of the output before, and the number 0.
        """
        places = np.arange(self.outputs)[:, None] * self.stride - self.before
        places = places + np.arange(self.kernel) * self.dilation
        inside = (places % self.upsample == 0) & (places >= 0)
        places //= self.upsample
        inside &= places < self.size
        count, taps = inside.sum(axis=1), inside.argmax(axis=1)
        some = np.flatnonzero(count)
        if some.size == 0:
            return taps, taps, count
        known = np.searchsorted(some, np.arange(self.outputs), "right") - 1
        source = some[np.maximum(known, 0)]
        return taps[source], places[source, taps[source]], count

    @property
    def used(self) -> tuple[int, int]:
        """The first tap that ever meets a place, and one more than the last."""
        first, _, count = self.met
        if not count.any():
            return 0, 1
        last = first + np.maximum(count - 1, 0) * self.steps[0]
        return int(first[count > 0].min()), int(last[count > 0].max()) + 1

    @property
    def cropped(self) -> "WindowAxis":
        """The same without the taps before and behind ``used``."""
        first, end = self.used
        before = self.before - first * self.dilation
        return WindowAxis(
            self.size, end - first, self.outputs, self.stride, self.dilation, before, self.upsample
        )

    @property
    def pointwise(self) -> bool:
        """Every output meets the one place of its own number."""
        _, place, count = self.met
        plain = self.kernel == 1 and self.size == self.outputs
        return plain and bool((place == np.arange(self.size)).all() and count.all())


def steps(axes: Sequence[WindowAxis], run: int) -> int:
    """Steps that all windows of a frame take together, ``run`` for each place that one meets; one
    where it meets none.
    """
    counts = [axis.met[2] for axis in axes]
    some = prod(int((count > 0).sum()) for count in counts)
    return prod(int(count.sum()) for count in counts) * run + prod(map(len, counts)) - some


class Level(NamedTuple):
    """One loop of a nest: how often it turns, and how far each pointer moves from turn to turn.

    Numbers that differ from place to place of an axis are in tables, one entry a place: those of a
    loop over outputs are the steps to the next place of its own axis.
    """

    kind: str  # "frame", "output", "fold" or "tap"
    axis: int | None  # whose outputs it goes through, or whose output decides how often it turns
    turns: int | Ints
    element: int | Ints
    weight: int | Ints
    need: int | Ints = 0
    release: int | Ints = 0

    @property
    def most(self) -> int:
        """How often it turns at most."""
        return int(np.max(self.turns))


class Register(NamedTuple):
    """Where a pointer was when a level of the nest began; zeros below are constant."""

    level: int
    zeros: int
    width: int


class Pointer:
    """An address that follows a nest of loops, modulo ``2**width``.

    Each level keeps the address at the start of its turn, if it moves at all; the last is the
    address itself.

    Parameters
    ----------
    steps : for each level, ints
    """

    def __init__(self, steps: Sequence[int | Ints], width: int, init: int):
        self.width, self.init = width, init % (1 << width)
        self.steps = steps
        self.registers: list[Register] = []
        zeros = width
        for level, step in enumerate(steps):
            moves = np.atleast_1d(step) % (1 << width)
            if moves.any():
                zeros = min(zeros, trailing_zeros(moves))
                self.registers.append(Register(level, zeros, width - zeros))

    @property
    def zeros(self) -> int:
        """Low bits that are always those of ``init``."""
        return self.registers[-1].zeros if self.registers else self.width

    def inventory(self) -> Inventory:
        """Registers, what chooses one of them, what adds its step."""
        registers = [cost.register(r.width) for r in self.registers]
        levels = len(self.registers)
        if not levels:
            return Inventory()
        widest = self.registers[-1].width
        return sum(registers, cost.mux(levels, widest) + cost.step_adder(widest, levels))


class Window:
    """Windows over a frame, the words that each meets in the order in which they are read.

    Loops, outermost first: outputs (the axes in order), groups of words, folds, taps (the axes in
    order), words of the group. A window that lies in the padding altogether has one step that
    reads nothing.

    A window waits until the last word that it or an earlier one needs is written; when it is done,
    the words before the first that any later one needs may be overwritten. While the ring is full
    no word is taken. The next frame is written while one is still read.

    Parameters
    ----------
    axes : slowest first
    words : of a pixel
    groups : parts of the words of a pixel, one after the other; divides ``words``
    folds : how often a window reads each group
    style : "block", "distributed" or "registers", what the ring becomes
    table_style : "block" or "logic", what the tables become
    classes : for each axis a number for each output; their sum is the address of the weights then,
        the same for all taps

    Members
    -------
    depth : words of the ring: the smallest power of two with which no window waits longer than it
        would for a frame that came at a word a cycle into an unlimited memory
    lengths : ints, steps of every fold of every group of every window
    """

    def __init__(
        self,
        axes: Sequence[WindowAxis],
        words: int,
        groups: int = 1,
        folds: int = 1,
        style: str = "block",
        table_style: str = "logic",
        classes: Sequence[Ints] = (),
    ):
        self.axes = list(axes) if classes else _joined(axes)
        self.classes = list(classes)
        self.words, self.groups, self.folds = words, groups, folds
        self.style, self.table_style = style, table_style
        self.size = prod(axis.size for axis in self.axes) * words
        self.positions = prod(axis.outputs for axis in self.axes)
        run = words // groups
        self.run = run
        counts = [axis.met[2] for axis in self.axes]
        self.empties = any((count == 0).any() for count in counts)
        steps = np.array([run])
        for count in counts:
            steps = (steps[:, None] * count).ravel()
        self.lengths = np.repeat(np.maximum(steps, 1), groups * folds)
        self._bookkeeping()
        self.depth = self._depth()
        self._nest()

    @property
    def accumulates(self) -> bool:
        """Whether any sum takes more than one step."""
        return int(self.lengths.max()) > 1

    def _strides(self) -> list[int]:
        """Words from a place of each axis to the next."""
        sizes = [axis.size for axis in self.axes]
        return [self.words * prod(sizes[a + 1 :]) for a in range(len(sizes))]

    def _bookkeeping(self) -> None:
        """For every position, in words from the start of the frame: ``need``, how many must be
        written, and ``release``, how many nobody needs any more.
        """
        need, release = np.array([self.words]), np.array([0])
        held = np.array([True])  # behind this window no later row, slice, ... begins with this one
        self.steady: list[Ints] = []
        for axis, stride in zip(self.axes, self._strides(), strict=True):
            last, first, moves = _reach(axis)
            need = (need[:, None] + last * stride).ravel()
            parts = np.where(held[:, None], first * stride, first[0] * stride)
            release = (release[:, None] + parts).ravel()
            held = (held[:, None] & moves).ravel()
            self.steady.append(moves)
        self.need, self.release = need, release

    def _depth(self) -> int:
        """See the class."""
        depth = max(2, 1 << int((self.need - self.release).max() - 1).bit_length())
        frames = np.arange(3)[:, None]
        need = (self.need + frames * self.size).ravel()
        work = np.tile(self.lengths.reshape(self.positions, -1).sum(axis=1), 3)
        before = np.cumsum(work) - work
        start = np.maximum.accumulate(need - before) + before
        done = start + work  # the first cycle in which what it releases may be overwritten
        words = np.arange(3 * self.size)
        while True:
            position = self._awaited(words, depth)
            free = np.where(position >= 0, done[np.maximum(position, 0)], 0)
            written = np.maximum.accumulate(free - words) + words
            if (written[need - 1] < start).all():
                return depth
            depth *= 2

    def _awaited(self, words: Ints, depth: int) -> Ints:
        """The position that must be done before each word is written; negative: of a frame before.

        Positions are counted through the frames, from the one to which the first word belongs.
        """
        last = words - depth
        frame = (last - self.release[0]) // self.size
        place = np.searchsorted(self.release, last - frame * self.size, "right")
        return frame * self.positions + place - 1

    def _nest(self) -> None:
        """The loops and what follows them."""
        strides = self._strides()
        kernels = [axis.kernel for axis in self.axes]
        rows = [self.run * prod(kernels[a + 1 :]) for a in range(len(kernels))]
        kernel = self.run * prod(kernels)
        start = weight = 0
        outputs: list[Level] = []
        taps: list[Level] = []
        need, release = self.size, self.size  # what going round through all outputs moves
        inner_need = inner_release = 0
        for a in reversed(range(len(self.axes))):
            axis, stride, row = self.axes[a], strides[a], rows[a]
            tap, place, count = axis.met
            tap_step, place_step = axis.steps
            if self.classes:
                tap, tap_step, row = self.classes[a], 0, 1
            last, first, moves = _reach(axis)
            start, weight = start + int(place[0]) * stride, weight + int(tap[0]) * row
            if axis.outputs > 1:
                outputs.insert(
                    0,
                    Level(
                        "output",
                        a,
                        axis.outputs,
                        _forward(place * stride),
                        _forward(tap * row),
                        _forward(last * stride, -inner_need),
                        _forward(first * stride, -inner_release * moves[:-1]),
                    ),
                )
            inner_need += int(last[-1] - last[0]) * stride
            inner_release = int(first[-1] - first[0]) * stride + inner_release * int(moves[-1])
            if count.max() > 1:
                turns = count if count.min() < count.max() else int(count[0])
                owner = a if isinstance(turns, np.ndarray) else None
                taps.insert(0, Level("tap", owner, turns, place_step * stride, tap_step * row))
        self.kernel = kernel
        frame = Level("frame", None, 1, self.size, 0, need - inner_need, release - inner_release)
        folds = [
            Level("fold", None, self.groups, self.run, self.folds * kernel),
            Level("fold", None, self.folds, 0, kernel),
        ]
        taps.append(Level("tap", None, self.run, 1, 0 if self.classes else 1))
        while outputs and self._continues(frame, outputs[0]):
            del outputs[0]
        depth = self.groups * self.folds * kernel
        if self.classes:
            folds = [level._replace(weight=0) for level in folds]
            depth = 1 + sum(int(numbers.max()) for numbers in self.classes)
        inner = [level for level in (*folds, *taps) if level.most > 1]
        self.levels = [frame, *outputs, *_merged(inner)]
        self.element = Pointer(
            [level.element for level in self.levels], self.depth.bit_length() - 1, start
        )
        self.weight = Pointer(
            [level.weight for level in self.levels], (depth - 1).bit_length(), weight
        )
        done = np.append(self.release, self.release[0] + self.size)
        ahead = self.release + self.depth - self.need
        short = np.append(-self.need[0], self.need[:-1] - self.need[1:])
        short[0] = min(short[0], self.need[-1] - self.size - self.need[0])
        self.slack = Format.containing(int(short.min()), int(ahead.max()), 0)
        roomy = done[1:] + self.depth - np.maximum(self.need, 0)
        self.room = Format.containing(
            0, max(int(self.release[0]) + self.depth, int(roomy.max())), 0
        )

    def _continues(self, frame: Level, outer: Level) -> bool:
        """Whether the outermost loop over outputs moves everything as the frame does, so that no
        one has to know where it ends.
        """
        count = self.axes[outer.axis or 0].met[2]
        return (
            bool((count == count[0]).all() and count[0] and self.steady[outer.axis or 0].all())
            and not ((np.asarray(outer.element) - frame.element) % self.depth).any()
            and not np.any(outer.weight)
            and bool(np.all(outer.need == frame.need) and np.all(outer.release == frame.release))
        )

    def columns(self, stored: bool, weighted: bool) -> dict[int, dict[str, Ints]]:
        """For each axis the tables that its outputs index, by what they say.

        ``stored``, ``weighted``: whether there are memories of elements and of weights to address.
        """
        moved = ["need", "release", *["element"] * stored, *["weight"] * weighted]
        outputs = [level for level in self.levels if level.kind == "output"]
        result: dict[int, dict[str, Ints]] = {}
        for a, axis in enumerate(self.axes):
            named: dict[str, Ints] = {}
            for n, level in enumerate(self.levels):
                if level.axis == a and level.kind == "tap":
                    named[f"turns_{n}"] = np.maximum(np.asarray(level.turns) - 1, 0)
                elif level.axis == a:
                    for what in moved:
                        step = getattr(level, what)
                        if what in ("element", "weight"):
                            step = step % (1 << getattr(self, what).width)
                        named[what] = step
            count = axis.met[2]
            if (count == 0).any():
                named["empty"] = (count == 0).astype(np.int64)
            inner = any((level.axis or 0) > a and np.any(level.release) for level in outputs)
            if inner and not self.steady[a].all():
                named["moves"] = self.steady[a].astype(np.int64)
            if named:
                result[a] = named
        return result

    def inventory(self, bits: int, weighted: bool) -> Inventory:
        """What it is made of but for the tables, for words of so many bits."""
        total = Inventory()
        if bits:
            total += cost.counter(self.depth) + cost.ram(self.kept, bits, self.style)
            total += self.element.inventory()
        for level in self.levels[1:]:
            total += cost.counter(level.most) + cost.logic(6, 3)
            if not isinstance(level.turns, int):
                total += cost.logic(2 * (level.most - 1).bit_length()) + cost.logic(6, 3)
        for number in (self.slack, self.room):
            total += cost.register(number.width) + 2 * cost.adder(number.width)
            total += cost.logic(len(self._output_levels) + 1, number.width)
        total += cost.logic(self.room.width)
        return total + self.weight.inventory() if weighted else total

    @property
    def kept(self) -> int:
        """Words of the ring that are stored: a stride may pass over every second one, or more."""
        return self.depth >> self.element.zeros

    @property
    def _output_levels(self) -> list[int]:
        """The loops over frames and outputs."""
        return [n for n, level in enumerate(self.levels) if level.kind in ("frame", "output")]

    def events(self, stages: int) -> Events:
        """Transfers of ``i`` and ``o`` of a frame, with a core of ``stages`` before its sums."""
        length = self.lengths.reshape(self.positions, -1).sum(axis=1)
        firsts = np.cumsum(length) - length
        most = np.maximum.accumulate(self.need)
        waits = np.append(True, most[1:] > most[:-1])
        graph, issues = reduction_events(stages, self.lengths, firsts[waits])
        graph.event("i", self.size)
        arrivals = np.full(len(issues.chosen), NEVER)
        arrivals[np.searchsorted(issues.chosen, firsts[waits])] = self.need[waits] - 1
        graph.after("u", "i", 1, arrivals)
        awaited = self._awaited(np.arange(self.size), self.depth)
        frame, place = awaited // self.positions, awaited % self.positions
        last = (firsts + length - 1)[place] + frame * int(length.sum())
        issues.follow(graph, "i", last, 1)
        return graph


def _joined(axes: Sequence[WindowAxis]) -> list[WindowAxis]:
    """The axes, neighbours whose outputs meet one place each made one."""
    result: list[WindowAxis] = []
    for axis in axes:
        if result and axis.pointwise and result[-1].pointwise:
            size = result.pop().size * axis.size
            axis = WindowAxis(size, 1, size)
        result.append(axis)
    return result


def _reach(axis: WindowAxis) -> tuple[Ints, Ints, Ints]:
    """Last place that an output or one before it meets, first place that it or a later one meets,
    and whether all later ones begin behind that; outputs that meet nothing count as their
    neighbours.
    """
    _, first, count = axis.met
    last = np.maximum.accumulate(np.where(count, first + (count - 1) * axis.steps[1], 0))
    later = np.where(count, first, axis.size)
    later = np.minimum.accumulate(later[::-1])[::-1]
    later = np.where(later == axis.size, 0, later)
    later = np.maximum.accumulate(later)
    return last, later, np.append(later[1:] > later[:-1], True)


def _forward(values: Ints, more: int | Ints = 0) -> Ints:
    """Steps from each value to the next; the last, which nobody takes, like the one before."""
    steps = np.diff(values) + more
    return np.append(steps, steps[-1:])


def _merged(levels: list[Level]) -> list[Level]:
    """The nest with neighbouring loops made one where the outer continues what the inner does."""
    result: list[Level] = []
    for level in reversed(levels):
        inner = result[0] if result else None
        if (
            inner is not None
            and level.kind == inner.kind
            and isinstance(inner.turns, int)
            and level.element == inner.turns * inner.element
            and level.weight == inner.turns * inner.weight
        ):
            turns: Any = level.turns * inner.turns
            result[0] = inner._replace(axis=level.axis, turns=turns)
        else:
            result.insert(0, level)
    return result


@dataclass(frozen=True, eq=False)
class Windowed:
    """Sums over the windows of a frame.

    Parameters
    ----------
    window : which words meet
    core : what is made of them
    """

    window: Window
    core: MacCore | Reduction

    @cached_property
    def tables(self) -> dict[int, tuple[list[str], Tables]]:
        """For each axis what its tables say, and the tables."""
        return {
            a: (list(named), Tables(list(named.values()), self.window.table_style))
            for a, named in self.window.columns(
                self.core.word_bits > 0, self.core.addressed
            ).items()
        }

    @property
    def groups(self) -> int:
        """Transfers of ``o`` for each window."""
        return self.window.groups * self.window.folds

    def inventory(self) -> Inventory:
        """What it is made of."""
        core, window = self.core, self.window
        total = window.inventory(core.word_bits, core.addressed) + core.inventory()
        for a, (_, tables) in self.tables.items():
            total += cost.rom(tables.depth, tables.width, tables.style, tables.words)
            if tables.width:
                total += cost.mux2((window.axes[a].outputs - 1).bit_length())
        return total

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of a frame."""
        return self.window.events(self.core.stages)


class WindowedArray(wiring.Component):
    """Hardware of :class:`Windowed`.

    Members
    -------
    i : stream of the frame, ``simd`` channels a transfer
    o : stream of sums, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: Windowed):
        self.design = design
        core = design.core
        super().__init__(
            {
                "i": In(stream_signature(core.number, core.simd)),
                "o": Out(core.output),
            }
        )

    def elaborate(self, platform):
        m = Module()
        window, design = self.design.window, self.design.core
        m.submodules.core = core = design.component()
        connect(m, core.o, flipped(self.o))
        step, levels = core.step, window.levels
        issue, empty = Signal(), Signal()
        m.d.comb += issue.eq(step.valid & step.ready)

        turns = [Signal(range(level.most), name=f"turn_{n}") for n, level in enumerate(levels)]
        following = [Signal.like(turn, name=f"next_{n}") for n, turn in enumerate(turns)]
        numbers = self._numbers(m, following)
        lasts = self._lasts(turns, numbers, empty)
        # moves[n]: loop n begins its next turn, or begins anew
        moves = [issue & Cat(1, *lasts[n + 1 :]).all() for n in range(len(levels))]
        for n, (turn, after) in enumerate(zip(turns, following, strict=True)):
            m.d.comb += after.eq(turn)
            with m.If(moves[n]):
                m.d.comb += after.eq(Mux(lasts[n], 0, turn + 1))
            m.d.sync += turn.eq(after)
        if window.empties:
            m.d.comb += empty.eq(Cat(n["empty"] for n in numbers if "empty" in n).any())

        if design.addressed:
            weight = self._address(m, "weight", lasts, moves, numbers)
            m.d.comb += step.payload.address.eq(weight)
        if design.accumulates:
            taps = [last for last, level in zip(lasts, levels, strict=True) if level.kind == "tap"]
            m.d.comb += step.payload.last.eq(Cat(1, *taps).all())
        if design.empties:
            m.d.comb += step.payload.empty.eq(empty)

        slack = Signal(shape(window.slack), init=-int(window.need[0]))
        room = Signal(shape(window.room), init=int(window.release[0]) + window.depth)
        put = Signal()
        need, release = self._freed(m, lasts, moves, numbers)
        m.d.comb += [
            step.valid.eq(~slack[-1]),
            self.i.ready.eq(room != 0),
            put.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += [
            slack.eq(slack + put - need),
            room.eq(room - put + release),
        ]
        if design.word_bits:
            element = self._address(m, "element", lasts, moves, numbers)
            word = pick(self.i.payload.as_value(), design.number, design.elements)
            reading = issue & ~empty if window.empties else issue
            m.d.comb += core.word.eq(self._ring(m, put, reading, element, word))
        return m

    def _ring(self, m: Module, put, issue, element, word) -> Value:
        """The memory of the frame: takes a word of ``i`` where ``put``; what ``issue`` reads."""
        window = self.design.window
        m.submodules.ring = ring = Memory(
            shape=len(word), depth=window.kept, init=[], attrs={"ram_style": window.style}
        )
        write, read = ring.write_port(), ring.read_port(domain="sync")
        place, passed = Signal(range(window.depth)), window.element.zeros
        m.d.sync += place.eq(place + put)
        m.d.comb += [
            write.addr.eq(place >> passed),
            write.data.eq(word),
            write.en.eq(put & (place[:passed] == window.element.init % (1 << passed))),
            read.addr.eq(element >> passed),
            read.en.eq(issue),
        ]
        return read.data

    def _numbers(self, m: Module, following) -> list[dict[str, Value]]:
        """For each axis what its tables say of the present output."""
        window = self.design.window
        result: list[dict[str, Value]] = [{} for _ in window.axes]
        for a, (names, tables) in self.design.tables.items():
            m.submodules[f"axis_{a}"] = rom = Rom(tables)
            for n, level in enumerate(window.levels):
                if level.kind == "output" and level.axis == a:
                    m.d.comb += rom.address.eq(following[n])
            m.d.comb += rom.enable.eq(1)
            for n, name in enumerate(names):
                result[a][name] = tables.number(n, rom.data)
        return result

    def _lasts(self, turns, numbers, empty) -> list[Value]:
        """For each loop whether its turn is the last."""
        lasts: list[Value] = []
        for n, (level, turn) in enumerate(zip(self.design.window.levels, turns, strict=True)):
            fixed = isinstance(level.turns, int)
            final = level.most - 1 if fixed else numbers[level.axis][f"turns_{n}"]
            last = turn == final
            lasts.append(last | empty if level.kind == "tap" else last)
        return lasts

    def _address(self, m: Module, name: str, lasts, moves, numbers) -> Value:
        """A pointer: the address of this step."""
        pointer: Pointer = getattr(self.design.window, name)
        kept = {
            r.level: Signal(r.width, name=f"{name}_{r.level}", init=pointer.init >> r.zeros)
            for r in pointer.registers
        }
        starts: list[Value] = []  # for each level the address at the start of its turn
        address: Value = Const(pointer.init, pointer.width)
        zeros = {r.level: r.zeros for r in pointer.registers}
        for n in range(len(lasts)):
            if n in kept:
                fixed = Const(pointer.init % (1 << zeros[n]), zeros[n])
                address = Cat(fixed, kept[n])
            starts.append(address)
        base, step, after = (
            Signal(pointer.width, name=f"{name}_{what}") for what in ("base", "step", "after")
        )
        m.d.comb += [
            base.eq(self._innermost(lasts, starts)),
            step.eq(self._innermost(lasts, self._steps(name, numbers))),
            after.eq(base + step),
        ]
        for n, register in kept.items():
            with m.If(moves[n]):
                m.d.sync += register.eq(after >> zeros[n])
        return address

    def _freed(self, m: Module, lasts, moves, numbers) -> tuple[Value, Value]:
        """What the need and the release grow by: 0 but in the last step of a window."""
        window, grows = self.design.window, []
        outputs = [n for n, level in enumerate(window.levels) if level.kind in ("frame", "output")]
        lasts = lasts[: len(outputs)]
        finish = moves[len(outputs) - 1]
        for name in ("need", "release"):
            steps = self._steps(name, numbers)[: len(outputs)]
            if name == "release":
                for n in outputs:
                    inner = window.levels[n].axis
                    for a in range(inner or 0):
                        if "moves" in numbers[a]:
                            steps[n] = Mux(numbers[a]["moves"], steps[n], 0)
            most = Signal(shape(_spanning(window.levels, name)), name=name)
            with m.If(finish):
                m.d.comb += most.eq(self._innermost(lasts, steps))
            grows.append(most)
        return grows[0], grows[1]

    def _steps(self, name: str, numbers) -> list:
        """For each loop what a number moves by from turn to turn."""
        return [
            numbers[level.axis][name] if level.kind == "output" else getattr(level, name)
            for level in self.design.window.levels
        ]

    def _innermost(self, lasts, values) -> Value:
        """The value of the innermost loop that is not in its last turn; of the frame if all are."""
        chosen = values[0]
        for last, value in zip(lasts[1:], values[1:], strict=True):
            chosen = Mux(last, chosen, value)
        return chosen


def _spanning(levels: Sequence[Level], name: str) -> Format:
    """The format of everything that a number moves by."""
    steps = [np.atleast_1d(getattr(level, name)) for level in levels]
    low, high = min(int(s.min()) for s in steps), max(int(s.max()) for s in steps)
    return Format.containing(min(low, 0), max(high, 0), 0)
