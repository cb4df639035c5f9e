# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: the words of every window in order, every cycle, and no cycle wasted."""

from itertools import product

import numpy as np
import pytest
from circuit_check import check_circuit

from hdl import MacCore, Window, WindowAxis, Windowed, WindowedArray
from quant import Format

NUMBER = Format(5, 0)


def tap_places(axis, output):
    """Pairs (tap, place) that an output meets, from the definition."""
    for tap in range(axis.kernel):
        place, rest = divmod(
            output * axis.stride + tap * axis.dilation - axis.before, axis.upsample
        )
        if rest == 0 and 0 <= place < axis.size:
            yield tap, place


def window_sums(axes, x, weight, groups):
    """Sums of all outputs of all windows, by the definition, in the order of the stream.

    x : (*sizes, channels); weight : (outputs, *kernels, channels / groups)
    """
    rows, width = len(weight) // groups, weight.shape[-1]
    for position in product(*(range(axis.outputs) for axis in axes)):
        taps = [list(tap_places(axis, o)) for axis, o in zip(axes, position, strict=True)]
        for row in range(len(weight)):
            total = 0
            for pairs in product(*taps):
                kernel, place = tuple(k for k, _ in pairs), tuple(p for _, p in pairs)
                for c in range(width):
                    channel = row // rows * width + c
                    total += int(weight[(row, *kernel, c)]) * int(x[(*place, channel)])
            yield total


