# SPDX-License-Identifier: Apache-2.0
"""The unrolled window: a stream of pixels becomes a stream of whole windows, up to one a cycle."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal
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


class Raster:
    """Windows of a frame of pixels in raster order; what lies outside the frame is ``fill``.

    A frame takes a number of steps, one a cycle, row by row: a step takes the pixel at its place in
    the frame, if there is one, and shifts the window, which leaves after the step at its last tap
    if that is the place of a window. Rows are as long as the pixels or the windows in them, and
    behind the last row there are the steps that windows over the lower padding take. The taps lie
    at fixed delays: registers along a row, memories for whole rows and for whole slices. Taps
    outside the frame see pixels of other rows or frames and are masked.

    An unrolled convolution or pooling is this, then ``hdl.Parallel`` or a tree on each window::

        raster = Raster(axes, channels, number, 0, style)   # where can_unroll(axes)
        product = Parallel(weight.reshape(outputs, -1), number, ...)
        events = chain(raster.events(), product.events().repeated(raster.windows))

    Parameters
    ----------
    axes : of the frame, the slowest first; one to three or more
    channels : numbers of a pixel, a transfer of ``i``
    number : Format
    fill : value of the numbers outside the frame
    styles : for every axis but the last "block", "distributed" or "registers", what the memory of
        its delay becomes; "block" if left out

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
    ):
        if not can_unroll(axes):
            raise ValueError(f"Raster axes must be such that can_unroll holds, not {list(axes)}")
        self.axes, self.channels, self.number, self.fill = tuple(axes), channels, number, fill
        self.windows = prod(axis.windows for axis in axes)
        self.taps = prod(axis.kernel for axis in axes)
        trimmed = [_trimmed(axis) for axis in axes]
        self.first_taps = [first for _, first in trimmed]
        self._trimmed = [axis for axis, _ in trimmed]
        styles = ["block"] * (len(axes) - 1) if styles is None else list(styles)
        # Length of a row, a slice: an axis of one pixel and one window is no more than a wire.
        self.lengths = [max(a.size, (a.windows - 1) * a.stride + 1) for a in self._trimmed]
        kept = [n for n, length in enumerate(self.lengths) if length > 1] or [0]
        self.kept, self.chain_axis = kept, kept[-1]
        self.styles = {n: ([*styles, "block"])[n] for n in kept[:-1]}
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

    def masked(self, n: int) -> bool:
        """Whether any live tap of an axis lies outside the frame now and then."""
        return any(not self.axes[n].inside(tap).all() for tap in self.axes[n].live)

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

    def lines(self, n: int) -> int:
        """Delays in a row along an axis."""
        return self._trimmed[n].kernel - 1

    def live_lines(self, n: int) -> list[int]:
        """Delays along an axis at which there are taps, from 0."""
        return [self.first_taps[n] + self.lines(n) - tap for tap in reversed(self.axes[n].live)]

    def memories(self) -> dict[int, tuple[int, int]]:
        """Axis -> (words, bits) of the memory of its delays."""
        columns, bits = 1, self.channels * self.number.width
        found = {}
        for n in self.kept[:-1]:
            if self.lines(n):
                found[n] = self.delays[n], self.lines(n) * columns * bits
            columns *= len(self.live_lines(n))
        return found

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = cost.register(1) + cost.logic(3, 3)
        total += self.pixel.inventory() + self.window.inventory()
        for n, (depth, bits) in self.memories().items():
            total += cost.counter(depth) + cost.ram(depth, bits, self.styles[n])
        bits = self.channels * self.number.width
        chains = prod(len(self.live_lines(n)) for n in self.kept[:-1])
        at = -1
        for line in self.live_lines(self.chain_axis):
            place = line * self.delays[self.chain_axis]
            total += chains * cost.delay_line(bits, place - at)
            at = place
        for positions, n in self.counters:
            total += cost.counter(positions) + cost.logic(3)
            for tap in self.axes[n].live if n >= 0 else ():
                inside = self.axes[n].inside(tap)
                ends = int(not inside[0]) + int(not inside[-1])
                total += cost.logic((positions - 1).bit_length(), ends)
        for window in np.ndindex(*(axis.kernel for axis in self.axes)):
            seen = [axis.inside(tap) for axis, tap in zip(self.axes, window, strict=True)]
            if all(windows.any() for windows in seen):
                total += cost.logic(1 + sum(not windows.all() for windows in seen), bits)
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

        # Columns of pixels, all at the last tap's place in their row, by their taps.
        columns: dict[tuple[int, ...], Any] = {(): i.payload.as_value()}
        for n in range(len(design.axes)):
            if n in design.kept[:-1]:
                columns = self._delayed(m, n, columns, step)
            elif n == design.chain_axis:
                columns = self._shifted(m, n, columns, step)
            else:
                tap = design.axes[n].live[0]
                columns = {(*place, tap): column for place, column in columns.items()}

        inside = self._masks(m)
        bits, every = design.channels * design.number.width, o.payload.as_value()
        constant = Const(design.fill, design.number.width)
        constant = Cat(constant for _ in range(design.channels))
        for place in np.ndindex(*(axis.kernel for axis in design.axes)):
            start = int(np.ravel_multi_index(place, [a.kernel for a in design.axes])) * bits
            pixel_value = columns.get(place, constant)
            masks = [inside[n, tap] for n, tap in enumerate(place) if (n, tap) in inside]
            if place in columns and masks:
                pixel_value = Mux(Cat(masks).all(), pixel_value, constant)
            m.d.comb += every[start : start + bits].eq(pixel_value)
        return m

    def _tap(self, n: int, line: int) -> int:
        return self.design.first_taps[n] + self.design.lines(n) - line

    def _delayed(self, m: Module, n: int, columns: dict, step) -> dict:
        """Each column, and as it was one delay, two delays, ... before, from a memory.

        The memory is a ring of a delay's length; each word moves on from delay to delay. It is read
        a step ahead, at another place than it is written.
        """
        design, names = self.design, list(columns)
        lines = design.lines(n)
        fields: dict[tuple, Any] = {(place, 0): column for place, column in columns.items()}
        if lines:
            depth, width = design.memories()[n]
            memory = Memory(
                shape=width, depth=depth, init=[], attrs={"ram_style": design.styles[n]}
            )
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
            bits = width // (lines * len(names))
            keys = [(name, line) for line in range(1, lines + 1) for name in names]
            for k, key in enumerate(keys):
                fields[key] = read.data[k * bits : (k + 1) * bits]
            m.d.comb += write.data.eq(Cat(fields[name, line - 1] for name, line in keys))
        return {
            (*name, self._tap(n, line)): fields[name, line]
            for name in names
            for line in design.live_lines(n)
        }

    def _shifted(self, m: Module, n: int, columns: dict, step) -> dict:
        """Registers along a row for each column."""
        design = self.design
        lines, delay = design.live_lines(n), design.delays[n]
        taps = {}
        for name, column in columns.items():
            for place in range(lines[-1] * delay + 1):
                label = "_".join(map(str, ("pixel", *name, place)))
                register = Signal(len(column), name=label, reset_less=True)
                with m.If(step):
                    m.d.sync += register.eq(column)
                column = register
                if place % delay == 0 and place // delay in lines:
                    taps[*name, self._tap(n, place // delay)] = column
        return taps

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
            for tap in design.axes[n].live if n >= 0 else ():
                inside = design.axes[n].inside(tap)
                if not inside.all():
                    places = np.flatnonzero(inside)
                    mask = Signal(name=f"inside_{n}_{tap}")
                    m.d.comb += mask.eq((count >= int(places[0])) & (count <= int(places[-1])))
                    masks[n, tap] = mask
        return masks
