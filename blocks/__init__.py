# SPDX-License-Identifier: Apache-2.0
"""The building blocks of neural networks, each with reference, rtl, timing and cost."""

from .block import Block, Candidate, Lanes, Tensor
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
from .reshape import Reshape
from .saving import load, save
from .weight import Weight

__all__ = [
    "Add",
    "Block",
    "Candidate",
    "Concat",
    "Embedding",
    "Folded",
    "Identity",
    "Lanes",
    "Linear",
    "Moves",
    "Network",
    "NetworkPlan",
    "Neuron",
    "Node",
    "ReLU",
    "Reads",
    "Rearrange",
    "Reshape",
    "Route",
    "Tensor",
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
