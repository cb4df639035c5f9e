# SPDX-License-Identifier: Apache-2.0
"""Timed event graphs: when each transfer of a circuit happens, computed without simulating it.

The circuits of this project are elastic: every transfer happens in the first cycle in which all
that it waits for has happened. So the time of each is the maximum of some earlier times plus
constants, a linear system in max-plus algebra: evaluated once it is exact, stalls included.

Source: F. Baccelli, G. Cohen, G. J. Olsder, J.-P. Quadrat, Synchronization and Linearity, 1992,
chapter 2 (timed event graphs).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_FRAMES = 1024  # evaluation gives up on finding a period after so many

NEVER = np.iinfo(np.int64).min // 2
"""As an edge's index: this firing waits for nothing."""


class Deadlock(RuntimeError):
    """A firing waits for itself: the circuit would hang."""


@dataclass(frozen=True, eq=False)
class Edge:
    """Firing k of ``target`` comes ``delay[k]`` cycles after firing ``index[k]`` of ``source``, or
    later.

    Parameters
    ----------
    index : ints, shape (firings of target in a frame,)
        Counted from the first firing of ``source`` in the same frame: negative in earlier frames;
        firings before the very first hold nothing back.
    delay : ints, same shape, cycles
    """

    target: str
    source: str
    index: NDArray[np.int64]
    delay: NDArray[np.int64]


