# SPDX-License-Identifier: Apache-2.0
"""The content of an ONNX file: read without trust, checked for sense."""

import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitblocks.errors import InputError
from bitblocks.graph import Floats, Shape

BYTES_LIMIT = 256 * 2**20
"""Largest model file, and largest sum of its external data."""
ELEMENTS_LIMIT = 2**20
"""Most elements of one frame."""
OLDEST_OPSET, NEWEST_OPSET = 7, 28
"""The operator sets whose rules are the ones followed here."""

FLOAT_TYPES = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
INTEGER_TYPES = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (4, 8, 16, 32, 64))
ONNX_DOMAINS = ("", "ai.onnx")


def shown(name: object) -> str:
    """A name inside a message: on one line, quoted; not endless if the file gave it."""
    text = repr(str(name))
    return text if isinstance(name, Path) or len(text) <= 80 else f"{text[:76]}...'"


class PerBatch(NamedTuple):
    """What arithmetic on lengths gives for a batch of 7 and for one of 11 frames.

    The length of the batch is open, so what depends on it is computed twice: where both agree it
    does not matter, and the pair (7, 11) is the batch itself.
    """

    first: NDArray[Any]
    second: NDArray[Any]


Constant = NDArray[Any] | PerBatch
BATCHES = (7, 11)


