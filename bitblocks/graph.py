# SPDX-License-Identifier: Apache-2.0
"""The float network between a model file and quantisation, of no file format in particular."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitblocks.errors import InputError

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Port:
    """One input or output of the network, in the model's own layout, without the batch.

    Parameters
    ----------
    name : str, a letter and then letters, digits or underscores; unique among inputs or outputs
    source : str, the input or node that it comes from; an input's is its own name
    shape : lengths in the model's layout
    axes : the order in which the axes travel over the stream, slowest first
    """

    name: str
    source: str
    shape: Shape
    axes: Shape

    @property
    def stream_shape(self) -> Shape:
        """``shape`` in stream order, channels last."""
        return tuple(self.shape[axis] for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = W x + b`` on the last axis; shape (..., inputs) -> (..., outputs).

    Parameters
    ----------
    weight : floats, shape (outputs, inputs)
    bias : floats, shape (outputs,)
    """

    name: str
    sources: tuple[str, ...]
    weight: Floats
    bias: Floats

    def shape(self, source: Shape) -> Shape:
        """Shape of y; raises InputError where ``source`` does not fit the weight."""
        if not source or source[-1] != self.weight.shape[1]:
            raise InputError(
                f"Linear {self.name} input must have {self.weight.shape[1]} elements "
                f"on its last axis, not shape {source}"
            )
        return (*source[:-1], self.weight.shape[0])

    def evaluate(self, x: Floats) -> Floats:
        """y of a batch of x, summed in index order: the same bits on every machine."""
        y = np.zeros((*x.shape[:-1], len(self.weight)))
        for index, column in enumerate(self.weight.T):
            y += x[..., index, np.newaxis] * column
        return y + self.bias


@dataclass(frozen=True, eq=False)
class Relu:
    """``y = max(x, 0)``."""

    name: str
    sources: tuple[str, ...]

    def shape(self, source: Shape) -> Shape:
        """Shape of y, which is that of x."""
        return source

    def evaluate(self, x: Floats) -> Floats:
        """y of a batch of x."""
        return np.maximum(x, 0.0)


@dataclass(frozen=True, eq=False)
class Identity:
    """``y = x``."""

    name: str
    sources: tuple[str, ...]

    def shape(self, source: Shape) -> Shape:
        """Shape of y, which is that of x."""
        return source

    def evaluate(self, x: Floats) -> Floats:
        """y of a batch of x."""
        return x


@dataclass(frozen=True, eq=False)
class Add:
    """``y = a + b``, two tensors of one shape."""

    name: str
    sources: tuple[str, ...]

    def shape(self, source_a: Shape, source_b: Shape) -> Shape:
        """Shape of y; raises InputError where the two differ."""
        if source_a != source_b:
            raise InputError(
                f"Add {self.name} inputs must have one shape, not {source_a} and {source_b}"
            )
        return source_a

    def evaluate(self, a: Floats, b: Floats) -> Floats:
        """y of a batch of a and b."""
        return a + b


