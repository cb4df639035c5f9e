# SPDX-License-Identifier: Apache-2.0
"""How wrong integers may be against the float network: a bound that is derived, layer by layer.

The quantiser takes, of several formats, the one whose squared error on the data is least, and the
one that just holds the largest number is among them. So with ``h`` the error of that one, no
number is more wrong than the root of the sum of ``h**2`` over all of the data, nor is the root of
the sum of the squares of all errors larger than that. The error h is

* half a unit of the format that just holds the largest number; for tables and composed blocks
  one unit of the format that was chosen, which is at most one bit coarser, comes on top;
* what the error of its sources makes of it: at corners of intervals for what treats numbers one
  by one, by magnitudes of weights where sums are formed;
* where there are weights, their rounding: a unit each, as the largest of all channels has them.

Recurrent layers are followed step by step, in the formats that were chosen (``recurrent_oracle``).
"""

from dataclasses import replace

import numpy as np
import recurrent_oracle

from bitblocks import evaluate, layers
from bitblocks.layers.activation import KINDS
from bitblocks.layers.elementwise import Binary
from bitblocks.quantisation import OUTPUT_BITS, frac_for

MOVES = (layers.Identity, layers.Reshape, layers.Rearrange)
STEPS = (-1.0, -0.5, 0.5, 1.0)


def unit(values, bits):
    """Of the format that just holds the largest of ``values``."""
    peak = float(np.abs(values).max())
    return 2.0 ** -frac_for(peak, bits, bool((values < 0).any()))


def bounds(graph, x, formats, bits, precision):
    """For every tensor of ``graph``: how wrong each number may be, on data ``x``.

    And how wrong all together: the root of the sum of squares, of tensors that are narrowed.
    """
    wanted = evaluate(graph, x)
    errors, norms = {}, {}
    read = {name for layer in graph.nodes for name in layer.sources}
    for port in graph.inputs:
        codes = np.ldexp(wanted[port.name], formats[port.name].frac)
        codes = np.clip(np.floor(codes + 0.5), formats[port.name].min, formats[port.name].max)
        errors[port.name] = np.abs(np.ldexp(codes, -formats[port.name].frac) - wanted[port.name])
    for layer in graph.nodes:
        sources = [wanted[name] for name in layer.sources]
        given = [errors[name] for name in layer.sources]
        if isinstance(layer, layers.Recurrent):
            decided, (error, *rest) = precision[layer.name], given
            worst = max((float(e.max()) for e in rest), default=0.0)
            found = recurrent_oracle.run(layer, sources[0], decided, error, sources[1:], worst)
            pairs = zip(layer.tensors, layer.outputs, strict=True)
            errors |= {tensor: found[output].error for tensor, output in pairs}
            continue
        if isinstance(layer, layers.TopK):
            for tensor in layer.tensors:
                errors[tensor] = _chosen(layer, tensor, sources[0], given[0], wanted[tensor])
            continue
        y = wanted[layer.name]
        found = _exact(layer, sources, given, y, bits)
        if found is None:
            fine = bits if is_coarse(layer) or layer.name in read else max(bits, OUTPUT_BITS)
            norm, more = _narrowed(layer, sources, given, y, bits, fine)
            found = np.full(y.shape, norm + more)
            norms[layer.name] = norm + more * y.size**0.5
        errors[layer.name] = found
    return errors, norms


def _exact(layer, sources, errors, y, bits):
    """Of what is not narrowed to a format that was chosen; None of anything else."""
    if isinstance(layer, MOVES):
        filled = replace(layer, fill=0.0) if isinstance(layer, layers.Rearrange) else layer
        error = filled.evaluate(*errors)
        if isinstance(layer, layers.Rearrange) and (layer.index < 0).any():
            error = np.where(layer.index < 0, unit(y, bits) / 2, error)
        return error
    if isinstance(layer, layers.Rounded):
        return _corners(layer, sources, errors, y)
    if isinstance(layer, layers.MaxPool):
        return layer.evaluate(*errors)
    if isinstance(layer, layers.Arg):
        (x,), (error,) = sources, errors
        best = np.sort(x if layer.largest else -x, axis=-1)[..., -2:]
        close = (best[..., 1:] - best[..., :1] <= 2 * error.max()) & (error.max() > 0)
        return np.where(close, x.shape[-1], 0)
    return None


