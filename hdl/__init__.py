# SPDX-License-Identifier: Apache-2.0
"""Circuits with no neural meaning, their timing and cost, Verilog, targets and synthesis."""

from .cost import Cost
from .elementwise import Elementwise, ElementwiseArray
from .events import Edge, Events, Schedule, chain, pipeline_events
from .mac import Mac, MacArray
from .memory import Rom, Tables
from .names import legal_name
from .narrow import Narrowing, narrow
from .parallel import Parallel, ParallelArray
from .requantise import Requantisation, Requantiser
from .scale import Scale, ScaleArray
from .stream import Fifo, Fork, Gather, Scatter, elastic, joined, shape, stream_signature
from .target import Target
from .verilog import verilog

__all__ = [
    "Cost",
    "Edge",
    "Elementwise",
    "ElementwiseArray",
    "Events",
    "Fifo",
    "Fork",
    "Gather",
    "Mac",
    "MacArray",
    "Narrowing",
    "Parallel",
    "ParallelArray",
    "Requantisation",
    "Requantiser",
    "Rom",
    "Scale",
    "ScaleArray",
    "Scatter",
    "Schedule",
    "Tables",
    "Target",
    "chain",
    "elastic",
    "joined",
    "legal_name",
    "narrow",
    "pipeline_events",
    "shape",
    "stream_signature",
    "verilog",
]
