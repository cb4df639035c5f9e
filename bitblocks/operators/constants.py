# SPDX-License-Identifier: Apache-2.0
"""Constants, and the lengths of frames."""

import math
from typing import Any

import numpy as np

from bitblocks.onnx_model import Constant, PerBatch
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator


@operator(
    "Constant",
    honours=("value", "value_float", "value_floats", "value_int", "value_ints"),
)
def constant(op: Operation) -> Any:
    given = {name: value for name, value in op.attributes.items() if value is not None}
    if len(given) != 1:
        op.refuse("must have one value")
    ((kind, value),) = given.items()
    if kind == "value":
        return value
    return np.array(value, np.float32 if "float" in kind else np.int64)


@operator("Shape", honours=("start", "end"))
def shape(op: Operation) -> Constant:
    part = slice(op.attributes["start"] or 0, op.attributes["end"])
    first, second = (np.array(lengths[part], np.int64) for lengths in op.full_shape(0))
    return first if np.array_equal(first, second) else PerBatch(first, second)


@operator("Size")
def size(op: Operation) -> Constant:
    first, second = (np.array(math.prod(lengths), np.int64) for lengths in op.full_shape(0))
    return PerBatch(first, second)
