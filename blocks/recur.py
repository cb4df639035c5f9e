# SPDX-License-Identifier: Apache-2.0
"""Recur: the loop over a cell, which takes one step after the other and gives itself its state."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf, prod
from operator import itemgetter
from typing import Any

import numpy as np
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from numpy.typing import ArrayLike

from hdl import (
    Cost,
    Deal,
    DealArray,
    Events,
    Feed,
    FeedArray,
    Fifo,
    Inventory,
    Start,
    Target,
    stream_signature,
)
from quant import Format, Ints, LoopKernel, Program, check_shape

from .binary import Add, Mul, Sub
from .block import Candidate, Tensor
from .composition import Composition, lossless
from .configurations import Configuration
from .linear import Linear
from .network import RESET, RESETS, Network, NetworkPlan, Node, with_marks

ROOM = 8
"""Words more than two steps have, for what is under way."""

AT_ONCE = 2**12
"""Most products of a matrix in a cycle that a search looks at."""

ESTIMATED = 3
"""Steps of which a plan's interval is computed, and twice as many, to tell that of all."""


@dataclass(frozen=True, eq=False)
class Recur:
    """``y, state = cell(x, state)`` for the steps of a frame, from an initial state on.

    Of the cell's inputs the first is x, the others are states; the output of the same name is a
    state after the step. The plan of a Recur is that of its cell, in which a state enters with as
    many lanes as it leaves.

    Error: that of its cell

    Source: ONNX Scan (https://onnx.ai/onnx/operators/onnx__Scan.html)

    Parameters
    ----------
    cell : Network
    steps : int from 1; x has the shape (steps, *shape of the cell's x)
    initial : for each state its ints before the first step, None for an input of that name
    sequences : outputs of the cell that are given for every step
    finals : outputs of the cell that are given after the last step alone
    streams : int from 1; several independent sequences travel step by step, shape (steps, streams,
        ...), each with a state of its own
    kept : whether the state lives on from frame to frame, so that frames of a batch follow each
        other in time; all initial states must then be constant, and the last input is a mark for
        every frame, 1 where the state becomes the initial one before it, that of all streams alike:
        none of them begins anew alone

    >>> from blocks import Add, Node
    >>> x, total = Tensor((8,), Format(8, 4)), Tensor((8,), Format(12, 4))
    >>> nodes = (Node("sum", Add(x, total, total.format), ("x", "total")),)
    >>> cell = Network({"x": x, "total": total}, nodes, {"total": "sum"})
    >>> block = Recur(cell, 8, (np.zeros(8, int),), sequences=("total",))
    >>> print(block.reference(np.arange(64).reshape(8, 8))[-1])
    [224 232 240 248 256 264 272 280]
    """

    cell: Network
    steps: int
    initial: tuple[Ints | None, ...]
    sequences: tuple[str, ...]
    finals: tuple[str, ...] = ()
    streams: int = 1
    kept: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.cell, Network):
            raise TypeError(f"Recur cell must be a Network, not {self.cell!r}")
        if self.cell.kept:
            raise ValueError(
                f"Recur cell must not keep a state of its own, as {self.cell.kept[0]} does"
            )
        for name in ("steps", "streams"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"Recur {name} must be an int from 1, not {value!r}")
        if not self.states:
            raise ValueError("Recur cell must have a state besides x, not one input")
        if not isinstance(self.initial, tuple) or len(self.initial) != len(self.states):
            raise ValueError(
                f"Recur initial must be a tuple of one for each state of {self._listed}, "
                f"not {self.initial!r}"
            )
        initial = []
        for name, values in zip(self.states, self.initial, strict=True):
            tensor = self.tensor(name)
            if name not in self.cell.output_names:
                raise ValueError(f"Recur cell must have an output for its state {name}, not none")
            if not tensor.holds(self._result(name)):
                raise ValueError(
                    f"Recur cell output {name} must be {tensor} like the state, "
                    f"not {self._result(name)}"
                )
            if values is not None:
                check_shape(values, tensor.shape, f"Recur initial {name}")
                values = tensor.check(values, f"Recur initial {name}")
                values.setflags(write=False)
            initial.append(values)
        object.__setattr__(self, "initial", tuple(initial))
        if type(self.kept) is not bool:
            raise TypeError(f"Recur kept must be a bool, not {self.kept!r}")
        if self.kept and None in (None if values is None else 0 for values in initial):
            raise ValueError("Recur initial must be constant where the state is kept, not an input")
        for field in ("sequences", "finals"):
            names = getattr(self, field)
            if not isinstance(names, tuple) or len(set(names)) != len(names):
                raise ValueError(
                    f"Recur {field} must be a tuple of names, each once, not {names!r}"
                )
            for name in names:
                if name not in self.cell.output_names:
                    raise ValueError(
                        f"Recur {field} must be outputs of the cell, "
                        f"{', '.join(self.cell.output_names)}, not {name!r}"
                    )
        if not self.sequences + self.finals:
            raise ValueError("Recur must give a sequence or a final, not nothing")
        for name in self.cell.output_names:
            if name not in (*self.states, *self.sequences, *self.finals):
                raise ValueError(
                    f"Recur cell output {name} must be a state, a sequence or a final, not unread"
                )

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return self.cell.input_names[1:]

    @property
    def _listed(self) -> str:
        return ", ".join(self.states)

    def _port(self, name: str) -> str:
        """The cell's port for an input."""
        return list(self.cell.inputs)[self.cell.input_names.index(name)]

    def _exit(self, name: str) -> str:
        """The cell's port for an output."""
        return list(self.cell.outputs)[self.cell.output_names.index(name)]

    def tensor(self, name: str) -> Tensor:
        """Of an input of the cell."""
        return self.cell.inputs[self._port(name)]

    def _result(self, name: str) -> Tensor:
        return self.cell.outputs[self._exit(name)]

    @property
    def _given(self) -> dict[str, Ints | None]:
        return dict(zip(self.states, self.initial, strict=True))

    @property
    def rounds(self) -> int:
        """Steps of the cell in a frame, of all streams."""
        return self.steps * self.streams

    @property
    def _each(self) -> tuple[int, ...]:
        """The axis of the streams."""
        return (self.streams,) if self.streams > 1 else ()

    @property
    def entries(self) -> dict[str, Tensor]:
        """The inputs by their names in the cell; that of marks is RESET."""
        x = self.cell.input_names[0]
        tensor = self.tensor(x)
        tensors = {x: replace(tensor, shape=(self.steps, *self._each, *tensor.shape))}
        for name, values in self._given.items():
            if values is None:
                tensor = self.tensor(name)
                tensors[name] = replace(tensor, shape=(*self._each, *tensor.shape))
        if self.kept:
            tensors[RESET] = RESETS
        return tensors

    @property
    def inputs(self) -> dict[str, Tensor]:
        tensors = self.entries
        if len(tensors) == 1:
            return {"i": next(iter(tensors.values()))}
        return {f"i_{name}": tensor for name, tensor in tensors.items()}

    @property
    def marked(self) -> bool:
        """Whether the last input is a mark for every frame."""
        return self.kept

    @property
    def outputs(self) -> dict[str, Tensor]:
        tensors = {}
        for name in self.sequences:
            tensor = self._result(name)
            tensors[name] = replace(tensor, shape=(self.steps, *self._each, *tensor.shape))
        for name in self.finals:
            tensor = self._result(name)
            tensors[f"{name}_last"] = replace(tensor, shape=(*self._each, *tensor.shape))
        if len(tensors) == 1:
            return {"o": next(iter(tensors.values()))}
        return {f"o_{name}": tensor for name, tensor in tensors.items()}

    def reference(self, *frames: ArrayLike) -> Any:
        """Integers in, integers out, shapes (..., *shape); a tuple if there are several outputs.

        Marks may be left out where there are none.
        """
        frames = with_marks(self, frames)
        if len(frames) != len(self.inputs):
            raise ValueError(f"Recur inputs must be {len(self.inputs)} arrays, not {len(frames)}")
        values = [
            tensor.check(frame, f"Recur input {port}")
            for (port, tensor), frame in zip(self.inputs.items(), frames, strict=True)
        ]
        x, own = values[0], iter(values[1:])
        if self.kept:
            return self._successive(x, *own)
        batch = x.shape[: x.ndim - len(self.inputs[self._entry].shape)] + self._each
        state = []
        for name, initial in self._given.items():
            first = next(own) if initial is None else initial
            state.append(np.broadcast_to(first, (*batch, *self.tensor(name).shape)))
        axis = x.ndim - len(self.inputs[self._entry].shape)
        seen: dict[str, list[Ints]] = {name: [] for name in self.sequences}
        for step in range(self.steps):
            y = self.cell.reference(np.take(x, step, axis), *state)
            results = dict(
                zip(self.cell.output_names, y if isinstance(y, tuple) else (y,), strict=True)
            )
            state = [results[name] for name in self.states]
            for name, found in seen.items():
                found.append(results[name])
        given = [np.stack(found, axis) for found in seen.values()]
        given += [results[name] for name in self.finals]
        return given[0] if len(given) == 1 else tuple(given)

    def _successive(self, x: Ints, marks: Ints) -> Any:
        """All frames of a batch one after the other, from mark to mark as one long one."""
        shape = self.inputs[self._entry].shape
        batch = x.shape[: x.ndim - len(shape)]
        names = tuple(dict.fromkeys((*self.sequences, *self.finals)))
        steps = x.size // (prod(shape) // self.steps)
        if not steps:
            results = [np.empty((*batch, *t.shape), np.int64) for t in self.outputs.values()]
            return results[0] if len(results) == 1 else tuple(results)
        parts = []
        for part in np.split(x.reshape(steps, *shape[1:]), np.flatnonzero(marks) * self.steps):
            if len(part):
                long = replace(self, steps=len(part), kept=False, sequences=names, finals=())
                y = long.reference(part)
                parts.append(y if isinstance(y, tuple) else (y,))
        found = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        frames = {n: v.reshape(*batch, self.steps, *v.shape[1:]) for n, v in found.items()}
        results = [frames[name] for name in self.sequences]
        results += [np.take(frames[name], -1, len(batch)) for name in self.finals]
        return results[0] if len(results) == 1 else tuple(results)

    def kernel(self) -> LoopKernel:
        """The reference on tiles of floats; several outputs lie one behind the other in one."""
        program = self.cell.program
        names = [*self.states, *(n for n in self.cell.output_names if n not in self.states)]
        places = [self.cell.output_names.index(name) for name in names]
        ordered = Program(program.inputs, program.steps, tuple(program.outputs[n] for n in places))
        return LoopKernel(
            ordered,
            self.steps,
            self.streams,
            tuple(None if values is None else values.ravel() for values in self.initial),
            tuple(tensor.format for tensor in self.cell.outputs.values()),
            tuple(names.index(name) for name in self.sequences),
            tuple(names.index(name) for name in self.finals),
            self.kept,
        )

    @property
    def _entry(self) -> str:
        """The port of x."""
        return next(iter(self.inputs))

    def plans(self, target: Target) -> Iterator[Candidate]:
        """From slow to fast and dear: mappings of the cell that none beats in both respects.

        Buffers are so large that none holds the loop back. Mappings of very many products at a
        time are left out, for the price of each must be known.
        """
        from .planner import MANNERS, choices, chosen_candidates, mapped, weight

        known = choices(self.cell, target)
        for name, own in known.items():
            shortest = max(candidate.interval for candidate in own) // AT_ONCE
            known[name] = [candidate for candidate in own if candidate.interval >= shortest]
        fastest = max(min(c.interval for c in own) for own in known.values())
        found: dict[str, tuple[float, int, NetworkPlan]] = {}
        for interval in sorted({c.interval for own in known.values() for c in own}):
            for manner in MANNERS if interval >= fastest else ():
                chosen = chosen_candidates(self.cell, known, target, interval, False, manner=manner)
                plan = self.with_lanes(mapped(self.cell, chosen))
                if repr(plan) not in found:
                    price = sum(weight(candidate.cost, target) for candidate in chosen.values())
                    shortest = self.rounds * max(c.interval for c in chosen.values())
                    found[repr(plan)] = price, shortest, plan
        least = inf
        for _, shortest, plan in sorted(found.values(), key=itemgetter(0, 1)):
            if shortest < least:
                candidate = self._candidate(plan, target)
                if candidate.interval < least:
                    least = candidate.interval
                    yield candidate

    def roomy(self, plan: NetworkPlan) -> NetworkPlan:
        """The plan with buffers for all words of two steps."""
        largest = max(tensor.size for tensor in self.cell.flat.tensors.values())
        buffers = self.cell.buffers(plan)
        depths = dict.fromkeys(buffers, 2 * self.streams * largest + ROOM)
        return self.cell.with_buffers(plan, depths, dict.fromkeys(buffers, "block"))

    def _candidate(self, plan: NetworkPlan, target: Target) -> Candidate:
        plan = self.roomy(plan)
        step = self.cell.timing(plan)
        few = [min(self.steps, n) for n in (ESTIMATED, 2 * ESTIMATED)]
        short, long = (replace(self, steps=n)._interval(plan, step) for n in few)
        more = (self.steps - few[1]) * (long - short) / ESTIMATED  # a step is like the one before
        return Candidate(plan, ceil(long + more), partial(self.cost, plan, target))

    def _interval(self, plan: NetworkPlan, step: Events) -> float:
        graph = self._closed(plan, step)
        ports = ([graph.port(p) for p in ports] for ports in (self.inputs, self.outputs))
        return graph.schedule(*ports).interval

    def with_lanes(self, plan: NetworkPlan) -> NetworkPlan:
        """The plan of the cell, in which states enter with as many lanes as they leave."""
        lanes = dict(plan.lanes)
        for name in self.states:
            if self.cell.source_of(name) in self.cell.input_names:
                lanes[self._exit(name)] = lanes[self._port(name)]
            else:
                lanes[self._port(name)] = lanes[self._exit(name)]
        return replace(plan, lanes=lanes)

    def lanes(self, plan: NetworkPlan) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        if not isinstance(plan, NetworkPlan):
            raise TypeError(f"Recur plan must be NetworkPlan, not {plan!r}")
        for name in self.states:
            enter, leave = plan.lanes[self._port(name)], plan.lanes[self._exit(name)]
            if enter != leave:
                raise ValueError(
                    f"Recur state {name} must enter with as many lanes as it leaves, {leave}, "
                    f"not {enter}"
                )
        names = [self.cell.input_names[0], *(n for n, v in self._given.items() if v is None)]
        exits = (*self.sequences, *self.finals)
        return {
            **{p: plan.lanes[self._port(n)] for p, n in zip(self.inputs, names, strict=False)},
            **({f"i_{RESET}": 1} if self.kept else {}),
            **{p: plan.lanes[self._exit(n)] for p, n in zip(self.outputs, exits, strict=True)},
        }

    def _check_buffers(self, plan: NetworkPlan) -> None:
        """Refuse a plan in which a state goes round by wires alone."""
        for name in self.states if self.steps > 1 and not self.kept else ():
            if name in self._passed(name, plan):
                raise ValueError(
                    f"Recur state {name} must pass a buffer of a word or more on its way round, "
                    "not wires alone"
                )

    def _passed(self, state: str, plan: NetworkPlan) -> list[str]:
        """The states that a state reaches, steps later too, without passing a buffer.

        Whether a block takes a word may depend at once on whether the next one does; round a loop
        that must end at a buffer.
        """
        cell = self.cell.flat
        reached, found = [state], []
        for source in reached:
            for route in cell.routes:
                if route.source != source or plan.depths.get(route.name):
                    continue
                if getattr(plan.plans.get(route.node), "held", False):
                    continue
                if route.node:
                    new = [*cell.node(route.node).tensors]
                else:
                    new = [n for n in self.states if self._exit(n) == route.port]
                    found += new
                reached += [name for name in new if name not in reached]
        return found

    def levels(self, plan: NetworkPlan) -> dict[str, str]:
        """Name of every buffer of the cell -> signal that counts the words in that."""
        return {name: f"step.{signal}" for name, signal in self.cell.levels(plan).items()}

    def feed(self, name: str, plan: NetworkPlan) -> Feed:
        """What feeds a state to the cell."""
        tensor, lanes = self.tensor(name), plan.lanes[self._port(name)]
        words, initial = tensor.size // lanes, self._given[name]
        if initial is not None:
            initial = np.tile(initial.reshape(words, lanes), (self.streams, 1))
        return Feed(initial, self.streams * words, self.steps, tensor.format, lanes, self.kept)

    def deal(self, name: str, plan: NetworkPlan) -> tuple[Deal, list[str]]:
        """What an output of the cell is dealt to, and by which names."""
        wants, taker = [], []
        if name in self.states and (self.kept or self.steps > 1):
            wants, taker = ["all" if self.kept else "others"], [""]
        if name in self.sequences:
            wants, taker = [*wants, "all"], [*taker, name]
        if name in self.finals:
            wants, taker = [*wants, "last"], [*taker, f"{name}_last"]
        words = self._result(name).size // plan.lanes[self._exit(name)]
        ports = ["" if t == "" else "o" if len(self.outputs) == 1 else f"o_{t}" for t in taker]
        return Deal(tuple(wants), self.streams * words, self.steps), ports

    def rtl(self, plan: NetworkPlan) -> "RecurRtl":
        """A new circuit."""
        self._check_buffers(plan)
        return RecurRtl(self, plan)

    def timing(self, plan: NetworkPlan) -> Events:
        """When every transfer of a frame happens; names of the cell's buffers as in a network.

        The buffer r of the cell is written by ``r.write`` and read by ``r.read``.
        """
        self.lanes(plan)
        self._check_buffers(plan)
        return self._closed(plan, self.cell.timing(plan))

    def _closed(self, plan: NetworkPlan, step: Events) -> Events:
        """The timing, that of the cell being ``step``."""
        cell = step.repeated(self.rounds)
        graph = Events()
        graph.include(cell, "cell.")
        graph.ports = {
            name: f"cell.{event}"
            for name, event in cell.ports.items()
            if name.endswith((".read", ".write"))
        }

        def at(port: str) -> str:
            return f"cell.{cell.port(port)}"

        x = self._entry
        graph.ports[x] = at(self._port(self.cell.input_names[0]))
        exits = {n: at(self._exit(n)) for n in self.cell.output_names}
        offers = {n: [e for e in graph.edges if e.target == exits[n]] for n in exits}
        for name, initial in self._given.items():
            feed, event = self.feed(name, plan), at(self._port(name))
            source = graph.ports[x]
            if initial is None:
                port = f"i_{name}"
                source = graph.event(f"initial.{name}", feed.words)
                graph.ports[port] = source
            feed.offers(graph, event, source)
        for name, event in exits.items():
            deal, ports = self.deal(name, plan)
            for branch, port in enumerate(ports):
                if not port and self.kept:
                    feed, back = self.feed(name, plan), at(self._port(name))
                    target, first = event, 0
                    if deal.wants != ("all",):
                        target = graph.event(f"kept.{name}", graph.firings[event])
                        deal.join(graph, offers[name], event, branch, target, first)
                    feed.kept_words(graph, back, target)
                    continue
                if not port:
                    target, first = at(self._port(name)), self.feed(name, plan).words
                elif deal.wants == ("all",):
                    graph.ports[port] = event
                    continue
                else:
                    target, first = graph.event(f"deal.{port}", len(deal.taken(branch))), 0
                    graph.ports[port] = target
                deal.join(graph, offers[name], event, branch, target, first)
        if self.kept:
            port = f"i_{RESET}"
            graph.ports[port] = graph.event(RESET, 1)
            Start.mark_events(graph, RESET, graph.ports[x])
        return graph

    def cost(self, plan: NetworkPlan, target: Target) -> Cost:
        """What it takes on a target: the cell, and what closes the loop."""
        total = Inventory()
        feeds = [self.feed(name, plan) for name in self.states]
        followers = sum(feed.initial is not None for feed in feeds)
        if followers:
            words = self.inputs[self._entry].size // self.lanes(plan)[self._entry]
            total += Start.inventory(words, followers, self.kept)
        total = sum((feed.inventory() for feed in feeds), total)
        for feed in feeds if self.kept else ():
            bits = feed.lanes * feed.number.width
            total += Fifo.inventory(feed.words, bits, _style(feed.words))
        for name in self.cell.output_names:
            deal, ports = self.deal(name, plan)
            if ports and deal.wants != ("all",):
                total += deal.inventory()
        return self.cell.cost(plan, target) + total.cost(target)


