# SPDX-License-Identifier: Apache-2.0
"""Running circuits: any design with stream ports, under Verilator or Icarus."""

from .bulk import BulkResult, from_bytes, simulate_bulk, to_bytes
from .compiled import BuildError
from .ports import AXI, PLAIN, STALLS, Clocking, Design, Job, StreamPort
from .run import Result, SimulationError, Transfers, simulate
from .testbench import verilog_testbench
from .tools import MissingTool, Tool, doctor, has_icarus
from .vectors import from_words, to_words
from .verify import (
    Comparison,
    Interval,
    Mismatch,
    compare,
    frame_ends,
    measured_interval,
    measured_latency,
)

__all__ = [
    "AXI",
    "PLAIN",
    "STALLS",
    "BuildError",
    "BulkResult",
    "Clocking",
    "Comparison",
    "Design",
    "Interval",
    "Job",
    "Mismatch",
    "MissingTool",
    "Result",
    "SimulationError",
    "StreamPort",
    "Tool",
    "Transfers",
    "compare",
    "doctor",
    "frame_ends",
    "from_bytes",
    "from_words",
    "has_icarus",
    "measured_interval",
    "measured_latency",
    "simulate",
    "simulate_bulk",
    "to_bytes",
    "to_words",
    "verilog_testbench",
]
