# SPDX-License-Identifier: Apache-2.0
"""The application: importing, quantising, building and checking networks."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitblocks.building import Built, build
    from bitblocks.errors import InputError
    from bitblocks.graph import Graph, evaluate
    from bitblocks.onnx_import import import_onnx
    from bitblocks.project import Project, run
    from bitblocks.quantisation import Report, quantise
    from bitblocks.resources import estimate, synth
    from bitblocks.verification import Verification, verify

__all__ = [
    "Built",
    "Graph",
    "InputError",
    "Project",
    "Report",
    "Verification",
    "build",
    "estimate",
    "evaluate",
    "import_onnx",
    "quantise",
    "run",
    "synth",
    "verify",
]

_ROOMS = {
    "building": ("Built", "build"),
    "errors": ("InputError",),
    "graph": ("Graph", "evaluate"),
    "onnx_import": ("import_onnx",),
    "project": ("Project", "run"),
    "quantisation": ("Report", "quantise"),
    "resources": ("estimate", "synth"),
    "verification": ("Verification", "verify"),
}
_HOME = {name: module for module, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a command starts before everything is loaded."""
    if name not in _HOME:
        raise AttributeError(f"module 'bitblocks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bitblocks.{_HOME[name]}"), name)
