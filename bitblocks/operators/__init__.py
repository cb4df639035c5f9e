# SPDX-License-Identifier: Apache-2.0
"""The ONNX operators: a handler for each, declared with what it makes of every attribute."""

from . import (
    activation,
    attention,
    constants,
    convolution,
    dense,
    elementwise,
    extremum,
    movement,
    normalisation,
    pooling,
    recurrent,
    reduction,
    resizing,
)
from .operation import Operation
from .registry import OPERATORS, Operator

__all__ = [
    "OPERATORS",
    "Operation",
    "Operator",
    "activation",
    "attention",
    "constants",
    "convolution",
    "dense",
    "elementwise",
    "extremum",
    "movement",
    "normalisation",
    "pooling",
    "recurrent",
    "reduction",
    "resizing",
]
