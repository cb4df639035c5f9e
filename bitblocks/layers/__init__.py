# SPDX-License-Identifier: Apache-2.0
"""Every layer of the float graph: its mathematics, and how it becomes integers."""

from .activation import Activation
from .convolution import Convolution, TransposedConvolution
from .dense import Linear, MatMul
from .elementwise import Add, Identity, Maximum, Minimum, Mul, Relu, Scale, Sub
from .movement import Concat, Rearrange, Reshape
from .normalisation import Norm, Softmax
from .pooling import AveragePool, MaxPool
from .reduction import Reduce, TopK

__all__ = [
    "Activation",
    "Add",
    "AveragePool",
    "Concat",
    "Convolution",
    "Identity",
    "Linear",
    "MatMul",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Mul",
    "Norm",
    "Rearrange",
    "Reduce",
    "Relu",
    "Reshape",
    "Scale",
    "Softmax",
    "Sub",
    "TopK",
    "TransposedConvolution",
]
