# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file into the float graph."""

import itertools
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from bitblocks import layers
from bitblocks.attending import fold_attention
from bitblocks.errors import InputError
from bitblocks.folding import fold_scales
from bitblocks.graph import (
    Graph,
    Layer,
    Port,
    Shape,
    check_size,
    several,
    without_unread,
)
from bitblocks.onnx_model import ONNX_DOMAINS, Model, shown, titled
from bitblocks.operators import OPERATORS, Operation, Operator
from bitblocks.operators.evaluation import fold, foldable
from bitblocks.operators.registry import REQUIRED, Schema, fits, plain, standard
from bitblocks.ordering import (
    Order,
    Value,
    axes_of,
    channels_last,
    moves,
    order_of,
    same,
)

LAYOUTS_LIMIT = 64
"""Most layouts of the inputs that are tried."""


def import_onnx(
    path: str | Path, cut: str | Sequence[str] | None = None, batch: bool = True
) -> Graph:
    """The float graph of the ONNX file at ``path``, ended before tensor ``cut`` is read.

    Axis 0 of every input is the batch, whatever length the file gives it, unless there is said to
    be none: then a frame is all of an input. Batch normalisations and added constants lie inside
    the layers next to them. What does not lead to an output,
    inputs included, is left out. Of the orders in which the inputs' axes may travel the one is
    taken that needs the fewest reorderings. Raises InputError for a file that is not a model, or
    for a model outside of what is supported, naming the operator and the node.

    Parameters
    ----------
    path : the file; external data must lie in its folder
    cut : name of the tensor, or tensors, that become the outputs
    batch : whether the model has a batch axis
    """
    model = Model(Path(path))
    outputs = model.outputs(cut)
    needed = model.needed(outputs)
    ports = model.ports(needed, outputs, batch)
    choices = [_layouts(shape) for _, shape in ports]
    best: Importer | None = None
    for axes in itertools.islice(itertools.product(*choices), LAYOUTS_LIMIT):
        importer = Importer(model, ports, axes, batch)
        importer.build(needed, outputs)
        if best is None or importer.reorders < best.reorders:
            best = importer
        if not importer.reorders:
            break
    assert best is not None  # there always is a choice
    graph = fold_scales(fold_attention(without_unread(best.graph)))
    read = {source for node in graph.nodes for source in node.sources}
    read |= {port.source for port in graph.outputs}
    return replace(graph, inputs=tuple(port for port in graph.inputs if port.name in read))


def _layouts(shape: Shape) -> list[Shape]:
    """Orders in which the axes of an input may travel, the likely ones first."""
    plain = tuple(range(len(shape)))
    likely = [channels_last(len(shape)), plain]
    if len(shape) == 2:  # no way to tell (time, channels) from (channels, time)
        likely.reverse()
    every = itertools.islice(itertools.permutations(plain), LAYOUTS_LIMIT)
    return list(dict.fromkeys([*likely, *every]))


def _argument(name: str) -> str:
    """A tensor name as it would be typed on a command line, if it can be typed."""
    return shlex.quote(name) if name.isprintable() and len(name) <= 80 else shown(name)


def _label(text: str) -> str:
    """``text`` as a letter and then letters, digits and single underscores; may be empty."""
    label = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60].rstrip("_")
    return f"n{label}" if label[:1].isdigit() else label


def _unique(label: str, taken: set[str]) -> str:
    """``label``, numbered if it is in ``taken``, which holds lower case and which it joins."""
    names = itertools.chain([label], (f"{label}_{n}" for n in itertools.count(2)))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name


