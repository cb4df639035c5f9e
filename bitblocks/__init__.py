# SPDX-License-Identifier: Apache-2.0
"""The application: importing, quantising, building and checking networks."""

from bitblocks.errors import InputError
from bitblocks.graph import Graph, evaluate
from bitblocks.onnx_import import import_onnx
from bitblocks.quantise import Report, quantise

__all__ = ["Graph", "InputError", "Report", "evaluate", "import_onnx", "quantise"]
