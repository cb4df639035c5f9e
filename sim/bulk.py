# SPDX-License-Identifier: Apache-2.0
"""The bulk runner: a compiled program streams files through a design, a million cycles a second."""

import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant import Format, Ints

from . import compiled
from .cache import scratch
from .ports import Design, StreamPort
from .run import SimulationError
from .vectors import element_bits

Bytes = NDArray[np.uint8]
"""Words of a stream, (transfers, bytes per word), least significant byte first."""

Flags = NDArray[np.bool_]
"""A bit beside each word of a stream, (transfers,)."""

_HARNESS = Path(__file__).with_name("harness.cpp")


@dataclass(frozen=True, eq=False)
class BulkResult:
    """What came of one bulk run; cycle 0 is the first after the reset.

    Members
    -------
    words : dict from output to Bytes
    first_cycle : dict from port to the cycle of its first transfer
    frame_cycles : dict from port to the cycle of the last transfer of each frame
    cycles : int, the cycle of the last transfer of all, plus 1
    """

    words: dict[str, Bytes]
    first_cycle: dict[str, int]
    frame_cycles: dict[str, Ints]
    cycles: int

    @property
    def latency(self) -> int:
        """Cycles from the first input transfer to the last output transfer of frame 0."""
        outputs = [int(self.frame_cycles[name][0]) for name in self.words]
        return max(outputs) - min(c for n, c in self.first_cycle.items() if n not in self.words)


