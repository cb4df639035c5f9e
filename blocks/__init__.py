# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from .block import Block, Candidate, Lanes, Tensor
from .convolution import Convolution, TransposedConvolution
from .elementwise import Add, Identity, ReLU
from .embedding import Embedding, Reads
from .linear import Folded, Linear, Neuron, Unrolled
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
from .planner import plan, with_smallest_buffers
from .pooling import AveragePool, MaxPool, Pooled
from .reshape import Reshape
from .saving import load, save
from .weight import Weight

__all__ = [
    "Add",
    "AveragePool",
    "Block",
    "Candidate",
    "Concat",
    "Convolution",
    "Embedding",
    "Folded",
    "Identity",
    "Lanes",
    "Linear",
    "MaxPool",
    "Moves",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "Pooled",
    "ReLU",
    "Reads",
    "Rearrange",
    "Reshape",
    "Route",
    "Tensor",
    "TransposedConvolution",
    "Unrolled",
    "Weight",
    "cut",
    "depth_to_space",
    "expand",
    "gather",
    "load",
    "pad",
    "plan",
    "save",
    "space_to_depth",
    "transpose",
    "upsample",
    "with_smallest_buffers",
]