def _style(words: int) -> str:
    """What the buffer of a state becomes that is kept from frame to frame."""
    return "registers" if words <= 16 else "block"


class RecurRtl(wiring.Component):
    """Hardware of :class:`Recur`: the cell's circuit, what feeds its states and deals its results.

    Members
    -------
    i or i_<name>, o or o_<name> : streams of the inputs and outputs
    """

    def __init__(self, recur: Recur, plan: NetworkPlan):
        self._recur, self._plan = recur, plan
        lanes, members = recur.lanes(plan), {}
        for flow, ports in ((In, recur.inputs), (Out, recur.outputs)):
            for port, tensor in ports.items():
                members[port] = flow(stream_signature(tensor.format, lanes[port]))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        recur, plan = self._recur, self._plan
        m.submodules.step = cell = recur.cell.rtl(plan)
        feeds = {}
        for name in recur.states:
            feeds[name] = FeedArray(recur.feed(name, plan))
            m.submodules[f"{name}_feed"] = feeds[name]
            connect(m, feeds[name].o, getattr(cell, recur._port(name)))
        x, port = recur._entry, recur._port(recur.cell.input_names[0])
        followers = [feed.start for feed in feeds.values() if feed.design.initial is not None]
        for name, feed in feeds.items():
            if feed.design.initial is None:
                connect(m, flipped(getattr(self, f"i_{name}")), feed.initial)
        entry = getattr(cell, port)
        if followers:
            words = recur.inputs[x].size // recur.lanes(plan)[x]
            start = Start(entry.payload.shape(), words, len(followers), recur.kept)
            m.submodules.start = start
            for n, follower in enumerate(followers):
                connect(m, getattr(start, f"start_{n}"), follower)
            connect(m, start.o, entry)
            entry = start.i
        if recur.kept:
            connect(m, flipped(getattr(self, f"i_{RESET}")), start.mark)
        connect(m, flipped(getattr(self, x)), entry)
        for name in recur.cell.output_names:
            design, ports = recur.deal(name, plan)
            source = getattr(cell, recur._exit(name))
            if not ports:  # a state of a single step, which nobody reads
                m.d.comb += source.ready.eq(1)
                continue
            ends = [flipped(getattr(self, p)) if p else feeds[name].i for p in ports]
            if recur.kept and name in feeds:
                words = feeds[name].design.words
                kept = Fifo(source.payload.shape(), words, _style(words), full=True)
                m.submodules[f"{name}_kept"] = kept
                connect(m, kept.o, feeds[name].i)
                ends[0] = kept.i
            if design.wants == ("all",):
                connect(m, source, ends[0])
                continue
            m.submodules[f"{name}_deal"] = deal = DealArray(design, source.payload.shape())
            connect(m, source, deal.i)
            for branch, end in enumerate(ends):
                connect(m, getattr(deal, f"o_{branch}"), end)
        return m


