# SPDX-License-Identifier: Apache-2.0
"""Verilog to a program, by way of the cache: with Verilator and g++, or with Icarus.

No make, no perl: ``verilator_bin`` writes C++, which is compiled as one file where it is small.
Verilator's own runtime, and a precompiled header, are compiled once for all designs.
"""

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cocotb_tools.config

from . import tools
from .cache import digest, materialise, scratch

OPTIMISE = "-O0"
"""For the cocotb bench: its Python takes longer than the model, so the compiler's time counts."""
RUNTIME_OPTIMISE = "-Os"
ONE_FILE_BYTES = 400_000
"""Generated C++ up to this size is compiled as one file: reading the headers is what takes time."""

_CXX_FLAGS = (
    "-std=c++17",
    "-w",
    "-faligned-new",
    "-fcf-protection=none",
    "-fno-plt",
    "-pthread",
    "-DVERILATOR=1",
    "-DVM_COVERAGE=0",
    "-DVM_SC=0",
    "-DVM_TIMING=0",
    "-DVM_TRACE_FST=0",
    "-DVM_TRACE_SAIF=0",
)
_RUNTIME = ("verilated_threads", "verilated_vpi", "verilated")
_TRACING = ("verilated_vcd_c",)
_HEADER = "".join(
    f"#include <{name}>\n"
    for name in ("verilated.h", "verilated_vpi.h", "verilated_dpi.h", "map", "memory", "vector")
)
_VERILATOR_FLAGS = (
    "--cc",
    "--prefix",
    "Vtop",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "--x-assign",
    "unique",
    "--x-initial",
    "unique",
)


class BuildError(RuntimeError):
    """A design does not compile; the message ends with what the tool said."""


def verilated(
    sources: Sequence[str],
    top: str,
    main: str,
    destination: Path,
    *,
    trace: bool = False,
    optimise: str = OPTIMISE,
    cocotb: bool = True,
) -> Path:
    """Program ``sim`` in ``destination``: the Verilog texts under Verilator with a C++ ``main``."""
    versions = [str(tools.package_version("verilator")), tools.compiler_version()]
    if cocotb:
        versions.append(str(tools.package_version("cocotb")))
    options = [
        *_VERILATOR_FLAGS,
        *(["--vpi"] if cocotb else []),
        *(["--trace-vcd"] if trace else []),
    ]
    flags = [*options, *_CXX_FLAGS, optimise, str(trace), str(cocotb), top]
    key = digest("verilated", *versions, *flags, main, *sources)

    def build(folder: Path) -> None:
        with scratch() as work:
            _verilate(sources, top, options, work)
            traced = f"#define VM_TRACE {int(trace)}\n#define VM_TRACE_VCD {int(trace)}\n"
            (work / "obj" / "main.cpp").write_text(traced + main)
            objects = [*_runtime(trace, optimise, work), *_compile_model(work, optimise)]
            link = [tools.compiler(), *map(str, objects), "-pthread", "-o"]
            link.append(str(folder / "sim"))
            if cocotb:
                link += [f"-L{cocotb_tools.config.libs_dir}", "-lcocotbvpi_verilator"]
            _call(link, work, "Linking")

    materialise(key, build, destination)
    return destination / "sim"


def icarus(sources: Sequence[str], top: str, destination: Path) -> Path:
    """File ``sim.vvp`` in ``destination``: the Verilog texts compiled by Icarus."""
    version = str(tools.program_version(tools.icarus(), "-V"))
    key = digest("icarus", version, top, *sources)

    def build(folder: Path) -> None:
        with scratch() as work:
            names = _write(sources, work)
            output = str(folder / "sim.vvp")
            command = [tools.icarus(), "-g2005", "-s", top, "-o", output, *names]
            _call(command, work, "Icarus")

    materialise(key, build, destination)
    return destination / "sim.vvp"


def cocotb_main() -> str:
    """Source of the main program that cocotb provides for Verilator."""
    share = Path(cocotb_tools.config.share_dir)
    return (share / "lib" / "verilator" / "verilator.cpp").read_text()


def _write(sources: Sequence[str], folder: Path) -> list[str]:
    names = [f"source_{number}.v" for number in range(len(sources))]
    for name, text in zip(names, sources, strict=True):
        (folder / name).write_text(text)
    return names


def _verilate(sources: Sequence[str], top: str, options: list[str], work: Path) -> None:
    program, environment = tools.verilator()
    command = [program, *options, "--top-module", top, "-Mdir", "obj", *_write(sources, work)]
    _call(command, work, "Verilator", environment)


def _cxx(optimise: str) -> list[str]:
    include = tools.verilator_root() / "include"
    includes = [f"-I{include}", f"-I{include / 'vltstd'}"]
    return [tools.compiler(), *_CXX_FLAGS, optimise, *includes]


def _runtime(trace: bool, optimise: str, work: Path) -> list[Path]:
    """Verilator's own part, and the header for the designs, from the cache to ``work``."""
    versions = [str(tools.package_version("verilator")), tools.compiler_version(), *_CXX_FLAGS]
    parts = [(digest("header", *versions, optimise), partial(_build_header, optimise))]
    names = [*_RUNTIME, *(_TRACING if trace else ())]
    for name in names:
        key = digest("runtime", *versions, RUNTIME_OPTIMISE, name)
        parts.append((key, partial(_build_object, name)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda part: materialise(part[0], part[1], work), parts))
    return [work / f"{name}.o" for name in names]


def _build_header(optimise: str, folder: Path) -> None:
    (folder / "runtime.h").write_text(_HEADER)
    command = [*_cxx(optimise), "-x", "c++-header", "runtime.h", "-o", "runtime.h.gch"]
    _call(command, folder, "The C++ compiler")


def _build_object(name: str, folder: Path) -> None:
    source = tools.verilator_root() / "include" / f"{name}.cpp"
    command = [*_cxx(RUNTIME_OPTIMISE), "-c", str(source), "-o", f"{name}.o"]
    _call(command, folder, "The C++ compiler")


def _compile_model(work: Path, optimise: str) -> list[Path]:
    files = sorted((work / "obj").glob("*.cpp"))
    if sum(file.stat().st_size for file in files) <= ONE_FILE_BYTES:
        everything = work / "obj" / "everything.cc"
        everything.write_text("".join(f'#include "{file.name}"\n' for file in files))
        files = [everything]
    objects = [file.with_suffix(".o") for file in files]
    cxx = [*_cxx(optimise), "-I.", "-Iobj", "-include", "runtime.h"]
    commands = [
        [*cxx, "-c", str(file), "-o", str(target)]
        for file, target in zip(files, objects, strict=True)
    ]
    _call_all(commands, work)
    return objects


def _call_all(commands: Sequence[list[str]], folder: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: _call(command, folder, "The C++ compiler"), commands))


def _call(
    command: list[str], folder: Path, what: str, environment: dict[str, str] | None = None
) -> None:
    told = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if told.returncode:
        lines = told.stdout.strip().splitlines()
        raise BuildError(f"{what} must accept the design, not say: " + "\n".join(lines[:20]))
