# SPDX-License-Identifier: Apache-2.0
"""The float network between a model file and quantisation, of no file format in particular."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitblocks.errors import InputError

if TYPE_CHECKING:
    from bitblocks.quantisation import Decision, Stage

Floats = NDArray[np.float64]
Shape = tuple[int, ...]

NUMBERS_LIMIT = 2**24
"""Most numbers of one tensor in a frame."""


@dataclass(frozen=True)
class Port:
    """One input or output of the network, in the model's own layout, without the batch.

    Parameters
    ----------
    name : str, a letter and then letters, digits or underscores; unique among inputs or outputs
    source : str, the input or layer's tensor that it comes from; an input's is its own name
    shape : lengths in the model's layout
    axes : the order in which the axes travel over the stream, slowest first
    """

    name: str
    source: str
    shape: Shape
    axes: Shape

    @property
    def stream_shape(self) -> Shape:
        """``shape`` in stream order, channels last; that of one number is (1,)."""
        return tuple(self.shape[axis] for axis in self.axes) or (1,)


@dataclass(frozen=True, eq=False)
class Layer:
    """What every layer of the float network is: mathematics, and how it becomes integers.

    A layer is a frozen dataclass with ``shape`` and ``evaluate``; ``quantise`` gives the block
    that it becomes. One layer is one class in ``bitblocks.layers``, known to nobody else.

    Parameters
    ----------
    name : of the layer, and of the tensor that it gives
    sources : names of the tensors that it reads

    Members
    -------
    tensors : names of what it gives: its own, or ``name.port`` for each of several ports
    decides : the fields of the precision file that have a meaning for it
    rectifies : whether it is ``max(x, 0)``, which may go into the block before it
    rectifiable : whether its block may end in ``max(y, 0)``
    """

    name: str
    sources: tuple[str, ...]

    decides: ClassVar[tuple[str, ...]] = ()
    rectifies: ClassVar[bool] = False
    rectifiable: ClassVar[bool] = False

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.name,)

    def shape(self, *args: Any, **kwargs: Any) -> Any:
        """Shape of what it gives for shapes of what it reads; a tuple if that is several tensors.

        Raises InputError where they do not fit.
        """
        raise NotImplementedError

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """What it gives for batches of what it reads; a tuple if that is several tensors.

        The same bits on every machine: sums in a fixed order, no library product, no vectorised
        transcendental function.
        """
        raise NotImplementedError

    def quantise(self, stage: Stage) -> Decision:
        """The block that it becomes behind the integers of ``stage``."""
        raise InputError(f"layer {self.name} cannot be built: {type(self).__name__} has no block")

    def lowered(self, shape: Shape, free: Any) -> tuple[Layer, ...]:
        """The layers that are quantised in its place, the last one of its name.

        ``shape`` is that of its source, ``free(name)`` a name that nothing else has.
        """
        return (self,)

    def scaled(self, weight: Floats, bias: Floats) -> Layer | None:
        """The layer that gives ``weight * y + bias``, both of the shape of y, if there is one."""
        return None

    def fed_scaled(self, weight: Floats, bias: Floats) -> Layer | None:
        """The layer that does to x what this does to ``weight * x + bias``, if there is one."""
        return None

    def reorders(self, source: Shape) -> bool:
        """Whether it gives the very numbers that it reads, of shape ``source``, once each."""
        return False

    def unmoved(self, values: Floats, source: Shape) -> Floats:
        """Of a layer that reorders: ``values`` of its y where they lay in x of shape ``source``."""
        raise NotImplementedError


def check_size(name: str, shape: Shape) -> None:
    """Raise InputError where layer ``name`` gives more numbers than a frame may have."""
    if math.prod(shape) > NUMBERS_LIMIT:
        raise InputError(
            f"layer {name} must give at most {NUMBERS_LIMIT} numbers, not {math.prod(shape)}"
        )


def several(layer: Layer, result: Any) -> tuple[Any, ...]:
    """What a layer's methods give, as a tuple with one part for each of its tensors."""
    return result if len(layer.tensors) > 1 else (result,)


@dataclass(frozen=True, eq=False)
class Graph:
    """A float network: layers in topological order, each naming the tensors that it gives.

    Inside, every frame is in stream order, channels last; only ``inputs`` and ``outputs`` know
    the model's own layout.

    Members
    -------
    shapes : shape of one frame of every input and tensor, by name
    """

    inputs: tuple[Port, ...]
    nodes: tuple[Layer, ...]
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
            given = several(node, node.shape(*(shapes[source] for source in node.sources)))
            for name, shape in zip(node.tensors, given, strict=True):
                check_size(name, shape)
                if name in shapes:
                    raise InputError(f"Graph names must be unique, not {name!r} twice")
                shapes[name] = shape
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
                f"data must be given for the inputs {', '.join(names)}, "
                f"not {', '.join(x) or 'none'}"
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
        given = node.evaluate(*(tensors[source] for source in node.sources))
        tensors |= zip(node.tensors, several(node, given), strict=True)
    return tensors


def without_unread(graph: Graph) -> Graph:
    """``graph`` without the layers that lead to no output."""
    read = {port.source for port in graph.outputs}
    for node in reversed(graph.nodes):
        if not read.isdisjoint(node.tensors):
            read.update(node.sources)
    return replace(
        graph, nodes=tuple(node for node in graph.nodes if not read.isdisjoint(node.tensors))
    )
