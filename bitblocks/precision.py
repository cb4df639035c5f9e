# SPDX-License-Identifier: Apache-2.0
"""The precision file: formats and modes of every layer, written, edited and given back."""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bitblocks.errors import InputError
from quant import Format, Overflow, Rounding

BYTES_LIMIT = 16 * 2**20
"""Largest precision file."""


@dataclass(frozen=True)
class LayerPrecision:
    """What the user may decide about one layer or input; None leaves it to quantisation.

    Parameters
    ----------
    output_format : Format of what the layer gives; of an input, its only field
    weight_format : Format of the weights, the finest of any output channel
    recurrent_format, peephole_format, projection_format, sum_format, gate_format, tanh_format,
        cell_format : Format of what a recurrent layer has inside, as :func:`blocks.lstm` has it
    weight_bits : int, width of the weights, where only their fraction bits are to be chosen
    rounding, overflow : how the layer narrows its results
    pole : float, what a function gives where it has no value
    """

    output_format: Format | None = None
    weight_format: Format | None = None
    recurrent_format: Format | None = None
    peephole_format: Format | None = None
    projection_format: Format | None = None
    sum_format: Format | None = None
    gate_format: Format | None = None
    tanh_format: Format | None = None
    cell_format: Format | None = None
    weight_bits: int | None = None
    rounding: Rounding | None = None
    overflow: Overflow | None = None
    pole: float | None = None

    @property
    def formats(self) -> dict[str, Format]:
        """Those of weights, and of what a recurrent layer has inside, that are decided."""
        named = {name: getattr(self, name) for name in (*WEIGHTS, *INSIDE)}
        return {name: format for name, format in named.items() if format is not None}

    def to_json(self) -> dict[str, Any]:
        """The fields that are decided, as JSON has them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in values.items()
            if value is not None
        }


Precision = dict[str, LayerPrecision]


def parse(layers: object) -> Precision:
    """The precision in a mapping of layer names to mappings of fields, as JSON has it.

    Raises InputError for a field that is unknown or has no sensible value, by name.
    """
    if not isinstance(layers, Mapping):
        raise InputError(f"precision must map layer names to fields, not be {_kind(layers)}")
    return {str(name): _layer(str(name), entry) for name, entry in layers.items()}


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _layer(name: str, entry: object) -> LayerPrecision:
    if isinstance(entry, LayerPrecision):
        return entry
    if not isinstance(entry, Mapping):
        raise InputError(f"precision of {name!r} must map fields to values, not be {_kind(entry)}")
    known = [field.name for field in fields(LayerPrecision)]
    values: dict[str, Any] = {}
    for field, value in entry.items():
        what = f"precision of {name!r} field {field!r}"
        if field not in known:
            raise InputError(f"{what} is unknown; known are {', '.join(known)}")
        try:
            values[field] = _PARSERS[field](value)
        except (ValueError, TypeError) as error:
            raise InputError(f"{what} must be {_RULES[field]}, not {value!r}") from error
    weight_format, bits = values.get("weight_format"), values.get("weight_bits")
    if weight_format is not None and bits not in (None, weight_format.width):
        raise InputError(
            f"precision of {name!r} field 'weight_bits' must agree with weight_format "
            f"{weight_format}, not be {bits}"
        )
    return LayerPrecision(**values)


def _format(value: object) -> Format:
    return value if isinstance(value, Format) else Format.parse(_text(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _signed_format(value: object) -> Format:
    format = _format(value)
    if not format.signed:
        raise ValueError
    return format


def _bits(value: object) -> int:
    if type(value) is not int or not 2 <= value <= 32:
        raise ValueError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not abs(value) < math.inf:
        raise ValueError
    return float(value)


WEIGHTS = ("weight_format", "recurrent_format", "peephole_format", "projection_format")
INSIDE = ("sum_format", "gate_format", "tanh_format", "cell_format")
"""Fields that are formats of weights, and of what a recurrent layer has inside."""

_PARSERS: dict[str, Any] = {
    "output_format": _format,
    **dict.fromkeys(WEIGHTS, _signed_format),
    **dict.fromkeys(INSIDE, _format),
    "weight_bits": _bits,
    "rounding": lambda value: Rounding(_text(value)),
    "overflow": lambda value: Overflow(_text(value)),
    "pole": _number,
}
_RULES = {
    **dict.fromkeys(("output_format", *INSIDE), "a format like 's8.4' or 'u5.-1'"),
    **dict.fromkeys(WEIGHTS, "a signed format like 's8.4'"),
    "weight_bits": "a whole number from 2 to 32",
    "rounding": f"one of {', '.join(Rounding)}",
    "overflow": f"one of {', '.join(Overflow)}",
    "pole": "a finite number",
}


def check(precision: Precision, allowed: Mapping[str, tuple[str, ...]]) -> None:
    """Raise InputError for a layer that is not in ``allowed``, or a field not among its own."""
    for name, layer in precision.items():
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=3, cutoff=0.3) or list(allowed)[:3]
            raise InputError(
                f"precision of {name!r} is for no layer of the network; nearest: {', '.join(near)}"
            )
        for field in layer.to_json():
            if field not in allowed[name]:
                raise InputError(
                    f"precision of {name!r} field {field!r} has no meaning there; "
                    f"it takes {', '.join(allowed[name])}"
                )


def read(path: str | Path) -> Precision:
    """The precision in the JSON file at ``path``; raises InputError for anything else."""
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"precision file {str(path)!r} does not exist")
        if not path.is_file():
            raise InputError(
                f"precision file {str(path)!r} must be a file, not a folder or a device"
            )
        if path.stat().st_size > BYTES_LIMIT:
            raise InputError(
                f"precision file {str(path)!r} must have at most {BYTES_LIMIT >> 20} MiB, "
                f"not {path.stat().st_size >> 20} MiB"
            )
        content = path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise InputError(f"precision file {str(path)!r} {reason}") from error
    try:
        layers = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8 either
        if isinstance(error, InputError):
            raise
        raise InputError(f"precision file {str(path)!r} must be JSON") from error
    return parse(layers)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"precision must name each layer and field once, not {name!r} twice")
    return dict(pairs)


def text(precision: Precision) -> str:
    """The precision file: JSON, a line for each layer, in the order given."""
    lines = (f"{json.dumps(name)}: {json.dumps(p.to_json())}" for name, p in precision.items())
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def write(path: str | Path, precision: Precision) -> None:
    """Write the precision file to ``path``."""
    Path(path).write_text(text(precision), encoding="utf-8", newline="\n")
