# SPDX-License-Identifier: Apache-2.0
"""The application: importing, quantising, building and checking networks."""

from bitblocks.building import Built, build
from bitblocks.errors import InputError
from bitblocks.graph import Graph, evaluate
from bitblocks.onnx_import import import_onnx
from bitblocks.project import Project, run
from bitblocks.quantise import Report, quantise
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
