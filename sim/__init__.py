# SPDX-License-Identifier: Apache-2.0
"""Running circuits: any design with stream ports, under Verilator or Icarus."""

from .bulk import BulkResult, from_bytes, simulate_bulk, to_bytes
from .compiled import BuildError
from .ports import AXI, PLAIN, STALLS, Clocking, Design, Job, StreamPort
from .run import Result, SimulationError, Transfers, simulate
from .tools import MissingTool, Tool, doctor, has_icarus
from .vectors import from_words, to_words

__all__ = [
    "AXI",
    "PLAIN",
    "STALLS",
    "BuildError",
    "BulkResult",
    "Clocking",
    "Design",
    "Job",
    "MissingTool",
    "Result",
    "SimulationError",
    "StreamPort",
    "Tool",
    "Transfers",
    "doctor",
    "from_bytes",
    "from_words",
    "has_icarus",
    "simulate",
    "simulate_bulk",
    "to_bytes",
    "to_words",
]
