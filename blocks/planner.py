# SPDX-License-Identifier: Apache-2.0
"""The planner: the cheapest way to map a network so that it takes a frame every so many cycles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import gcd, inf
from typing import Any

import numpy as np

from hdl import Deadlock, Events, Schedule, Target
from hdl.cost import Cost, memory_style
from hdl.events import MAX_FRAMES, NEVER

from .block import Candidate
from .network import Network, NetworkPlan, Node


def plan(
    network: Network,
    target: Target,
    interval: int | None = None,
    unroll: bool = False,
) -> NetworkPlan:
    """Map every block by its cheapest candidate that meets ``interval``, and size the buffers.

    Parameters
    ----------
    interval : cycles from frame to frame; left out, a cycle for each number of the largest tensor,
        that of a loop for every step anew, or as few as the slowest block takes at best
    unroll : every matrix as a shift-add graph instead, a position a cycle

    Raises
    ------
    ValueError : some block cannot be that fast
    """
    if not isinstance(network, Network):
        raise TypeError(f"plan network must be a Network, not {network!r}")
    if not isinstance(target, Target):
        raise TypeError(f"plan target must be a Target, not {target!r}")
    asked = interval is not None
    if interval is None:
        interval = _numbers(network)
    if type(interval) is not int or interval < 1:
        raise ValueError(f"plan interval must be a whole number of cycles above 0, not {interval}")
    chosen = chosen_candidates(network, choices(network, target), target, interval, asked, unroll)
    return with_smallest_buffers(network, mapped(network, chosen), target)


def _numbers(network: Network) -> int:
    """Of the largest tensor, which inside a loop comes in every step."""
    sizes = [tensor.size for tensor in network.flat.tensors.values()]
    return max(sizes + [loop.rounds * _numbers(loop.cell) for loop in network.loops.values()])


@dataclass(frozen=True)
class Manner:
    """How blocks are chosen in a loop, whose next step waits for all of them.

    Parameters
    ----------
    haste : how many times faster than asked for blocks without a matrix are, if they can be
    tall : whether a matrix takes as few columns at a time as it can, so that there is work for
        what comes early, instead of what costs least
    """

    haste: int = 1
    tall: bool = False


MANNERS = tuple(Manner(haste, tall) for haste in (1, 2, 4) for tall in (False, True))


def choices(network: Network, target: Target) -> dict[str, list[Candidate]]:
    """The candidates of every node of the flat network."""
    return {node.name: list(node.block.plans(target)) for node in network.flat.nodes}


def chosen_candidates(
    network: Network,
    candidates: Mapping[str, list[Candidate]],
    target: Target,
    interval: int,
    asked: bool = True,
    unroll: bool = False,
    manner: Manner | None = None,
) -> dict[str, Candidate]:
    """For every node the candidate that is mapped."""
    flat, manner = network.flat, manner or Manner()
    plans: dict[str, Any] = {}
    chosen = {}
    for node in flat.nodes:
        sources = {
            port: (tensor.size, flat.source_lanes(source, NetworkPlan(plans, {})))
            for source, (port, tensor) in zip(node.sources, node.block.inputs.items(), strict=True)
            if source not in flat.input_names
        }
        own = candidates[node.name]
        matrix = any(candidate.unrolled for candidate in own)
        hasty = manner.haste > 1 and not matrix
        wanted = max(1, interval // manner.haste) if hasty else interval
        tall = manner.tall and matrix
        chosen[node.name] = _cheapest(
            node, own, sources, wanted, asked and not hasty, unroll, tall, target
        )
        plans[node.name] = chosen[node.name].plan
    return chosen


def mapped(network: Network, chosen: Mapping[str, Candidate]) -> NetworkPlan:
    """The plan of these candidates, whose buffers are still to be sized."""
    flat = network.flat
    plans = {name: candidate.plan for name, candidate in chosen.items()}
    lanes: dict[str, int] = {}
    for name, port in zip(flat.input_names, flat.inputs, strict=True):
        wanted = [
            flat.consumer_lanes(route, NetworkPlan(plans, lanes))
            for route in flat.routes
            if route.source == name and route.node
        ]
        lanes[port] = max(wanted, default=1)
    for route in flat.routes:
        if not route.node:
            lanes[route.port] = flat.source_lanes(route.source, NetworkPlan(plans, lanes))
    return NetworkPlan(plans, lanes)


def _cheapest(
    node: Node,
    candidates: list[Candidate],
    sources: dict[str, tuple[int, int]],
    interval: int,
    asked: bool,
    unroll: bool,
    tall: bool,
    target: Target,
) -> Candidate:
    """The cheapest candidate that is fast enough, or the fastest if no interval was asked.

    ``sources``: for the ports fed by other nodes the numbers of a frame and of a transfer; lanes
    are converted by way of what both sides divide by, and that must be fast enough too.
    """

    def cycles(candidate: Candidate) -> int:
        lanes = node.block.lanes(candidate.plan)
        converted = [size // gcd(before, lanes[port]) for port, (size, before) in sources.items()]
        return max([candidate.interval, *converted])

    unrolled = [candidate for candidate in candidates if candidate.unrolled]
    if unroll:
        return (unrolled or [min(candidates, key=cycles)])[0]
    fast = [candidate for candidate in candidates if cycles(candidate) <= interval]
    if not fast and not asked:
        return min(candidates, key=cycles)
    if not fast:
        least = min(map(cycles, candidates))
        raise ValueError(f"plan interval of {node.name} must be at least {least}, not {interval}")
    # Candidates come from few multipliers to many: only the slowest that do can be the cheapest.
    longest = max(candidate.interval for candidate in fast)
    rivals = [candidate for candidate in fast if candidate.interval == longest]
    if len(rivals) == 1:
        return rivals[0]
    if tall:
        port = next(iter(node.block.inputs))
        return min(rivals, key=lambda candidate: node.block.lanes(candidate.plan)[port])
    return min(rivals, key=lambda candidate: weight(candidate.cost, target))


def weight(cost: Cost, target: Target) -> float:
    """One number for a cost: look-up tables, with everything else in look-up tables.

    A multiplier stands for the look-up tables it replaces, a block RAM for as much as would hold
    its bits, a flip-flop for half of the cell it shares with a look-up table.
    """
    return cost.lut + 0.5 * cost.ff + 100 * cost.dsp + 200 * cost.bram


def with_smallest_buffers(network: Network, plan: NetworkPlan, target: Target) -> NetworkPlan:
    """The plan with the smallest buffers that keep the interval which unbounded ones would give.

    Each buffer is the smallest by itself: one word less in any of them lengthens the interval.
    Every buffer holds at least one word.
    """
    with_depths, words = _buffering(network, plan, target), _words(network, plan)

    def interval(depths: dict[str, int]) -> float:
        graph = network.timing(with_depths(depths))
        try:
            return _schedule(network, graph).interval
        except Deadlock:  # too small to hold what one branch needs before the other moves
            return inf

    depths, best = _ample(network, with_depths, words)
    depths = _sufficient(network, with_depths(depths), best)
    for name in sorted(words, key=lambda name: name not in network.joins):
        # A buffer of one word moves a word every two cycles.
        low, high = int(2 * words[name] > best), depths[name]  # too small, large enough
        depth = high - 1  # most are right
        while low < depth < high:
            if interval({**depths, name: depth}) > best:
                low = depth
            else:
                high = depth
            depth = (low + high) // 2
        depths[name] = high
    return with_depths(depths)


def _ample(
    network: Network, with_depths: Callable[[dict[str, int]], NetworkPlan], words: dict[str, int]
) -> tuple[dict[str, int], float]:
    """Depths of all buffers that are as good as unbounded ones, and the interval with them."""
    depths, best = {name: 2 * count for name, count in words.items()}, inf
    while True:
        graph = network.timing(with_depths(depths))
        try:
            found = _schedule(network, graph).interval
        except Deadlock:
            found = inf
        # No event happens twice in a cycle.
        if found == max(graph.firings.values()) or found == best < inf:
            return depths, found
        depths, best = {name: 2 * depth for name, depth in depths.items()}, found


def _sufficient(network: Network, plan: NetworkPlan, interval: float) -> dict[str, int]:
    """Words that every buffer needs for frames that come in this interval and never wait.

    They are read off one schedule with the buffers of ``plan``, whose times then satisfy every
    constraint still: frames that come as early as they can are no slower.
    """
    graph = network.timing(plan)
    cycles, together = Fraction(interval).limit_denominator(MAX_FRAMES).as_integer_ratio()
    for name in network.inputs:
        port = graph.port(name)
        first = np.arange(graph.firings[port]) == 0
        earlier = np.where(first, -together * graph.firings[port], NEVER)
        graph.after(port, port, cycles, earlier)
    schedule = _schedule(network, graph)
    return {
        name: schedule.room(graph.port(f"{name}.write"), graph.port(f"{name}.read"))
        for name in network.buffers(plan)
    }


def _buffering(
    network: Network, plan: NetworkPlan, target: Target
) -> Callable[[dict[str, int]], NetworkPlan]:
    """Depths of all buffers -> the plan with them, each in the memory that suits the target."""
    bits = network.buffers(plan)

    def with_depths(depths: dict[str, int]) -> NetworkPlan:
        styles = {name: memory_style(target, depth, bits[name]) for name, depth in depths.items()}
        return network.with_buffers(plan, depths, styles)

    return with_depths


def _schedule(network: Network, graph: Events) -> Schedule:
    """Of the network's timing, at its ports."""
    inputs = [graph.port(port) for port in network.inputs]
    return graph.schedule(inputs, [graph.port(port) for port in network.outputs])


