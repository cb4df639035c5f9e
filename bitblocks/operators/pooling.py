# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, and over whole frames."""

from bitblocks import layers
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import Only, operator
from bitblocks.operators.window import Window, ceiled, window_of
from bitblocks.ordering import Value, channels_last

WINDOW = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


@operator("MaxPool", honours=WINDOW, only={"storage_order": Only(0)})
def max_pool(op: Operation) -> Value:
    value, window, _ = _windows(op)
    return _pooled(op, layers.MaxPool, value, window)


@operator("AveragePool", honours=(*WINDOW, "count_include_pad"))
def average_pool(op: Operation) -> Value:
    value, window, padding = _windows(op)
    counted = padding if op.attributes["count_include_pad"] else ((0, 0),) * len(padding)
    return _pooled(op, layers.AveragePool, value, window, counted)


@operator("GlobalMaxPool")
def global_max_pool(op: Operation) -> Value:
    value = _frame(op)
    return _pooled(op, layers.MaxPool, value, _whole(value))


@operator("GlobalAveragePool")
def global_average_pool(op: Operation) -> Value:
    value = _frame(op)
    window = _whole(value)
    return _pooled(op, layers.AveragePool, value, window, window.padding)


def _frame(op: Operation) -> Value:
    value = op.value(0)
    if len(value.shape) < 2:
        op.refuse(f"must have frames of channels and spatial axes, not {list(value.shape)}")
    return value


def _whole(value: Value) -> Window:
    ones = (1,) * (len(value.shape) - 1)
    return Window(value.shape[1:], ones, ones, ((0, 0),) * len(ones))


def _windows(op: Operation) -> tuple[Value, Window, tuple[tuple[int, int], ...]]:
    """The frame, the windows on it, and the padding that the file gives."""
    value = _frame(op)
    spatial = value.shape[1:]
    window = window_of(op, spatial)
    padding = window.padding
    if op.attributes["ceil_mode"] and op.attributes["auto_pad"] == "NOTSET":
        window = ceiled(window, spatial)
    return value, window, padding


def _pooled(op: Operation, kind: type, value: Value, window: Window, *rest: object) -> Value:
    source = op.arranged(value, channels_last(len(value.shape)))
    layer = op.add(
        kind,
        op.label,
        (source,),
        window.kernel,
        window.stride,
        window.dilation,
        window.padding,
        *rest,
    )
    return op.first_channels(layer.name)
