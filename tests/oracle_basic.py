# SPDX-License-Identifier: Apache-2.0
"""Independent statements of the simplest blocks, and of networks of any."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from oracle_numbers import STATEMENTS, Within, narrowed, number, statement

from blocks import (
    Add,
    Gate,
    Identity,
    Linear,
    Maximum,
    Minimum,
    Mul,
    Network,
    Neuron,
    ReLU,
    Reshape,
    Sub,
    Weight,
)
from quant import Ints


def elementwise(function: Callable[..., Fraction], block: Any, *frames: Ints) -> Ints:
    formats = [tensor.format for tensor in block.inputs.values()]
    flat = zip(*(np.broadcast_to(f, frames[0].shape).ravel().tolist() for f in frames), strict=True)
    results = [
        narrowed(function(*(number(n, f) for n, f in zip(row, formats, strict=True))), block)
        for row in flat
    ]
    return np.array(results, np.int64).reshape(frames[0].shape)


@statement(Linear)
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


@statement(Weight)
def _weight(block: Weight, x: Ints) -> Ints:
    constants = (np.broadcast_to(np.asarray(n), x.shape) for n in (block.weight, block.bias))
    unit = Fraction(1, 2) ** (block.input.format.frac + block.weight_format.frac)
    results = [
        narrowed(number(a, block.input.format) * number(w, block.weight_format) + b * unit, block)
        for a, w, b in zip(*(n.ravel().tolist() for n in (x, *constants)), strict=True)
    ]
    return np.array(results, np.int64).reshape(x.shape)


@statement(Identity)
def _identity(block: Identity, x: Ints) -> Ints:
    return elementwise(lambda v: v, block, x)


@statement(ReLU)
def _relu(block: ReLU, x: Ints) -> Ints:
    return elementwise(lambda v: max(v, Fraction(0)), block, x)


for kind, function in (
    (Add, lambda v, w: v + w),
    (Sub, lambda v, w: v - w),
    (Mul, lambda v, w: v * w),
    (Minimum, min),
    (Maximum, max),
    (Gate, lambda v, w: v if w > 0 else Fraction(0)),
):
    statement(kind)(partial(elementwise, function))


@statement(Reshape)
def _reshape(block: Reshape, x: Ints) -> Ints:
    return np.array([f.ravel().tolist() for f in x]).reshape(-1, *block.shape)


@statement(Neuron)
def _neuron(block: Neuron, x: Ints) -> Ints:
    weight = np.reshape(block.weight, (1, block.input.shape[-1]))
    formats = block.weight_format, block.output_format
    modes = block.rounding, block.overflow
    return _linear(Linear(block.input, weight, np.array([block.bias]), *formats, None, *modes), x)


@statement(Network)
def _network(network: Network, *frames: Ints) -> tuple[Ints, ...]:
    """Node after node, nested networks by recursion."""
    values: dict[str, Ints] = dict(zip(network.input_names, frames, strict=True))
    for node in network.nodes:
        fed = [values[source] for source in node.sources]
        results = STATEMENTS[type(node.block)](node.block, *fed)
        results = results if isinstance(results, tuple) else (results,)
        if any(isinstance(result, Within) for result in results):  # has been asked by itself
            results = node.block.reference(*fed)
            results = results if isinstance(results, tuple) else (results,)
        values |= zip(node.tensors, results, strict=True)
    return tuple(values[network.source_of(name)] for name in network.output_names)
