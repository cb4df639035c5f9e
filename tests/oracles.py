# SPDX-License-Identifier: Apache-2.0
"""Independent statements of what every block computes, in exact fractions."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from blocks import Add, Identity, Linear, Network, Neuron, ReLU, Reshape, Weight
from quant import Format, Ints


def number(integer: int, form: Format) -> Fraction:
    """The value that an integer of a format stands for."""
    return Fraction(int(integer)) / Fraction(2) ** form.frac


def narrowed(value: Fraction, block: Any) -> int:
    """The integer that a block's output format, rounding and overflow make of an exact value."""
    form: Format = block.output_format
    scaled = value * Fraction(2) ** form.frac
    return fit(rounded(scaled, block.rounding.value), form, block.overflow.value)


def rounded(value: Fraction, mode: str) -> int:
    """The definitions of ap_fixed, word for word."""
    below, above = floor(value), ceil(value)
    if mode == "TRN":
        return below
    if mode == "TRN_ZERO":
        return below if value >= 0 else above
    if value - below != above - value:  # not half-way, or an integer
        return below if value - below < above - value else above
    if below == above:
        return below
    even = below if below % 2 == 0 else above
    toward_zero, away = (below, above) if value > 0 else (above, below)
    return {
        "RND": above,
        "RND_MIN_INF": below,
        "RND_ZERO": toward_zero,
        "RND_INF": away,
        "RND_CONV": even,
    }[mode]


def fit(integer: int, form: Format, mode: str) -> int:
    """What an integer becomes in the bits of a format."""
    least = -(2 ** (form.width - 1)) if form.signed else 0
    most = least + 2**form.width - 1
    if mode == "WRAP":
        return (integer - least) % 2**form.width + least
    if mode == "SAT_SYM" and form.signed and form.width > 1:
        least = -most
    if least <= integer <= most:
        return integer
    if mode == "SAT_ZERO":
        return 0
    return most if integer > most else least


def _elementwise(function: Callable[..., Fraction], block: Any, *frames: Ints) -> Ints:
    formats = [tensor.format for tensor in block.inputs.values()]
    flat = zip(*(f.ravel().tolist() for f in frames), strict=True)
    results = [
        narrowed(function(*(number(n, f) for n, f in zip(row, formats, strict=True))), block)
        for row in flat
    ]
    return np.array(results, np.int64).reshape(frames[0].shape)


def _linear(block: Linear, x: Ints) -> Ints:
    rows = x.reshape(-1, x.shape[-1]).tolist()
    shift = block.shift if block.shift is not None else [0] * len(block.weight)
    frac = block.weight_format.frac + block.input.format.frac
    y = []
    for row in rows:
        values = [number(n, block.input.format) for n in row]
        for weights, bias, gained in zip(
            block.weight.tolist(), block.bias.tolist(), shift, strict=True
        ):
            scale = Fraction(2) ** int(gained)
            products = (
                number(w, block.weight_format) * scale * v
                for w, v in zip(weights, values, strict=True)
            )
            y.append(narrowed(sum(products, Fraction(bias) / Fraction(2) ** frac), block))
    return np.array(y, np.int64).reshape(*x.shape[:-1], -1)


def _weight(block: Weight, x: Ints, *streamed: Ints) -> Ints:
    weights = streamed[0] if streamed else np.broadcast_to(np.asarray(block.weight), x.shape)
    results = [
        narrowed(number(a, block.input.format) * number(w, block.weight_format), block)
        for a, w in zip(x.ravel().tolist(), weights.ravel().tolist(), strict=True)
    ]
    return np.array(results, np.int64).reshape(x.shape)


def exact(block: Any, *frames: Ints) -> Iterator[Ints]:
    """The outputs of a block for frames of integers, each of shape (batch, *shape)."""
    match block:
        case Identity():
            yield _elementwise(lambda x: x, block, *frames)
        case ReLU():
            yield _elementwise(lambda x: max(x, Fraction(0)), block, *frames)
        case Add():
            yield _elementwise(lambda a, b: a + b, block, *frames)
        case Weight():
            yield _weight(block, *frames)
        case Reshape():
            yield np.array([f.ravel().tolist() for f in frames[0]]).reshape(-1, *block.shape)
        case Linear():
            yield _linear(block, *frames)
        case Neuron():
            shape = (1, block.input.shape[-1])
            weight, bias = np.reshape(block.weight, shape), np.array([block.bias])
            modes = block.rounding, block.overflow
            yield _linear(
                Linear(
                    block.input,
                    weight,
                    bias,
                    block.weight_format,
                    block.output_format,
                    None,
                    *modes,
                ),
                *frames,
            )
        case Network():
            yield from _network(block, *frames)
        case _:
            raise TypeError(f"no independent statement of {type(block).__name__}")


def _network(network: Network, *frames: Ints) -> Iterator[Ints]:
    """Node after node, nested networks by recursion."""
    values: dict[str, Ints] = dict(zip(network.input_names, frames, strict=True))
    for node in network.nodes:
        results = list(exact(node.block, *(values[source] for source in node.sources)))
        if isinstance(node.block, Network):
            names = node.block.output_names
            values |= {f"{node.name}.{n}": r for n, r in zip(names, results, strict=True)}
        if len(results) == 1:
            values[node.name] = results[0]
    for name in network.output_names:
        yield values[network.source_of(name)]
