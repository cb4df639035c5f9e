# SPDX-License-Identifier: Apache-2.0
"""Compare the speed of bit-accurate models on one thread; all compute the same integers.

Of layers of random weights, and of a convolutional network with its digits if they are there.

Run: python benchmarks/model_speed.py
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is first imported

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from bitblocks import import_onnx, quantise
from blocks import Convolution, Linear, Network
from examples.networks import NETWORKS
from quant import DenseKernel, Format, Ints, Program, ProgramInput, Step, narrow

WEIGHT_FRAC = 7
ROUNDS = 40
TILES = (256, 512, 1024, 2048, 4096)
ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")
CASES = (  # sizes, frames, frames for int64, least ratio to the others
    ((16, 64, 32, 32, 5), 1 << 13, 1 << 9, (0.45, None, 10, 10)),
    ((784, 256, 256, 10), 1 << 11, 1 << 6, (None, None, 20, None)),
)

CONVOLUTIONAL = "mnist_cnn"
FEW = 512
"""Frames of a round, few enough that a busy machine leaves some rounds alone."""
LEAST_SPEED, LEAST_SHARE = 12_000, 0.4
"""Frames a second of the convolutional network, or its speed in bare float32 products."""

Layer = tuple[Ints, Ints, Format, Format]
"""Weight, bias, input format, output format."""
Run = tuple[int, Callable[[], object]]
"""Frames, and what processes them."""


def layers(sizes: tuple[int, ...]) -> list[Layer]:
    """Random 8-bit layers; unsigned saturation is the ReLU between them."""
    generator = np.random.default_rng(1)
    result = []
    input_format = Format(8, 4)
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        frac = 4 - round(np.log2(inputs) / 2)
        output_format = Format(8, frac - 1, True) if last else Format(8, frac, False)
        weight = generator.integers(-127, 128, (outputs, inputs))
        bias = generator.integers(-2000, 2001, outputs)
        result.append((weight, bias, input_format, output_format))
        input_format = output_format
    return result


def program(model: list[Layer]) -> Program:
    """The model under test."""
    steps = tuple(
        Step(DenseKernel(weight, bias, WEIGHT_FRAC, input_format, output_format), (index,))
        for index, (weight, bias, input_format, output_format) in enumerate(model)
    )
    first = model[0]
    port = ProgramInput("x", first[0].shape[1], first[2])
    return Program((port,), steps, (len(model),))


def definition(model: list[Layer], x: Ints) -> Ints:
    """The model in plain int64."""
    for weight, bias, input_format, output_format in model:
        sums = Format(40, WEIGHT_FRAC + input_format.frac)
        x = narrow(x @ weight.T + bias, sums, output_format)
    return x


def bare_products(
    model: list[Layer], x: np.ndarray, tile: int, order: Literal["C", "F"] = "C"
) -> Callable[[], None]:
    """Only the matrix products of the model, in the type of x, tile by tile."""
    matrices = [np.array(weight.T, x.dtype, order=order) for weight, *_ in model]
    buffers = [np.empty((min(tile, len(x)), matrix.shape[1]), x.dtype) for matrix in matrices]

    def run() -> None:
        for start in range(0, len(x), tile):
            part = x[start : start + tile]
            for matrix, buffer in zip(matrices, buffers, strict=True):
                part = np.matmul(part, matrix, out=buffer)

    return run


def alkaid_model(model: list[Layer]) -> Callable[[Ints], Ints]:
    """The model as alkaid's interpreter runs it."""
    from alkaid.trace import FVArray, trace

    def bits(format: Format) -> tuple[int, int, int]:
        return int(format.signed), format.width - format.signed - format.frac, format.frac

    input_format = model[0][2]
    inputs = y = FVArray.from_kif(*(np.full(model[0][0].shape[1], n) for n in bits(input_format)))
    for weight, bias, source, target in model:
        y = y @ (weight.T / 2.0**WEIGHT_FRAC) + bias / 2.0 ** (WEIGHT_FRAC + source.frac)
        y = y.quantize(*bits(target), "SAT", "RND")
    logic = trace(inputs, y)
    output_frac = model[-1][3].frac
    return lambda x: (
        logic.predict(x / 2.0**input_format.frac, n_threads=1) * 2.0**output_frac
    ).astype(np.int64)


