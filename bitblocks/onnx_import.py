# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file into the float graph."""

import difflib
import itertools
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.errors import InputError
from bitblocks.folding import fold_scales
from bitblocks.graph import Floats, Graph, Layer, Port, Shape

BYTES_LIMIT = 256 * 2**20
"""Largest model file, and largest sum of its external data."""
ELEMENTS_LIMIT = 2**20
"""Most elements of one frame."""
OLDEST_OPSET, NEWEST_OPSET = 7, 28
"""The operator sets whose rules for the operators below are the ones followed here."""

FLOAT_TYPES = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
INTEGER_TYPES = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (4, 8, 16, 32, 64))


def import_onnx(path: str | Path, cut: str | Sequence[str] | None = None) -> Graph:
    """The float graph of the ONNX file at ``path``, ended before tensor ``cut`` is read.

    Axis 0 of every tensor is the batch, whatever length the file gives it. Batch normalisations
    and added constants lie inside the linear layers next to them. What does not lead to an
    output, inputs included, is left out. Raises InputError for a file that is not a model, or
    for a model outside of what is supported, naming the operator and the node.

    Parameters
    ----------
    path : the file; external data must lie in its folder
    cut : name of the tensor, or tensors, that become the outputs
    """
    model = _Model(Path(path))
    outputs = model.outputs(cut)
    needed = model.needed(outputs)
    ports = model.ports(needed, outputs)
    choices = []
    for _, shape in ports:
        model_order = tuple(range(len(shape)))
        channels_last = (*model_order[1:], *model_order[:1])
        if len(shape) == 2:  # no way to tell (time, channels) from (channels, time): try in turn
            choices.append([model_order, channels_last])
        else:
            choices.append([channels_last, model_order] if len(shape) > 2 else [model_order])
    for axes in itertools.islice(itertools.product(*choices), 64):
        try:
            return fold_scales(_Builder(model, ports, axes).build(needed, outputs))
        except _LayoutError as error:
            reason = error
    raise InputError(f"{_shown(model.path)} {reason}")


class _LayoutError(Exception):
    """The chosen stream order of the inputs does not suit a later node."""


def _shown(name: object) -> str:
    """A name inside a message: on one line, quoted; not endless if the file gave it."""
    text = repr(str(name))
    return text if isinstance(name, Path) or len(text) <= 80 else f"{text[:76]}...'"


def _argument(name: str) -> str:
    """A tensor name as it would be typed on a command line, if it can be typed."""
    return shlex.quote(name) if name.isprintable() and len(name) <= 80 else _shown(name)


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