def recur_configuration(random: np.random.Generator, index: int) -> Configuration:
    """Cells of one or two states that add and multiply what they are given."""
    from .planner import plan

    number = Format(int(random.integers(3, 8)), int(random.integers(0, 4)), bool(index % 2))
    width = 1 if index == 0 else int(random.integers(1, 5))
    x, h = Tensor((width,), number), Tensor((width,), Format(number.width + 1, number.frac))
    net = Composition(x=x, h=h, **({"c": x} if index % 3 == 2 else {}))
    weight = random.integers(-4, 4, (2, width, width))
    weight[:, 0, 0] = 3
    bias = random.integers(-9, 9, width)
    net.add("of_x", lossless(Linear, x, weight[0], bias, Format(3, 2)), "x")
    net.add("of_h", lossless(Linear, h, weight[1], bias * 0, Format(3, 2)), "h")
    net.add("h_next", lambda a, b: Add(a, b, h.format), "of_x", "of_h")
    results = {"h": "h_next"}
    if index % 3 == 2:  # a state that keeps x for a step
        net.add("y_next", lambda a, b: Sub(a, b, Format(6, number.frac)), "h_next", "c")
        results |= {"c": "x", "y": "y_next"}
    elif index % 3 == 1:
        net.add("y_next", lambda a, b: Mul(a, b, Format(6, number.frac)), "h_next", "x")
        results |= {"y": "y_next"}
    cell = net.network(**results)
    initial: list[Any] = []
    for place, name in enumerate(cell.input_names[1:]):
        tensor = net.inputs[name]
        ends = tensor.format.min, tensor.format.max + 1
        given = index % 4 == 3 and place == 0
        initial.append(None if given else random.integers(*ends, tensor.shape) * (index % 5 > 0))
    sequences: tuple[str, ...] = ("y",) if "y" in results else ("h",)
    finals: tuple[str, ...] = ("h",) if "y" in results else ()
    if index % 4 == 2:
        sequences, finals = (), (*sequences, *finals)
    steps, kept = int(random.integers(1, 5)), index % 5 == 1 and index % 4 != 3
    if not kept and not all(state is None for state in initial):
        steps = max(2, steps)  # a single step from a constant state is no loop but constants
    streams = 1 + (index % 4 == 1)
    loop = Recur(cell, steps, tuple(initial), sequences, finals, streams, kept)
    inputs = loop.entries
    node = Node("loop", loop, tuple(inputs))
    outputs = {f"y{n}": tensor for n, tensor in enumerate(node.tensors)}
    network = Network(inputs, (node,), outputs)
    interval = steps * loop.streams * int(random.choice([30, 60, 200]))
    return Configuration(loop, plan(network, Target.named("ecp5"), interval).plans["loop"])
