# SPDX-License-Identifier: Apache-2.0
"""Batch normalisations and added constants go into the layers around them."""

from dataclasses import replace

import numpy as np

from bitblocks.graph import Graph, Layer
from bitblocks.layers import Scale


def fold_scales(graph: Graph) -> Graph:
    """``graph`` with every Scale inside a layer before or behind it, where one takes it.

    A Scale goes into the layer before it if nothing else reads that layer, or else into all those
    that read the Scale; layers between that only reorder do not matter. Any other Scale stays.
    """
    return _fold_behind(_fold_before(graph))


def _readers(graph: Graph) -> dict[str, list[str]]:
    """Names of what reads each tensor; "" stands for an output of the network."""
    readers: dict[str, list[str]] = {name: [] for name in graph.shapes}
    for node in graph.nodes:
        for source in node.sources:
            readers[source].append(node.name)
    for port in graph.outputs:
        readers[port.source].append("")
    return readers


def _rebuilt(graph: Graph, nodes: dict[str, Layer], alias: dict[str, str]) -> Graph:
    return Graph(
        graph.inputs,
        tuple(
            replace(node, sources=tuple(alias.get(source, source) for source in node.sources))
            for name, node in nodes.items()
            if name not in alias
        ),
        tuple(replace(port, source=alias.get(port.source, port.source)) for port in graph.outputs),
    )


def _fold_before(graph: Graph) -> Graph:
    readers = _readers(graph)
    nodes: dict[str, Layer] = {node.name: node for node in graph.nodes}
    alias: dict[str, str] = {}
    for node in graph.nodes:
        if not isinstance(node, Scale):
            continue
        weight, bias = node.weight, node.bias
        source = before = alias.get(node.sources[0], node.sources[0])
        while before in nodes and len(readers[before]) == 1:
            mover = nodes[before]
            shape = graph.shapes[mover.sources[0]]
            if not mover.reorders(shape):
                break
            before = alias.get(mover.sources[0], mover.sources[0])
            weight, bias = (mover.unmoved(part, shape) for part in (weight, bias))
        if before in nodes and len(readers[before]) == 1:
            scaled = nodes[before].scaled(weight, bias)
            if scaled is not None:
                nodes[before] = scaled
                alias[node.name] = source
                readers[source] = readers[node.name]
    return _rebuilt(graph, nodes, alias)


def _fold_behind(graph: Graph) -> Graph:
    readers = _readers(graph)
    nodes: dict[str, Layer] = {node.name: node for node in graph.nodes}
    alias: dict[str, str] = {}
    for node in reversed(graph.nodes):
        if isinstance(node, Scale):
            folded = _fed_scaled(graph, nodes, readers, node)
            if folded:
                nodes |= folded
                alias[node.name] = node.sources[0]
    return _rebuilt(graph, nodes, alias)


def _fed_scaled(
    graph: Graph, nodes: dict[str, Layer], readers: dict[str, list[str]], scale: Scale
) -> dict[str, Layer] | None:
    """All that reads ``scale``, each with it inside; None where one does not take it.

    What reads several tensors does not.
    """
    folded: dict[str, Layer] = {}
    pending = [(reader, scale.weight, scale.bias) for reader in readers[scale.name]]
    while pending:
        reader, weight, bias = pending.pop()
        node = nodes.get(reader)
        if node is None or len(node.sources) != 1:
            return None
        if node.reorders(graph.shapes[node.sources[0]]):
            weight, bias = (node.evaluate(part[np.newaxis])[0] for part in (weight, bias))
            pending += [(behind, weight, bias) for behind in readers[reader]]
            continue
        layer = node.fed_scaled(weight, bias)
        if layer is None:
            return None
        folded[reader] = layer
    return folded
