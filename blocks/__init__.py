# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from .block import Block, Candidate, Lanes, Tensor
from .convolution import Convolution, TransposedConvolution
from .elementwise import Add, Identity, ReLU
from .linear import Folded, Linear, Neuron, Unrolled
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
    "Convolution",
    "Folded",
    "Identity",
    "Lanes",
    "Linear",
    "MaxPool",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "Pooled",
    "ReLU",
    "Reshape",
    "Route",
    "Tensor",
    "TransposedConvolution",
    "Unrolled",
    "Weight",
    "load",
    "plan",
    "save",
    "with_smallest_buffers",
]