class _Model:
    """A parsed model file: its nodes, its constants and its inputs, checked for sense."""

    def __init__(self, path: Path):
        import onnx  # takes a third of a second, which commands without a model need not wait

        self.onnx = onnx
        self.path = path
        proto = self._parse(_read(path, 0, None, BYTES_LIMIT))
        self.graph = proto.graph
        self._check_opset(proto)
        self._check_names()
        self.constants: dict[str, Any] = {}
        self.external_bytes = 0
        for tensor in self.graph.initializer:
            self._claim(tensor.name)
            self.constants[tensor.name] = tensor
        if self.graph.sparse_initializer:
            raise InputError(f"{_shown(path)} holds sparse weights, which are not supported")
        for port in self.graph.input:  # old files list their weights among the inputs too
            if port.name not in self.constants:
                self._claim(port.name)
        self.producers: dict[str, Any] = {}
        for node in self.graph.node:
            for name in filter(None, node.output):
                self._claim(name)
                self.producers[name] = node

    def _claim(self, name: str) -> None:
        taken = self.__dict__.setdefault("taken", set())
        if not name or name in taken:
            raise InputError(f"{_shown(self.path)} must name each tensor once, not {_shown(name)}")
        taken.add(name)

    def _parse(self, content: bytes) -> Any:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        if not content:
            raise InputError(f"{_shown(self.path)} is empty")
        try:
            proto = self.onnx.ModelProto.FromString(content)
        except DecodeError as error:
            raise InputError(f"{_shown(self.path)} is not an ONNX model, or is cut off") from error
        if not (proto.ir_version and proto.opset_import and proto.HasField("graph")):
            raise InputError(f"{_shown(self.path)} is not an ONNX model, or is cut off")
        return proto

    def _check_opset(self, proto: Any) -> None:
        versions = [entry.version for entry in proto.opset_import if entry.domain in _ONNX_DOMAINS]
        if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
            raise InputError(
                f"{_shown(self.path)} must use one ONNX operator set from {OLDEST_OPSET} to "
                f"{NEWEST_OPSET}, not {versions[0] if len(versions) == 1 else versions}"
            )

    def _check_names(self) -> None:
        graph = self.graph
        names = [part.name for part in (*graph.initializer, *graph.input, *graph.output)]
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
        for tensor in graph.initializer:
            names += [text for entry in tensor.external_data for text in (entry.key, entry.value)]
        if not all(isinstance(name, str) for name in names):  # bytes where they are not UTF-8
            raise InputError(f"{_shown(self.path)} must have names in UTF-8")

    def outputs(self, cut: str | Sequence[str] | None) -> list[str]:
        """Names of the tensors that the network ends in."""
        if cut is None:
            names = [port.name for port in self.graph.output]
        else:
            names = [cut] if isinstance(cut, str) else list(cut)
        inputs = [port.name for port in self.graph.input if port.name not in self.constants]
        tensors = [*inputs, *self.producers]
        for name in names:
            if name not in tensors:
                near = difflib.get_close_matches(name, tensors, n=3, cutoff=0.3)
                near = near or tensors[-3:]
                what = "output" if cut is None else "cut"
                raise InputError(
                    f"{_shown(self.path)} has no tensor {_shown(name)} for its {what}; "
                    f"nearest: {', '.join(map(_shown, near))}"
                )
        if not names or len(set(names)) < len(names):
            raise InputError(f"{_shown(self.path)} must have outputs, each of them once")
        return names

    def needed(self, outputs: list[str]) -> list[Any]:
        """The nodes that lead to ``outputs``, in the order of the file."""
        wanted: set[str] = set()
        pending = list(outputs)
        while pending:
            name = pending.pop()
            if name and name not in wanted:
                wanted.add(name)
                if name in self.producers:
                    pending += self.producers[name].input
        nodes = [node for node in self.graph.node if not wanted.isdisjoint(node.output)]
        known = {*self.constants, *(port.name for port in self.graph.input)}
        for node in nodes:
            for name in filter(None, node.input):
                if name not in known:
                    rule = (
                        "which no earlier node gives: nodes must be sorted and free of cycles"
                        if name in self.producers
                        else "which nothing in the file gives"
                    )
                    raise InputError(f"{_titled(node)} reads tensor {_shown(name)}, {rule}")
            known.update(node.output)
        return nodes

    def ports(self, needed: list[Any], outputs: list[str]) -> list[tuple[str, Shape]]:
        """Name and frame shape of every input that is read, in the order of the file."""
        read = {name for node in needed for name in node.input} | set(outputs)
        ports, batches = [], set()
        for port in self.graph.input:
            if port.name in self.constants or port.name not in read:
                continue
            batch, shape = self._frame_shape(port)
            ports.append((port.name, shape))
            batches.add(batch)
        if not ports:
            raise InputError(f"{_shown(self.path)} must have an input that leads to an output")
        if len(batches) > 1:
            raise InputError(
                f"{_shown(self.path)} inputs must agree on axis 0, the batch, "
                f"not have {' and '.join(sorted(str(batch) for batch in batches))}"
            )
        self.batch: int | None = batches.pop()
        return ports

    def _frame_shape(self, port: Any) -> tuple[int | None, Shape]:
        name = f"input {_shown(port.name)}"
        kind = port.type.WhichOneof("value")
        type_name = self._type_name(port.type.tensor_type.elem_type)
        if kind != "tensor_type" or type_name not in FLOAT_TYPES:
            came = type_name if kind == "tensor_type" else kind
            raise InputError(f"{name} must be a tensor of floats, not {came}")
        if not port.type.tensor_type.HasField("shape"):
            raise InputError(f"{name} must have a shape, not none")
        lengths = [
            dimension.dim_value if dimension.WhichOneof("value") == "dim_value" else None
            for dimension in port.type.tensor_type.shape.dim
        ]
        shown = f"[{', '.join('?' if n is None else str(n) for n in lengths)}]"
        if len(lengths) < 2:
            raise InputError(f"{name} must have a batch axis and at least one more, not {shown}")
        if None in lengths[1:]:
            raise InputError(f"{name} must have fixed lengths but for axis 0, not {shown}")
        shape = tuple(int(length) for length in lengths[1:] if length is not None)
        if min(shape) < 1 or math.prod(shape) > ELEMENTS_LIMIT:
            raise InputError(f"{name} must have 1 to {ELEMENTS_LIMIT} elements, not {shown}")
        batch = lengths[0]
        return (batch if batch and batch > 0 else None), shape

    def _type_name(self, code: int) -> str:
        types = self.onnx.TensorProto.DataType
        return types.Name(code) if code in types.values() else f"type {code}"

    def array(self, name: str) -> NDArray[Any]:
        """The constant ``name`` as the file types it."""
        value = self.constants[name]
        if isinstance(value, np.ndarray):
            return value
        shown, type_name = f"constant {_shown(name)}", self._type_name(value.data_type)
        if type_name not in FLOAT_TYPES + INTEGER_TYPES:
            raise InputError(f"{shown} must hold numbers, not {type_name}")
        if any(length < 1 for length in value.dims):
            raise InputError(f"{shown} must have elements, not shape {list(value.dims)}")
        if value.data_location == self.onnx.TensorProto.EXTERNAL:
            value = self._external(value, shown, type_name)
        try:
            array = self.onnx.numpy_helper.to_array(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"{shown} must hold {math.prod(value.dims)} numbers of {type_name}, not other data"
            ) from error
        self.constants[name] = array
        return array

    def floats(self, name: str) -> Floats:
        """The constant ``name`` as float64, exactly; raises InputError if it is not finite."""
        array = self.array(name)
        values = array.astype(np.float64)
        if array.dtype.kind in "iu" and (np.abs(values) > 2.0**53).any():
            raise InputError(f"constant {_shown(name)} must be below 2**53 to be exact")
        if not np.isfinite(values).all():
            raise InputError(f"constant {_shown(name)} must be finite, not NaN or infinite")
        return values

    def _external(self, value: Any, shown: str, type_name: str) -> Any:
        entries = {entry.key: entry.value for entry in value.external_data}
        location = entries.get("location", "")
        folder = self.path.parent.resolve()
        try:
            offset = int(entries.get("offset", 0))
            path = (folder / location).resolve()
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise InputError(f"{shown} must name its external data rightly") from error
        if not location or not path.is_relative_to(folder) or Path(location).is_absolute():
            raise InputError(
                f"{shown} external data must lie in the folder of the model, "
                f"not at {_shown(Path(location) if location else location)}"
            )
        bits = int(re.sub(r"\D", "", type_name) or {"FLOAT": 32, "DOUBLE": 64}[type_name])
        size = (math.prod(value.dims) * bits + 7) // 8
        self.external_bytes += size
        if offset < 0 or entries.get("length", str(size)) != str(size):
            raise InputError(f"{shown} external data must have {size} bytes from a valid offset")
        if self.external_bytes > BYTES_LIMIT:
            raise InputError(
                f"{_shown(self.path)} external data must have at most {BYTES_LIMIT >> 20} MiB"
            )
        return self.onnx.TensorProto(
            dims=value.dims, data_type=value.data_type, raw_data=_read(path, offset, size, None)
        )


