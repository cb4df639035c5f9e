# SPDX-License-Identifier: Apache-2.0
"""Networks: any directed acyclic graph of blocks, itself a block."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from math import gcd
from typing import Any

import numpy as np
from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from numpy.typing import ArrayLike

from hdl import (
    MARK,
    Cost,
    Edge,
    Events,
    Fifo,
    Fork,
    Gather,
    Inventory,
    Scatter,
    Start,
    Target,
    legal_name,
    shape,
    stream_signature,
)
from quant import Ints, LoopKernel, MoveKernel, Program, ProgramInput, Session, Step

from .binary import Mul
from .block import RAM_STYLES, Block, Candidate, Tensor

RESET = "reset"
"""Name of the input with a mark for every frame: 1 where states become the initial ones before."""

RESETS = Tensor((1,), MARK)
"""What that input takes."""

UNMARKED = np.zeros(1, np.int64)
"""Of a frame before which nothing is reset."""


@dataclass(frozen=True)
class Node:
    """A block of a network, under a name, fed by sources.

    Parameters
    ----------
    name : str, without dots; those separate the names of nested networks
    block : any block, or a Network
    sources : for every input of the block the name of a network input or of an earlier node
        (``node.output`` for the port ``o_output`` of a block with several outputs); the marks of a
        block that keeps a state may be left out, and are then those of the network
    """

    name: str
    block: Any
    sources: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, str]:
        """Names of the tensors that it gives -> the block's ports that they leave by."""
        return {
            self.name if port == "o" else f"{self.name}.{port.removeprefix('o_')}": port
            for port in self.block.outputs
        }


@dataclass(frozen=True)
class Route:
    """The way from a source to one input of a node, or to an output of the network.

    Parameters
    ----------
    source : name of a network input, or of a tensor that a node gives
    node, port : of the consumer; node is "" for an output of the network
    """

    source: str
    node: str
    port: str

    @property
    def name(self) -> str:
        """``node.port``, under which a plan holds the depth of the buffer on this route."""
        return f"{self.node}.{self.port}" if self.node else self.port


@dataclass(frozen=True)
class NetworkPlan:
    """How every block of a flat network is mapped, and what lies between them.

    Parameters
    ----------
    plans : node name -> plan of its block
    lanes : port of the network -> numbers in a transfer
    depths : name of a route -> words in its buffer; 0 for wires
    styles : name of a route -> what the memory of its buffer becomes
    """

    plans: Mapping[str, Any]
    lanes: Mapping[str, int]
    depths: Mapping[str, int] = field(default_factory=dict)
    styles: Mapping[str, str] = field(default_factory=dict)


