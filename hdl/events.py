# SPDX-License-Identifier: Apache-2.0
"""Timed event graphs: when each transfer of a circuit happens, computed without simulating it.

The circuits of this project are elastic: every transfer happens in the first cycle in which all
that it waits for has happened. So the time of each is the maximum of some earlier times plus
constants, a linear system in max-plus algebra: evaluated once it is exact, stalls included.

Source: F. Baccelli, G. Cohen, G. J. Olsder, J.-P. Quadrat, Synchronization and Linearity, 1992,
chapter 2 (timed event graphs).
"""

from collections.abc import Iterable, Mapping
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
    two ports of a wire are one event). Where the words of a port go to several consumers right
    away, ``branches`` names the events at which these take them: an offer reaches all of them.
    """

    firings: dict[str, int] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)
    branches: dict[str, tuple[str, ...]] = field(default_factory=dict)

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

    def offered(
        self, target: str, source: str, delay: ArrayLike, index: ArrayLike | None = None
    ) -> None:
        """Like :meth:`after`, of the offer of words: their branches wait too."""
        for event in (target, *self.branches.get(target, ())):
            self.after(event, source, delay, index)

    def share(self, edge: Edge, other: str) -> None:
        """What one event waits for another waits for too; if it has more firings, its first."""
        delay, index = edge.delay, edge.index
        if len(index) < self.firings[other]:
            first = np.arange(self.firings[other]) == 0
            delay, index = np.where(first, delay[0], 0), np.where(first, index[0], NEVER)
        self.after(other, edge.source, delay, index)

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
        for name, branches in other.branches.items():
            known_as = (*self.branches.get(names[name], ()), *(names[b] for b in branches))
            self.branches[names[name]] = known_as

    def unite(self, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Make one event of each pair, that of the first name; the names that changed, old -> new.

        Both ends of a wire are one event.
        """
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while name in parent:
                name = parent[name]
            return name

        for first, second in pairs:
            first, second = root(first), root(second)
            if first != second:
                parent[second] = first
                known, firings = self.firings[first], self.firings.pop(second)
                if known != firings:
                    raise ValueError(
                        f"Events {first} must have {known} firings a frame, not {firings}"
                    )
        names = {name: root(name) for name in parent}
        self.edges = [
            Edge(
                names.get(edge.target, edge.target),
                names.get(edge.source, edge.source),
                edge.index,
                edge.delay,
            )
            for edge in self.edges
        ]
        self.ports = {port: names.get(event, event) for port, event in self.ports.items()}
        return names

    def repeated(self, times: int) -> "Events":
        """The graph whose frame is ``times`` frames of this one."""
        if times == 1:
            return self
        firings = {name: n * times for name, n in self.firings.items()}
        result = Events(firings, [], self.ports, self.branches)
        frames = np.arange(times)[:, None]
        for edge in self.edges:
            index = (edge.index + frames * self.firings[edge.source]).ravel()
            delay = (edge.delay + 0 * frames).ravel()  # faster than np.tile
            result.edges.append(Edge(edge.target, edge.source, index, delay))
        return result

    def times(self, frames: int) -> dict[str, NDArray[np.int64]]:
        """Cycle of every firing in the first ``frames`` frames, shape (frames, firings).

        Raises Deadlock where a firing waits for itself.
        """
        return _Evaluation(self).run(frames)

    def schedule(self, inputs: list[str], outputs: list[str]) -> "Schedule":
        """Latency, interval and the rest, once the schedule has become periodic."""
        evaluation = _Evaluation(self)
        parts = [evaluation.columns(part) for part in self._parts()]
        frames = 4
        while frames <= MAX_FRAMES:
            evaluation.run(frames)
            found = [_period(evaluation.times[:, part], evaluation.memory) for part in parts]
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


def chain(*graphs: Events) -> Events:
    """The graphs one after the other, the ``o`` of each being the ``i`` of the next."""
    result = Events()
    for n, graph in enumerate(graphs):
        ends = {graph.port("i"): "i" if n == 0 else f"link_{n}"}
        if graph.port("o") != graph.port("i"):
            ends[graph.port("o")] = "o" if n == len(graphs) - 1 else f"link_{n + 1}"
        elif n < len(graphs) - 1:
            raise ValueError("chain graphs must have registers between their ports")
        else:
            result.ports["o"] = ends[graph.port("i")]
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

    def room(self, written: str, read: str) -> int:
        """Fewest words with which a buffer between two events would hold neither of them back.

        A word takes the place of one that was read in a cycle before.
        """
        writes, reads = self.times[written].ravel(), self.times[read].ravel()
        return int((np.arange(1, len(writes) + 1) - np.searchsorted(reads, writes, "left")).max())