@dataclass
class Events:
    """A timed event graph: named events, each with a number of firings in every frame.

    An event is a sequence of firings, such as the transfers of one port; ``edges`` say what each
    firing waits for. ``ports`` names the event of a port where port and event differ in name (the
    two ports of a wire are one event).
    """

    firings: dict[str, int] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)

    def port(self, name: str) -> str:
        """The event that is the transfers of a port."""
        return self.ports.get(name, name)

    def event(self, name: str, firings: int, spacing: int | None = 1) -> str:
        """Add an event with ``firings`` a frame, ``spacing`` cycles apart or more."""
        if name in self.firings:
            raise ValueError(f"Events name must be new, not {name!r}")
        self.firings[name] = firings
        if spacing is not None:
            self.serial(name, spacing)
        return name

    def serial(self, name: str, spacing: int = 1) -> None:
        """Successive firings of an event are at least ``spacing`` cycles apart."""
        self.after(name, name, spacing, np.arange(self.firings[name]) - 1)

    def after(
        self, target: str, source: str, delay: ArrayLike, index: ArrayLike | None = None
    ) -> None:
        """Firing k of ``target`` comes ``delay`` cycles after firing ``index[k]`` of ``source``, or
        later.

        Without ``index`` firing k waits for firing k.
        """
        n = self.firings[target]
        places = np.arange(n) if index is None else np.broadcast_to(np.asarray(index), (n,))
        delays = np.broadcast_to(np.asarray(delay), (n,))
        self.edges.append(Edge(target, source, places.astype(np.int64), delays.astype(np.int64)))

    def include(self, other: "Events", prefix: str = "", rename: Mapping[str, str] | None = None):
        """Add all of ``other``, its events named ``prefix + name`` unless ``rename`` gives a name.

        An event renamed to one that exists already is the same event: both must be satisfied.
        """
        rename = rename or {}
        names = {name: rename.get(name, prefix + name) for name in other.firings}
        for name, firings in other.firings.items():
            known = self.firings.setdefault(names[name], firings)
            if known != firings:
                raise ValueError(
                    f"Events {names[name]} must have {known} firings a frame, not {firings}"
                )
        self.edges += [
            Edge(names[edge.target], names[edge.source], edge.index, edge.delay)
            for edge in other.edges
        ]

    def repeated(self, times: int) -> "Events":
        """The graph whose frame is ``times`` frames of this one."""
        if times == 1:
            return self
        result = Events({name: n * times for name, n in self.firings.items()}, [], self.ports)
        frames = np.arange(times)[:, None]
        for edge in self.edges:
            index = (edge.index + frames * self.firings[edge.source]).ravel()
            result.edges.append(Edge(edge.target, edge.source, index, np.tile(edge.delay, times)))
        return result

    def times(self, frames: int) -> dict[str, NDArray[np.int64]]:
        """Cycle of every firing in the first ``frames`` frames, shape (frames, firings).

        Raises Deadlock where a firing waits for itself.
        """
        return _Evaluation(self).run(frames)

    def schedule(self, inputs: list[str], outputs: list[str]) -> "Schedule":
        """Latency, interval and the rest, once the schedule has become periodic."""
        evaluation, parts, memory = _Evaluation(self), self._parts(), self._memory()
        frames = 4
        while frames <= MAX_FRAMES:
            times = evaluation.run(frames)
            found = [_period([times[name] for name in part], frames, memory) for part in parts]
            if all(found):
                start = max(part[0] for part in found if part)
                period = lcm(*(part[1] for part in found if part))
                times = evaluation.run(max(frames, start + period + 1))
                return Schedule(times, tuple(inputs), tuple(outputs), start, period)
            frames *= 2
        raise RuntimeError(f"Events schedule must become periodic within {MAX_FRAMES} frames")

    def _parts(self) -> list[list[str]]:
        """Events that hang together, directly or not; each part has a period of its own."""
        part = {name: name for name in self.firings}

        def root(name: str) -> str:
            while part[name] != name:
                name = part[name]
            return name

        for edge in self.edges:
            part[root(edge.target)] = root(edge.source)
        groups: dict[str, list[str]] = {}
        for name in self.firings:
            groups.setdefault(root(name), []).append(name)
        return list(groups.values())

    def _memory(self) -> int:
        """How many frames back a firing may depend on another."""
        reach = 1
        for edge in self.edges:
            real = edge.index[edge.index > NEVER // 2]
            if real.size:
                reach = max(reach, -(int(real.min()) // self.firings[edge.source]))
        return reach


def chain(*graphs: Events) -> Events:
    """The graphs one after the other, the ``o`` of each being the ``i`` of the next."""
    result = Events()
    for n, graph in enumerate(graphs):
        ends = {graph.port("i"): "i" if n == 0 else f"link_{n}"}
        if graph.port("o") != graph.port("i"):
            ends[graph.port("o")] = "o" if n == len(graphs) - 1 else f"link_{n + 1}"
        elif n < len(graphs) - 1:
            raise ValueError("chain graphs must have registers between their ports")
        result.include(graph, f"{n}.", ends)
    return result


def pipeline_events(stages: int, transfers: int = 1, inputs: tuple[str, ...] = ("i",)) -> Events:
    """Transfers at the ends of an elastic pipeline of ``stages`` registers; wires if 0.

    Several inputs are taken together: they are one event.
    """
    graph = Events(ports=dict.fromkeys(inputs, "i"))
    graph.event("i", transfers)
    if stages:
        graph.event("o", transfers)
        graph.after("o", "i", stages)
        graph.after("i", "o", 0, np.arange(transfers) - stages)
    else:
        graph.ports["o"] = "i"
    return graph


@dataclass(frozen=True, eq=False)
class Schedule:
    """Times of every event, and what follows from them.

    Parameters
    ----------
    times : event name -> cycles, shape (frames, firings)
    inputs, outputs : names of the port events
    start, period : the schedule repeats every ``period`` frames from frame ``start`` on
    """

    times: dict[str, NDArray[np.int64]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: int
    period: int

    @property
    def latency(self) -> int:
        """Last output transfer of frame 0 minus its first input transfer, in cycles."""
        last = max(int(self.times[name][0, -1]) for name in self.outputs)
        return last - min(int(self.times[name][0, 0]) for name in self.inputs)

    @property
    def completions(self) -> dict[str, NDArray[np.int64]]:
        """For each output the cycle of the last transfer of every frame."""
        return {name: self.times[name][:, -1] for name in self.outputs}

    @property
    def interval(self) -> float:
        """Mean spacing of the frames' last output transfers once steady, in cycles."""
        return max(
            int(last[self.start + self.period] - last[self.start]) / self.period
            for last in self.completions.values()
        )

    @property
    def longest_interval(self) -> int:
        """Longest spacing of the frames' last output transfers once steady, in cycles."""
        return max(
            int(np.diff(last[self.start : self.start + self.period + 1]).max())
            for last in self.completions.values()
        )

    def occupancy(self, written: str, read: str) -> int:
        """Most words that a buffer between two events holds at the end of any cycle."""
        writes, reads = self.times[written].ravel(), self.times[read].ravel()
        return int((np.arange(1, len(writes) + 1) - np.searchsorted(reads, writes, "right")).max())


def _period(times: list[NDArray[np.int64]], frames: int, memory: int) -> tuple[int, int] | None:
    """(first frame, frames) of the period of some events, or None if it is not seen yet.

    Firings depend on no more than ``memory`` earlier frames, so two runs of that many frames with
    equal times, up to one constant, repeat for ever.
    """
    table = np.concatenate(times, axis=1)
    relative = table - table[:, :1]
    starts = table[:, 0]
    for period in range(1, (frames - memory) // 2 + 1):
        start = frames - memory - period
        same = (relative[start : start + memory] == relative[start + period :]).all()
        steps = starts[start + period :] - starts[start : start + memory]
        if same and (steps == steps[0]).all():
            while start > 0 and (
                (relative[start - 1] == relative[start - 1 + period]).all()
                and starts[start - 1 + period] - starts[start - 1] == steps[0]
            ):
                start -= 1
            return start, period
    return None


class _Evaluation:
    """Times of an event graph, frame after frame; later calls continue where earlier ended."""

    def __init__(self, graph: Events):
        self.graph = graph
        self.known: dict[str, list[int]] = {name: [] for name in graph.firings}
        self.waiting: dict[str, list[str]] = {name: [] for name in graph.firings}
        # For each event and firing in a frame, what it waits for: the times and the waiting list
        # of the source, its firings in a frame, the index and the delay.
        self.causes: dict[str, list[list[tuple[list[int], list[str], int, int, int]]]] = {
            name: [[] for _ in range(firings)] for name, firings in graph.firings.items()
        }
        seen = set()
        for edge in graph.edges:
            key = (edge.target, edge.source, edge.index.tobytes(), edge.delay.tobytes())
            if key in seen:
                continue
            seen.add(key)
            known, waiting = self.known[edge.source], self.waiting[edge.source]
            firings = graph.firings[edge.source]
            causes = self.causes[edge.target]
            for k, (index, delay) in enumerate(
                zip(edge.index.tolist(), edge.delay.tolist(), strict=True)
            ):
                if index > NEVER // 2:
                    causes[k].append((known, waiting, firings, index, delay))

    def run(self, frames: int) -> dict[str, NDArray[np.int64]]:
        todo = list(reversed(self.known))
        while todo:
            name = todo.pop()
            if self._advance(name, frames):
                waiting = self.waiting[name]
                todo += waiting
                waiting.clear()
        for name, times in self.known.items():
            if len(times) < frames * self.graph.firings[name]:
                raise Deadlock(
                    f"Events {name} must not wait for itself, but firing {len(times)} does: "
                    "the circuit would hang"
                )
        return {
            name: np.array(times, np.int64).reshape(frames, -1)
            for name, times in self.known.items()
        }

    def _advance(self, name: str, frames: int) -> bool:
        """Compute as many firings of one event as can be; whether there were any."""
        times, causes = self.known[name], self.causes[name]
        begun = len(times)
        frame, k = divmod(begun, len(causes))
        while frame < frames:
            time = 0
            for known, waiting, firings, index, delay in causes[k]:
                place = frame * firings + index
                if place >= 0:
                    try:
                        earliest = known[place] + delay
                    except IndexError:
                        waiting.append(name)
                        return len(times) > begun
                    if earliest > time:
                        time = earliest
            times.append(time)
            k += 1
            if k == len(causes):
                frame, k = frame + 1, 0
        return len(times) > begun
