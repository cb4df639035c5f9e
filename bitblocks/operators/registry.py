# SPDX-License-Identifier: Apache-2.0
"""Which operators are supported, with which attributes: what handlers declare beside themselves.

The standard itself (``onnx.defs``) says which attributes, inputs and outputs an operator has in
which operator set; a declaration adds what is made of them. Only operators of other domains bring
a schema of their own.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

REQUIRED = object()
"""Stands for the default of an attribute that a node must have."""


class Attribute(NamedTuple):
    """An attribute: what ONNX calls its type (INT, FLOATS, ...), and its default or REQUIRED."""

    kind: str
    default: Any = None


class Only(NamedTuple):
    """The one value of an attribute that is supported, and the rule that any other breaks."""

    value: Any
    rule: str = ""


@dataclass(frozen=True)
class Schema:
    """What an operator has in one operator set: counts of inputs, attributes, names of outputs."""

    least: int
    most: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """A supported operator.

    Parameters
    ----------
    handler : (Operation) -> what its outputs are; a tuple if they are several
    honours : attributes that the handler makes use of
    only : attributes that must have one value, checked before the handler runs
    idle : attributes that play no part in inference
    outputs : most outputs that may be used
    label : what its layers are called where the file has no name; else the operator's name
    schema : of an operator that the standard does not have
    """

    name: str
    handler: Callable[..., Any]
    honours: tuple[str, ...] = ()
    only: Mapping[str, Only] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    outputs: int = 1
    label: str = ""
    schema: Schema | None = None

    def schema_in(self, opset: int) -> Schema | None:
        """Its schema in an operator set, None if it is not there."""
        return self.schema or standard(self.name, opset)

    def state(self, attribute: str) -> str:
        """What is made of one of its attributes."""
        if attribute in self.honours:
            return "honoured"
        if attribute in self.only:
            return f"refused unless {self.only[attribute].value}"
        return "plays no part in inference" if attribute in self.idle else "refused"


OPERATORS: dict[tuple[str, str], Operator] = {}
"""Domain and name -> operator; the standard's domain is ""."""


def operator(
    name: str, *, domains: Iterable[str] = ("",), **declared: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the handler of an operator; ``declared`` as in :class:`Operator`."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        for domain in domains:
            OPERATORS[domain, name] = Operator(name, handler, **declared)
        return handler

    return register


@lru_cache(maxsize=1024)
def standard(name: str, opset: int) -> Schema | None:
    """The schema of the ONNX standard, None if the operator set has no such operator."""
    import onnx  # takes a third of a second, which commands without a model need not wait

    try:
        schema = onnx.defs.get_schema(name, opset, "")
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    attributes = {}
    for key, attribute in schema.attributes.items():
        default = REQUIRED if attribute.required else None
        if attribute.default_value.name:
            default = plain(onnx.helper.get_attribute_value(attribute.default_value))
        attributes[key] = Attribute(str(attribute.type).rpartition(".")[2], default)
    outputs = tuple(output.name for output in schema.outputs)
    return Schema(schema.min_input, schema.max_input, attributes, outputs)


def plain(value: Any) -> Any:
    """An attribute's value with text in place of bytes; ValueError where they are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode()
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


_KINDS: dict[str, type] = {"FLOAT": float, "INT": int, "STRING": str}


def fits(kind: str, value: Any) -> bool:
    """Whether a value is of a kind that ONNX names, and finite."""
    if kind in _KINDS:
        return type(value) is _KINDS[kind] and (type(value) is not float or math.isfinite(value))
    if kind.removesuffix("S") in _KINDS:
        return isinstance(value, list) and all(fits(kind.removesuffix("S"), v) for v in value)
    return type(value).__name__ == f"{kind.capitalize()}Proto"
