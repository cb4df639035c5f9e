# SPDX-License-Identifier: Apache-2.0
"""Time of a build, of its Verilog alone, and of a verification, of a 16-64-32-32-5 network."""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import bitblocks
from bitblocks.project import write_verilog
from blocks import Linear, Network, Tensor
from quant import Format

SIZES = (16, 64, 32, 32, 5)
AIMS = {"folded": (10.0, 5.0), "unrolled": (40.0, 15.0)}
"""Most seconds of a build, and of its Verilog."""
VERIFY_AIM = 60.0
FRAMES = 200


def network() -> Network:
    """Random weights of 8 bits."""
    random = np.random.default_rng(1)
    layers: list[Linear] = []
    tensor = Tensor((SIZES[0],), Format(8, 4))
    for outputs in SIZES[1:]:
        last = outputs == SIZES[-1]
        weight = random.integers(-128, 128, (outputs, tensor.size))
        output_format = Format(16, 6) if last else Format(8, 2, signed=False)
        bias = random.integers(-5000, 5000, outputs)
        layers.append(Linear(tensor, weight, bias, Format(8, 7), output_format))
        tensor = layers[-1].outputs["o"]
    return Network.chain(*layers)


def measured(mapping: str, output: Path) -> list[tuple[str, float, float, bool]]:
    """What, seconds, aim, and whether the result is right, for one mapping."""
    made = network()
    build_aim, verilog_aim = AIMS[mapping]
    times = [time.perf_counter()]
    built = bitblocks.build(made, output, unroll=mapping == "unrolled", name="mlp")
    times.append(time.perf_counter())
    same = write_verilog(built.project) == built.project.verilog
    times.append(time.perf_counter())
    rows = [
        ("build", times[1] - times[0], build_aim, True),
        ("Verilog", times[2] - times[1], verilog_aim, same),
    ]
    if mapping == "folded":
        passed = bitblocks.verify(built.project, frames=FRAMES).passed
        taken = time.perf_counter() - times[2]
        rows.append((f"verify {FRAMES} frames", taken, VERIFY_AIM, passed))
    return rows


def main() -> int:
    """Print the table; returns 1 where something takes too long or is wrong."""
    table = Table("what", "mapping", "seconds", "aim", "result")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")  # nothing compiled before
        for mapping in AIMS:
            for what, taken, aim, right in measured(mapping, Path(folder) / mapping):
                failed |= taken > aim or not right
                verdict = "right" if right else "wrong"
                table.add_row(what, mapping, f"{taken:.1f}", f"{aim:.0f}", verdict)
    Console().print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
