# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from . import activation
from .activation import Piecewise, PReLU
from .attention import Projection, attention, causal, gate, multi_head_attention
from .binary import Add, Gate, Maximum, Minimum, Mul, Prompt, Sub
from .block import Block, Candidate, Lanes, TableLanes, Tensor
from .convolution import Columns, Convolution, TransposedConvolution
from .deinterleave import Deinterleave
from .division import Divide, SquareRoot
from .elementwise import Identity, ReLU
from .embedding import Embedding, Reads
from .extremum import ArgMax, ArgMin
from .glu import glu
from .linear import Folded, Linear, Neuron, Unrolled
from .matmul import matmul
from .memory import Heads, Memory
from .movement import (
    Concat,
    Moves,
    Rearrange,
    cut,
    depth_to_space,
    expand,
    gather,
    pad,
    space_to_depth,
    transpose,
    upsample,
)
from .network import Network, NetworkPlan, Node, Route
from .nonlinearity import Nonlinearity
from .normalisation import group_norm, layer_norm, rms_norm
from .planner import plan, quick_plan, with_smallest_buffers
from .pooling import AveragePool, MaxPool, Pooled, WholeWindows
from .recur import Recur
from .recurrent import bidirectional, gru, lstm, rnn
from .reduce import Accumulators, Reduce
from .rescale import Rescale
from .reshape import Reshape
from .saving import load, save
from .softmax import log_softmax, softmax, softmin
from .topk import TopK
from .turing import (
    content_addressing,
    content_scores,
    location_addressing,
    neural_turing_machine,
    soft_read,
    soft_write,
)
from .weight import Weight

__all__ = [
    "Accumulators",
    "Add",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "Block",
    "Candidate",
    "Columns",
    "Concat",
    "Convolution",
    "Deinterleave",
    "Divide",
    "Embedding",
    "Folded",
    "Gate",
    "Heads",
    "Identity",
    "Lanes",
    "Linear",
    "MaxPool",
    "Maximum",
    "Memory",
    "Minimum",
    "Moves",
    "Mul",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "Nonlinearity",
    "PReLU",
    "Piecewise",
    "Pooled",
    "Projection",
    "Prompt",
    "ReLU",
    "Reads",
    "Rearrange",
    "Recur",
    "Reduce",
    "Rescale",
    "Reshape",
    "Route",
    "SquareRoot",
    "Sub",
    "TableLanes",
    "Tensor",
    "TopK",
    "TransposedConvolution",
    "Unrolled",
    "Weight",
    "WholeWindows",
    "activation",
    "attention",
    "bidirectional",
    "causal",
    "content_addressing",
    "content_scores",
    "cut",
    "depth_to_space",
    "expand",
    "gate",
    "gather",
    "glu",
    "group_norm",
    "gru",
    "layer_norm",
    "load",
    "location_addressing",
    "log_softmax",
    "lstm",
    "matmul",
    "multi_head_attention",
    "neural_turing_machine",
    "pad",
    "plan",
    "quick_plan",
    "rms_norm",
    "rnn",
    "save",
    "soft_read",
    "soft_write",
    "softmax",
    "softmin",
    "space_to_depth",
    "transpose",
    "upsample",
    "with_smallest_buffers",
]
