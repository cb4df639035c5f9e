# SPDX-License-Identifier: Apache-2.0
"""Every layer of the float graph: its mathematics, and how it becomes integers."""

from .activation import Activation
from .convolution import Convolution, TransposedConvolution
from .dense import Linear
from .elementwise import Add, Identity, Maximum, Minimum, Mul, Relu, Scale, Sub
from .movement import Concat, Rearrange, Reshape
from .normalisation import Softmax
from .pooling import AveragePool, MaxPool

__all__ = [
    "Activation",
    "Add",
    "AveragePool",
    "Concat",
    "Convolution",
    "Identity",
    "Linear",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Mul",
    "Rearrange",
    "Relu",
    "Reshape",
    "Scale",
    "Softmax",
    "Sub",
    "TransposedConvolution",
]
