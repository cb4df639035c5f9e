# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from . import activation
from .activation import Piecewise, PReLU
from .binary import Add, Maximum, Minimum, Mul, Sub
from .block import Block, Candidate, Lanes, Tensor
from .elementwise import Identity, ReLU
from .extremum import ArgMax, ArgMin
from .linear import Folded, Linear, Neuron, Unrolled
from .network import Network, NetworkPlan, Node, Route
from .planner import plan, with_smallest_buffers
from .rescale import Rescale
from .reshape import Reshape
from .saving import load, save
from .weight import Weight

__all__ = [
    "Add",
    "ArgMax",
    "ArgMin",
    "Block",
    "Candidate",
    "Folded",
    "Identity",
    "Lanes",
    "Linear",
    "Maximum",
    "Minimum",
    "Mul",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "PReLU",
    "Piecewise",
    "ReLU",
    "Rescale",
    "Reshape",
    "Route",
    "Sub",
    "Tensor",
    "Unrolled",
    "Weight",
    "activation",
    "load",
    "plan",
    "save",
    "with_smallest_buffers",
]
