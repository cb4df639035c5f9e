# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from .block import Block, Candidate, Lanes, Tensor
from .division import Divide, SquareRoot
from .elementwise import Add, Identity, ReLU
from .linear import Folded, Linear, Neuron, Unrolled
from .network import Network, NetworkPlan, Node, Route
from .nonlinearity import Lookup, Nonlinearity
from .planner import plan, with_smallest_buffers
from .reshape import Reshape
from .saving import load, save
from .weight import Weight

__all__ = [
    "Add",
    "Block",
    "Candidate",
    "Divide",
    "Folded",
    "Identity",
    "Lanes",
    "Linear",
    "Lookup",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "Nonlinearity",
    "ReLU",
    "Reshape",
    "Route",
    "SquareRoot",
    "Tensor",
    "Unrolled",
    "Weight",
    "load",
    "plan",
    "save",
    "with_smallest_buffers",
]