class Network:
    """Blocks joined into a directed acyclic graph.

    Error: that of its blocks

    Source: F. Baccelli et al., Synchronization and Linearity, 1992, chapter 2, of the timing

    Where a block keeps a state from frame to frame the network has a further input ``reset``, with
    a mark for every frame, 1 if all states become the initial ones before it. A mark enters the
    circuit together with the first transfer of the first input.

    Parameters
    ----------
    inputs : name -> Tensor of one frame; at least one
    nodes : in an order in which every source comes before what it feeds
    outputs : name -> source; at least one

    Members
    -------
    nodes : as given
    input_names, output_names : as given; the ports are ``i`` and ``o`` where there is one, else
        ``i_<name>`` and ``o_<name>``

    >>> from quant import Format
    >>> from blocks import Add, Linear
    >>> x = Tensor((8,), Format(8, 4))
    >>> linear = Linear(x, np.eye(8, dtype=int) * 3, np.zeros(8, int), Format(4, 1), x.format)
    >>> nodes = Node("linear", linear, ("x",)), Node("sum", Add(x, x, x.format), ("x", "linear"))
    >>> block = Network({"x": x}, nodes, {"y": "sum"})
    >>> print(block.reference(np.arange(8)))
    [ 0  3  5  8 10 13 15 18]
    """

    def __init__(
        self, inputs: Mapping[str, Tensor], nodes: Sequence[Node], outputs: Mapping[str, str]
    ):
        for argument, given in (("inputs", inputs), ("outputs", outputs)):
            if not isinstance(given, Mapping):
                raise TypeError(f"Network {argument} must be a mapping by name, not {given!r}")
        if not isinstance(nodes, Sequence) or not all(isinstance(node, Node) for node in nodes):
            raise TypeError(f"Network nodes must be a sequence of Nodes, not {nodes!r}")
        for node in nodes:
            if not isinstance(node.sources, tuple):
                raise TypeError(
                    f"Network node {node.name} sources must be a tuple, not {node.sources!r}"
                )
        self.nodes = tuple(_marked(node) for node in nodes)
        if any(len(a.sources) > len(b.sources) for a, b in zip(self.nodes, nodes, strict=True)):
            inputs = {**inputs, RESET: RESETS} if RESET not in inputs else inputs
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)
        self._sources = dict(outputs)
        for kind, names in (("inputs", self.input_names), ("outputs", self.output_names)):
            if not names:
                raise ValueError(f"Network {kind} must be at least one, not none")
            for name in names:
                if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                    raise ValueError(f"Network {kind} must have identifiers as names, not {name!r}")
        self.tensors: dict[str, Tensor] = {}
        for name, tensor in inputs.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(f"Network input {name} must be a Tensor, not {tensor!r}")
            self.tensors[name] = tensor
        for node in self.nodes:
            self._check(node)
            self.tensors |= {n: node.block.outputs[port] for n, port in node.tensors.items()}
        for name, source in outputs.items():
            self._known(source, f"Network output {name}")
        read = {*outputs.values(), *(source for node in self.nodes for source in node.sources)}
        for name in self.tensors:
            if name not in read:  # a stream that nobody takes would stop all before it
                raise ValueError(f"Network tensor {name} must be read by a node or be an output")
        self.marked = any(
            getattr(node.block, "marked", False) and node.sources[-1] == RESET
            for node in self.nodes
        )
        if self.marked and (self.input_names[-1] != RESET or len(inputs) == 1):
            raise ValueError(
                "Network input reset must be the last of several where a state is kept, not "
                f"{', '.join(self.input_names)}"
            )
        self.inputs = dict(zip(self._ports("i", inputs), inputs.values(), strict=True))
        self.outputs = {
            port: self.tensors[source]
            for port, source in zip(self._ports("o", outputs), outputs.values(), strict=True)
        }

    @staticmethod
    def _ports(direction: str, names: Mapping) -> list[str]:
        return [direction] if len(names) == 1 else [f"{direction}_{name}" for name in names]

    @classmethod
    def chain(cls, *blocks: Any) -> "Network":
        """Blocks one behind the other, named after their kind and place (``linear_1``)."""
        if not blocks:
            raise ValueError("Network chain must have at least one block, not none")
        if not isinstance(blocks[0], Block):
            raise TypeError(f"Network chain must be of blocks, not {blocks[0]!r}")
        nodes, source = [], "x"
        for number, block in enumerate(blocks, 1):
            name = f"{type(block).__name__.lower()}_{number}"
            nodes.append(Node(name, block, (source,)))
            source = name
        return cls({"x": next(iter(blocks[0].inputs.values()))}, nodes, {"y": source})

    def _known(self, source: str, what: str) -> None:
        if source not in self.tensors:
            raise ValueError(f"{what} must come from an input or an earlier node, not {source!r}")

    def _check(self, node: Node) -> None:
        if not isinstance(node.name, str) or not node.name or "." in node.name:
            raise ValueError(f"Network node must have a name without dots, not {node.name!r}")
        if node.name in self.tensors or any(node.name == o.name for o in self._before(node)):
            raise ValueError(f"Network node must have a name of its own, not {node.name!r}")
        if not isinstance(node.block, Block):
            raise TypeError(f"Network node {node.name} must be a block, not {node.block!r}")
        wanted = node.block.inputs
        if len(node.sources) != len(wanted):
            raise ValueError(
                f"Network node {node.name} must have {len(wanted)} sources, not {node.sources}"
            )
        for source, (port, tensor) in zip(node.sources, wanted.items(), strict=True):
            self._known(source, f"Network node {node.name} input {port}")
            found, what = self.tensors[source], f"Network node {node.name} input {port}"
            if (found.shape, found.format) != (tensor.shape, tensor.format):
                raise ValueError(f"{what} must be {tensor}, not {found} from {source}")
            if not tensor.holds(found):
                raise ValueError(
                    f"{what} must have channels that end at {tensor.channels}, "
                    f"not at {found.channels} from {source}"
                )

    def _before(self, node: Node) -> Iterator[Node]:
        for other in self.nodes:
            if other is node:
                return
            yield other

    @cached_property
    def flat(self) -> "Network":
        """The same without nested networks, whose nodes get dotted names."""
        if all(not isinstance(node.block, Network) for node in self.nodes):
            return self
        nodes: list[Node] = []
        places = {name: name for name in self.input_names}
        for node in self.nodes:
            sources = tuple(places[source] for source in node.sources)
            if not isinstance(node.block, Network):
                nodes.append(Node(node.name, node.block, sources))
                places |= {name: name for name in node.tensors}
                continue
            inner = node.block.flat
            within = dict(zip(inner.input_names, sources, strict=True))
            for part in inner.nodes:
                within |= {name: f"{node.name}.{name}" for name in part.tensors}
                fed = tuple(within[source] for source in part.sources)
                nodes.append(Node(f"{node.name}.{part.name}", part.block, fed))
            for name, source in zip(node.tensors, inner._sources.values(), strict=True):
                places[name] = within[source]
        result = object.__new__(Network)
        result.nodes = tuple(nodes)
        result.input_names, result.output_names = self.input_names, self.output_names
        result.inputs, result.outputs = self.inputs, self.outputs
        result.marked = self.marked
        result._sources = {name: places[source] for name, source in self._sources.items()}
        result.tensors = dict(zip(self.input_names, self.inputs.values(), strict=True))
        for node in nodes:
            result.tensors |= {n: node.block.outputs[port] for n, port in node.tensors.items()}
        return result

    def source_of(self, output: str) -> str:
        """Name of the input or node that an output comes from."""
        return self._sources[output]

    def trace(self, *frames: ArrayLike) -> dict[str, Ints]:
        """Every tensor of the flat network by name, inputs included, shape (..., *shape)."""
        frames = with_marks(self, frames)
        if len(frames) != len(self.inputs):
            raise ValueError(f"Network inputs must be {len(self.inputs)} arrays, not {len(frames)}")
        flat = self.flat
        values = {
            name: tensor.check(frame, f"Network input {name}")
            for (name, tensor), frame in zip(
                zip(self.input_names, self.inputs.values(), strict=True), frames, strict=True
            )
        }
        for node in flat.nodes:
            results = node.block.reference(*(values[s] for s in node.sources))
            results = results if isinstance(results, tuple) else (results,)
            values |= zip(node.tensors, results, strict=True)
        return values

    def reference(self, *frames: ArrayLike) -> Any:
        """Integers in, integers out, shapes (..., *shape); a tuple if there are several outputs.

        Frames of a batch follow each other in time where a state is kept; marks may be left out
        where there are none.
        """
        flat, values = self.flat, self.trace(*frames)
        results = tuple(values[source] for source in flat._sources.values())
        return results[0] if len(results) == 1 else results

    def kernel(self) -> None:
        """None: a network has a program of many."""
        return None

    @cached_property
    def program(self) -> Program:
        """The reference as kernels on tiles of floats, which take and give flat frames."""
        flat = self.flat
        places = {name: n for n, name in enumerate(flat.input_names)}
        inputs = [ProgramInput(n, flat.tensors[n].size, flat.tensors[n].format) for n in places]
        steps: list[Step] = []
        for node in flat.nodes:
            kernel, sources = node.block.kernel(), tuple(places[s] for s in node.sources)
            if kernel is None:
                places[node.name] = sources[0]
                continue
            kernels = kernel if isinstance(kernel, tuple) else (kernel,)
            if isinstance(kernel, LoopKernel) and len(node.tensors) > 1:
                steps.append(Step(kernel, sources))
                sources = (len(inputs) + len(steps) - 1,)
                outputs_of = node.block.outputs.values()
                kernels = tuple(
                    MoveKernel(np.arange(part.start, part.stop), (kernel.size,), tensor.format)
                    for part, tensor in zip(kernel.parts, outputs_of, strict=True)
                )
            for name, one in zip(node.tensors, kernels, strict=True):
                places[name] = len(inputs) + len(steps)
                steps.append(Step(one, sources))
        outputs = tuple(places[source] for source in flat._sources.values())
        return Program(tuple(inputs), tuple(steps), outputs)

    def run(self, *frames: ArrayLike) -> Any:
        """Like ``reference``, to the bit, but about as fast as the bare matrix products."""
        if self.kept:
            return self.session().run(*frames)
        arrays, batch = self._flattened(frames)
        return self._shaped(self.program(*arrays), batch)

    def _flattened(self, frames: Sequence[ArrayLike]) -> tuple[list[np.ndarray], tuple[int, ...]]:
        """Frames of each input, shape (frames, size), and the shape of the batch."""
        frames = with_marks(self, frames)
        if len(frames) != len(self.inputs):
            raise ValueError(f"Network inputs must be {len(self.inputs)} arrays, not {len(frames)}")
        arrays, batch = [], ()
        for name, tensor, frame in zip(
            self.input_names, self.inputs.values(), map(np.asarray, frames), strict=True
        ):
            batch = frame.shape[: frame.ndim - len(tensor.shape)]
            if batch + tensor.shape != frame.shape:
                shape = ", ".join(map(str, tensor.shape))
                raise ValueError(
                    f"Network input {name} must have shape (..., {shape}), not {frame.shape}"
                )
            arrays.append(frame.reshape(-1, tensor.size))
        return arrays, batch

    def _shaped(self, flat: Iterable[Ints], batch: tuple[int, ...]) -> Any:
        """What leaves by each output, (frames, size), in its shape."""
        results = tuple(
            y.reshape(batch + tensor.shape)
            for y, tensor in zip(flat, self.outputs.values(), strict=True)
        )
        return results[0] if len(results) == 1 else results

    @property
    def kept(self) -> list[str]:
        """Nodes of the flat network whose state lives on from frame to frame."""
        return [name for name, loop in self.loops.items() if loop.kept]

    def session(self) -> "NetworkSession":
        """A life of its own: successive frames, whose state lives on.

        Raises ValueError where no block keeps a state.
        """
        return NetworkSession(self)

    @cached_property
    def routes(self) -> list[Route]:
        """Every way from a source to its consumers, of the flat network."""
        flat = self.flat
        if flat is not self:
            return flat.routes
        routes = [
            Route(source, node.name, port)
            for node in flat.nodes
            for source, port in zip(node.sources, node.block.inputs, strict=True)
        ]
        ends = zip(flat._sources.values(), self.outputs, strict=True)
        return routes + [Route(source, "", port) for source, port in ends]

    def buffered(self, route: Route) -> bool:
        """Whether a route has a buffer: all do but those to an output, which only convert lanes."""
        return bool(route.node) or route.source in self.input_names

    def plans(self, target: Target) -> Iterator[Candidate]:
        """One plan for every interval worth asking for; see :func:`blocks.planner.plan`."""
        from .planner import plan, worthwhile_intervals  # the planner knows networks

        for interval in worthwhile_intervals(self, target):
            made = plan(self, target, interval=interval)
            yield Candidate(made, interval, partial(self.cost, made, target))

    def check_plan(self, plan: Any) -> None:
        """Raise TypeError or ValueError unless ``plan`` maps this network."""
        _check_kind(plan)
        flat = self.flat
        buffers = [route.name for route in self.routes if self.buffered(route)]
        for part, names in (
            ("plans", [node.name for node in flat.nodes]),
            ("lanes", [*self.inputs, *self.outputs]),
            ("depths", buffers),
        ):
            if missing := [name for name in names if name not in getattr(plan, part)]:
                raise ValueError(f"Network plan must have {part} of {missing[0]!r}, not none")
        for node in flat.nodes:
            node.block.lanes(plan.plans[node.name])
        for port, tensor in (self.inputs | self.outputs).items():
            lanes = plan.lanes[port]
            if type(lanes) is not int or lanes < 1 or tensor.size % lanes:
                raise ValueError(
                    f"Network port {port} lanes must divide {tensor.size}, not be {lanes!r}"
                )
        for name in buffers:
            depth, style = plan.depths[name], plan.styles.get(name)
            if type(depth) is not int or depth < 0:
                raise ValueError(f"Network buffer {name} must have 0 words or more, not {depth!r}")
            if depth and style not in RAM_STYLES:
                known = ", ".join(RAM_STYLES)
                raise ValueError(
                    f"Network buffer {name} must have a style of {known}, not {style!r}"
                )
        for name, loop in self.loops.items():
            loop.cell.check_plan(plan.plans[name])

    def lanes(self, plan: NetworkPlan) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        _check_kind(plan)
        return dict(plan.lanes)

    @cached_property
    def names(self) -> dict[str, str]:
        """Names of nodes and routes of the flat network -> their identifiers in the hardware."""
        taken: set[str] = set()
        wanted = [*(node.name for node in self.flat.nodes), *(r.name for r in self.routes)]
        return {name: legal_name(name, taken) for name in wanted}

    def levels(self, plan: NetworkPlan) -> dict[str, str]:
        """Name of every route with a buffer -> signal that counts the words in that.

        Hierarchical names below the network's module; a buffer of one word says whether it
        offers it.
        """
        return {
            route.name: f"{self.names[route.name]}_fifo."
            + ("level" if plan.depths[route.name] > 1 else "o_valid")
            for route in self.routes
            if self.buffered(route) and plan.depths[route.name]
        } | {
            f"{name}.{inner}": f"{self.names[name]}.{signal}"
            for name, loop in self.loops.items()
            for inner, signal in loop.levels(plan.plans[name]).items()
        }

    @cached_property
    def loops(self) -> dict[str, Any]:
        """Nodes of the flat network that have a network inside, with buffers of its own."""
        return {n.name: n.block for n in self.flat.nodes if hasattr(n.block, "levels")}

    def buffers(self, plan: NetworkPlan) -> dict[str, int]:
        """Name of every buffer, those inside of nodes too -> bits of a word."""
        flat = self.flat
        found = {
            route.name: flat.consumer_lanes(route, plan) * flat.tensors[route.source].format.width
            for route in self.routes
            if self.buffered(route)
        }
        for name, loop in self.loops.items():
            inner = loop.cell.buffers(plan.plans[name])
            found |= {f"{name}.{buffer}": bits for buffer, bits in inner.items()}
        return found

    def with_buffers(
        self, plan: NetworkPlan, depths: Mapping[str, int], styles: Mapping[str, str]
    ) -> NetworkPlan:
        """The plan with these buffers, by the names of :meth:`buffers`."""
        plans, inside = dict(plan.plans), set()
        for name, loop in self.loops.items():
            inner = {n: f"{name}.{n}" for n in loop.cell.buffers(plans[name])}
            inside |= set(inner.values())
            plans[name] = loop.cell.with_buffers(
                plans[name],
                {n: depths[full] for n, full in inner.items()},
                {n: styles[full] for n, full in inner.items()},
            )
        own = [n for n in depths if n not in inside]
        return NetworkPlan(
            plans, plan.lanes, {n: depths[n] for n in own}, {n: styles[n] for n in own}
        )

    @cached_property
    def joins(self) -> set[str]:
        """Names of the buffers before nodes with several inputs."""
        several = {node.name for node in self.flat.nodes if len(node.sources) > 1}
        found = {r.name for r in self.routes if r.node in several}
        for name, loop in self.loops.items():
            found |= {f"{name}.{buffer}" for buffer in loop.cell.joins}
        return found

    def rtl(self, plan: NetworkPlan) -> "NetworkRtl":
        """A new circuit."""
        self.check_plan(plan)
        return NetworkRtl(self.flat, plan)

    def timing(self, plan: NetworkPlan) -> Events:
        """When every transfer of a frame happens; route names give the events of its buffer.

        The buffer of route r is written by ``r.write`` and read by ``r.read``.
        """
        _check_kind(plan)
        flat, graph = self.flat, Events()
        # Events at which a tensor leaves its source, and at which a node takes it.
        starts = {name: f"input.{name}" for name in flat.input_names}
        ends: dict[str, str] = {}
        offers: dict[str, list[Edge]] = {}  # what the offer of a word waits for, not its taking

        def include(
            part: Events, prefix: str, names: dict[str, str], outputs: Iterable[str]
        ) -> None:
            known = len(graph.edges)
            graph.include(part, prefix, names)
            for output in outputs:
                new = [edge for edge in graph.edges[known:] if edge.target == output]
                offers.setdefault(output, []).extend(new)

        for node in flat.nodes:
            timing = flat._timing(node, plan.plans[node.name])
            leaving = {n: f"{node.name}.{timing.port(port)}" for n, port in node.tensors.items()}
            starts |= leaving
            if node.name in flat.loops:
                inner = {n: e for n, e in timing.ports.items() if n not in node.block.inputs}
                graph.ports |= {
                    f"{node.name}.{n}": f"{node.name}.{event}"
                    for n, event in inner.items()
                    if n not in node.block.outputs
                }
            ends |= {f"{node.name}.{p}": f"{node.name}.{timing.port(p)}" for p in node.block.inputs}
            include(timing, f"{node.name}.", {}, leaving.values())
        for name, port in zip(flat.input_names, flat.inputs, strict=True):
            graph.event(starts[name], flat.tensors[name].size // plan.lanes[port])
            graph.ports[port] = starts[name]
        forks = [(event, branch) for event, found in graph.branches.items() for branch in found]
        graph.branches, wires = {}, []
        for source, routes in grouped(flat.routes).items():
            branches = [starts[source]] * len(routes)
            if len(routes) > 1 and not flat.marks(source):
                branches = [f"{route.name}.fork" for route in routes]
                fork = Fork.events(len(routes), graph.firings[starts[source]])
                names = {f"o_{n}": branch for n, branch in enumerate(branches)}
                graph.include(fork, rename={"i": starts[source], **names})
                forks += [(starts[source], branch) for branch in branches]
            for route, event in zip(routes, branches, strict=True):
                elements = flat.elements(route, plan)
                if not elements and route.node:
                    wires.append((event, ends[route.name]))
                for n, (kind, size, words) in enumerate(elements):
                    last = n == len(elements) - 1 and route.node
                    following = ends[route.name] if last else f"{route.name}.{kind}"
                    between = {"i": event, "o": following}
                    include(_element_events(kind, size, words), "", between, [following])
                    if kind == "fifo":
                        graph.ports |= {
                            f"{route.name}.write": event,
                            f"{route.name}.read": following,
                        }
                    event = following
                if not route.node:
                    graph.ports[route.port] = event
        renamed = graph.unite(wires)

        def now(event: str) -> str:
            return renamed.get(event, event)

        given: dict[str, list[Edge]] = {}
        for event, found in offers.items():
            given[now(event)] = given.get(now(event), []) + found
        before: dict[str, list[str]] = {}
        for event, branch in forks:
            before.setdefault(now(branch), []).append(now(event))
        entries = [now(starts[name]) for name in flat.input_names]
        for branch, sources in before.items():  # is offered a word as soon as its source offers it
            for start in (waiting := list(sources)):
                waiting += before.get(start, [])
                for edge in given.get(start, []):
                    graph.share(replace(edge, source=now(edge.source)), branch)
                if start in entries:
                    graph.branches[start] = (*graph.branches.get(start, ()), branch)
        if flat.marked:
            Start.mark_events(graph, now(starts[RESET]), now(starts[flat.input_names[0]]))
        return graph

    def marks(self, source: str) -> bool:
        """Whether a source is the input of marks, which is handed on with the first input."""
        return self.marked and source == RESET

    def _timing(self, node: Node, plan: Any) -> Events:
        """Of a node; the last one is kept, since a search changes few plans from one to the next.

        Nobody changes a graph that is included in another.
        """
        known = self._timings.get(node.name)
        if known is None or known[0] != plan:
            known = self._timings[node.name] = plan, node.block.timing(plan)
        return known[1]

    @cached_property
    def _timings(self) -> dict[str, tuple[Any, Events]]:
        """Node -> the plan that its timing was last asked for, and that."""
        return {}

    def node(self, name: str) -> Node:
        """The node of a name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _givers(self) -> dict[str, tuple[Node, str]]:
        """Tensor -> the node and port that it leaves by."""
        return {name: (node, port) for node in self.nodes for name, port in node.tensors.items()}

    def source_lanes(self, source: str, plan: NetworkPlan) -> int:
        """Numbers in a transfer of what leaves an input or a node."""
        if source in self.input_names:
            return plan.lanes[list(self.inputs)[self.input_names.index(source)]]
        node, port = self._givers[source]
        return node.block.lanes(plan.plans[node.name])[port]

    def consumer_lanes(self, route: Route, plan: NetworkPlan) -> int:
        """Numbers in a transfer at the end of a route."""
        if not route.node:
            return plan.lanes[route.port]
        return self.node(route.node).block.lanes(plan.plans[route.node])[route.port]

    def elements(self, route: Route, plan: NetworkPlan) -> list[tuple[str, int, int]]:
        """What lies on a route: (kind, ratio or depth, words of a frame at its wide end).

        Lanes are converted down to what both ends divide by and up again; the buffer stands before
        the consumer, which it keeps supplied.
        """
        size = self.tensors[route.source].size
        before = self.source_lanes(route.source, plan)
        after = self.consumer_lanes(route, plan)
        common = gcd(before, after)
        found = []
        if before > common:
            found.append(("scatter", before // common, size // before))
        if after > common:
            found.append(("gather", after // common, size // after))
        if self.buffered(route) and plan.depths[route.name]:
            found.append(("fifo", plan.depths[route.name], size // after))
        return found

    def cost(self, plan: NetworkPlan, target: Target) -> Cost:
        """What it takes on a target: the blocks, and what lies between them."""
        _check_kind(plan)
        flat = self.flat
        parts = [node.block.cost(plan.plans[node.name], target) for node in flat.nodes]
        return sum(parts, flat.routing_cost(plan, target))

    def routing_cost(self, plan: NetworkPlan, target: Target) -> Cost:
        """What the buffers, forks and lane converters take on a target."""
        total = Inventory()
        for source, routes in grouped(self.flat.routes).items():
            if self.marks(source):
                first = next(iter(self.inputs))
                words = self.inputs[first].size // plan.lanes[first]
                total += Start.inventory(words, len(routes), marked=True)
            elif len(routes) > 1:
                total += Fork.inventory(len(routes))
            for route in routes:
                lanes, tensor = self.source_lanes(source, plan), self.tensors[source]
                width = tensor.format.width
                for kind, size, _ in self.elements(route, plan):
                    if kind == "fifo":
                        style = plan.styles[route.name]
                        bits = tensor.lane_bits(lanes) if style == "registers" else lanes * width
                        reader = self.node(route.node).block if route.node else None
                        products = reader.multipliers() if isinstance(reader, Mul) else ()
                        total += Fifo.inventory(size, bits, style, products)
                    elif kind == "scatter":
                        total += Scatter.inventory(lanes * width, size)
                        lanes //= size
                    else:
                        lanes *= size
                        total += Gather.inventory(lanes * width, size)
        return total.cost(target)


class NetworkSession:
    """Successive frames of a network, whose state lives on from one to the next."""

    def __init__(self, network: Network):
        if not network.kept:
            raise ValueError("Network session must have a block that keeps its state, not none")
        self._network, self._session = network, Session(network.program)
        self._inputs = [(n, network.tensors[n].shape) for n in network.input_names]
        self._shapes = [tensor.shape for tensor in network.outputs.values()]

    def step(self, *frames: ArrayLike) -> Any:
        """Integers in, integers out, one frame; a tuple if there are several outputs."""
        wanted = len(self._inputs)
        if self._network.marked and len(frames) == wanted - 1:
            frames = (*frames, UNMARKED)
        if len(frames) != wanted:
            raise ValueError(f"Network inputs must be {wanted} arrays, not {len(frames)}")
        arrays = []
        for given, (name, of_frame) in zip(frames, self._inputs, strict=True):
            frame = np.asarray(given)
            if frame.shape != of_frame:
                raise ValueError(
                    f"Network input {name} must have shape {of_frame}, not {frame.shape}"
                )
            arrays.append(frame.reshape(-1))
        found = zip(self._session.step(*arrays), self._shapes, strict=True)
        results = tuple([y.reshape(of_frame) for y, of_frame in found])
        return results[0] if len(results) == 1 else results

    def run(self, *frames: ArrayLike) -> Any:
        """Successive frames at once, shapes (..., *shape), which go on where the last one ended."""
        arrays, batch = self._network._flattened(frames)
        tensors = self._network.outputs.values()
        results = [np.empty((len(arrays[0]), tensor.size), np.int64) for tensor in tensors]
        for number, given in enumerate(zip(*arrays, strict=True)):
            for y, found in zip(results, self._session.step(*given), strict=True):
                y[number] = found
        return self._network._shaped(results, batch)

    def reset(self) -> None:
        """Before the next frame the state is the initial one."""
        self._session.reset()


def _marked(node: Node) -> Node:
    """The node with the network's marks if its block takes some and none are given."""
    if getattr(node.block, "marked", False) and len(node.sources) == len(node.block.inputs) - 1:
        return Node(node.name, node.block, (*node.sources, RESET))
    return node


def with_marks(block: Any, frames: Sequence[ArrayLike]) -> tuple[ArrayLike, ...]:
    """Arrays for every input of a block, without a mark if it takes some and none are given."""
    if not getattr(block, "marked", False) or len(frames) != len(block.inputs) - 1 or not frames:
        return tuple(frames)
    x = next(iter(block.inputs.values()))
    batch = np.shape(frames[0])[: np.ndim(frames[0]) - len(x.shape)]
    return (*frames, np.zeros((*batch, *RESETS.shape), np.int64))


@lru_cache(maxsize=256)  # many are alike
def _element_events(kind: str, size: int, words: int) -> Events:
    """Of an element of a route."""
    of = {"scatter": Scatter.events, "fifo": Fifo.events, "gather": Gather.events}
    return of[kind](size, words)


def grouped(routes: list[Route]) -> dict[str, list[Route]]:
    """Routes by source."""
    groups: dict[str, list[Route]] = {}
    for route in routes:
        groups.setdefault(route.source, []).append(route)
    return groups


def _check_kind(plan: Any) -> None:
    if not isinstance(plan, NetworkPlan):
        raise TypeError(f"Network plan must be a NetworkPlan, not {plan!r}")


class NetworkRtl(wiring.Component):
    """Hardware of :class:`Network`: the circuits of its blocks, with buffers between them.

    Members
    -------
    i or i_<name>, o or o_<name> : streams of the network's inputs and outputs
    """

    def __init__(self, network: Network, plan: NetworkPlan):
        self._network, self._plan = network, plan
        members = {}
        for flow, ports in ((In, network.inputs), (Out, network.outputs)):
            for port, tensor in ports.items():
                members[port] = flow(stream_signature(tensor.format, plan.lanes[port]))
        self._names = network.names
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        network, plan = self._network, self._plan
        circuits = {n.name: n.block.rtl(plan.plans[n.name]) for n in network.nodes}
        for name, circuit in circuits.items():
            m.submodules[self._names[name]] = circuit
        starts = {
            name: getattr(circuits[node.name], port)
            for node in network.nodes
            for name, port in node.tensors.items()
        }
        for name, port in zip(network.input_names, network.inputs, strict=True):
            starts[name] = flipped(getattr(self, port))
        groups = grouped(network.routes)
        if network.marked:
            name, port = network.input_names[0], next(iter(network.inputs))
            words = network.tensors[name].size // plan.lanes[port]
            payload = starts[name].payload.shape()
            start = Start(payload, words, len(groups[RESET]), marked=True)
            taken = {known.lower() for known in self._names.values()}
            m.submodules[legal_name("start", taken)] = start
            connect(m, starts[name], start.i)
            connect(m, starts[RESET], start.mark)
            starts[name] = start.o
        for source, routes in groups.items():
            branches = [starts[source]]
            if network.marks(source):
                branches = [getattr(start, f"start_{n}") for n in range(len(routes))]
            elif len(routes) > 1:
                fork = Fork(starts[source].payload.shape(), len(routes))
                m.submodules[f"{self._names[routes[0].name]}_fork"] = fork
                connect(m, starts[source], fork.i)
                branches = [getattr(fork, f"o_{b}") for b in range(len(routes))]
            for route, stream in zip(routes, branches, strict=True):
                end = getattr(circuits[route.node], route.port) if route.node else None
                self._route(m, route, stream, end)
        return m

    def _route(self, m: Module, route: Route, stream, end) -> None:
        """Connect a source to ``end``, or to an output of the network, through its elements."""
        number = self._network.tensors[route.source].format
        for kind, size, _ in self._network.elements(route, self._plan):
            lanes = len(stream.payload)
            element: Any
            if kind == "fifo":
                style = self._plan.styles[route.name]
                element = Fifo(data.ArrayLayout(shape(number), lanes), size, style)
            elif kind == "scatter":
                element = Scatter(number, lanes // size, size)
            else:
                element = Gather(number, lanes, size)
            m.submodules[f"{self._names[route.name]}_{kind}"] = element
            connect(m, stream, element.i)
            stream = element.o
        connect(m, stream, flipped(getattr(self, route.port)) if end is None else end)
