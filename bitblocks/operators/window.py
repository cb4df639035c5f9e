# SPDX-License-Identifier: Apache-2.0
"""The attributes that say where windows lie on a frame."""

from dataclasses import dataclass, replace

from bitblocks.graph import Shape
from bitblocks.layers.convolution import Padding, reach
from bitblocks.operators.operation import Operation

LONGEST = 2**16
"""Largest kernel, stride, dilation or padding along an axis."""
PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Window:
    """Where windows lie: along each spatial axis."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Padding

    def padded(self, padding: Padding) -> "Window":
        """The same windows on another padding."""
        return replace(self, padding=padding)


def spatial_attribute(op: Operation, name: str, count: int, least: int) -> Shape:
    """An attribute of ``count`` numbers of at least ``least``, which they all are by default."""
    given = op.attributes[name] or [least] * count
    if len(given) != count or min(given) < least:
        op.refuse(f"attribute '{name}' must be {count} numbers of at least {least}, not {given}")
    if max(given) > LONGEST:
        op.refuse(f"attribute '{name}' must be numbers of at most {LONGEST}, not {max(given)}")
    return tuple(given)


def window_of(
    op: Operation, spatial: Shape, kernel: Shape | None = None, transposed: bool = False
) -> Window:
    """The windows of a node on a frame of ``spatial`` lengths.

    ``kernel`` is what the weights say, against which the attribute is held. Where the padding of
    a transposed convolution follows from its output it is left 0.
    """
    count = len(spatial)
    sizes = spatial_attribute(op, "kernel_shape", count, 1)
    if kernel is None:
        kernel = sizes
    elif op.attributes["kernel_shape"] and sizes != kernel:
        op.refuse(f"attribute 'kernel_shape' must be {list(kernel)}, not {list(sizes)}")
    stride = spatial_attribute(op, "strides", count, 1)
    dilation = spatial_attribute(op, "dilations", count, 1)
    pads = spatial_attribute(op, "pads", 2 * count, 0)
    auto = op.attributes["auto_pad"]
    if auto not in PADS:
        op.refuse(f"attribute 'auto_pad' must be one of {', '.join(PADS)}, not {auto}")
    if auto != "NOTSET" and any(pads):
        op.refuse(f"attribute 'pads' must not be given beside an auto_pad of {auto}")
    padding: Padding = tuple(zip(pads[:count], pads[count:], strict=True))
    if auto.startswith("SAME") and not transposed:
        padding = tuple(
            _same_padding(*axis, auto == "SAME_UPPER")
            for axis in zip(spatial, kernel, stride, dilation, strict=True)
        )
    return Window(kernel, stride, dilation, padding)


def _same_padding(
    length: int, kernel: int, stride: int, dilation: int, upper: bool
) -> tuple[int, int]:
    """Padding that leaves ``ceil(length / stride)`` windows; an odd place goes to one side."""
    outputs = -(-length // stride)
    total = max((outputs - 1) * stride + reach(kernel, dilation) - length, 0)
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)