_ONNX_DOMAINS = ("", "ai.onnx")


def _read(path: Path, offset: int, size: int | None, limit: int | None) -> bytes:
    try:
        if not path.exists():
            raise InputError(f"{_shown(path)} does not exist")
        if not path.is_file():
            raise InputError(f"{_shown(path)} must be a file, not a folder or a device")
        length = path.stat().st_size
        if limit is not None and length > limit:
            raise InputError(
                f"{_shown(path)} must have at most {limit >> 20} MiB, not {length >> 20} MiB"
            )
        if size is not None and offset + size > length:
            raise InputError(f"{_shown(path)} must have {offset + size} bytes, not {length}")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length if size is None else size)
    except OSError as error:
        raise InputError(f"{_shown(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_shown(path)} is no path to a file") from error  # a zero byte in it


def _titled(node: Any) -> str:
    """How messages name a node."""
    if node.name:
        return f"{_shown_operator(node)} node {_shown(node.name)}"
    output = next(filter(None, node.output), "")
    return f"{_shown_operator(node)} node that gives {_shown(output)}"


def _shown_operator(node: Any) -> str:
    name = node.op_type if node.domain in _ONNX_DOMAINS else f"{node.domain}.{node.op_type}"
    return name if re.fullmatch(r"[A-Za-z0-9_.]{1,80}", name) else _shown(name)


