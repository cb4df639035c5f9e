# SPDX-License-Identifier: Apache-2.0
"""Operators that normalise."""

import math

import numpy as np

from bitblocks import layers
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


@operator("Softmax", honours=("axis",))
def softmax(op: Operation) -> Value:
    return _proportional(op, False)


@operator("LogSoftmax", honours=("axis",))
def log_softmax(op: Operation) -> Value:
    return _proportional(op, True)


def _proportional(op: Operation, logarithm: bool) -> Value:
    """Along an axis; before operator set 13 along all from that one on, as if they were one."""
    value = op.value(0)
    axis, shape = op.frame_axis(value, op.attributes["axis"]), value.shape
    if op.importer.model.opset < 13:
        value = value.reshaped((*shape[:axis], math.prod(shape[axis:])))
    axes = [a for a in op.importer.axes(value) or range(len(value.shape)) if a != axis]
    source = op.arranged(value, (*axes, axis))
    layer = op.add(layers.Softmax, op.label, (source,), logarithm)
    return op.given(layer.name, value.shape, (*axes, axis)).reshaped(shape)
