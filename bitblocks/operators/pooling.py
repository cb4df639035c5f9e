# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, and over whole frames."""

from bitblocks import layers
from bitblocks.operators.operation import Operation
from bitblocks.operators.reduction import reduced
from bitblocks.operators.registry import Only, operator
from bitblocks.operators.window import Window, window_of
from bitblocks.ordering import Value, channels_last

WINDOW = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


@operator("MaxPool", honours=WINDOW, only={"storage_order": Only(0)})
def max_pool(op: Operation) -> Value:
    value, window = _windows(op)
    return _pooled(op, layers.MaxPool, value, window, _ceil(op))


@operator("AveragePool", honours=(*WINDOW, "count_include_pad"))
def average_pool(op: Operation) -> Value:
    value, window = _windows(op)
    counting = bool(op.attributes["count_include_pad"])
    return _pooled(op, layers.AveragePool, value, window, _ceil(op), counting)


@operator("GlobalMaxPool")
def global_max_pool(op: Operation) -> Value:
    value = _frame(op)
    return reduced(op, value, "maximum", range(1, len(value.shape)))


@operator("GlobalAveragePool")
def global_average_pool(op: Operation) -> Value:
    value = _frame(op)
    return reduced(op, value, "mean", range(1, len(value.shape)))


def _frame(op: Operation) -> Value:
    value = op.value(0)
    if not 2 <= len(value.shape) <= 4:
        op.refuse(f"must have frames of channels and 1 to 3 spatial axes, not {list(value.shape)}")
    return value


def _windows(op: Operation) -> tuple[Value, Window]:
    value = _frame(op)
    return value, window_of(op, value.shape[1:])


def _ceil(op: Operation) -> bool:
    """Whether a last partial window counts: an automatic padding leaves none."""
    return bool(op.attributes["ceil_mode"]) and op.attributes["auto_pad"] == "NOTSET"


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
