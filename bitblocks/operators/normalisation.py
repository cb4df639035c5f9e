# SPDX-License-Identifier: Apache-2.0
"""Operators that normalise."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bitblocks import layers
from bitblocks.graph import Floats, Shape
from bitblocks.onnx_model import shown
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import Only, operator
from bitblocks.ordering import Value, channels_last


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
    if op.importer.model.opset < 14 and any(op.node.output[1:]):
        op.refuse("must be in inference mode, which has one output")
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
    value = op.value(0, None, joined=True) if op.importer.model.opset >= 13 else op.value(0)
    axis, shape = op.frame_axis(value, op.attributes["axis"]), value.shape
    place = value.batch, value.joined
    value, shown = _unmasked(op, value)
    if op.importer.model.opset < 13:
        value = value.reshaped((*shape[:axis], math.prod(shape[axis:])))
    axes = [a for a in op.importer.axes(value) or range(len(value.shape)) if a != axis]
    source, mask = op.arranged(value, (*axes, axis)), None
    if shown is not None:
        mask = shown.reshape(value.shape).transpose(*axes, axis)
        if logarithm or not mask.any(axis=-1).all():
            op.refuse("must have a finite number along each axis, and only such of a logarithm")
    layer = op.add(layers.Softmax, op.label, (source,), logarithm, mask)
    return op.given(layer.name, value.shape, (*axes, axis)).reshaped(shape, *place)


def _unmasked(op: Operation, value: Value) -> tuple[Value, NDArray[np.bool_] | None]:
    """``value`` before a Mask, and what that shows, in the model's order; None if there is none."""
    layer = op.importer.layer(value.name)
    if not isinstance(layer, layers.Mask):
        return value, None
    shown = np.empty(layer.mask.size, bool)
    shown[slice(None) if value.order is None else value.order] = layer.mask.ravel()
    return replace(value, name=layer.sources[0]), shown


@operator(
    "LayerNormalization", honours=("axis", "epsilon"), only={"stash_type": Only(1)}, label="norm"
)
def layer_normalization(op: Operation) -> Value:
    return _along_axes(op, centred=True)


@operator(
    "RMSNormalization", honours=("axis", "epsilon"), only={"stash_type": Only(1)}, label="norm"
)
def rms_normalization(op: Operation) -> Value:
    return _along_axes(op, centred=False)


def _along_axes(op: Operation, centred: bool) -> Value:
    """Over all axes from ``axis`` on, as if they were one."""
    value = op.value(0, batch=None)
    shape, axis = value.shape, op.frame_axis(value, op.attributes["axis"])
    if axis < value.batch:
        op.refuse("must not mix the frames")
    weight = _parameter(op, 1, "scale", shape[axis:])
    bias = _parameter(op, 2, "bias", shape[axis:])
    rows = value.reshaped((*shape[:axis], math.prod(shape[axis:])))
    axes = tuple(range(len(rows.shape)))
    arguments = weight.ravel(), bias.ravel(), op.attributes["epsilon"], 0, centred
    layer = op.add(layers.Norm, op.label, (op.arranged(rows, axes),), *arguments)
    return op.given(layer.name, rows.shape, axes).reshaped(shape, value.batch)


def _parameter(op: Operation, index: int, name: str, shape: Shape) -> Floats:
    """A constant of the shape that is normalised; 0 if it is left out."""
    if not op.has(index):
        return np.zeros(shape)
    array = op.floats(index, name)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        op.refuse(f"{name} must fit shape {[*shape]}, not have shape {[*array.shape]}")


@operator("InstanceNormalization", honours=("epsilon",), label="norm")
def instance_normalization(op: Operation) -> Value:
    return _over_groups(op, op.value(0).shape[0])


@operator(
    "GroupNormalization",
    honours=("epsilon", "num_groups"),
    only={"stash_type": Only(1)},
    label="norm",
)
def group_normalization(op: Operation) -> Value:
    return _over_groups(op, op.attributes["num_groups"])


def _over_groups(op: Operation, groups: int) -> Value:
    """Over all positions of each group of channels; scale and bias by channel or by group."""
    value = op.value(0)
    channels = value.shape[0]
    if groups < 1 or channels % groups:
        op.refuse(f"must have groups that divide {channels} channels, not {groups}")
    parameters = []
    for index, name in ((1, "scale"), (2, "bias")):
        array = op.floats(index, name)
        if array.shape not in ((channels,), (groups,)):
            op.refuse(f"{name} must have shape [{channels}], not {[*array.shape]}")
        parameters.append(np.repeat(array, channels // len(array)))
    source = op.arranged(value, channels_last(len(value.shape)))
    arguments = *parameters, op.attributes["epsilon"], groups
    return op.first_channels(op.add(layers.Norm, op.label, (source,), *arguments).name)