@dataclass(frozen=True)
class _Value:
    """A tensor of the model that is not constant, and the graph tensor that carries it.

    Element k of the stream is element ``order[k]`` of the frame in the model's raster order;
    None where both orders agree.
    """

    name: str
    shape: Shape
    order: NDArray[np.int64] | None


def _order(shape: Shape, axes: Shape) -> NDArray[np.int64] | None:
    """``_Value.order`` of a frame of ``shape`` that travels with its axes as ``axes``."""
    size = math.prod(shape)
    order = np.arange(size).reshape(shape).transpose(axes).ravel()
    return None if (order == np.arange(size)).all() else order


def _same(a: NDArray[np.int64] | None, b: NDArray[np.int64] | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)


class _Builder:
    """Turns nodes of the file into nodes of the graph, for one stream order of each input."""

    def __init__(self, model: _Model, ports: list[tuple[str, Shape]], axes: tuple[Shape, ...]):
        self.model = model
        self.values: dict[str, _Value] = {}
        self.shapes: dict[str, Shape] = {}
        self.nodes: list[Layer] = []
        self.counts: dict[str, int] = {}
        self.constants = model.constants
        self.taken: set[str] = set()
        self.inputs = []
        for (name, shape), order in zip(ports, axes, strict=True):
            label = _unique(_label(name) or "input", self.taken)
            port = Port(label, label, shape, order)
            self.inputs.append(port)
            self.shapes[label] = port.stream_shape
            self.values[name] = _Value(label, shape, _order(shape, order))

    def build(self, needed: list[Any], outputs: list[str]) -> Graph:
        """The graph; raises _LayoutError where the inputs' order cannot be kept."""
        for node in needed:
            self._node(node)
        ports: list[Port] = []
        taken: set[str] = set()
        for name in outputs:
            if name not in self.values:
                raise InputError(f"output {_shown(name)} must depend on an input, not be constant")
            label = _unique(_label(name) or "output", taken)
            ports.append(self._output(label, self.values[name]))
        return Graph(tuple(self.inputs), tuple(self.nodes), tuple(ports))

    def _output(self, label: str, value: _Value) -> Port:
        rank = len(value.shape)
        plain = tuple(range(rank))
        for axes in (plain, (*plain[1:], *plain[:1]), (*plain[:-2], *plain[-2:][::-1])):
            if _same(value.order, _order(value.shape, axes)):
                port = Port(label, value.name, value.shape, axes)
                name = self._viewed(value.name, port.stream_shape)
                if name in {port.name for port in self.inputs}:
                    name = self._add(layers.Identity, "identity", (name,), self.shapes[name])
                return Port(label, name, value.shape, axes)
        raise _LayoutError(f"must give output {_shown(label)} in an order of its own axes")

    def _add(
        self, kind: Any, label: str, sources: tuple[str, ...], shape: Shape, *rest: Any
    ) -> str:
        name = _unique(label, self.taken)
        self.nodes.append(kind(name, sources, *rest))
        self.shapes[name] = shape
        return name

    def _viewed(self, name: str, shape: Shape) -> str:
        """The graph tensor ``name`` under another shape of the same raster order."""
        if self.shapes[name] == shape:
            return name
        return self._add(layers.Reshape, f"{name}_reshape", (name,), shape, shape)

    def _refuse(self, node: Any, rule: str) -> NoReturn:
        """Raise InputError that ``node`` breaks ``rule``, and say where to cut."""
        message = f"{_titled(node)} {rule}"
        before = [name for name in node.input if name in self.values]
        inputs = {port.name for port in self.inputs}
        if before and self.values[before[0]].name not in inputs:
            message += f"; --cut {_argument(before[0])} can end the network before it"
        raise InputError(message)

    # -- the parts of a node ------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        known = node.domain in _ONNX_DOMAINS
        handler = _HANDLERS.get(node.op_type) if known else None
        if handler is None:
            self._refuse(node, "is not supported")
        if any(name for name in node.output[1:]) and node.op_type not in ("Dropout",):
            self._refuse(node, "must have one output")
        method, inputs_low, inputs_high = handler
        while len(node.input) and not node.input[-1]:
            del node.input[-1]  # optional inputs left out
        if not inputs_low <= len(node.input) <= inputs_high or not all(node.input[:inputs_low]):
            self._refuse(node, f"must have {inputs_low} to {inputs_high} inputs")
        if not node.output or not node.output[0]:
            self._refuse(node, "must name its output")
        if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
            self._refuse(node, "must have each attribute once")
        method(self, node)

    def _attributes(self, node: Any, **defaults: Any) -> dict[str, Any]:
        """Values of the attributes named; every other attribute is refused."""
        values = dict(defaults)
        for attribute in node.attribute:
            if attribute.name not in defaults or attribute.ref_attr_name:
                self._refuse(node, f"attribute {_shown(attribute.name)} is not supported")
            value = self.model.onnx.helper.get_attribute_value(attribute)
            default = defaults[attribute.name]
            wrong = default is not None and type(value) is not type(default)
            if wrong or (isinstance(value, float) and not math.isfinite(value)):
                self._refuse(node, f"attribute {_shown(attribute.name)} has no sensible value")
            values[attribute.name] = value
        return values

    def _label_of(self, node: Any) -> str:
        """Name of the graph node: the file's node name, or the operator and a number."""
        path = [part for part in re.split(r"[/.]", node.name) if part]
        if len(path) > 1 and node.op_type in _LABELS and path[-1].startswith(node.op_type):
            path.pop()  # PyTorch writes /module/path/Gemm
        label = _label("/".join(path))
        if label:
            return label
        kind = _LABELS.get(node.op_type, node.op_type.lower())
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"

    def _is_constant(self, name: str) -> bool:
        return name in self.constants

    def _finite(self, node: Any, *arrays: Floats) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            self._refuse(node, "must give finite weights, not overflow")

    # -- operators ----------------------------------------------------------------------------

    def _constant(self, node: Any) -> None:
        kinds = dict.fromkeys(("value", "value_float", "value_floats", "value_int", "value_ints"))
        given = {name: v for name, v in self._attributes(node, **kinds).items() if v is not None}
        if len(given) != 1:
            self._refuse(node, "must have one value")
        ((kind, value),) = given.items()
        name = node.output[0]
        if kind == "value":
            self.constants[name] = value
        else:
            if not np.size(value):
                self._refuse(node, "must have elements")
            dtype = np.float32 if "float" in kind else np.int64
            self.constants[name] = np.array(value, dtype)

    def _identity(self, node: Any) -> None:
        self._attributes(node)
        self._pass(node)

    def _pass(self, node: Any) -> None:
        source = node.input[0]
        if self._is_constant(source):
            self.constants[node.output[0]] = self.model.array(source)
        else:
            self.values[node.output[0]] = self.values[source]

    def _dropout(self, node: Any) -> None:
        self._attributes(node, ratio=0.5, seed=0)  # neither plays a part in inference
        if len(node.input) > 2 and node.input[2]:
            training = node.input[2]
            if not self._is_constant(training) or self._flag(training):
                self._refuse(node, "must be in inference mode, not training_mode")
        if any(
            name in other.input
            for name in filter(None, node.output[1:])
            for other in self.model.graph.node
        ):
            self._refuse(node, "mask must not be used")
        self._pass(node)

    def _flag(self, name: str) -> bool:
        """A boolean constant, which no other operator takes."""
        value = self.constants[name]
        if isinstance(value, np.ndarray):
            return bool(value.any())
        try:
            return bool(self.model.onnx.numpy_helper.to_array(value).any())
        except (ValueError, TypeError, OverflowError):
            return True

    def _transpose(self, node: Any) -> None:
        attributes = self._attributes(node, perm=[])
        if not self._is_constant(node.input[0]):
            self._refuse(node, "of anything but a constant is not supported")
        array = self.model.array(node.input[0])
        perm = attributes["perm"] or list(range(array.ndim))[::-1]
        if sorted(perm) != list(range(array.ndim)):
            self._refuse(node, f"attribute 'perm' must order {array.ndim} axes, not {perm}")
        self.constants[node.output[0]] = array.transpose(perm)

    def _relu(self, node: Any) -> None:
        self._attributes(node)
        value = self._variable(node, node.input[0])
        name = self._add(layers.Relu, self._label_of(node), (value.name,), self.shapes[value.name])
        self.values[node.output[0]] = _Value(name, value.shape, value.order)

    def _variable(self, node: Any, name: str) -> _Value:
        if self._is_constant(name):
            self._refuse(node, "of a constant is not supported")
        return self.values[name]

    def _flatten(self, node: Any) -> None:
        axis = self._attributes(node, axis=1)["axis"]
        source = node.input[0]
        if self._is_constant(source):
            array = self.model.array(source)
            self._check_axis(node, axis, array.ndim)
            axis += array.ndim * (axis < 0)
            self.constants[node.output[0]] = array.reshape(math.prod(array.shape[:axis]), -1)
            return
        value = self.values[source]
        rank = len(value.shape) + 1
        self._check_axis(node, axis, rank)
        axis += rank * (axis < 0)
        merged = math.prod(value.shape[: axis - 1]) if axis else self.model.batch
        if merged != 1:
            self._refuse(node, f"attribute 'axis' must leave axis 0 the batch, not be {axis}")
        self._reshaped(node, value, (math.prod(value.shape),))

    def _check_axis(self, node: Any, axis: int, rank: int) -> None:
        if not -rank <= axis <= rank:
            self._refuse(node, f"attribute 'axis' must be in [{-rank}, {rank}], not {axis}")

    def _reshape(self, node: Any) -> None:
        allow_zero = self._attributes(node, allowzero=0)["allowzero"]
        source, shape_name = node.input
        if not self._is_constant(shape_name):
            self._refuse(node, "must have a constant shape")
        array = self.model.array(shape_name)
        if array.ndim != 1 or array.dtype != np.int64:
            self._refuse(node, "must have a shape of int64, one per axis")
        target = [int(length) for length in array]
        constant = self._is_constant(source)
        lengths: list[int | None]
        if constant:
            lengths = list(self.model.array(source).shape)
        else:
            lengths = [self.model.batch, *self.values[source].shape]
        if target.count(-1) > 1 or min(target, default=0) < -1 or (allow_zero and 0 in target):
            self._refuse(node, f"must have a shape of at most one -1 and no 0, not {target}")
        if any(length == 0 and axis >= len(lengths) for axis, length in enumerate(target)):
            self._refuse(node, f"must take a 0 in its shape from an axis of the input: {target}")
        if constant:
            full = [lengths[axis] if n == 0 else n for axis, n in enumerate(target)]
            try:
                self.constants[node.output[0]] = self.model.array(source).reshape(full)
            except ValueError:
                self._refuse(node, f"must keep the count of elements, not reshape to {target}")
            return
        value = self.values[source]
        frame = [lengths[axis] if n == 0 else n for axis, n in enumerate(target)][1:]
        size = math.prod(value.shape)
        known = math.prod(n for n in frame if n is not None and n > 0)
        if -1 in frame and size % known == 0:
            frame[frame.index(-1)] = size // known
        keeps_batch = target[:1] in ([0], [-1]) or (
            self.model.batch is not None and target[:1] == [self.model.batch]
        )
        shape = tuple(int(n) for n in frame if n is not None)
        if not keeps_batch or not shape or math.prod(shape) != size:
            have = f"[{'batch' if self.model.batch is None else self.model.batch}, "
            have += f"{', '.join(map(str, value.shape))}]"
            self._refuse(node, f"must leave axis 0 the batch, not reshape {have} to {target}")
        self._reshaped(node, value, shape)

    def _reshaped(self, node: Any, value: _Value, shape: Shape) -> None:
        name = value.name
        if value.order is None or len(shape) == 1:
            if self.shapes[name] != shape:
                label = self._label_of(node)
                name = self._add(layers.Reshape, label, (name,), shape, shape)
        self.values[node.output[0]] = _Value(name, shape, value.order)

    def _add_node(self, node: Any) -> None:
        self._attributes(node)
        a, b = node.input
        if self._is_constant(a) and self._is_constant(b):
            self._refuse(node, "of two constants is not supported")
        if self._is_constant(a) or self._is_constant(b):
            value = self.values[b if self._is_constant(a) else a]
            constant = self._frame_constant(node, a if self._is_constant(a) else b, value)
            self._scaled(node, value, np.ones_like(constant), constant)
        else:
            self._sum(node, self._label_of(node), self.values[a], self.values[b])

    def _sum(self, node: Any, label: str, a: _Value, b: _Value) -> None:
        if a.shape != b.shape:
            self._refuse(node, f"must add equal shapes, not {list(a.shape)} and {list(b.shape)}")
        if not _same(a.order, b.order):
            raise _LayoutError(f"must add tensors of one order in {_titled(node)}")
        shape = self.shapes[a.name]
        sources = (a.name, self._viewed(b.name, shape))
        self.values[node.output[0]] = _Value(
            self._add(layers.Add, label, sources, shape), a.shape, a.order
        )

    def _frame_constant(self, node: Any, name: str, value: _Value) -> Floats:
        """A constant broadcast to one frame, in the model's order."""
        array = self.model.floats(name)
        if array.ndim == len(value.shape) + 1 and array.shape[0] == 1:
            array = array[0]
        try:
            if array.ndim > len(value.shape):
                raise ValueError
            return np.broadcast_to(array, value.shape)
        except ValueError:
            self._refuse(
                node,
                f"constant {_shown(name)} must fit one frame of shape {list(value.shape)}, "
                f"not have shape {list(self.model.array(name).shape)}",
            )

    def _scaled(self, node: Any, value: _Value, weight: Floats, bias: Floats) -> None:
        """``weight * value + bias``, both of the frame's shape in the model's order."""
        self._finite(node, weight, bias)
        shape = self.shapes[value.name]
        order = slice(None) if value.order is None else value.order
        parts = (part.ravel()[order].reshape(shape) for part in (weight, bias))
        label = self._label_of(node)
        name = self._add(layers.Scale, label, (value.name,), shape, *parts)
        self.values[node.output[0]] = _Value(name, value.shape, value.order)

    def _batch_normalization(self, node: Any) -> None:
        values = self._attributes(
            node, epsilon=float(np.float32(1e-5)), momentum=0.9, training_mode=0, spatial=1
        )
        if values["training_mode"]:
            self._refuse(node, "must be in inference mode, not training_mode")
        if values["spatial"] != 1:
            self._refuse(node, "attribute 'spatial' must be 1")
        value = self._variable(node, node.input[0])
        parameters = []
        for name in node.input[1:]:
            if not self._is_constant(name):
                self._refuse(node, f"parameter {_shown(name)} must be constant")
            parameters.append(self.model.floats(name))
            if parameters[-1].shape != value.shape[:1]:
                self._refuse(
                    node,
                    f"parameter {_shown(name)} must have shape [{value.shape[0]}], "
                    f"not {list(parameters[-1].shape)}",
                )
        scale, offset, mean, variance = parameters
        spread = variance + values["epsilon"]
        if not (spread > 0).all():
            self._refuse(node, "variance and epsilon must sum to more than 0")
        with np.errstate(over="ignore", invalid="ignore"):
            weight = scale / np.sqrt(spread)
            bias = offset - mean * weight
        channels = (slice(None), *(np.newaxis,) * (len(value.shape) - 1))
        frames = (np.broadcast_to(part[channels], value.shape) for part in (weight, bias))
        self._scaled(node, value, *frames)

    def _gemm(self, node: Any) -> None:
        values = self._attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
        a, b = node.input[:2]
        if self._is_constant(a) or not self._is_constant(b):
            self._refuse(node, "must multiply frames by a constant B")
        value, matrix = self.values[a], self.model.floats(b)
        if values["transA"]:
            self._refuse(node, "attribute 'transA' must be 0, or it would mix the frames")
        if matrix.ndim != 2 or len(value.shape) != 1:
            self._refuse(node, f"must multiply matrices, not {[*value.shape]} by {[*matrix.shape]}")
        weight = matrix if values["transB"] else matrix.T
        bias = np.zeros(len(weight))
        addend: _Value | None = None
        if len(node.input) > 2:
            c = node.input[2]
            if self._is_constant(c):
                frame = _Value("", (len(weight),), None)
                with np.errstate(over="ignore"):
                    bias = values["beta"] * self._frame_constant(node, c, frame)
            else:
                addend = self.values[c]
        with np.errstate(over="ignore"):
            weight = values["alpha"] * weight
        label = self._label_of(node)
        result = self._linear(node, label, value, weight, bias)
        if addend is None:
            self.values[node.output[0]] = result
            return
        if values["beta"] != 1.0:
            beta = np.full(addend.shape, values["beta"])
            self._scaled(node, addend, beta, np.zeros(addend.shape))
            addend = self.values[node.output[0]]
        self._sum(node, f"{label}_add", result, addend)

    def _linear(self, node: Any, label: str, value: _Value, weight: Floats, bias: Floats) -> _Value:
        """``weight @ value + bias`` along the last axis of a frame in the model's order."""
        self._finite(node, weight, bias)
        if weight.shape[1] != value.shape[-1]:
            self._refuse(
                node, f"must have {value.shape[-1]} inputs to its weights, not {weight.shape[1]}"
            )
        if len(value.shape) == 1:
            weight = weight if value.order is None else weight[:, value.order]
        elif value.order is not None:
            raise _LayoutError(f"must keep the order of axes before {_titled(node)}")
        source = self._viewed(value.name, value.shape)
        shape = (*value.shape[:-1], len(weight))
        name = self._add(layers.Linear, label, (source,), shape, weight, bias)
        return _Value(name, shape, None)

    def _matmul(self, node: Any) -> None:
        self._attributes(node)
        a, b = node.input
        if self._is_constant(a) == self._is_constant(b):
            self._refuse(node, "must multiply frames by a constant")
        left = self._is_constant(a)
        value, matrix = self.values[b if left else a], self.model.floats(a if left else b)
        while matrix.ndim > 2 and matrix.shape[0] == 1 and matrix.ndim <= len(value.shape) + 1:
            matrix = matrix[0]
        vector = matrix.ndim == 1
        if vector:
            matrix = matrix[np.newaxis] if left else matrix[:, np.newaxis]
        if matrix.ndim != 2:
            self._refuse(node, "must multiply by one matrix, the same for all frames")
        if left and len(value.shape) == 1:
            self._refuse(node, "must not mix the frames, as a constant on the left of them would")
        if vector and len(value.shape) == 1:
            self._refuse(node, "must leave an axis beside the batch, not multiply by a vector")
        label = self._label_of(node)
        if not left:
            result = self._linear(node, label, value, matrix.T, np.zeros(matrix.shape[1]))
            shape = result.shape[:-1] if vector else result.shape
        else:
            result, shape = self._linear_left(node, label, value, matrix)
            if vector:
                shape = (*shape[:-2], shape[-1])
        if vector:
            order = result.order if shape[1:] else None
            result = _Value(self._viewed(result.name, shape), shape, order)
        self.values[node.output[0]] = result

    def _linear_left(
        self, node: Any, label: str, value: _Value, matrix: Floats
    ) -> tuple[_Value, Shape]:
        """``matrix @ value``: a Linear on frames whose last two axes travel swapped."""
        *outer, inputs, columns = value.shape
        if len(outer):
            self._refuse(node, "must have a constant on the right of frames of 3 axes or more")
        if not _same(value.order, _order(value.shape, (1, 0))):
            raise _LayoutError(f"must swap the axes before {_titled(node)}")
        swapped = _Value(value.name, (columns, inputs), None)
        result = self._linear(node, label, swapped, matrix, np.zeros(len(matrix)))
        shape = (len(matrix), columns)
        return _Value(result.name, shape, _order(shape, (1, 0))), shape


_LABELS = {"Gemm": "linear", "MatMul": "linear", "BatchNormalization": "norm"}
_HANDLERS: dict[str, tuple[Any, int, int]] = {  # the method, least and most inputs
    "Add": (_Builder._add_node, 2, 2),
    "BatchNormalization": (_Builder._batch_normalization, 5, 5),
    "Constant": (_Builder._constant, 0, 0),
    "Dropout": (_Builder._dropout, 1, 3),
    "Flatten": (_Builder._flatten, 1, 1),
    "Gemm": (_Builder._gemm, 2, 3),
    "Identity": (_Builder._identity, 1, 1),
    "MatMul": (_Builder._matmul, 2, 2),
    "Relu": (_Builder._relu, 1, 1),
    "Reshape": (_Builder._reshape, 2, 2),
    "Transpose": (_Builder._transpose, 1, 1),
}