def simulate_bulk(
    design: Design,
    inputs: Mapping[str, Bytes],
    outputs: Mapping[str, int],
    *,
    frames: int = 1,
    user: Mapping[str, Flags] | None = None,
    stalls: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
    limit: int = 10**12,
    patience: int = 1_000_000,
    drain: int = 16,
    optimise: str = "-O1",
) -> BulkResult:
    """Stream ``inputs`` through ``design`` until ``outputs`` words have come, without cocotb.

    Parameters
    ----------
    inputs : dict from every input port to the Bytes it offers
    outputs : dict from every output port to the number of words expected
    frames : int
        Number of frames on every port; it divides all numbers of words.
    user : dict from input port to Flags of its user signal, for ports that have one
    stalls : (float, float)
        Chance per cycle that an idle source offers, that a sink accepts.
    limit, patience : int
        Cycles in all, and cycles without a transfer, after which the run fails.
    drain : int
        Cycles at the end in which nothing more may come.

    Raises SimulationError where the design breaks a rule of its streams, marks a wrong transfer as
    last or does not get through.
    """
    ports = design.ports
    names = {True: [], False: []}  # type: dict[bool, list[str]]
    for port in ports:
        names[port.direction == "in"].append(port.name)
    for what, given, wanted in (
        ("inputs", inputs, names[True]),
        ("outputs", outputs, names[False]),
    ):
        if set(given) != set(wanted):
            came = ", ".join(given) or "none"
            raise ValueError(f"simulate_bulk {what} must be {', '.join(wanted)}, not {came}")
    counts = dict(outputs) | {name: len(words) for name, words in inputs.items()}
    for name, count in counts.items():
        if count % frames:
            raise ValueError(
                f"simulate_bulk words of {name} must divide into {frames} frames, not {count}"
            )
    for chance in stalls:
        if not 0 < chance <= 1:
            raise ValueError(f"simulate_bulk stalls must be above 0 and at most 1, not {chance!r}")
    data = {port.name: _checked(inputs[port.name], port) for port in ports if port.name in inputs}
    beside = {p.name: _flags((user or {}).get(p.name), p, counts) for p in ports if p.user}
    with scratch() as folder:
        program = compiled.verilated(
            [design.verilog],
            design.top,
            _main(design),
            folder,
            optimise=optimise,
            cocotb=False,
        )
        chances = [math.ceil(chance * 2**32) for chance in stalls]
        lines = [" ".join(map(str, [limit, patience, drain, seed, *chances]))]
        for k, port in enumerate(ports):
            lines.append(f"{counts[port.name]} {counts[port.name] // frames}")
            if port.direction == "in":
                data[port.name].tofile(folder / f"{k}.in")
            if port.name in beside:
                beside[port.name].tofile(folder / f"{k}.user")
        (folder / "job").write_text("\n".join([*lines, ""]))
        told = subprocess.run(
            [str(program), "+verilator+rand+reset+2", "+verilator+seed+1"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return _read(design, counts, folder, f"exit status {told.returncode} {told.stderr}")


def _main(design: Design) -> str:
    lines = []
    for port in design.ports:
        kind = "INPUT" if port.direction == "in" else "OUTPUT"
        signals = f"{port.valid}, {port.ready}, {port.payload}, {word_bytes(port)}"
        lines.append(f"{kind}({signals})" + (f" LAST({port.last})" if port.last else ""))
        lines += [f"USER({port.user})"] if port.user else []
    clocking = design.clocking
    return (
        f"#define TOP_CLOCK {clocking.clock}\n"
        f"#define TOP_RESET {clocking.reset}\n"
        f"#define TOP_RESET_ON {int(not clocking.active_low)}\n"
        f"#define TOP_PORTS(INPUT, OUTPUT, LAST, USER) {' '.join(lines)}\n" + _HARNESS.read_text()
    )


def word_bytes(port: StreamPort) -> int:
    """Bytes that hold one payload of ``port``."""
    return -(-port.bits // 8)


def _checked(words: Bytes, port: StreamPort) -> Bytes:
    array = np.ascontiguousarray(words)
    if array.dtype != np.uint8:
        raise TypeError(f"simulate_bulk words of {port.name} must be uint8, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] != word_bytes(port):
        raise ValueError(
            f"simulate_bulk words of {port.name} must have shape (transfers, {word_bytes(port)}), "
            f"not {array.shape}"
        )
    if port.bits % 8 and array.size and array[:, -1].max() >> port.bits % 8:
        raise ValueError(
            f"simulate_bulk words of {port.name} must fit into {port.bits} bits, not exceed them"
        )
    return array


def _flags(flags: Flags | None, port: StreamPort, counts: Mapping[str, int]) -> Flags:
    array = np.zeros(counts[port.name], bool) if flags is None else np.asarray(flags)
    if array.dtype != bool or array.shape != (counts[port.name],):
        raise ValueError(
            f"simulate_bulk user of {port.name} must be {counts[port.name]} bools, "
            f"not {array.dtype} of shape {array.shape}"
        )
    return array


def _read(design: Design, counts: Mapping[str, int], folder: Path, told: str) -> BulkResult:
    path = folder / "result"
    lines = path.read_text().splitlines() if path.exists() else []
    if len(lines) != len(design.ports) + 3 or lines[-1] != "done":
        raise SimulationError(f"Bulk run of {design.top} must write its result, not end: {told}")
    moved, first, misplaced = zip(*(map(int, line.split()) for line in lines[2:-1]), strict=True)
    if lines[0]:
        counted = ", ".join(
            f"{port.name} {count}/{counts[port.name]}"
            for port, count in zip(design.ports, moved, strict=True)
        )
        raise SimulationError(f"{design.top} at word {counted}: {lines[0]}")
    words, frame_cycles = {}, {}
    for k, port in enumerate(design.ports):
        frame_cycles[port.name] = np.fromfile(folder / f"{k}.cycles", dtype=np.int64)
        if port.direction == "out":
            data = np.fromfile(folder / f"{k}.out", dtype=np.uint8)
            words[port.name] = data.reshape(-1, word_bytes(port))
            if misplaced[k]:
                raise SimulationError(
                    f"{design.top} must mark the last word of each frame on {port.name}, "
                    f"not differ in {misplaced[k]} of {counts[port.name]} words"
                )
    names = [port.name for port in design.ports]
    return BulkResult(words, dict(zip(names, first, strict=True)), frame_cycles, int(lines[1]))


def to_bytes(frames: ArrayLike, format: Format, lanes: int, whole_bytes: bool = False) -> Bytes:
    """Like :func:`sim.to_words`, for the bulk runner."""
    array = format.check(frames, "Stream data")
    array = array.reshape(len(array), -1)
    padded = np.pad(array, ((0, 0), (0, -array.shape[1] % lanes))).reshape(-1, lanes)
    bits = element_bits(format, whole_bytes)
    octets = padded.astype("<i8").view(np.uint8).reshape(*padded.shape, 8)
    if bits % 8 == 0:
        return octets[..., : bits // 8].reshape(len(padded), -1)
    single = np.unpackbits(octets, axis=-1, count=bits, bitorder="little")
    return np.packbits(single.reshape(len(padded), -1), axis=-1, bitorder="little")


def from_bytes(
    words: Bytes, format: Format, elements: int, lanes: int, whole_bytes: bool = False
) -> Ints:
    """Like :func:`sim.from_words`, for the bulk runner."""
    bits = element_bits(format, whole_bytes)
    if bits % 8 == 0:
        octets = words.reshape(len(words), lanes, bits // 8)
        octets = np.pad(octets, ((0, 0), (0, 0), (0, 8 - bits // 8)))
    else:
        single = np.unpackbits(words, axis=-1, count=lanes * bits, bitorder="little")
        single = np.pad(single.reshape(len(words), lanes, bits), ((0, 0), (0, 0), (0, 64 - bits)))
        octets = np.packbits(single, axis=-1, bitorder="little")
    values = np.ascontiguousarray(octets).view("<i8")[..., 0].astype(np.int64)
    if format.signed:
        values = values << (64 - bits) >> (64 - bits)
    transfers = -(-elements // lanes)
    values = values.reshape(-1, transfers * lanes)
    if values[:, elements:].any():
        raise ValueError("Stream padding must be zero, not hold other bits")
    return format.check(values[:, :elements], "Stream data")
