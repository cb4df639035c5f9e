# SPDX-License-Identifier: Apache-2.0
"""Products around a softmax become attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from bitblocks.graph import Graph, Layer, Shape, without_unread
from bitblocks.layers import Attention, MatMul, Rearrange, Reshape, Scale, Softmax
from blocks.block import divisors
from quant import Ints

HIDDEN = -1e4
"""A score to which as much is added as this, or less, is one that nobody sees."""

Layers = Mapping[str, Layer]


@dataclass(frozen=True, eq=False)
class Origin:
    """Numbers ``index`` of a tensor, times a factor."""

    source: str
    index: Ints
    factor: float


def fold_attention(graph: Graph) -> Graph:
    """``graph`` with every ``softmax(scale * a @ b.T + bias) @ c.T`` as one Attention.

    Its tensors travel by tokens, so that heads need no order of their own: what moved numbers
    before and behind is one with the turn that this takes, or gone.
    """
    nodes: dict[str, Layer] = {node.name: node for node in graph.nodes}
    readers = [s for node in graph.nodes for s in node.sources]
    readers += [port.source for port in graph.outputs]
    made: dict[str, Layer] = {}
    turned: dict[str, str] = {}
    for node in graph.nodes:
        parts = _attention(graph, nodes, readers, node)
        for part in parts or [node]:
            fed = tuple(turned.get(source, source) for source in part.sources)
            made[part.name] = replace(part, sources=fed)
        if parts:
            turned[node.name] = parts[-1].name
    if not turned:
        return graph
    turns = {turn: graph.shapes[name] for name, turn in turned.items()}
    straight = tuple(_straight(made, node, turns) for node in made.values())
    ports = tuple(replace(p, source=turned.get(p.source, p.source)) for p in graph.outputs)
    return without_unread(Graph(graph.inputs, straight, ports))


def _attention(graph: Graph, nodes: Layers, readers: list[str], last: Layer) -> list[Layer]:
    """The layers that are ``last`` and what leads to it; none if it does not end an attention."""
    shares = nodes.get(last.sources[0])
    if not isinstance(last, MatMul) or not isinstance(shares, Softmax) or shares.logarithm:
        return []
    inside, scale, bias = [shares.name, shares.sources[0]], 1.0, np.zeros(1)
    scores = nodes.get(shares.sources[0])
    while isinstance(scores, Scale) and (scores.weight == scores.weight.flat[0]).all():
        bias, scale = bias + scale * scores.bias, scale * float(scores.weight.flat[0])
        inside.append(scores.sources[0])
        scores = nodes.get(scores.sources[0])
    if not isinstance(scores, MatMul) or any(readers.count(name) > 1 for name in inside):
        return []
    *lead, queries, keys = graph.shapes[scores.name]
    heads = prod(lead)
    origins = []
    for source, tokens_last in (
        (scores.sources[0], False),
        (scores.sources[1], False),
        (last.sources[1], True),
    ):
        shape = graph.shapes[source]
        whole = np.arange(prod(shape)).reshape(heads, *shape[-2:])
        index = whole.transpose((2, 0, 1) if tokens_last else (1, 0, 2))
        origins.append(_origin(nodes, source, index, scaled=True))
    q, k, v = origins
    if v.factor != 1.0 or scale * q.factor * k.factor <= 0:
        return []
    for groups in divisors(heads):  # those that share their keys and values
        chosen = np.arange(heads) * groups // heads
        fewer = [x.index[:, :: heads // groups] for x in (k, v)]
        if all((f[:, chosen] == x.index).all() for f, x in zip(fewer, (k, v), strict=True)):
            break
    taken, sources = {n.lower() for n in graph.shapes}, []
    parts: list[Layer] = []
    for suffix, origin, picked in zip("qkv", origins, (q.index, *fewer), strict=True):
        name = _free(f"{last.name}_{suffix}", taken)
        parts.append(_moved(name, origin.source, picked, graph.shapes[origin.source]))
        sources.append(name)
    added = np.broadcast_to(bias, (*lead, queries, keys)).reshape(heads, queries, keys)
    added = added.transpose(1, 0, 2)
    seen = np.ones(1, bool) if shares.mask is None else shares.mask
    seen = np.broadcast_to(seen, (*lead, queries, keys)).reshape(heads, queries, keys)
    shown = seen.transpose(1, 0, 2) & (added > HIDDEN)
    if not shown.any(axis=-1).all():
        return []
    arguments = scale * q.factor * k.factor, np.where(shown, added, 0.0), shown
    parts.append(Attention(last.name, tuple(sources), *arguments))
    width = graph.shapes[last.name][-1]
    back = np.arange(queries * heads * width).reshape(queries, heads, width).transpose(1, 0, 2)
    shape = graph.shapes[last.name]
    parts.append(Rearrange(_free(f"{last.name}_turned", taken), (last.name,), back.reshape(shape)))
    return parts


def _origin(nodes: Layers, source: str, index: Ints, scaled: bool = False) -> Origin:
    """Where numbers come from, before layers that move them, and ``scaled`` by one number."""
    factor, node = 1.0, nodes.get(source)
    while node is not None:
        if isinstance(node, Rearrange) and (node.index.ravel()[index] >= 0).all():
            index = node.index.ravel()[index]
        elif isinstance(node, Scale) and scaled and not node.bias.any():
            if not (node.weight == node.weight.flat[0]).all():
                break
            factor *= float(node.weight.flat[0])
        elif not isinstance(node, Reshape):
            break
        source = node.sources[0]
        node = nodes.get(source)
    return Origin(source, index, factor)


def _straight(nodes: Layers, node: Layer, turns: Mapping[str, Shape]) -> Layer:
    """``node`` with what it reads before a turn, if it moves the numbers of one."""
    if not isinstance(node, Rearrange) or node.name in turns or (node.index < 0).any():
        return node
    source = node.sources[0]
    while isinstance(before := nodes.get(source), Reshape):
        source = before.sources[0]
    if source not in turns:
        return node
    found = _origin(nodes, source, node.index)
    return _moved(node.name, found.source, found.index, turns[source])


def _moved(name: str, source: str, index: Ints, shape: Shape) -> Layer:
    if np.array_equal(index.ravel(), np.arange(prod(shape))):
        return Reshape(name, (source,), index.shape)
    return Rearrange(name, (source,), index)


def _free(name: str, taken: set[str]) -> str:
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name
