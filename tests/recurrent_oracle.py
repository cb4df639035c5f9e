# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers once more, as the ONNX standard writes them, and how wrong integers may be.

The error is followed step by step, with the formats that were chosen: every number that is narrowed
is half a unit wrong and what it lies beyond its format, every function a unit; weights are as wrong
as their rounding, and biases as what they take up of that.
"""

import numpy as np

from bitblocks.layers import Gru, Lstm
from quant import Format, from_float, to_float

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hardsigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "elu": lambda x, alpha: np.where(x < 0, alpha * (np.exp(x) - 1), x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}


class Errors:
    """Values with the most that each may be wrong, and arithmetic of them."""

    def __init__(self, value, error=0.0):
        self.value, self.error = np.asarray(value, float), np.broadcast_to(error, np.shape(value))

    def __add__(self, other):
        return Errors(self.value + other.value, self.error + other.error)

    def __sub__(self, other):
        return Errors(self.value - other.value, self.error + other.error)

    def __mul__(self, other):
        error = np.abs(self.value) * other.error + self.error * np.abs(other.value)
        return Errors(self.value * other.value, error + self.error * other.error)

    def __getitem__(self, place):
        return Errors(self.value[place], self.error[place])

    def times(self, matrix):
        """``x @ matrix.T``."""
        error = np.abs(self.value) @ matrix.error.T + self.error @ np.abs(matrix.value).T
        return Errors(self.value @ matrix.value.T, error + self.error @ matrix.error.T)

    def narrowed(self, format, units=0.5):
        """In a format, by half a unit wrong and by what lies beyond its ends."""
        if format is None:
            return self
        low, high = to_float(np.array([format.min, format.max]), format)
        beyond = np.maximum(self.value + self.error - high, low - self.value + self.error)
        return Errors(self.value, self.error + units * 2.0**-format.frac + np.maximum(beyond, 0))

    def through(self, function, clip, format):
        """A function of one variable that is monotone on either side of 0."""
        name, parameters = function
        ends = [np.clip(self.value + n * self.error, -clip, clip) for n in (0, -1, 1)]
        inside = np.clip(0, ends[1], ends[2])
        y, *others = [FUNCTIONS[name](x, *parameters) for x in (*ends, inside)]
        error = np.maximum.reduce([np.abs(other - y) for other in others])
        return Errors(y, error).narrowed(format, 1.0)


def rounded(weight, format):
    """A matrix, each number as wrong as its rounding; large rows have up to 4 bits less."""
    if format is None:
        return Errors(weight)
    error = np.zeros(weight.shape)
    for row, own in zip(weight, error, strict=True):
        finest = [Format(format.width, format.frac - n) for n in range(5)]
        fitting = [f for f in finest if np.abs(row).max() < 2.0 ** (f.width - 1 - f.frac)]
        number = (fitting or finest[-1:])[0]
        own[:] = np.abs(to_float(from_float(row, number), number) - row)
    return Errors(weight, error)


def run(layer, x, formats=None, error=0.0, given=(), given_error=0.0):
    """h of every step, h and c of the last, as Errors; without ``formats`` nothing is wrong."""
    get = getattr(formats, "formats", {}).get
    state, cell = getattr(formats, "output_format", None), get("cell_format")
    parts = [layer.weight, layer.recurrent, layer.bias]
    rows = [part.reshape(-1, *part.shape[len(layer.gates) + 1 :]) for part in parts]
    weight, recurrent = (
        rounded(rows[0], get("weight_format")),
        rounded(rows[1], get("recurrent_format")),
    )
    own = iter(given)
    firsts = layer.initial or [np.zeros(n) for n in (recurrent.value.shape[1], layer.units)]
    first = [next(own) if value is None else value for value in firsts]
    h, c = (
        Errors(np.broadcast_to(value, (len(x), np.shape(value)[-1])), given_error).narrowed(format)
        for value, format in zip((*first, first[0])[:2], (state, cell or state), strict=True)
    )
    most = np.abs(x).max((0, 1)) + np.max(error)
    bias = Errors(rows[2], weight.error @ most + (0 if formats is None else 1e-6))
    width, found = layer.units, []
    for step in range(x.shape[1]):
        now = Errors(x[:, step], error if np.ndim(error) == 0 else error[:, step])
        largest = np.abs(h.value).max() + h.error.max() + 1
        bias = Errors(rows[2], bias.error + recurrent.error.sum(1) * largest)
        h, c = _step(layer, now.times(weight) + bias, h, c, recurrent, get, state, width)
        found.append(h)
    y = Errors(np.stack([h.value for h in found], 1), np.stack([h.error for h in found], 1))
    return {"h": y, "h_last": h, "c_last": c}


def _step(layer, of_x, h, c, recurrent, get, state, width):
    functions, clip = layer.functions, layer.clip
    sum_format, gate_format = get("sum_format"), get("gate_format")
    of_h = h.times(recurrent)
    sums = of_x + of_h
    parts = [sums[:, n * width : (n + 1) * width] for n in range(4)]
    if isinstance(layer, Lstm):
        tanh_format = get("tanh_format")
        peephole = np.zeros((3, width)) if layer.peephole is None else layer.peephole
        together = rounded(peephole.reshape(1, -1), get("peephole_format"))
        looked = Errors(peephole, together.error.reshape(3, width))
        i, f = (
            (parts[n] + looked[n] * c).narrowed(sum_format).through(functions[0], clip, gate_format)
            for n in (0, 1)
        )
        g = parts[2].narrowed(sum_format).through(functions[1], clip, tanh_format)
        c = (f * c + i * g).narrowed(get("cell_format"))
        o = (parts[3] + looked[2] * c).narrowed(sum_format)
        o = o.through(functions[0], clip, gate_format)
        mixed = o * c.through(functions[2], clip, tanh_format)
        if layer.projection is None:
            return mixed.narrowed(state), c
        projection = rounded(layer.projection, get("projection_format"))
        return mixed.narrowed(tanh_format).times(projection).narrowed(state), c
    if isinstance(layer, Gru):
        z, r = (
            parts[n].narrowed(sum_format).through(functions[0], clip, gate_format) for n in (0, 1)
        )
        own = np.zeros(width) if layer.recurrent_bias is None else layer.recurrent_bias
        last = slice(2 * width, 3 * width)
        d = Errors(own, recurrent.error[last].sum(1) * (np.abs(h.value).max() + 1))
        if layer.reset_after:
            seen = r * (of_h[:, last] + d)
        else:
            seen = (r * h).narrowed(state).times(recurrent[last]) + d
        n = (of_x[:, last] + seen).narrowed(sum_format).through(functions[1], clip, state)
        return (n + z * (h - n)).narrowed(state), c
    plain = functions == (("relu", ()),)
    taken = sums if plain else sums.narrowed(sum_format)
    return taken.through(functions[0], clip, state), c