@dataclass(frozen=True, eq=False)
class Scale:
    """``y = weight * x + bias``, element by element: what is left of a batch normalisation.

    Parameters
    ----------
    weight, bias : floats of the frame's shape
    """

    name: str
    sources: tuple[str, ...]
    weight: Floats
    bias: Floats

    def shape(self, source: Shape) -> Shape:
        """Shape of y; raises InputError where ``source`` does not fit the weight."""
        if source != self.weight.shape or source != self.bias.shape:
            raise InputError(
                f"Scale {self.name} input must have shape {self.weight.shape}, not {source}"
            )
        return source

    def evaluate(self, x: Floats) -> Floats:
        """y of a batch of x."""
        return x * self.weight + self.bias


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same elements in the same raster order under another ``target`` shape."""

    name: str
    sources: tuple[str, ...]
    target: Shape

    def shape(self, source: Shape) -> Shape:
        """Shape of y; raises InputError where the counts of elements differ."""
        if math.prod(source) != math.prod(self.target):
            raise InputError(
                f"Reshape {self.name} input must have {math.prod(self.target)} elements, "
                f"not shape {source}"
            )
        return self.target

    def evaluate(self, x: Floats) -> Floats:
        """y of a batch of x."""
        return x.reshape(len(x), *self.target)


GraphNode = Linear | Relu | Identity | Add | Scale | Reshape
"""A node names the tensor that it gives and has ``shape(*sources)`` and ``evaluate(*sources)``."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A float network: nodes in topological order, each naming the tensor that it gives.

    Inside, every frame is in stream order, channels last; only ``inputs`` and ``outputs`` know
    the model's own layout.

    Members
    -------
    shapes : shape of one frame of every input and node, by name
    """

    inputs: tuple[Port, ...]
    nodes: tuple[GraphNode, ...]
    outputs: tuple[Port, ...]
    shapes: dict[str, Shape] = field(init=False)

    def __post_init__(self) -> None:
        shapes = {port.name: port.stream_shape for port in self.inputs}
        for node in self.nodes:
            for source in node.sources:
                if source not in shapes:
                    raise InputError(
                        f"Graph node {node.name} must come after its source {source!r}"
                    )
            if node.name in shapes:
                raise InputError(f"Graph names must be unique, not {node.name!r} twice")
            shapes[node.name] = node.shape(*(shapes[source] for source in node.sources))
        for port in self.outputs:
            if shapes.get(port.source) != port.stream_shape:
                raise InputError(
                    f"Graph output {port.name} must have shape {port.stream_shape}, "
                    f"not {shapes.get(port.source)}"
                )
        object.__setattr__(self, "shapes", shapes)

    def frames(self, x: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """A batch in the model's layout as float64 in stream order, by input name.

        ``x`` is one array of shape (frames, ...) where there is one input, else a mapping by name.
        Raises InputError for anything that is not a finite batch of the right shape.
        """
        if not isinstance(x, Mapping):
            if len(self.inputs) != 1:
                raise InputError(
                    f"the network has {len(self.inputs)} inputs, so data must come by name: "
                    f"{', '.join(port.name for port in self.inputs)}"
                )
            x = {self.inputs[0].name: x}
        names = [port.name for port in self.inputs]
        if sorted(x) != sorted(names):
            raise InputError(
                f"data must be given for the inputs {', '.join(names)}, not {', '.join(x)}"
            )
        batch = {port.name: _frames(x[port.name], port) for port in self.inputs}
        lengths = {name: len(frames) for name, frames in batch.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{length} for {name}" for name, length in lengths.items())
            raise InputError(f"data must have as many frames for every input, not {listed}")
        return batch


def _frames(x: ArrayLike, port: Port) -> Floats:
    expected = f"(frames, {', '.join(map(str, port.shape))})"
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise InputError(
            f"data for input {port.name} must have shape {expected}, not rows of several lengths"
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"data for input {port.name} must be numbers, not {array.dtype}")
    if array.shape[1:] != port.shape or array.ndim == 0 or len(array) == 0:
        raise InputError(
            f"data for input {port.name} must have shape {expected}, not {array.shape}"
        )
    frames = array.astype(np.float64)
    if not np.isfinite(frames).all():
        raise InputError(f"data for input {port.name} must be finite, not NaN or infinite")
    return frames.transpose(0, *(axis + 1 for axis in port.axes))


def evaluate(graph: Graph, x: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Floats]:
    """Every tensor of ``graph`` for a batch ``x`` in the model's layout, in stream order.

    Shape (frames, ...) each. Sums run in index order and no library chooses it, so that every
    machine finds the same bits.
    """
    return evaluate_frames(graph, graph.frames(x))


def evaluate_frames(graph: Graph, frames: Mapping[str, Floats]) -> dict[str, Floats]:
    """Every tensor of ``graph`` for inputs that are in stream order already, as by ``frames``."""
    tensors = dict(frames)
    for node in graph.nodes:
        tensors[node.name] = node.evaluate(*(tensors[source] for source in node.sources))
    return tensors


def without_unread(graph: Graph) -> Graph:
    """``graph`` without the nodes that lead to no output."""
    read = {port.source for port in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in read:
            read.update(node.sources)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name in read))


def fold_scales(graph: Graph) -> Graph:
    """``graph`` with every Scale inside a Linear before or behind it, where there is one.

    A Scale goes into the Linear before it if nothing else reads that Linear, or else into all
    those that read the Scale; Reshapes between do not matter. Any other Scale stays.
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


def _per_channel(values: Floats) -> Floats | None:
    """The values along the last axis, if they are the same at every position."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[0] if (rows == rows[0]).all() else None


def _rebuilt(graph: Graph, nodes: dict[str, GraphNode], alias: dict[str, str]) -> Graph:
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
    nodes: dict[str, GraphNode] = {node.name: node for node in graph.nodes}
    alias: dict[str, str] = {}
    for node in graph.nodes:
        if not isinstance(node, Scale):
            continue
        source = before = alias.get(node.sources[0], node.sources[0])
        while isinstance(nodes.get(before), Reshape) and len(readers[before]) == 1:
            before = alias.get(nodes[before].sources[0], nodes[before].sources[0])
        target = nodes.get(before)
        if not isinstance(target, Linear | Scale) or len(readers[before]) != 1:
            continue
        shape = graph.shapes[before]
        weight, bias = node.weight.reshape(shape), node.bias.reshape(shape)
        if isinstance(target, Linear):
            factor, offset = _per_channel(weight), _per_channel(bias)
            if factor is None or offset is None:
                continue
            nodes[before] = replace(
                target,
                weight=target.weight * factor[:, np.newaxis],
                bias=target.bias * factor + offset,
            )
        else:
            nodes[before] = replace(
                target, weight=target.weight * weight, bias=target.bias * weight + bias
            )
        alias[node.name] = source
        readers[source] = readers[node.name]
    return _rebuilt(graph, nodes, alias)


def _fold_behind(graph: Graph) -> Graph:
    readers = _readers(graph)
    nodes: dict[str, GraphNode] = {node.name: node for node in graph.nodes}
    alias: dict[str, str] = {}
    for node in reversed(graph.nodes):
        if not isinstance(node, Scale):
            continue
        behind: list[Linear] | None = []
        pending = list(readers[node.name])
        while pending and behind is not None:
            reader = nodes.get(pending.pop())
            if isinstance(reader, Reshape):
                pending += readers[reader.name]
            elif isinstance(reader, Linear):
                behind.append(reader)
            else:
                behind = None
        folded: dict[str, GraphNode] = {}
        for linear in behind or ():
            shape = graph.shapes[linear.sources[0]]
            factor = _per_channel(node.weight.reshape(shape))
            offset = _per_channel(node.bias.reshape(shape))
            if factor is None or offset is None:
                break
            shift = Linear(linear.name, linear.sources, linear.weight, linear.bias).evaluate(offset)
            folded[linear.name] = replace(linear, weight=linear.weight * factor, bias=shift)
        else:
            if behind:
                nodes |= folded
                alias[node.name] = node.sources[0]
    return _rebuilt(graph, nodes, alias)