class Model:
    """A parsed model file: its nodes, its constants and its inputs, checked for sense."""

    def __init__(self, path: Path):
        import onnx  # takes a third of a second, which commands without a model need not wait

        self.onnx = onnx
        self.path = path
        proto = self._parse(_read(path, 0, None, BYTES_LIMIT))
        self.graph = proto.graph
        self.opset = self._opset(proto)
        self._check_names()
        self.constants: dict[str, Any] = {}
        self.external_bytes = 0
        for tensor in self.graph.initializer:
            self._claim(tensor.name)
            self.constants[tensor.name] = tensor
        if self.graph.sparse_initializer:
            raise InputError(f"{shown(path)} holds sparse weights, which are not supported")
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
            raise InputError(f"{shown(self.path)} must name each tensor once, not {shown(name)}")
        taken.add(name)

    def _parse(self, content: bytes) -> Any:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        if not content:
            raise InputError(f"{shown(self.path)} is empty")
        try:
            proto = self.onnx.ModelProto.FromString(content)
        except DecodeError as error:
            raise InputError(f"{shown(self.path)} is not an ONNX model, or is cut off") from error
        if not (proto.ir_version and proto.opset_import and proto.HasField("graph")):
            raise InputError(f"{shown(self.path)} is not an ONNX model, or is cut off")
        return proto

    def _opset(self, proto: Any) -> int:
        versions = [entry.version for entry in proto.opset_import if entry.domain in ONNX_DOMAINS]
        if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
            raise InputError(
                f"{shown(self.path)} must use one ONNX operator set from {OLDEST_OPSET} to "
                f"{NEWEST_OPSET}, not {versions[0] if len(versions) == 1 else versions}"
            )
        return versions[0]

    def _check_names(self) -> None:
        graph = self.graph
        names = [part.name for part in (*graph.initializer, *graph.input, *graph.output)]
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
        for tensor in graph.initializer:
            names += [text for entry in tensor.external_data for text in (entry.key, entry.value)]
        if not all(isinstance(name, str) for name in names):  # bytes where they are not UTF-8
            raise InputError(f"{shown(self.path)} must have names in UTF-8")

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
                    f"{shown(self.path)} has no tensor {shown(name)} for its {what}; "
                    f"nearest: {', '.join(map(shown, near))}"
                )
        if not names or len(set(names)) < len(names):
            raise InputError(f"{shown(self.path)} must have outputs, each of them once")
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
                    raise InputError(f"{titled(node)} reads tensor {shown(name)}, {rule}")
            known.update(node.output)
        return nodes

    def ports(
        self, needed: list[Any], outputs: list[str], batch: bool = True
    ) -> list[tuple[str, Shape]]:
        """Name and frame shape of every input that is read, in the order of the file.

        Without a ``batch`` a frame has all axes.
        """
        read = {name for node in needed for name in node.input} | set(outputs)
        ports, batches = [], set()
        for port in self.graph.input:
            if port.name in self.constants or port.name not in read:
                continue
            frames, shape = self._frame_shape(port, batch)
            ports.append((port.name, shape))
            batches.add(frames)
        if not ports:
            raise InputError(f"{shown(self.path)} must have an input that leads to an output")
        if len(batches) > 1:
            raise InputError(
                f"{shown(self.path)} inputs must agree on axis 0, the batch, "
                f"not have {' and '.join(sorted(str(batch) for batch in batches))}"
            )
        self.batch: int | None = batches.pop()
        return ports

    def _frame_shape(self, port: Any, batch: bool) -> tuple[int | None, Shape]:
        name = f"input {shown(port.name)}"
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
        text = f"[{', '.join('?' if n is None else str(n) for n in lengths)}]"
        if not batch:
            if not lengths or None in lengths:
                raise InputError(f"{name} must have fixed lengths without a batch, not {text}")
            lengths = [1, *lengths]
        if len(lengths) < 2:
            raise InputError(f"{name} must have a batch axis and at least one more, not {text}")
        if None in lengths[1:]:
            raise InputError(f"{name} must have fixed lengths but for axis 0, not {text}")
        shape = tuple(int(length) for length in lengths[1:] if length is not None)
        if min(shape) < 1 or math.prod(shape) > ELEMENTS_LIMIT:
            raise InputError(f"{name} must have 1 to {ELEMENTS_LIMIT} elements, not {text}")
        frames = lengths[0] if batch else None
        return (frames if frames and frames > 0 else None), shape

    def _type_name(self, code: int) -> str:
        types = self.onnx.TensorProto.DataType
        return types.Name(code) if code in types.values() else f"type {code}"

    def constant(self, name: str) -> "Constant":
        """The constant ``name`` as the file types it."""
        value = self.constants[name]
        if isinstance(value, np.ndarray | PerBatch):
            return value
        title, type_name = f"constant {shown(name)}", self._type_name(value.data_type)
        if type_name not in (*FLOAT_TYPES, *INTEGER_TYPES, "BOOL"):
            raise InputError(f"{title} must hold numbers, not {type_name}")
        if any(length < 0 for length in value.dims):
            raise InputError(f"{title} must have elements, not shape {list(value.dims)}")
        if value.data_location == self.onnx.TensorProto.EXTERNAL:
            value = self._external(value, title, type_name)
        try:
            array = self.onnx.numpy_helper.to_array(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"{title} must hold {math.prod(value.dims)} numbers of {type_name}, not other data"
            ) from error
        self.constants[name] = array
        return array

    def array(self, name: str) -> NDArray[Any]:
        """The constant ``name``; raises InputError unless it holds numbers, whatever the batch."""
        array = self.constant(name)
        if isinstance(array, PerBatch):
            raise InputError(f"constant {shown(name)} must not depend on the length of the batch")
        if array.dtype == np.bool_:
            raise InputError(f"constant {shown(name)} must hold numbers, not BOOL")
        if not array.size:
            raise InputError(
                f"constant {shown(name)} must have elements, not shape {list(array.shape)}"
            )
        return array

    def floats(self, name: str) -> Floats:
        """The constant ``name`` as float64, exactly; raises InputError if it is not finite."""
        array = self.array(name)
        values = array.astype(np.float64)
        if array.dtype.kind in "iu" and (np.abs(values) > 2.0**53).any():
            largest = np.abs(values).max()
            raise InputError(
                f"constant {shown(name)} must be below 2**53 to be exact, not {largest:.0f}"
            )
        if not np.isfinite(values).all():
            raise InputError(f"constant {shown(name)} must be finite, not NaN or infinite")
        return values

    def _external(self, value: Any, title: str, type_name: str) -> Any:
        entries = {entry.key: entry.value for entry in value.external_data}
        location = entries.get("location", "")
        folder = self.path.parent.resolve()
        try:
            offset = int(entries.get("offset", 0))
            path = (folder / location).resolve()
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise InputError(f"{title} must name its external data rightly") from error
        if not location or not path.is_relative_to(folder) or Path(location).is_absolute():
            raise InputError(
                f"{title} external data must lie in the folder of the model, "
                f"not at {shown(Path(location) if location else location)}"
            )
        bits = int(
            re.sub(r"\D", "", type_name) or {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}[type_name]
        )
        size = (math.prod(value.dims) * bits + 7) // 8
        self.external_bytes += size
        if offset < 0 or entries.get("length", str(size)) != str(size):
            raise InputError(f"{title} external data must have {size} bytes from a valid offset")
        if self.external_bytes > BYTES_LIMIT:
            raise InputError(
                f"{shown(self.path)} external data must have at most {BYTES_LIMIT >> 20} MiB, "
                f"not {self.external_bytes >> 20} MiB"
            )
        return self.onnx.TensorProto(
            dims=value.dims, data_type=value.data_type, raw_data=_read(path, offset, size, None)
        )


def _read(path: Path, offset: int, size: int | None, limit: int | None) -> bytes:
    try:
        if not path.exists():
            raise InputError(f"{shown(path)} does not exist")
        if not path.is_file():
            raise InputError(f"{shown(path)} must be a file, not a folder or a device")
        length = path.stat().st_size
        if limit is not None and length > limit:
            raise InputError(
                f"{shown(path)} must have at most {limit >> 20} MiB, not {length >> 20} MiB"
            )
        if size is not None and offset + size > length:
            raise InputError(f"{shown(path)} must have {offset + size} bytes, not {length}")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length if size is None else size)
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {error.strerror}") from error


def titled(node: Any) -> str:
    """How messages name a node."""
    if node.name:
        return f"{_shown_operator(node)} node {shown(node.name)}"
    output = next(filter(None, node.output), "")
    return f"{_shown_operator(node)} node that gives {shown(output)}"


def _shown_operator(node: Any) -> str:
    name = node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}"
    return name if re.fullmatch(r"[A-Za-z0-9_.]{1,80}", name) else shown(name)
