# SPDX-License-Identifier: Apache-2.0
"""Every layer of the float graph: its mathematics, and how it becomes integers."""

from .activation import Activation, PartialActivation, PRelu, Rounded
from .attention import Attention
from .convolution import Convolution, TransposedConvolution
from .dense import Linear, MatMul
from .elementwise import Add, Divide, Identity, Maximum, Minimum, Mul, Relu, Scale, Sub
from .extremum import Arg
from .movement import Concat, Rearrange, Reshape
from .normalisation import Mask, Norm, Softmax
from .pooling import AveragePool, MaxPool
from .recurrent import Gru, Lstm, Recurrent, Rnn
from .reduction import Reduce, TopK

__all__ = [
    "Activation",
    "Add",
    "Arg",
    "Attention",
    "AveragePool",
    "Concat",
    "Convolution",
    "Divide",
    "Gru",
    "Identity",
    "Linear",
    "Lstm",
    "Mask",
    "MatMul",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Mul",
    "Norm",
    "PRelu",
    "PartialActivation",
    "Rearrange",
    "Recurrent",
    "Reduce",
    "Relu",
    "Reshape",
    "Rnn",
    "Rounded",
    "Scale",
    "Softmax",
    "Sub",
    "TopK",
    "TransposedConvolution",
]