def quick_plan(network: Network, target: Target, interval: int) -> NetworkPlan:
    """Map a network without a search: seconds for loops for which :func:`plan` takes hours.

    Every block is the cheapest that meets ``interval``, those in a loop for each of its steps, or
    the fastest where none does. A buffer has a word more than it would hold at most if it had room
    for two frames: then nothing ever waits for room, and the interval is that of unbounded ones.
    """
    if type(interval) is not int or interval < 1:
        raise ValueError(
            f"quick_plan interval must be a whole number of cycles above 0, not {interval}"
        )
    plan = _mapped_at(network, target, interval)
    with_depths, words = _buffering(network, plan, target), _words(network, plan)
    graph = network.timing(with_depths({name: 2 * count for name, count in words.items()}))
    schedule = _schedule(network, graph)
    ends = {name: (graph.port(f"{name}.write"), graph.port(f"{name}.read")) for name in words}
    return with_depths({name: 1 + schedule.occupancy(*of) for name, of in ends.items()})


def _mapped_at(network: Network, target: Target, interval: int) -> NetworkPlan:
    """Every block by its cheapest candidate for an interval, loops without buffers."""
    candidates = {}
    for node in network.flat.nodes:
        if node.name in network.loops:
            loop = node.block
            inner = loop.with_lanes(_mapped_at(loop.cell, target, interval))
            price = partial(loop.cost, inner, target)
            candidates[node.name] = [Candidate(inner, loop.rounds * interval, price)]
        else:
            candidates[node.name] = list(node.block.plans(target))
    return mapped(network, chosen_candidates(network, candidates, target, interval, asked=False))


def _words(network: Network, plan: NetworkPlan) -> dict[str, int]:
    """Words of a frame in every buffer, of a step of all streams inside of loops."""
    flat = network.flat
    found = {
        route.name: flat.tensors[route.source].size // flat.consumer_lanes(route, plan)
        for route in flat.routes
        if flat.buffered(route)
    }
    for name, loop in network.loops.items():
        inner = _words(loop.cell, plan.plans[name])
        found |= {f"{name}.{buffer}": loop.streams * count for buffer, count in inner.items()}
    return found


def worthwhile_intervals(network: Network, target: Target) -> list[int]:
    """Intervals at which some block of a network can be mapped differently, longest first."""
    return intervals_of(choices(network, target))


def intervals_of(known: dict[str, list[Candidate]]) -> list[int]:
    """:func:`worthwhile_intervals` of the candidates of every node."""
    found = [{candidate.interval for candidate in own} for own in known.values()]
    fastest = max(map(min, found))
    return sorted((n for n in set().union(*found) if n >= fastest), reverse=True)