class Importer:
    """Turns nodes of the file into layers, for one stream order of each input.

    Members
    -------
    values : the model's tensors that differ from frame to frame, by name
    shapes : of the graph's tensors, by name
    used : the model's tensors that needed nodes or the outputs read
    whole : whether there is no batch: one of length 1 is thought of that is joined with axis 0
    reorders : layers that only turn one order of a frame into another
    graph : after ``build``
    """

    def __init__(
        self,
        model: Model,
        ports: list[tuple[str, Shape]],
        axes: tuple[Shape, ...],
        batch: bool,
    ):
        self.model, self.whole = model, not batch
        self.values: dict[str, Value] = {}
        self.shapes: dict[str, Shape] = {}
        self.nodes: list[Layer] = []
        self.counts: dict[str, int] = {}
        self.reorders = 0
        self.taken: set[str] = set()
        self.inputs = []
        for (name, shape), order in zip(ports, axes, strict=True):
            label = _unique(_label(name) or "input", self.taken)
            port = Port(label, label, shape, order)
            self.inputs.append(port)
            self.shapes[label] = port.stream_shape
            joined = (0, int(self.whole))
            self.values[name] = Value(label, shape, order_of(shape, order), joined=joined)

    def build(self, needed: list[Any], outputs: list[str]) -> None:
        """Make the graph of the nodes ``needed``, with the tensors ``outputs`` as its outputs."""
        self.used = {name for node in needed for name in node.input} | set(outputs)
        for node in needed:
            self._node(node)
        ports: list[Port] = []
        taken: set[str] = set()
        for name in outputs:
            if name not in self.values:
                raise InputError(f"output {shown(name)} must depend on an input, not be constant")
            ports.append(self._output(name, _unique(_label(name) or "output", taken)))
        self.graph = Graph(tuple(self.inputs), tuple(self.nodes), tuple(ports))

    def _output(self, tensor: str, label: str) -> Port:
        value = self.values[tensor]
        if self.whole:  # of a batch of 1 it is all one where it lies
            value = value.reshaped(tuple(value.lengths(1)))
        elif value.batch or any(value.joined):
            rule = "alone on axis 0" if not value.batch_axis else f"on axis 0, not {value.batch}"
            raise InputError(f"output {shown(tensor)} must have the batch {rule}")
        axes = self.axes(value)
        if axes is None:
            value = self.reordered(value, None, value.shape)
            axes = tuple(range(len(value.shape)))
        name = self.viewed(value.name, tuple(value.shape[axis] for axis in axes))
        if name in {port.name for port in self.inputs}:
            name = self.add(layers.Identity, "identity", (name,)).name
        return Port(label, name, value.shape, axes)

    # -- for handlers -------------------------------------------------------------------------

    def add(
        self, kind: Any, label: str, sources: tuple[str, ...], *arguments: Any, **named: Any
    ) -> Layer:
        """A new layer, named ``label`` or nearly so."""
        name = _unique(label.replace(".", "_"), self.taken)
        layer: Layer = kind(name, sources, *arguments, **named)
        self.nodes.append(layer)
        given = layer.shape(*(self.shapes[source] for source in sources))
        for tensor, shape in zip(layer.tensors, several(layer, given), strict=True):
            check_size(tensor, shape)
            self.shapes[tensor] = shape
        return layer

    def layer(self, name: str) -> Layer | None:
        """The layer that gives a graph tensor; None for an input."""
        return next((layer for layer in self.nodes if name in layer.tensors), None)

    def viewed(self, name: str, shape: Shape) -> str:
        """The graph tensor ``name`` under another shape of the same raster order."""
        shape = shape or (1,)
        if self.shapes[name] == shape:
            return name
        return self.add(layers.Reshape, f"{name}_reshape", (name,), shape).name

    def axes(self, value: Value) -> Shape | None:
        """Axes of the frame in the order in which they travel, None if in no such order.

        Axes of length 1 leave a choice: as the graph's tensor has them, if it does.
        """
        for axes in (tuple(range(len(value.shape))), channels_last(len(value.shape))):
            shape = tuple(value.shape[axis] for axis in axes)
            if shape == self.shapes[value.name] and same(value.order, order_of(value.shape, axes)):
                return axes
        return axes_of(value.shape, value.order)

    def reordered(self, value: Value, order: Order, shape: Shape) -> Value:
        """``value`` in that order of the stream, through a Rearrange of ``shape`` if need be."""
        if same(value.order, order):
            return value
        index = moves(value.order, order, math.prod(value.shape)).reshape(shape)
        layer = self.add(layers.Rearrange, f"{value.name}_reorder", (value.name,), index)
        self.reorders += 1
        return replace(value, name=layer.name, order=order)

    def refuse(self, node: Any, rule: str) -> NoReturn:
        """Raise InputError that ``node`` breaks ``rule``, and say where to cut."""
        message = f"{titled(node)} {rule}"
        before = [name for name in node.input if name in self.values]
        inputs = {port.name for port in self.inputs}
        if before and self.values[before[0]].name not in inputs:
            message += f"; --cut {_argument(before[0])} can end the network before it"
        raise InputError(message)

    def refuse_senseless(self, node: Any, error: ValueError) -> NoReturn:
        """Raise InputError that ONNX's evaluator makes nothing of ``node``."""
        reason = re.sub(
            r"\[ShapeInferenceError\]|Inference error\(s\):|\(op_type:.*?\):", "", str(error)
        )
        reason = " ".join(reason.split())[:200]
        raise InputError(f"{titled(node)} must make sense to ONNX: {reason}") from error

    def label_of(self, node: Any, kind: str) -> str:
        """Name of a layer: the file's node name, or ``kind`` or the operator and a number."""
        path = [part for part in re.split(r"[/.]", node.name) if part]
        if len(path) > 1 and kind and path[-1].startswith(node.op_type):
            path.pop()  # PyTorch writes /module/path/Gemm
        label = _label("/".join(path))
        if label:
            return label
        kind = kind or node.op_type.lower()
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"

    # -- one node -----------------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        constants = self.model.constants
        if node.output and all(name in constants for name in filter(None, node.output)):
            return  # found for another layout
        domain = "" if node.domain in ONNX_DOMAINS else node.domain
        operator = OPERATORS.get((domain, node.op_type))
        folded = foldable(self.model, node)
        if operator is None and not folded:
            self.refuse(node, "is not supported")
        schema = (
            standard(node.op_type, self.model.opset)
            if operator is None
            else operator.schema_in(self.model.opset)
        )
        if schema is None:
            self.refuse(node, f"is not in operator set {self.model.opset}")
        while len(node.input) and not node.input[-1]:
            del node.input[-1]  # optional inputs left out
        count = len(node.input)
        if not schema.least <= count <= schema.most or not all(node.input[: schema.least]):
            named = sum(map(bool, node.input))
            self.refuse(node, f"must have {schema.least} to {schema.most} inputs, not {named}")
        if not any(node.output[: operator.outputs if operator else None]):
            self.refuse(node, "must name its output")
        if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
            self.refuse(node, "must have each attribute once")
        given = self._given(node, schema)
        if folded:
            try:
                results = fold(self.model, node)
            except ValueError as error:
                self.refuse_senseless(node, error)
            for name, result in zip(filter(None, node.output), results, strict=True):
                constants[name] = result
            return
        assert operator is not None
        self._check(node, operator, schema, given)
        attributes: dict[str, Any] = dict.fromkeys(operator.honours)
        attributes |= {name: attribute.default for name, attribute in schema.attributes.items()}
        result = operator.handler(Operation(self, node, operator, attributes | given))
        results = result if isinstance(result, list) else [result]
        for name, result in zip(node.output, results, strict=False):
            if name and result is not None:  # as it is of an output that nobody reads
                (self.values if isinstance(result, Value) else constants)[name] = result

    def _given(self, node: Any, schema: Schema) -> dict[str, Any]:
        """The attributes that a node has, of which the operator set must know each."""
        given = {}
        for attribute in node.attribute:
            name = attribute.name
            if name not in schema.attributes or attribute.ref_attr_name:
                self.refuse(node, f"attribute {shown(name)} is not supported")
            try:
                given[name] = plain(self.model.onnx.helper.get_attribute_value(attribute))
            except ValueError:
                self.refuse(node, f"attribute {shown(name)} has no sensible value")
            if not fits(schema.attributes[name].kind, given[name]):
                self.refuse(node, f"attribute {shown(name)} has no sensible value")
        for name, attribute in schema.attributes.items():
            if attribute.default is REQUIRED and name not in given:
                self.refuse(node, f"must have attribute {shown(name)}")
        return given

    def _check(self, node: Any, operator: Operator, schema: Schema, given: dict[str, Any]) -> None:
        """Refuse what the handler would not honour."""
        for place, name in enumerate(node.output):
            if place >= operator.outputs and name and name in self.used:
                formal = schema.outputs[place] if place < len(schema.outputs) else f"{place + 1}"
                self.refuse(node, f"output '{formal}' must not be used")
        for name, value in given.items():
            only = operator.only.get(name)
            if only is not None and value != only.value:
                self.refuse(node, only.rule or f"attribute '{name}' must be {only.value}")
            if operator.state(name) == "refused":
                self.refuse(node, f"attribute {shown(name)} is not supported")
