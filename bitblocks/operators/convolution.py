# SPDX-License-Identifier: Apache-2.0
"""Convolutions, forward and transposed."""

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats, Shape
from bitblocks.layers.convolution import reach
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.operators.window import Window, spatial_attribute, window_of
from bitblocks.ordering import Value, channels_last

WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@operator("Conv", honours=WINDOW)
def conv(op: Operation) -> Value:
    value, weight, groups = _operands(op)
    if weight.shape[1] * groups != value.shape[0] or len(weight) % groups:
        op.refuse(
            f"must have weights for {value.shape[0]} channels in {groups} groups, "
            f"not of shape {list(weight.shape)}"
        )
    window = window_of(op, value.shape[1:], weight.shape[2:])
    return _convolved(op, layers.Convolution, value, np.moveaxis(weight, 1, -1), window, groups)


@operator("ConvTranspose", honours=(*WINDOW, "output_padding", "output_shape"))
def conv_transpose(op: Operation) -> Value:
    value, weight, groups = _operands(op)
    if len(weight) != value.shape[0] or len(weight) % groups:
        op.refuse(
            f"must have weights for {value.shape[0]} channels in {groups} groups, "
            f"not of shape {list(weight.shape)}"
        )
    inputs, outputs, *kernel = len(weight) // groups, *weight.shape[1:]
    grouped = np.moveaxis(weight.reshape(groups, inputs, outputs, *kernel), 1, -1)
    weight = grouped.reshape(groups * outputs, *kernel, inputs)
    spatial = value.shape[1:]
    window = window_of(op, spatial, tuple(kernel), transposed=True)
    added = spatial_attribute(op, "output_padding", len(spatial), 0)
    for extra, stride, dilation in zip(added, window.stride, window.dilation, strict=True):
        if extra >= max(stride, dilation):
            op.refuse(
                "attribute 'output_padding' must be less than the stride or dilation, "
                f"not {list(added)}"
            )
    lengths = zip(spatial, kernel, window.stride, window.dilation, strict=True)
    whole = [(n - 1) * s + reach(k, d) for n, k, s, d in lengths]
    padding = _transposed_padding(op, spatial, whole, window, added)
    window = window.padded(padding)
    return _convolved(op, layers.TransposedConvolution, value, weight, window, groups)


def _transposed_padding(
    op: Operation, spatial: Shape, whole: list[int], window: Window, added: Shape
) -> tuple[tuple[int, int], ...]:
    """What is cut off the ``whole`` result before and after, on each axis."""
    given = op.attributes["output_shape"]
    same = op.attributes["auto_pad"].startswith("SAME")
    if not given and not same:
        cut = zip(window.padding, added, strict=True)
        return tuple((before, after - extra) for (before, after), extra in cut)
    if given:
        wanted = spatial_attribute(op, "output_shape", len(spatial), 1)
    else:
        wanted = tuple(n * s for n, s in zip(spatial, window.stride, strict=True))
    padding = []
    for size, extra, length in zip(whole, added, wanted, strict=True):
        total = size + extra - length
        upper = op.attributes["auto_pad"] == "SAME_UPPER"
        most = size + extra + (not upper)  # two places more, and readers of the standard differ
        if length > most:
            op.refuse(f"must give at most {most} places on an axis, not {length}")
        if total % 2 and op.importer.model.opset < 11:
            op.refuse("must not split odd padding, on which operator sets before 11 disagree")
        before = total // 2 if upper else total - total // 2
        padding.append((before, total - before - extra))
    return tuple(padding)


def _operands(op: Operation) -> tuple[Value, Floats, int]:
    value, weight = op.value(0), op.floats(1, "weight")
    if not 2 <= len(value.shape) <= 4 or weight.ndim != value.rank:
        op.refuse(
            "must have frames of channels and 1 to 3 spatial axes, and weights of one axis more, "
            f"not {list(value.shape)} and {list(weight.shape)}"
        )
    groups = op.attributes["group"]
    if groups < 1:
        op.refuse(f"attribute 'group' must be at least 1, not {groups}")
    return value, weight, groups


def _convolved(
    op: Operation, kind: type, value: Value, weight: Floats, window: Window, groups: int
) -> Value:
    """A layer of ``kind`` with weights of shape (outputs, *kernel, inputs / groups)."""
    bias = np.zeros(len(weight))
    if op.has(2):
        bias = op.floats(2, "bias")
        if bias.shape != (len(weight),):
            op.refuse(f"must have a bias of shape [{len(weight)}], not {list(bias.shape)}")
    axes = channels_last(len(value.shape))
    layer = op.add(
        kind,
        op.label,
        (op.arranged(value, axes),),
        weight,
        bias,
        window.stride,
        window.dilation,
        window.padding,
        groups,
    )
    return op.first_channels(layer.name)