def frames_per_second(runs: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Best of many short rounds, taken in turn, so that a busy machine troubles all alike."""
    best = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, (frames, run) in runs.items():
            start = time.perf_counter()
            run()
            best[name] = max(best[name], frames / (time.perf_counter() - start))
    return best


def fastest(runs: Mapping[str, Run]) -> Run:
    """The run with the most frames per second."""
    speeds = frames_per_second(runs, ROUNDS)
    return runs[max(speeds, key=lambda name: speeds[name])]


def exact_run(model: list[Layer], x: Ints, tile: int) -> Callable[[], object]:
    """The model under test at a given tile."""
    exact = program(model)
    exact.tile = tile
    return lambda: exact(x)


def products(network: Network) -> list[tuple[int, int, int]]:
    """(outputs, inputs, positions) of every matrix product of a network."""
    found = []
    for node in network.flat.nodes:
        if isinstance(node.block, Convolution | Linear):
            outputs = len(node.block.weight)
            positions = node.block.outputs["o"].size // outputs
            found.append((outputs, node.block.weight.size // outputs, positions))
    return found


def bare_network(network: Network, frames: int, together: bool) -> Callable[[], None]:
    """Only its matrix products, tile by tile, the windows of a tile being there already.

    ``together``: those of all positions as one, or else position by position.
    """
    random, parts, tile = np.random.default_rng(0), [], network.program.tile
    for outputs, inputs, positions in products(network):
        shape = (inputs, positions * tile) if together else (positions, inputs, tile)
        windows = random.random(shape, np.float32)
        matrix = random.random((outputs, inputs), np.float32)
        parts.append((matrix, windows, np.empty_like(matrix @ windows)))

    def run() -> None:
        for _ in range(0, frames, tile):
            for matrix, windows, result in parts:
                np.matmul(matrix, windows, out=result)

    return run


def convolutional(console: Console) -> bool:
    """Print the table of the convolutional network; whether it is too slow or differs."""
    example = NETWORKS[CONVOLUTIONAL]
    if example.missing:
        console.print(f"skipped {CONVOLUTIONAL}: {example.missing}")
        return False
    data = example.data()
    graph = import_onnx(example.model)
    network, _ = quantise(graph, data.calibration)
    (port,) = graph.inputs
    axes = (0, *(axis + 1 for axis in port.axes))
    (tensor,) = network.inputs.values()
    x = np.round(data.x.transpose(axes) * 2.0**tensor.format.frac).astype(np.int64)
    x = x[:FEW]
    same = np.array_equal(network.run(x), network.reference(x))
    bare = {
        str(together): (FEW, bare_network(network, FEW, together)) for together in (False, True)
    }
    runs: dict[str, Run] = {
        "bit-accurate, int64 in and out": (FEW, partial(network.run, x)),
        "float32 products": fastest(bare),
    }
    speed, most = frames_per_second(runs, ROUNDS).values()
    table = Table("network", "model", "frames/s", "aim", "of the products", "or", "integers")
    verdict = "identical" if same else "DIFFERENT"
    cells = f"{speed:,.0f}", f"{LEAST_SPEED:,}", f"{speed / most:.2f}", f"{LEAST_SHARE:.2f}"
    table.add_row(CONVOLUTIONAL, "bit-accurate, int64 in and out", *cells, verdict)
    table.add_row("", "float32 products", f"{most:,.0f}")
    console.print(table)
    return not same or (speed < LEAST_SPEED and speed / most < LEAST_SHARE)


def main() -> int:
    """Print the tables; returns 1 where a ratio is below its aim or integers differ."""
    console, failed = Console(width=110), False
    table = Table("network", "model", "frames/s", "bit-accurate is", "aim")
    for sizes, frames, few, aims in CASES:
        model = layers(sizes)
        input_format = model[0][2]
        generator = np.random.default_rng(2)
        x = generator.integers(input_format.min, input_format.max + 1, (frames, sizes[0]))
        part, floats = x[:few], x.astype(np.float32)
        wanted = definition(model, part)
        same = np.array_equal(program(model)(part)[0], wanted)
        tiles = [tile for tile in TILES if tile <= frames]
        ours = {str(tile): (frames, exact_run(model, x, tile)) for tile in tiles}
        bare = {
            f"{tile} {order}": (frames, bare_products(model, floats, tile, order))
            for tile in tiles
            for order in ORDERS
        }
        slow: dict[str, Run] = {
            order: (few, bare_products(model, part, few, order)) for order in ORDERS
        }
        runs: dict[str, Run] = {
            "bit-accurate, int64 in and out": fastest(ours),
            "float32 products": fastest(bare),
            "int64 products": fastest(slow),
            "int64 definition": (few, partial(definition, model, part)),
        }
        if aims[3] is not None and importlib.util.find_spec("alkaid"):
            peer = alkaid_model(model)
            same &= np.array_equal(peer(part), wanted)
            runs["alkaid's interpreter"] = (frames, partial(peer, x))
        (first, speed), *others = frames_per_second(runs, ROUNDS).items()
        verdict = "identical integers" if same else "DIFFERENT integers"
        table.add_row("-".join(map(str, sizes)), first, f"{speed:,.0f}", verdict, "")
        for (name, other), aim in zip(others, aims, strict=False):
            failed |= aim is not None and speed / other < aim
            ratio = f"{speed / other:.2f} times as fast"
            table.add_row("", name, f"{other:,.0f}", ratio, f"{aim:.2f}" if aim else "")
        failed |= not same
    console.print(table)
    return int(failed | convolutional(console))


if __name__ == "__main__":
    sys.exit(main())
