# SPDX-License-Identifier: Apache-2.0
"""Operators that are functions of one variable: a line for each."""

import math

from bitblocks import layers
from bitblocks.operators.operation import Operation
from bitblocks.operators.registry import operator
from bitblocks.ordering import Value

PLAIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "Abs": ("absolute", ()),
    "Celu": ("celu", ("alpha",)),
    "Elu": ("elu", ("alpha",)),
    "Erf": ("erf", ()),
    "Exp": ("exp", ()),
    "HardSigmoid": ("hardsigmoid", ("alpha", "beta")),
    "HardSwish": ("hardswish", ()),
    "LeakyRelu": ("leaky_relu", ("alpha",)),
    "Mish": ("mish", ()),
    "Selu": ("selu", ("alpha", "gamma")),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
    "ThresholdedRelu": ("thresholded_relu", ("alpha",)),
}
"""Operator -> function, and the attributes that are its parameters."""


def activation(op: Operation) -> Value:
    """What an operator of PLAIN gives."""
    function, names = PLAIN[op.operator.name]
    parameters = tuple(op.attributes[name] for name in names)
    return op.elementwise(
        layers.Activation, op.value(0, batch=None, joined=True), function, parameters
    )


for _name, (_, _attributes) in PLAIN.items():
    operator(_name, honours=_attributes)(activation)


@operator("Gelu", honours=("approximate",))
def gelu(op: Operation) -> Value:
    functions = {"none": "gelu", "tanh": "gelu_tanh"}
    given = op.attributes["approximate"]
    if given not in functions:
        op.refuse(f"attribute 'approximate' must be none or tanh, not {given}")
    return op.elementwise(layers.Activation, op.value(0, batch=None), functions[given])


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
    if (low, high) == (0.0, math.inf):
        return op.elementwise(layers.Relu, value)
    if (low, high) == (-math.inf, math.inf):
        return value
    return op.elementwise(layers.Activation, value, "clip", (min(low, high), high))