class _Evaluation:
    """Times of an event graph, frame after frame; later calls continue where earlier ended.

    Members
    -------
    times : so far, shape (frames, firings of all events)
    memory : how many frames back a firing may depend on another
    """

    def __init__(self, graph: Events):
        from . import event_times  # imports a compiler

        self._compiled = event_times
        self.names = list(graph.firings)
        places = {name: place for place, name in enumerate(self.names)}
        edges = sorted(graph.edges, key=lambda edge: places[edge.target])
        targets = np.array([places[edge.target] for edge in edges], np.int64)
        self.firings = np.fromiter(graph.firings.values(), np.int64, len(self.names))
        self.first = np.cumsum(self.firings) - self.firings
        lengths = self.firings[targets]
        self.edges = (
            np.searchsorted(targets, np.arange(len(self.names) + 1)),
            np.array([places[edge.source] for edge in edges], np.int64),
            np.cumsum(lengths) - lengths,
            np.concatenate([np.empty(0, np.int64), *(edge.index for edge in edges)]),
        )
        delays = np.concatenate([np.empty(0, np.int64), *(edge.delay for edge in edges)])
        sources = np.repeat(np.maximum(self.firings, 1)[self.edges[1]], lengths)
        index = self.edges[3]
        earlier = np.where(index > NEVER // 2, -(index // sources), 0)
        self.memory = int(earlier.max(initial=1))
        self.sequence, _ = event_times.order(self.firings, self.first, *self.edges, 1)
        self.times = np.empty((0, int(self.firings.sum())), np.int64)
        if self._complete:
            self.causes = event_times.causes(
                self.sequence, self.firings, self.first, *self.edges, delays, NEVER // 2
            )

    @property
    def _complete(self) -> bool:
        """Whether every firing of a frame has its place in the order, which goes for any frame."""
        return len(self.sequence) == self.times.shape[1]

    def columns(self, names: list[str]) -> slice | NDArray[np.int64]:
        """Where the firings of some events stand in ``times``."""
        if len(names) == len(self.names):
            return slice(None)
        chosen = np.isin(self.names, names)
        return np.flatnonzero(np.repeat(chosen, self.firings))

    def run(self, frames: int) -> dict[str, NDArray[np.int64]]:
        """Cycle of every firing in the first ``frames`` frames, shape (frames, firings)."""
        if not self._complete:
            _, done = self._compiled.order(self.firings, self.first, *self.edges, frames)
            for name, count, firings in zip(self.names, done, self.firings, strict=True):
                if count < frames * firings:
                    raise Deadlock(
                        f"Events {name} must not wait for itself, but firing {count} does: "
                        "the circuit would hang"
                    )
        known = len(self.times)
        if frames > known:
            times = np.empty((frames, len(self.sequence)), np.int64)
            times[:known] = self.times
            self._compiled.evaluate(times, known, self.sequence, *self.causes)
            self.times = times
        ends = self.first + self.firings
        return {
            name: self.times[:frames, first:end]
            for name, first, end in zip(self.names, self.first, ends, strict=True)
        }


def _period(times: NDArray[np.int64], memory: int) -> tuple[int, int] | None:
    """(first frame, frames) of the period of some events, or None if it is not seen yet.

    Firings depend on no more than ``memory`` earlier frames, so two runs of that many frames with
    equal times, up to one constant, repeat for ever.

    Parameters
    ----------
    times : shape (frames, firings)
    """
    frames = len(times)

    def step(early: int, late: int) -> int | None:
        """Cycles from one frame to another, or None if they are not the same for all events."""
        cycles = int(times[late, 0] - times[early, 0])
        return cycles if (times[late] - times[early] == cycles).all() else None

    for period in range(1, (frames - memory) // 2 + 1):
        start = frames - memory - period
        cycles = step(start, start + period)
        if cycles is not None and all(
            step(frame, frame + period) == cycles for frame in range(start + 1, start + memory)
        ):
            while start > 0 and step(start - 1, start - 1 + period) == cycles:
                start -= 1
            return start, period
    return None