def folded(weight, pe, simd, groups):
    """Weights as a core wants them, groups one after the other or side by side."""
    outputs, width = len(weight), weight[0].size
    rows, side = outputs // groups, max(1, pe // (outputs // groups))
    flat = weight.reshape(outputs, -1)
    if side == 1:
        return flat.reshape(outputs // pe, pe, width // simd, simd)
    channels = weight.shape[-1]
    taps = flat.reshape(groups // side, side * rows, width // channels, channels)
    result = np.zeros((*taps.shape[:3], simd), np.int64)
    for row in range(side * rows):
        lane = row // rows * channels
        result[:, row, :, lane : lane + channels] = taps[:, row]
    return result


def design_of(axes, weight, pe, simd, groups=1, style="registers"):
    channels = weight.shape[-1] * groups
    rows = len(weight) // groups
    side = max(1, pe // rows)
    window = Window(axes, channels // simd, groups // side, max(1, rows // pe), style)
    core = MacCore(
        folded(weight, pe, simd, groups), NUMBER, "logic", window.accumulates, window.empties
    )
    return Windowed(window, core)


def check_window(axes, channels, outputs, pe, simd, groups=1, frames=3, seed=0):
    random = np.random.default_rng([seed, channels, outputs])
    kernels = [axis.kernel for axis in axes]
    weight = random.integers(-4, 5, (outputs, *kernels, channels // groups))
    weight[weight == 0] = 3
    design = design_of(axes, weight, pe, simd, groups)
    x = random.integers(NUMBER.min, NUMBER.max + 1, (frames, *(a.size for a in axes), channels))
    y = [list(window_sums(axes, frame, weight, groups)) for frame in x]
    scale = design.core.scale

    def read(payload):
        fields = [int(getattr(payload, f"sum_{source}")) for source in design.core.sources]
        return [total << int(z) for total, z in zip(fields, scale, strict=False)]

    cycles = check_circuit(
        lambda: WindowedArray(design),
        {"i": x.reshape(-1, simd).tolist()},
        {"o": np.reshape(y, (-1, pe)).tolist()},
        design.events(),
        frames,
        read,
    )
    return design, cycles


def conv(size, kernel, stride=1, dilation=1, before=0, after=0):
    outputs = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    return WindowAxis(size, kernel, outputs, stride, dilation, before)


def transposed(size, kernel, stride=1, dilation=1, before=0, after=0, more=0):
    outputs = (size - 1) * stride + dilation * (kernel - 1) + 1 - before - after + more
    return WindowAxis(size, kernel, outputs, 1, dilation, dilation * (kernel - 1) - before, stride)


CASES = {  # axes, channels, outputs, pe, simd, groups
    "1d": ((conv(6, 3),), 2, 2, 1, 1, 1),
    "1d same": ((conv(6, 3, before=1, after=1),), 2, 2, 1, 2, 1),
    "1d stride": ((conv(9, 3, 2),), 2, 4, 2, 2, 1),
    "1d stride beyond kernel": ((conv(9, 2, 4),), 1, 2, 1, 1, 1),
    "1d dilated": ((conv(9, 3, 1, 3, 2, 4),), 2, 2, 2, 1, 1),
    "1d whole": ((conv(5, 5),), 2, 2, 1, 1, 1),
    "1d empty": ((conv(3, 2, 1, 1, 4, 3),), 2, 2, 1, 1, 1),
    "1d one step": ((conv(5, 1, 2),), 2, 2, 1, 2, 1),
    "2d": ((conv(4, 3), conv(5, 3)), 1, 2, 1, 1, 1),
    "2d same": ((conv(4, 3, before=1, after=1), conv(5, 3, before=1, after=1)), 2, 2, 2, 1, 1),
    "2d uneven": ((conv(5, 2, 2, 1, 1, 0), conv(4, 4, 3, 1, 0, 3)), 2, 1, 1, 1, 1),
    "2d pointwise": ((conv(3, 1), conv(4, 1)), 4, 4, 2, 2, 1),
    "2d dilated": ((conv(5, 2, 1, 3, 1, 1), conv(6, 3, 1, 2)), 1, 2, 1, 1, 1),
    "2d large kernel": ((conv(2, 5, 1, 1, 2, 2), conv(3, 5, 2, 1, 2, 2)), 1, 2, 1, 1, 1),
    "2d empty": ((conv(2, 1, 1, 1, 1, 1), conv(3, 1, 1, 1, 1, 2)), 2, 2, 2, 1, 1),
    "2d grouped": ((conv(3, 2), conv(4, 2, before=1)), 4, 4, 2, 1, 2),
    "2d grouped folds": ((conv(3, 2), conv(4, 2)), 4, 4, 1, 2, 2),
    "2d depthwise": ((conv(4, 3, before=1, after=1), conv(4, 3, before=1)), 4, 4, 2, 2, 4),
    "2d depthwise all": ((conv(3, 2), conv(3, 2)), 3, 3, 3, 3, 3),
    "2d depthwise multiplied": ((conv(3, 2), conv(4, 2)), 2, 4, 4, 2, 2),
    "3d": ((conv(3, 2, before=1), conv(3, 2, after=1), conv(3, 2)), 2, 2, 1, 2, 1),
    "3d stride": ((conv(4, 2, 2), conv(3, 3, before=1, after=1), conv(3, 1)), 1, 1, 1, 1, 1),
    "1d transposed": ((transposed(4, 3, 2, 1, 1, 1, 1),), 2, 2, 1, 1, 1),
    "1d transposed odd": ((transposed(4, 3, 2, 3),), 2, 2, 1, 1, 1),
    "1d transposed gaps": ((transposed(3, 1, 3),), 2, 2, 1, 1, 1),
    "2d transposed": ((transposed(3, 4, 2, 1, 1, 1), transposed(3, 3, 2)), 2, 2, 2, 1, 1),
    "3d transposed": ((transposed(2, 2, 2), transposed(2, 2), transposed(2, 3, 2)), 1, 1, 1, 1, 1),
    "1d every fourth": ((conv(16, 1, 4),), 1, 2, 1, 1, 1),
    "2d every other": ((conv(4, 1, 2), conv(6, 1, 2)), 2, 2, 1, 1, 1),
    "one of two": ((conv(2, 1, 2),), 1, 2, 1, 1, 1),
    "one number": ((conv(1, 1),), 2, 2, 1, 1, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sums_are_exact_and_cycles_as_computed(case):
    check_window(*case)
