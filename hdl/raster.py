# SPDX-License-Identifier: Apache-2.0
"""The unrolled window: a stream of pixels becomes a stream of whole windows, up to one a cycle."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from quant import Format

from . import cost
from .cost import Inventory
from .events import NEVER, Events
from .steps import Countdown, CountdownCounter
from .stream import stream_signature


@dataclass(frozen=True)
class Axis:
    """One axis of a frame and of the windows that slide along it.

    Parameters
    ----------
    size : pixels
    kernel, stride, dilation : of the window
    before, after : pixels of padding
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def windows(self) -> int:
        """Positions of the window; less than 1 if it does not fit."""
        room = self.size + self.before + self.after - (self.kernel - 1) * self.dilation - 1
        return room // self.stride + 1

    def inside(self, tap: int) -> NDArray[np.bool_]:
        """For each position whether a tap of the window lies in the frame."""
        place = np.arange(self.windows) * self.stride - self.before + tap * self.dilation
        return (place >= 0) & (place < self.size)

    @cached_property
    def live(self) -> tuple[int, ...]:
        """Taps that ever lie in the frame; there is one, or the axis has no windows of worth."""
        return tuple(tap for tap in range(self.kernel) if self.inside(tap).any())


def can_unroll(axes: Sequence[Axis]) -> bool:
    """Whether :class:`Raster` makes these windows.

    It does for any stride and dilation, if on every axis there is a window, the last tap of the
    first one does not lie before the frame (``before <= dilation * (kernel - 1)``), and a window
    meets the frame.
    """
    return all(
        axis.windows >= 1
        and 0 <= axis.before <= axis.dilation * (axis.kernel - 1)
        and axis.after >= 0
        and axis.live
        for axis in axes
    )


def _trimmed(axis: Axis) -> tuple[Axis, int]:
    """The axis without the taps at both ends that are never in the frame, and the first one left.

    The windows stay the same number. The upper end stays where the first window's last tap would
    come to lie before the frame.
    """
    first, last = axis.live[0], axis.live[-1]
    if last * axis.dilation < axis.before:
        last = axis.kernel - 1
    kernel, before = last - first + 1, axis.before - first * axis.dilation
    reach = (axis.windows - 1) * axis.stride + (kernel - 1) * axis.dilation + 1
    after = reach - axis.size - before
    return Axis(axis.size, kernel, axis.stride, axis.dilation, before, after), first


class Part(NamedTuple):
    """Channels that are read at the same taps, and the taps, in the shape of the window."""

    channels: list[int]
    taps: NDArray[np.bool_]


