# SPDX-License-Identifier: Apache-2.0
"""Circuits with no neural meaning, their timing and cost, Verilog, targets and synthesis."""

from .axi import AxiStreamPort, AxiTop
from .banks import BankedMemory, Banks
from .cost import Cost, Inventory
from .elementwise import (
    ONE,
    ZERO,
    Elementwise,
    ElementwiseArray,
    LaneFunction,
    Step,
    bit_sources,
    less,
    looked_up,
)
from .events import Deadlock, Edge, Events, Schedule, chain, pipeline_events
from .extremum import Extremum, ExtremumFinder
from .function import FunctionArray, FunctionUnit, cheapest
from .lookup import Lookup
from .loop import MARK, MARKED, Deal, DealArray, Feed, FeedArray, Start
from .mac import Mac, MacArray, MacCore, MacCoreArray
from .memory import Rom, Tables
from .merge import Merge, MergeArray
from .names import legal_name
from .narrow import Narrowing, narrow
from .parallel import Parallel, ParallelArray
from .piecewise import Pieces, Quotient
from .raster import Axis, Raster, RasterWindow, can_unroll
from .rearrange import Rearrange, RearrangeArray
from .recurrence import Division, RecurrenceArray, Root
from .reduce import Reduction, ReductionArray
from .requantise import Requantisation, Requantiser
from .rescale import Scaling, rescaling
from .scale import Scale, ScaleArray
from .series import Series
from .sort import Sort, SortArray
from .stream import Fifo, Fork, Gather, Scatter, Unzip, elastic, joined, shape, stream_signature
from .synthesis import Synthesis, synthesise, synthesise_many
from .target import Target
from .tree import Tree, TreeArray
from .verilog import verilog
from .window import Window, WindowAxis, Windowed, WindowedArray

__all__ = [
    "MARK",
    "MARKED",
    "ONE",
    "ZERO",
    "AxiStreamPort",
    "AxiTop",
    "Axis",
    "BankedMemory",
    "Banks",
    "Cost",
    "Deadlock",
    "Deal",
    "DealArray",
    "Division",
    "Edge",
    "Elementwise",
    "ElementwiseArray",
    "Events",
    "Extremum",
    "ExtremumFinder",
    "Feed",
    "FeedArray",
    "Fifo",
    "Fork",
    "FunctionArray",
    "FunctionUnit",
    "Gather",
    "Inventory",
    "LaneFunction",
    "Lookup",
    "Mac",
    "MacArray",
    "MacCore",
    "MacCoreArray",
    "Merge",
    "MergeArray",
    "Narrowing",
    "Parallel",
    "ParallelArray",
    "Pieces",
    "Quotient",
    "Raster",
    "RasterWindow",
    "Rearrange",
    "RearrangeArray",
    "RecurrenceArray",
    "Reduction",
    "ReductionArray",
    "Requantisation",
    "Requantiser",
    "Rom",
    "Root",
    "Scale",
    "ScaleArray",
    "Scaling",
    "Scatter",
    "Schedule",
    "Series",
    "Sort",
    "SortArray",
    "Start",
    "Step",
    "Synthesis",
    "Tables",
    "Target",
    "Tree",
    "TreeArray",
    "Unzip",
    "Window",
    "WindowAxis",
    "Windowed",
    "WindowedArray",
    "bit_sources",
    "can_unroll",
    "chain",
    "cheapest",
    "elastic",
    "joined",
    "legal_name",
    "less",
    "looked_up",
    "narrow",
    "pipeline_events",
    "rescaling",
    "shape",
    "stream_signature",
    "synthesise",
    "synthesise_many",
    "verilog",
]
