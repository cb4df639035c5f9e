# SPDX-License-Identifier: Apache-2.0
"""Published networks from ONNX files to Verilog: seconds to build, and equal to the model.

Run: python benchmarks/networks.py [model ...]
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from material import NETWORKS  # noqa: E402

from bitblocks import Built, build, import_onnx  # noqa: E402
from bitblocks.project import write_verilog  # noqa: E402
from bitblocks.verification import design_of  # noqa: E402
from sim import from_bytes, simulate_bulk, to_bytes  # noqa: E402

MODELS = ("two_layer_pytorch", "three_layer_pytorch", "three_layer_keras")
FRAMES = 1000
CALIBRATION = 512  # frames
LIMITS = {"folded": (10.0, 5.0), "unrolled": (40.0, 15.0)}  # seconds: build, Verilog in it


def without_end(path: Path) -> list[str]:
    """Inputs of the final Sigmoid or Softmax, where the model is cut."""
    nodes = onnx.load(path).graph.node
    return [name for node in nodes if node.op_type in ("Sigmoid", "Softmax") for name in node.input]


def same(built: Built) -> bool:
    """Whether the Verilog gives the integers of the model for all frames."""
    project = built.project
    (source,), (result,) = project.inputs, project.outputs
    random = np.random.default_rng(0)
    low, high = source.format.min, source.format.max
    x = random.integers(low, high + 1, (FRAMES, *source.stream_shape))
    x[0], x[1] = low, high
    words = to_bytes(x, source.format, source.lanes, whole_bytes=True)
    found = simulate_bulk(
        design_of(project),
        {source.port: words},
        {result.port: FRAMES * result.transfers},
        frames=FRAMES,
    )
    elements = int(np.prod(result.shape))
    y = from_bytes(
        found.words[result.port], result.format, elements, result.lanes, whole_bytes=True
    )
    return np.array_equal(y.reshape(-1), project.reference([x])[0].reshape(-1))


def main() -> int:
    """Print the table; returns 1 where a limit is missed or integers differ."""
    if not NETWORKS.is_dir():
        print("skipped: the published networks are not beside this checkout")
        return 0
    console, missed = Console(width=110), False
    table = Table(
        "model", "mapping", "build s", "limit", "Verilog s", "limit", "cycles", f"{FRAMES} frames"
    )
    for model in sys.argv[1:] or MODELS:
        path = NETWORKS / f"{model}.onnx"
        cut = without_end(path)
        for mapping, (most, most_verilog) in LIMITS.items():
            start = time.perf_counter()
            graph = import_onnx(path, cut or None)
            frames = np.random.default_rng(1).normal(size=(CALIBRATION, *graph.inputs[0].shape))
            built = build(graph, calibration=frames, unroll=mapping == "unrolled", name=model)
            seconds = time.perf_counter() - start
            console.log(f"{model} {mapping}: built in {seconds:.1f} s")
            start = time.perf_counter()
            text = write_verilog(built.project)
            writing = time.perf_counter() - start
            console.log(f"{model} {mapping}: {len(text) / 1e6:.1f} MB written in {writing:.1f} s")
            equal = same(built) and text == built.project.verilog
            missed |= seconds > most or writing > most_verilog or not equal
            table.add_row(
                model,
                mapping,
                f"{seconds:.1f}",
                f"{most:g}",
                f"{writing:.1f}",
                f"{most_verilog:g}",
                f"{built.project.interval:g}",
                "equal" if equal else "DIFFERENT",
            )
    console.print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