class Raster:
    """Windows of a frame of pixels in raster order; what lies outside the frame is ``fill``.

    A frame takes a number of steps, one a cycle, row by row: a step takes the pixel at its place in
    the frame, if there is one, and shifts the window, which leaves after the step at its last tap
    if that is the place of a window. Rows are as long as the pixels or the windows in them, and
    behind the last row there are the steps that windows over the lower padding take. The taps lie
    at fixed delays: registers along a row, registers or memories for whole rows and for whole
    slices. Taps outside the frame see pixels of other rows or frames and are masked.

    An unrolled convolution or pooling is this, then ``hdl.Parallel`` or a tree on each window::

        raster = Raster(axes, channels, number, read=weight.any(axis=0))  # if can_unroll(axes)
        product = Parallel(weight, number, adders_per_stage)  # of shape (outputs, taps * channels)
        events = chain(raster.events(), product.events().repeated(raster.windows))

    Parameters
    ----------
    axes : of the frame, the slowest first
    channels : numbers of a pixel, a transfer of ``i``
    number : Format
    fill : value of the numbers outside the frame
    styles : for every axis but the last "block", "distributed" or "registers", what the memory of
        its delay becomes; "block" if left out
    read : bools, shape (taps * channels,): which numbers of a window anybody reads; the others are
        ``fill`` and cost nothing; all are read if left out
    largest : whether only the largest of a window counts, and ``fill`` is the lowest number

    Members
    -------
    windows : in a frame
    taps : of a window; a transfer of ``o`` has ``taps * channels`` numbers, channels fastest
    steps : of a frame, its interval
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        channels: int,
        number: Format,
        fill: int = 0,
        styles: Sequence[str] | None = None,
        read: NDArray[np.bool_] | None = None,
        largest: bool = False,
    ):
        if not can_unroll(axes):
            raise ValueError(f"Raster axes must be such that can_unroll holds, not {list(axes)}")
        self.axes, self.channels, self.number, self.fill = tuple(axes), channels, number, fill
        self.largest, self.windows = largest, prod(axis.windows for axis in axes)
        self.taps = prod(axis.kernel for axis in axes)
        self.parts = self._parts(read)
        trimmed = [_trimmed(axis) for axis in axes]
        self.first_taps = [first for _, first in trimmed]
        self._trimmed = [axis for axis, _ in trimmed]
        styles = ["block"] * (len(axes) - 1) if styles is None else list(styles)
        # Length of a row, a slice: an axis of one pixel and one window is no more than a wire.
        self.lengths = [max(a.size, (a.windows - 1) * a.stride + 1) for a in self._trimmed]
        kept = [n for n, length in enumerate(self.lengths) if length > 1] or [0]
        self.kept, self.chain_axis = kept, kept[-1]
        self.styles = {n: styles[n] for n in kept[:-1]} | {self.chain_axis: "registers"}
        pitches = [prod(self.lengths[n + 1 :]) for n in range(len(axes))]
        self.delays = [axis.dilation * p for axis, p in zip(self._trimmed, pitches, strict=True)]
        self.pixel_steps = self._raster(pitches, [np.arange(a.size) for a in self._trimmed])
        self.window_steps = self._raster(
            pitches,
            [
                np.arange(a.windows) * a.stride + (a.kernel - 1) * a.dilation - a.before
                for a in self._trimmed
            ],
        )
        self.steps = 1 + max(int(self.pixel_steps[-1]), int(self.window_steps[-1]))
        self.pixel = Countdown(self.pixel_steps, self.steps)
        self.window = Countdown(self.window_steps, self.steps)

    @staticmethod
    def _raster(pitches: list[int], places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        total = np.zeros(1, np.int64)
        for pitch, place in zip(pitches, places, strict=True):
            total = (total[:, None] + place * pitch).ravel()
        return total

    def _parts(self, read: NDArray[np.bool_] | None) -> list[Part]:
        kernel = tuple(axis.kernel for axis in self.axes)
        wanted = np.ones((*kernel, self.channels), bool)
        if read is not None:
            wanted &= np.reshape(read, wanted.shape)
        for n, axis in enumerate(self.axes):
            never = np.setdiff1d(np.arange(axis.kernel), axis.live)
            np.moveaxis(wanted, n, 0)[never] = False
        alike: dict[bytes, list[int]] = {}
        for channel in range(self.channels):
            taps = wanted[..., channel]
            if taps.any():
                alike.setdefault(taps.tobytes(), []).append(channel)
        return [Part(channels, wanted[..., channels[0]]) for channels in alike.values()]

    def used(self, n: int) -> list[int]:
        """Taps of an axis that are ever read inside the frame."""
        others = tuple(a for a in range(len(self.axes)) if a != n)
        return np.flatnonzero(
            np.array([part.taps.any(axis=others) for part in self.parts]).any(axis=0)
        ).tolist()

    def masked(self, n: int) -> bool:
        """Whether any tap of an axis that is read lies outside the frame now and then."""
        return any(not self.axes[n].inside(tap).all() for tap in self.used(n))

    @cached_property
    def counters(self) -> list[tuple[int, int]]:
        """What counts the windows for the masks, the fastest first: (positions, axis or -1).

        Axes without masks are counted together with those around them.
        """
        masked = [n for n in range(len(self.axes)) if self.masked(n)]
        if not masked:
            return []
        found: list[tuple[int, int]] = []
        plain = 1
        for n in reversed(range(masked[0], len(self.axes))):
            if n in masked:
                if plain > 1:
                    found.append((plain, -1))
                found.append((self.axes[n].windows, n))
                plain = 1
            else:
                plain *= self.axes[n].windows
        return found

    @cached_property
    def apart(self) -> frozenset[int]:
        """Pairs of taps, 0 of the first two, that are joined without a comparison.

        Never both lie in the frame, and only the largest number counts.
        """
        if not self.largest:
            return frozenset()
        seen = np.ones((1, 1), bool)  # taps, windows
        for axis in self.axes:
            inside = np.array([axis.inside(tap) for tap in range(axis.kernel)])
            seen = (seen[:, None, :, None] & inside[None, :, None]).reshape(
                len(seen) * axis.kernel, -1
            )
        pairs = zip(seen[::2], seen[1::2], strict=False)
        return frozenset(n for n, (a, b) in enumerate(pairs) if not (a & b).any())

    def line(self, n: int, tap: int) -> int:
        """How many delays along an axis a tap lies behind the newest."""
        return self.first_taps[n] + self._trimmed[n].kernel - 1 - tap

    def columns(self, n: int) -> Iterator[tuple[int, tuple[int, ...], list[int]]]:
        """What is delayed along an axis: part, taps of the axes before it, taps that are read."""
        kernel = [axis.kernel for axis in self.axes[:n]]
        for part, (_, every) in enumerate(self.parts):
            read = np.asarray(every.any(axis=tuple(range(n + 1, len(self.axes)))))
            for place in np.ndindex(*kernel):
                if read[place].any():
                    yield part, place, np.flatnonzero(read[place]).tolist()

    def bits(self, part: int) -> int:
        """Of a pixel's numbers in a part."""
        return len(self.parts[part].channels) * self.number.width

    def memories(self) -> dict[int, tuple[int, int]]:
        """Axis -> (words, bits) of the memory of its delays."""
        found = {}
        for n in self.kept[:-1]:
            columns = self.columns(n)
            bits = sum(self.bits(part) * self.line(n, taps[0]) for part, _, taps in columns)
            if bits:
                found[n] = self.delays[n], bits
        return found

    def routes(self, n: int) -> dict[tuple[int, ...], tuple[tuple[int, ...], int]]:
        """(part, taps of the axes before one) -> source, and registers between that and the tap.

        The source is the pixel, (part,), or a word of a memory: (part, taps before its axis, line).
        """
        if n == 0:
            return {(part,): ((part,), 0) for part in range(len(self.parts))}
        before, style, found = self.routes(n - 1), self.styles.get(n - 1), {}
        for part, column, taps in self.columns(n - 1):
            source, registers = before[part, *column]
            for tap in taps:
                line = self.line(n - 1, tap)
                route = source, registers
                if style == "registers":  # those in a row begin with the pixel that comes
                    first = int(n - 1 == self.chain_axis)
                    route = source, registers + first + line * self.delays[n - 1]
                elif style and line:
                    route = (part, *column, line), 0
                found[part, *column, tap] = route
        return found

    def inventory(self, held: bool = False) -> Inventory:
        """What it is made of; ``held``: registers take every window, and a mask is their reset."""
        total = cost.register(1) + cost.logic(3, 3)
        total += self.pixel.inventory() + self.window.inventory()
        read = set(self.routes(len(self.axes)).values())
        for n, (depth, bits) in self.memories().items():
            if self.styles[n] != "registers":
                total += cost.counter(depth) + cost.ram(depth, bits, self.styles[n])
                before = self.routes(n)
                read |= {
                    before[part, *column]
                    for part, column, taps in self.columns(n)
                    if self.line(n, taps[0])
                }
        for source in {source for source, _ in read}:
            places = sorted(registers for other, registers in read if other == source)
            for stages in np.diff(places, prepend=0).tolist():
                total += cost.delay_line(self.bits(source[0]), stages)
        for positions, n in self.counters:
            total += cost.counter(positions) + cost.logic(3)
            for tap in self.used(n) if n >= 0 else ():
                inside = self.axes[n].inside(tap)
                ends = int(not inside[0]) + int(not inside[-1])
                total += cost.logic((positions - 1).bit_length(), ends)
        if held:
            return total
        for part, (_, every) in enumerate(self.parts):
            for window in np.argwhere(every):
                seen = [axis.inside(tap) for axis, tap in zip(self.axes, window, strict=True)]
                masks = sum(not windows.all() for windows in seen)
                if int(np.ravel_multi_index(window, every.shape)) // 2 not in self.apart:
                    total += cost.mask(masks, self.bits(part))  # else what joins them takes it in
        return total

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of one frame, and ``g``: the steps that take no pixel."""
        graph = Events()
        pixels, windows = len(self.pixel_steps), self.windows
        graph.event("i", pixels)
        graph.event("o", windows, spacing=None)
        gaps = np.setdiff1d(np.arange(self.steps), self.pixel_steps)
        kinds = {"i": self.pixel_steps}
        if len(gaps):
            graph.event("g", len(gaps))
            kinds["g"] = gaps

        def follow(target: str, steps: NDArray[np.int64], events: dict[str, Any], delay: int):
            """After what happens at the given steps, -1 being the last of the frame before."""
            for source, places in events.items():
                frame, step = steps // self.steps, steps % self.steps
                index = np.minimum(np.searchsorted(places, step), len(places) - 1)
                hit = places[index] == step
                graph.after(
                    target, source, delay, np.where(hit, index + frame * len(places), NEVER)
                )

        for target, steps in kinds.items():
            others = {source: places for source, places in kinds.items() if source != target}
            follow(target, steps - 1, others, 1)
            follow(target, steps - 1, {"o": self.window_steps}, 0)
        follow("o", self.window_steps, kinds, 1)
        return graph


class RasterWindow(wiring.Component):
    """Hardware of :class:`Raster`.

    Members
    -------
    i : stream of pixels
    o : stream of windows
    """

    def __init__(self, design: Raster):
        self.design = design
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.channels)),
                "o": Out(stream_signature(design.number, design.taps * design.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        m.submodules.pixel = pixel = CountdownCounter(design.pixel)
        m.submodules.window = window = CountdownCounter(design.window)
        full, free, step = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~full | o.ready),
            step.eq(free & (i.valid | ~pixel.hit)),
            i.ready.eq(free & pixel.hit),
            pixel.advance.eq(step),
            window.advance.eq(step),
            o.valid.eq(full),
        ]
        with m.If(free):
            m.d.sync += full.eq(step & window.hit)

        lines: dict[tuple[int, ...], list[Any]] = {
            (part,): [Cat(i.payload[channel] for channel in channels)]
            for part, (channels, _) in enumerate(design.parts)
        }
        for n, style in design.styles.items():
            if style != "registers" and n in design.memories():
                self._delayed(m, n, lines, step)

        inside, kernel = self._masks(m), [axis.kernel for axis in design.axes]
        m.d.comb += [number.eq(design.fill) for number in o.payload]
        for (part, *place), route in design.routes(len(design.axes)).items():
            pixel_value = self._at(m, route, lines, step)
            masks = [inside[n, tap] for n, tap in enumerate(place) if (n, tap) in inside]
            start = int(np.ravel_multi_index(place, kernel)) * design.channels
            with m.If(Cat(masks).all()) if masks else nullcontext():
                for k, channel in enumerate(design.parts[part].channels):
                    number = pixel_value.word_select(k, design.number.width)
                    m.d.comb += o.payload[start + channel].eq(number)
        return m

    def _delayed(self, m: Module, n: int, lines: dict, step) -> None:
        """Columns as they were one delay, two delays, ... before, from a memory.

        The memory is a ring of a delay's length; each word moves on from delay to delay. It is read
        a step ahead, at another place than it is written.
        """
        design = self.design
        depth, width = design.memories()[n]
        memory = Memory(shape=width, depth=depth, init=[], attrs={"ram_style": design.styles[n]})
        m.submodules[f"delay_{n}"] = memory
        write, read = memory.write_port(), memory.read_port(domain="sync")
        place, following = (Signal(range(depth), name=f"{s}_{n}") for s in ("place", "next"))
        m.d.comb += [
            following.eq(Mux(place == depth - 1, 0, place + 1)),
            read.addr.eq(following),
            read.en.eq(step),
            write.addr.eq(place),
            write.en.eq(step),
        ]
        with m.If(step):
            m.d.sync += place.eq(following)
        words, start, before = [], 0, design.routes(n)
        for part, column, taps in design.columns(n):
            route = before[part, *column]
            for line in range(1, design.line(n, taps[0]) + 1):
                words.append(self._at(m, route, lines, step))
                route = (part, *column, line), 0
                lines[route[0]] = [read.data[start : start + design.bits(part)]]
                start += design.bits(part)
        m.d.comb += write.data.eq(Cat(words))

    def _at(self, m: Module, route: tuple[tuple[int, ...], int], lines: dict, step):
        """What comes from a source by so many registers, which are added to its line."""
        source, registers = route
        line = lines[source]
        while len(line) <= registers:
            label = "_".join(map(str, ("pixel", *source, len(line) - 1)))
            register = Signal(len(line[-1]), name=label, reset_less=True)
            with m.If(step):
                m.d.sync += register.eq(line[-1])
            line.append(register)
        return line[registers]

    def _masks(self, m: Module) -> dict[tuple[int, int], Any]:
        """(axis, tap) -> whether it lies in the frame, for the window that is offered."""
        design, masks = self.design, {}
        carry = self.o.valid & self.o.ready
        for k, (positions, n) in enumerate(design.counters):
            count, last = Signal(range(positions), name=f"count_{k}"), Signal(name=f"last_{k}")
            m.d.comb += last.eq(count == positions - 1)
            with m.If(carry):
                m.d.sync += count.eq(Mux(last, 0, count + 1))
            carry = carry & last
            for tap in design.used(n) if n >= 0 else ():
                inside = design.axes[n].inside(tap)
                if not inside.all():
                    places = np.flatnonzero(inside)
                    mask = Signal(name=f"inside_{n}_{tap}")
                    m.d.comb += mask.eq((count >= int(places[0])) & (count <= int(places[-1])))
                    masks[n, tap] = mask
        return masks