def _chosen(layer, tensor, x, error, y):
    """Of values as of what they are chosen from; places may be any where numbers are too near."""
    if not tensor.endswith("indices"):
        return np.full(y.shape, error.max())
    steps = np.diff(np.sort(x, axis=-1), axis=-1)
    close = bool((steps <= 2 * error.max()).any()) and error.max() > 0
    return np.full(y.shape, float(x.shape[-1]) if close else 0.0)


def is_coarse(layer):
    """Whether a final output is to have no more bits than others."""
    return isinstance(layer, layers.Softmax) and layer.logarithm


def _narrowed(layer, sources, errors, y, bits, fine):
    """The root of the sum of h**2, and what comes on top of each number."""
    step = unit(y, fine)
    error = _propagated(layer, sources, errors, y) + step / 2
    if hasattr(layer, "weight"):
        error = error + _weights(layer, sources[0], y, bits)
    if hasattr(layer, "slope"):
        error = error + np.abs(sources[0]) * unit(layer.slope, bits)
    composed = isinstance(layer, layers.Softmax | layers.Norm) or _is_table(layer)
    return float(np.sqrt(np.sum(np.square(error)))), 2 * step if composed else 0.0


def _is_table(layer):
    return isinstance(layer, layers.Activation) and KINDS[layer.function].exact is None


def _corners(layer, sources, errors, y):
    """How far y goes while its sources stay within their errors."""
    found = np.zeros_like(y)
    if len(sources) == 1:
        shifts = [(step,) for step in STEPS]
    else:
        shifts = [(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    for shift in shifts:
        moved = [x + s * e for x, s, e in zip(sources, shift, errors, strict=True)]
        found = np.maximum(found, np.abs(layer.evaluate(*moved) - y))
    return found


def _propagated(layer, sources, errors, y):
    (x, *_), (error, *_) = sources, errors
    if isinstance(layer, layers.Concat):
        return layer.evaluate(*errors)
    if isinstance(layer, layers.Reduce):
        extreme = layer.function in ("maximum", "minimum")
        return (replace(layer, function="maximum") if extreme else layer).evaluate(error)
    if isinstance(layer, layers.MatMul):
        a, b = (np.abs(source) for source in sources)
        return layer.evaluate(errors[0], b + errors[1]) + layer.evaluate(a, errors[1])
    if isinstance(layer, layers.Softmax):
        return np.full(y.shape, 2 * error.max())
    if isinstance(layer, layers.Norm):
        plain = replace(layer, weight=np.ones_like(layer.weight), bias=np.zeros_like(layer.bias))
        y = np.abs(plain.evaluate(x))
        return 1.01 * (2 + y) * np.abs(layer.weight) * error.max() / _spread(layer, x)
    if isinstance(layer, layers.AveragePool):
        return layer.evaluate(error)
    if hasattr(layer, "weight"):
        return _positive(layer, np.abs(layer.weight)).evaluate(error)
    if isinstance(layer, Binary | layers.Divide | layers.Activation | layers.Relu | layers.PRelu):
        return _corners(layer, sources, errors, y)
    raise TypeError(type(layer))


def _positive(layer, weight):
    return replace(layer, weight=weight, bias=np.zeros_like(layer.bias))


def _weights(layer, x, y, bits):
    """What rounding the weights contributes: a unit of the largest, and biases of the products."""
    step = unit(np.append(layer.weight, -1e-9), bits)
    if isinstance(layer, layers.Norm):
        return step * np.abs(_positive(layer, np.ones_like(layer.weight)).evaluate(x))
    return 2 * _positive(layer, np.full_like(layer.weight, step)).evaluate(np.abs(x))


def _spread(layer, x):
    """The smallest deviation of any row."""
    rows = x
    if layer.groups:
        rows = x.reshape(len(x), -1, layer.groups, x.shape[-1] // layer.groups)
        rows = rows.swapaxes(1, 2).reshape(len(x), layer.groups, -1)
    centre = rows.mean(-1, keepdims=True) if layer.centred else 0.0
    return np.sqrt(np.mean((rows - centre) ** 2, -1).min() + layer.epsilon)
