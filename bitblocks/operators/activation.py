# SPDX-License-Identifier: Apache-2.0
"""Operators that are functions of one variable: a line for each."""

import math

import numpy as np

from bitblocks import layers
from bitblocks.graph import Floats
from bitblocks.layers.activation import KINDS
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value
from quant.function import LARGEST_EXPONENT

PLAIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "Abs": ("absolute", ()),
    "Acos": ("acos", ()),
    "Acosh": ("acosh", ()),
    "Asin": ("asin", ()),
    "Asinh": ("asinh", ()),
    "Atan": ("atan", ()),
    "Atanh": ("atanh", ()),
    "Celu": ("celu", ("alpha",)),
    "Cos": ("cos", ()),
    "Cosh": ("cosh", ()),
    "Elu": ("elu", ("alpha",)),
    "Erf": ("erf", ()),
    "Exp": ("exp", ()),
    "HardSigmoid": ("hardsigmoid", ("alpha", "beta")),
    "HardSwish": ("hardswish", ()),
    "LeakyRelu": ("leaky_relu", ("alpha",)),
    "Log": ("log", ()),
    "Mish": ("mish", ()),
    "Selu": ("selu", ("alpha", "gamma")),
    "Shrink": ("shrink", ("bias", "lambd")),
    "Sigmoid": ("sigmoid", ()),
    "Sign": ("sign", ()),
    "Sin": ("sin", ()),
    "Sinh": ("sinh", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Sqrt": ("sqrt", ()),
    "Swish": ("swish", ("alpha",)),
    "Tan": ("tan", ()),
    "Tanh": ("tanh", ()),
    "ThresholdedRelu": ("thresholded_relu", ("alpha",)),
}
"""Operator -> function, and the attributes that are its parameters."""


def activation(op: Operation) -> Value:
    """What an operator of PLAIN gives."""
    function, names = PLAIN[op.operator.name]
    parameters = tuple(op.attributes[name] for name in names)
    return function_of(op, op.value(0, batch=None, joined=True), function, *parameters)


def function_of(op: Operation, value: Value, function: str, *parameters: float) -> Value:
    """A function of one variable, number by number."""
    kind = layers.PartialActivation if KINDS[function].partial else layers.Activation
    return op.elementwise(kind, value, function, parameters)


for _name, (_, _attributes) in PLAIN.items():
    operator(_name, honours=_attributes)(activation)


@operator("Gelu", honours=("approximate",))
def gelu(op: Operation) -> Value:
    functions = {"none": "gelu", "tanh": "gelu_tanh"}
    given = op.attributes["approximate"]
    if given not in functions:
        op.refuse(f"attribute 'approximate' must be none or tanh, not {given}")
    return function_of(op, op.value(0, batch=None), functions[given])


@operator("Reciprocal")
def reciprocal(op: Operation) -> Value:
    return function_of(op, op.value(0, batch=None), "reciprocal", 1.0)


def rounded(op: Operation) -> Value:
    """Floor, Ceil or Round."""
    return op.elementwise(layers.Rounded, op.value(0, batch=None), op.operator.name.lower())


for _name in ("Ceil", "Floor", "Round"):
    operator(_name)(rounded)


EXPONENTS_LIMIT = 16
"""Most different exponents of one Pow."""
POWERS = {0.5: ("sqrt", ()), 1.0: None, 2.0: ("square", ()), -1.0: ("reciprocal", (1.0,))}


@operator("Pow")
def power(op: Operation) -> Value:
    """Numbers that have an exponent of their own go their own way."""
    value = op.value(0, batch=None)
    if not op.is_constant(1):
        op.refuse("must have constant exponents")
    value = op.widened(1, value)
    exponents = op.frame_constant(1, value)
    different = np.unique(exponents).tolist()
    if len(different) > EXPONENTS_LIMIT:
        op.refuse(f"must have at most {EXPONENTS_LIMIT} exponents, not {len(different)}")
    if max(map(abs, different)) > LARGEST_EXPONENT:
        most = max(different, key=abs)
        op.refuse(
            f"must have exponents from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}, not {most:g}"
        )
    if len(different) == 1:
        return _powered(op, value, different[0])
    parts, places = [], []
    for exponent in different:
        (index,) = np.nonzero(exponents.ravel() == exponent)
        picked = op.rearranged(op.label, value, index, 0)
        parts.append(_powered(op, picked, exponent).name)
        places.append(index)
    joined = op.add(layers.Concat, op.label, tuple(parts), 0).name
    index = np.argsort(np.concatenate(places)).reshape(value.shape)
    return Value(joined, (index.size,)).moved(index, value.batch)


def _powered(op: Operation, value: Value, exponent: float) -> Value:
    function, parameters = POWERS.get(exponent) or ("power", (exponent,))
    return value if exponent == 1.0 else function_of(op, value, function, *parameters)


@operator("PRelu")
def prelu(op: Operation) -> Value:
    """A slope for each place along one axis, which is put last; else one for each number."""
    value = op.value(0, batch=None)
    if not op.is_constant(1):
        op.refuse("must have constant slopes")
    slope = op.frame_constant(1, value)
    axes = [axis for axis in range(slope.ndim) if (slope != slope.take([0], axis)).any()]
    if len(axes) > 1:
        _, order = op.framed(value)
        flat = slope.transpose(order).ravel()
        if flat.size > SLOPES_LIMIT:
            op.refuse(
                f"must have at most {SLOPES_LIMIT} slopes that no axis shares, not {flat.size}"
            )
        source = op.viewed(op.arranged(value, order), (flat.size,))
        layer = op.add(layers.PRelu, op.label, (source,), flat)
        return op.given(layer.name, value.shape, order, value.batch)
    last = axes[0] if axes else op.framed(value)[1][-1]
    order = (*(axis for axis in op.framed(value)[1] if axis != last), last)
    layer = op.add(layers.PRelu, op.label, (op.arranged(value, order),), _along(slope, last))
    return op.given(layer.name, value.shape, order, value.batch)


SLOPES_LIMIT = 1024
"""Most numbers that have a slope each."""


def _along(array: Floats, axis: int) -> Floats:
    """What lies along one axis, at the start of the others."""
    return array[(*(slice(None) if n == axis else 0 for n in range(array.ndim)),)]


@operator("Clip", honours=("max", "min"))
def clip(op: Operation) -> Value:
    ends = []
    for index, name, nothing in ((1, "min", -math.inf), (2, "max", math.inf)):
        end = op.attributes[name]
        if op.has(index):
            array = op.floats(index, name)
            if array.size != 1:
                op.refuse(f"must have one {name}, not {array.size}")
            end = array.item()
        ends.append(nothing if end is None else end)
    low, high = ends
    value = op.value(0, batch=None)
    return clipped(op, value, min(low, high), high)


def clipped(op: Operation, value: Value, low: float, high: float) -> Value:
    """``min(max(x, low), high)``."""
    if (low, high) == (0.0, math.inf):
        return op.elementwise(layers.Relu, value)
    if (low, high) == (-math.inf, math.inf):
        return value
    return op.elementwise(layers.Activation, value, "clip", (low, high))
