# SPDX-License-Identifier: Apache-2.0
"""The build directory: what a build writes, and what the other commands read."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitblocks import files
from bitblocks.errors import InputError
from blocks import Network, NetworkPlan, Tensor
from blocks.network import RESET
from blocks.saving import load, save
from hdl import Target
from hdl.axi import AxiStreamPort, AxiTop, axi_prefixes
from quant import Format, Ints, Overflow, Rounding, from_float, to_float

SCHEMA = 1
"""Version of the build directory; any other is refused."""

ENTRIES = ("network.json", "network.npz", "precision.json", "results", "rtl", "tb")
"""Everything that lies in a build directory."""

Layouts = dict[tuple[int, str], tuple[tuple[int, ...], tuple[int, ...]]]
"""Shape and axes in the model by input (0) or output (1) and name."""

NUMBERS_AT_ONCE = 2**22
"""Most numbers of one tensor that the reference works on at once, which bounds its memory."""

JSON_LIMIT = 256 * 2**20
"""Largest network.json, in bytes."""


@dataclass(frozen=True)
class ProjectPort:
    """One input or output of a built network.

    Parameters
    ----------
    name, port : of the network, and the prefix of its signals in the Verilog
    shape : of one frame in the model's own layout
    axes : the order in which its axes travel, slowest first
    lanes : elements per transfer
    format : of the elements
    """

    name: str
    port: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    lanes: int
    format: Format

    @property
    def stream_shape(self) -> tuple[int, ...]:
        """Shape of a frame in the order of the stream; that of one number is (1,)."""
        return tuple(self.shape[axis] for axis in self.axes) or (1,)

    @property
    def transfers(self) -> int:
        """Transfers of one frame."""
        return -(-int(np.prod(self.shape)) // self.lanes)

    def to_stream(self, frames: NDArray[Any]) -> NDArray[Any]:
        """A batch in the model's layout, (frames, *shape), in stream order."""
        return frames.transpose(0, *(axis + 1 for axis in self.axes))

    def from_stream(self, frames: NDArray[Any]) -> NDArray[Any]:
        """A batch in stream order in the model's layout."""
        turned = frames.transpose(0, *(np.argsort(self.axes) + 1)) if self.axes else frames
        return turned.reshape(len(frames), *self.shape)

    @property
    def element_bits(self) -> int:
        """Bits that an element takes in a transfer: whole bytes."""
        return -(-self.format.width // 8) * 8

    def words(self, frames: Ints) -> list[int]:
        """A batch in stream order as the transfers of the AXI4-Stream port."""
        from sim import to_words

        return to_words(frames, self.format, self.lanes, whole_bytes=True)

    def codes(self, x: ArrayLike, codes: bool) -> Ints:
        """A batch from the user, floats to be rounded or integers, as integers in stream order."""
        array = np.asarray(x)
        wanted = f"(frames, {', '.join(map(str, self.shape))})"
        if array.dtype.kind not in "biuf":
            raise InputError(f"data for input {self.name} must be numbers, not {array.dtype}")
        if array.ndim == 0 or array.shape[1:] != self.shape or not len(array):
            raise InputError(
                f"data for input {self.name} must have shape {wanted}, not {array.shape}"
            )
        if codes:
            if array.dtype.kind not in "iu":
                raise InputError(f"codes for input {self.name} must be integers, not {array.dtype}")
            try:
                return self.to_stream(self.format.check(array, f"codes for input {self.name}"))
            except ValueError as error:
                raise InputError(str(error)) from error
        floats = array.astype(np.float64)
        if not np.isfinite(floats).all():
            raise InputError(f"data for input {self.name} must be finite, not NaN or infinite")
        return self.to_stream(from_float(floats, self.format, Rounding.RND, Overflow.SAT))


@dataclass(frozen=True, eq=False)
class Project:
    """A network, how it is mapped, and where it lies.

    Parameters
    ----------
    name : of the Verilog's top module
    target : that it was planned for
    network, plan : what is computed and how
    inputs, outputs : the ports, in order
    latency, interval : in cycles, at the ports of the top module
    path : the build directory, None while there is none
    """

    name: str
    target: Target
    network: Network
    plan: NetworkPlan
    inputs: tuple[ProjectPort, ...]
    outputs: tuple[ProjectPort, ...]
    latency: int
    interval: int | float
    path: Path | None = None

    @classmethod
    def open(cls, path: str | Path) -> "Project":
        """The project in a build directory; raises InputError for anything else."""
        path = Path(path)
        data = _read_json(path)
        arrays = files.read_arrays(path / "network.npz", "the arrays")
        if not isinstance(arrays, dict):
            raise InputError(f"the arrays {str(path / 'network.npz')!r} must be a .npz file")
        try:
            project = cls(
                data["name"],
                Target.named(data["target"]),
                load({"schema": SCHEMA, **data["network"]}, arrays),
                load({"schema": SCHEMA, **data["plan"]}, {}),
                tuple(_port(entry) for entry in data["inputs"]),
                tuple(_port(entry) for entry in data["outputs"]),
                data["latency_cycles"],
                data["interval_cycles"],
                path,
            )
            project._check()
            return project
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{str(path / 'network.json')!r} is damaged: {reason}") from error

    def _check(self) -> None:
        """Raise ValueError unless the parts fit each other."""
        if not isinstance(self.network, Network) or not isinstance(self.plan, NetworkPlan):
            raise ValueError("it must hold a network and its plan")
        self.network.check_plan(self.plan)
        if not isinstance(self.name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", self.name):
            raise ValueError(f"its name must be an identifier, not {self.name!r}")
        for value in (self.latency, self.interval):
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise ValueError(f"its cycles must be finite numbers from 0 on, not {value!r}")
        expected = project_ports(self.network, self.plan)
        for kind, ports, derived in zip(
            ("inputs", "outputs"), (self.inputs, self.outputs), expected, strict=True
        ):
            facts = [(p.name, p.port, p.stream_shape, p.lanes, p.format) for p in ports]
            if facts != [(p.name, p.port, p.stream_shape, p.lanes, p.format) for p in derived]:
                raise ValueError(f"its {kind} must be those of its network")

    @cached_property
    def verilog(self) -> str:
        """The text of the Verilog in the build directory; raises InputError if there is none."""
        if self.path is None:
            return write_verilog(self)
        path = self.path / "rtl" / f"{self.name}.v"
        try:
            return path.read_bytes().decode("utf-8")
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{str(path)!r} must be text in UTF-8") from error

    def codes(self, x: Any, codes: bool = False) -> list[Ints]:
        """Batches from the user, one array or a mapping by input, as integers in stream order.

        ``codes``: they are integers already. Raises InputError unless they are of this network.
        """
        names = [port.name for port in self.inputs]
        if not isinstance(x, Mapping):
            if len(names) > 1:
                raise InputError(f"data must come by name for the inputs {', '.join(names)}")
            x = {names[0]: x}
        if sorted(x) != sorted(names):
            raise InputError(
                f"data must be given for the inputs {', '.join(names)}, "
                f"not {', '.join(x) or 'none'}"
            )
        batch = [port.codes(x[port.name], codes) for port in self.inputs]
        if len({len(frames) for frames in batch}) > 1:
            counts = ", ".join(str(len(frames)) for frames in batch)
            raise InputError(f"data must have as many frames for every input, not {counts}")
        return batch

    def reference(self, batch: Iterable[Ints], marks: Ints | None = None) -> list[Ints]:
        """The integers of every output, both in stream order, (frames, ...).

        ``marks`` : for each frame 1 if the state becomes the initial one before it, where one is
        kept, else 0; left out, none
        """
        batch, parts = list(batch), []
        if marks is not None and self.network.marked:
            batch.append(marks[:, None])
        size = max(1, NUMBERS_AT_ONCE // max(t.size for t in self.network.flat.tensors.values()))
        if self.network.kept:  # frames depend on those before
            size = len(batch[0])
        for start in range(0, len(batch[0]), size):
            found = self.network.reference(*(frames[start : start + size] for frames in batch))
            parts.append(found if isinstance(found, tuple) else (found,))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def run(self, x: Any, codes: bool = False) -> Any:
        """The bit-accurate model on a batch, in the model's layout: floats in and out.

        With ``codes`` integers in and out. One array where there is one input or output, else a
        mapping by name. It takes the fast way, which gives the integers of ``reference``.
        """
        results = {}
        found = self.network.run(*self.codes(x, codes))
        found = found if isinstance(found, tuple) else (found,)
        for port, values in zip(self.outputs, found, strict=True):
            frames = port.from_stream(values)
            results[port.name] = frames if codes else to_float(frames, port.format)
        return results if len(results) > 1 else next(iter(results.values()))

    def contents(self) -> dict[str, bytes]:
        """``network.json``, ``network.npz`` and the Verilog, by path in the build directory."""
        network, arrays = save(self.network)
        plan, _ = save(self.plan)
        for part in (network, plan):
            del part["schema"]
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "target": self.target.name,
            "inputs": [_port_json(port) for port in self.inputs],
            "outputs": [_port_json(port) for port in self.outputs],
            **({"reset": f"{self.inputs[0].port}_tuser"} if self.network.marked else {}),
            "latency_cycles": self.latency,
            "interval_cycles": self.interval,
            "network": network,
            "plan": plan,
        }
        return {
            "network.json": pretty(data).encode(),
            "network.npz": files.npz(arrays),
            f"rtl/{self.name}.v": self.verilog.encode(),
        }


def run(directory: str | Path | Project, x: Any, codes: bool = False) -> Any:
    """The bit-accurate model of a build directory on a batch; see :meth:`Project.run`."""
    project = directory if isinstance(directory, Project) else Project.open(directory)
    return project.run(x, codes)


def project_ports(
    network: Network,
    plan: NetworkPlan,
    layouts: Layouts | None = None,
) -> tuple[tuple[ProjectPort, ...], tuple[ProjectPort, ...]]:
    """Inputs and outputs of a network; without an entry in ``layouts`` laid out as they stream."""
    known = layouts or {}
    ports = []
    for number, (names, tensors, prefix) in enumerate(
        (
            (_data(network), network.inputs, "s_axis"),
            (network.output_names, network.outputs, "m_axis"),
        )
    ):
        prefixes = axi_prefixes(prefix, list(names))
        found = []
        for name, (stream, tensor) in zip(names, tensors.items(), strict=False):
            default = (tensor.shape, tuple(range(len(tensor.shape))))
            shape, axes = known.get((number, name), default)
            lanes = plan.lanes[stream]
            found.append(ProjectPort(name, prefixes[name], shape, axes, lanes, tensor.format))
        ports.append(tuple(found))
    return ports[0], ports[1]


def _data(network: Network) -> tuple[str, ...]:
    """Names of the inputs but that of marks, which comes last and has no port of its own."""
    return network.input_names[:-1] if network.marked else network.input_names


def axi_top(project: Project) -> AxiTop:
    """The circuit behind AXI4-Stream ports, as it is written to the build directory."""
    network, plan = project.network, project.plan
    groups = []
    for ports, streams in ((project.inputs, network.inputs), (project.outputs, network.outputs)):
        groups.append(
            {
                port.name: AxiStreamPort(stream, port.format, port.lanes, port.transfers)
                for port, stream in zip(ports, streams, strict=False)
            }
        )
    inputs, outputs = groups
    return AxiTop(network.rtl(plan), inputs, outputs, f"i_{RESET}" if network.marked else None)


def write_verilog(project: Project) -> str:
    """The text of the whole design."""
    from hdl import verilog

    return verilog(axi_top(project), project.name)


def write_project(contents: Mapping[str, bytes], output: str | Path, force: bool) -> None:
    """Write a build directory, whole or not at all; raises InputError where that cannot be."""
    files.write_folder(Path(output), contents, force, foreign)


def foreign(folder: Path) -> str | None:
    """The first thing in a folder that no build has written, None in a build directory."""
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        if name not in ENTRIES:
            return repr(name)
    if names and "network.json" not in names:
        return repr(names[0])
    return None


def write_result(directory: str | Path, name: str, data: Any) -> None:
    """Write ``results/<name>.json`` in a build directory."""
    folder = Path(directory) / "results"
    files.make_folder(folder)
    files.write_file(folder / f"{name}.json", pretty(data).encode())


def pretty(data: Any, width: int = 100) -> str:
    """JSON with a newline at its end: what fits into a line stays on one."""
    return _pretty(data, "", width) + "\n"


def _pretty(data: Any, indent: str, width: int) -> str:
    line = json.dumps(data)
    if len(indent) + len(line) <= width or not isinstance(data, dict | list) or not data:
        return line
    inner = f"{indent}  "
    if isinstance(data, dict):
        parts = [
            f"{inner}{json.dumps(key)}: {_pretty(value, inner, width)}"
            for key, value in data.items()
        ]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    parts = [inner + _pretty(value, inner, width) for value in data]
    return "[\n" + ",\n".join(parts) + f"\n{indent}]"


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / "network.json"
    try:
        if not path.is_file():
            raise InputError(
                f"{str(folder)!r} must be a build directory, with a network.json in it"
            )
        if path.stat().st_size > JSON_LIMIT:
            raise InputError(
                f"{str(path)!r} must have at most {JSON_LIMIT >> 20} MiB, "
                f"not {path.stat().st_size >> 20} MiB"
            )
        data = json.loads(path.read_bytes())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} must be JSON") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise InputError(f"{str(path)!r} must hold a network with its schema")
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise InputError(f"{str(path)!r} schema must be {SCHEMA}, not {data['schema']!r}")
    return data


def _port_json(port: ProjectPort) -> dict[str, Any]:
    number = port.format
    return {
        "name": port.name,
        "port": port.port,
        "shape": list(port.shape),
        "axes": list(port.axes),
        "lanes": port.lanes,
        "format": {"signed": number.signed, "width": number.width, "frac": number.frac},
    }


def _port(data: Mapping[str, Any]) -> ProjectPort:
    shape, axes = tuple(data["shape"]), tuple(data["axes"])
    number = Format(data["format"]["width"], data["format"]["frac"], data["format"]["signed"])
    Tensor(shape or (1,), number)
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"axes must be an order of {len(shape)} axes, not {list(axes)}")
    if type(data["lanes"]) is not int or data["lanes"] < 1:
        raise ValueError(f"lanes must be a whole number above 0, not {data['lanes']!r}")
    return ProjectPort(data["name"], data["port"], shape, axes, data["lanes"], number)
