# SPDX-License-Identifier: Apache-2.0
"""Saving and loading: blocks, networks and plans as plain data beside named arrays."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hdl import legal_name
from quant import Format, Ints

from .block import Tensor
from .catalogue import CATALOGUE
from .network import Network, NetworkPlan, Node

SCHEMA = 1
"""Version of what ``save`` gives; ``load`` refuses any other."""

_COMPOSED = ("Network", "NetworkPlan")

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for entry in CATALOGUE.values()
    for kind in (entry.kind, *entry.parts)
    if isinstance(kind, type) and kind.__name__ not in _COMPOSED
}
"""Every class that is saved field by field, by the name it has there."""


def save(block: Any) -> tuple[dict[str, Any], dict[str, Ints]]:
    """``block`` (a Network and a plan too) as data that JSON can hold, and its arrays.

    Arrays are named after their field (``weight``), inside a network after node and field
    (``encoder.fc1.weight``).
    """
    arrays: dict[str, Ints] = {}
    data = _encoded(block, "", arrays)
    if not isinstance(data, dict) or "kind" not in data:
        raise TypeError(f"Saved block must be a block, a network or a plan, not {block!r}")
    return {"schema": SCHEMA, **data}, arrays


def load(data: Mapping[str, Any], arrays: Mapping[str, ArrayLike]) -> Any:
    """What :func:`save` was given.

    Raises ValueError for another schema, an unknown kind, unknown fields or missing arrays, and
    whatever the block itself refuses.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"Saved block must be a mapping, not a {type(data).__name__}")
    if type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        raise ValueError(f"Saved block schema must be {SCHEMA}, not {data.get('schema')!r}")
    if "kind" not in data:
        raise ValueError("Saved block must have a kind")
    return _decoded({name: value for name, value in data.items() if name != "schema"}, arrays)


def _encoded(value: Any, prefix: str, arrays: dict[str, Ints]) -> Any:
    """``value`` as plain data; ``prefix`` is what the names of its arrays begin with."""
    if isinstance(value, Enum):
        return str(value)
    if value is None or isinstance(value, bool | str | float):  # JSON keeps doubles as they are
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, np.ndarray):
        name = prefix.removesuffix(".")
        arrays[name] = value.astype(np.int64)
        return {"array": name}
    if isinstance(value, tuple | list):
        return [_encoded(v, f"{prefix}{n}.", arrays) for n, v in enumerate(value)]
    if isinstance(value, Format):
        return {"signed": value.signed, "width": value.width, "frac": value.frac}
    if isinstance(value, Tensor):
        tensor = {"shape": list(value.shape), "format": _encoded(value.format, "", arrays)}
        ends = value.ends and [list(pair) for pair in value.ends]
        return {**tensor, "ends": ends} if ends else tensor
    if isinstance(value, Network):
        return _encoded_network(value, prefix, arrays)
    if isinstance(value, NetworkPlan):  # its fields are mappings by names that users give
        plan: dict[str, Any] = {"kind": "NetworkPlan"}
        for field in fields(value):
            entries = getattr(value, field.name)
            plan[field.name] = {name: _encoded(part, "", arrays) for name, part in entries.items()}
        return plan
    kind = type(value).__name__
    if KINDS.get(kind) is not type(value):
        raise TypeError(f"Saved block must be one of {_known()}, not {value!r}")
    data: dict[str, Any] = {"kind": kind}
    for field in fields(value):
        if field.init:
            data[field.name] = _encoded(
                getattr(value, field.name), f"{prefix}{field.name}.", arrays
            )
    return data


def _encoded_network(network: Network, prefix: str, arrays: dict[str, Ints]) -> dict[str, Any]:
    plain = {node.name for node in network.nodes if re.fullmatch("[A-Za-z0-9_]+", node.name)}
    taken = {name.lower() for name in plain}
    nodes = []
    for node in network.nodes:
        name = node.name if node.name in plain else legal_name(node.name, taken)
        block = _encoded(node.block, f"{prefix}{name}.", arrays)
        nodes.append({"name": node.name, "sources": list(node.sources), "block": block})
    tensors = network.inputs.values()
    named = zip(network.input_names, tensors, strict=True)
    return {
        "kind": "Network",
        "inputs": {name: _encoded(tensor, "", arrays) for name, tensor in named},
        "nodes": nodes,
        "outputs": dict(network._sources),
    }


def _decoded(data: Any, arrays: Mapping[str, ArrayLike]) -> Any:
    """The value that :func:`_encoded` turned into ``data``."""
    if isinstance(data, list):
        return tuple(_decoded(value, arrays) for value in data)
    if not isinstance(data, Mapping):
        return data
    if "kind" in data:
        return _decoded_kind(data, arrays)
    names = set(data)
    if names == {"array"}:
        if data["array"] not in arrays:
            raise ValueError(f"Saved block array must be there, not missing: {data['array']!r}")
        return np.asarray(arrays[data["array"]])
    if names == {"signed", "width", "frac"}:
        return Format(data["width"], data["frac"], data["signed"])
    if names in ({"shape", "format"}, {"shape", "format", "ends"}):
        return Tensor(**{name: _decoded(value, arrays) for name, value in data.items()})
    raise ValueError(f"Saved block value must be of a known form, not with {', '.join(data)}")


def _decoded_kind(data: Mapping[str, Any], arrays: Mapping[str, ArrayLike]) -> Any:
    kind = data["kind"]
    if kind == "Network":
        inputs, nodes, outputs = _members(data, inputs=Mapping, nodes=list, outputs=Mapping)
        made = [_members(node, name=str, sources=list, block=Mapping) for node in nodes]
        return Network(
            {name: _decoded(tensor, arrays) for name, tensor in inputs.items()},
            [Node(name, _decoded(block, arrays), tuple(s)) for name, s, block in made],
            outputs,
        )
    if kind == "NetworkPlan":
        _members(data, plans=Mapping, lanes=Mapping)
        given = _fields(data, NetworkPlan)
        _members(data, **dict.fromkeys(given, Mapping))
        return NetworkPlan(
            **{
                name: {key: _decoded(entry, arrays) for key, entry in data[name].items()}
                for name in given
            }
        )
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"Saved block kind must be one of {_known()}, not {kind!r}")
    given = _fields(data, KINDS[kind])
    return KINDS[kind](**{name: _decoded(data[name], arrays) for name in given})


def _fields(data: Mapping[str, Any], kind: Any) -> list[str]:
    """Names of the fields of ``kind`` that ``data`` gives: all that it needs, none else."""
    known = {field.name: field for field in fields(kind) if field.init}
    given = [name for name in data if name != "kind"]
    needed = {
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    }
    if not needed <= set(given) <= set(known):
        names = ", ".join(known)
        raise ValueError(
            f"Saved {kind.__name__} fields must be {names}, not {', '.join(map(str, given))}"
        )
    return given


def _members(data: Any, **kinds: type) -> list[Any]:
    """The members of ``data`` called like ``kinds``, each of its kind."""
    for name, kind in kinds.items():
        if not isinstance(data, Mapping) or not isinstance(data.get(name), kind):
            raise ValueError(f"Saved network must have {name} with a {kind.__name__.lower()}")
    return [data[name] for name in kinds]


def _known() -> str:
    return ", ".join(sorted((*KINDS, *_COMPOSED)))
