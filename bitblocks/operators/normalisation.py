# SPDX-License-Identifier: Apache-2.0
"""Operators that normalise."""

import numpy as np

from bitblocks.onnx_model import shown
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import Only, operator
from bitblocks.ordering import Value


@operator(
    "BatchNormalization",
    honours=("epsilon",),
    only={
        "training_mode": Only(0, "must be in inference mode, not training_mode"),
        "spatial": Only(1),
    },
    idle=("momentum",),
    label="norm",
)
def batch_normalization(op: Operation) -> Value:
    value = op.value(0)
    parameters = []
    for index in range(1, 5):
        name = shown(op.node.input[index])
        if not op.is_constant(index):
            op.refuse(f"parameter {name} must be constant")
        parameters.append(op.floats(index, "parameter"))
        if parameters[-1].shape != value.shape[:1]:
            op.refuse(
                f"parameter {name} must have shape [{value.shape[0]}], "
                f"not {list(parameters[-1].shape)}"
            )
    scale, offset, mean, variance = parameters
    spread = variance + op.attributes["epsilon"]
    if not (spread > 0).all():
        op.refuse("variance and epsilon must sum to more than 0")
    with np.errstate(over="ignore", invalid="ignore"):
        weight = scale / np.sqrt(spread)
        bias = offset - mean * weight
    channels = (slice(None), *(np.newaxis,) * (len(value.shape) - 1))
    frames = (np.broadcast_to(part[channels], value.shape) for part in (weight, bias))
    return op.scaled(value, *frames)
