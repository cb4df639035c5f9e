# SPDX-License-Identifier: Apache-2.0
"""Full adders of random constant matrices: this project's graphs beside trees and alkaid's.

Inputs are int8, weights uniform in the symmetric range of their width, means over seeds. Full
adders are counted by one rule for all three (``AdderGraph.bits``): result bits that are not wires.
"""

import argparse
import time

import numpy as np

from hdl.adder_graph import ZERO, Adder, AdderGraph, Output, build_adder_graph
from hdl.shift_add import Pipeline

try:
    from alkaid.cmvm import cmvm_solve
except ImportError:
    cmvm_solve = None

CASES = ((8, 4), (8, 8), (16, 4), (16, 8), (32, 4), (32, 8), (64, 4), (64, 8))


def random_matrix(size: int, bits: int, seed: int) -> np.ndarray:
    """Square matrix of weights of ``bits`` bits, symmetric about 0."""
    limit = 2 ** (bits - 1) - 1
    return np.random.default_rng(seed).integers(-limit, limit + 1, (size, size))


def tree(weight: np.ndarray, inputs: list[tuple[int, int]]) -> tuple[int, int, int]:
    """Full adders, adders and depth with nothing shared between outputs: a graph for each row."""
    graphs = [_row_tree(row, inputs) for row in weight.tolist()]
    return (
        sum(graph.bits for graph in graphs),
        sum(len(graph.adders) for graph in graphs),
        max(graph.depth for graph in graphs),
    )


def _row_tree(row: list[int], inputs: list[tuple[int, int]]) -> AdderGraph:
    """A balanced tree over the canonical signed digits of a row, lowest digits first."""
    terms = []  # digits as (node, shift, negative)
    for node, number in enumerate(row):
        shift = 0
        while number:
            if number & 1:
                digit = 2 - (number & 3)
                terms.append((node, shift, digit < 0))
                number -= digit
            number, shift = number >> 1, shift + 1
    terms.sort(key=lambda term: term[1])
    adders: list[Adder] = []
    while len(terms) > 1:
        sums = []
        for left, right in zip(terms[::2], terms[1::2], strict=False):
            if left[2] and not right[2]:
                left, right = right, left
            base = min(left[1], right[1])
            shifts = left[1] - base, right[1] - base
            adders.append(Adder(left[0], right[0], *shifts, left[2] != right[2]))
            sums.append((len(inputs) + len(adders) - 1, base, left[2]))
        terms = sums + terms[len(terms) - len(terms) % 2 :]
    output = Output(*terms[0]) if terms else None
    return AdderGraph(tuple(inputs), tuple(adders), (output,))


def alkaid(weight: np.ndarray, inputs: list[tuple[int, int]], **options) -> AdderGraph:
    """alkaid's two solutions in a row, as one of our graphs: counted by the same rule."""
    kernel = np.ascontiguousarray(weight.T, dtype=np.float32)
    ends = [(float(low), float(high), 1.0) for low, high in inputs]
    vectors = list(np.eye(len(inputs), dtype=object))
    adders: list[Adder] = []
    terms = [(node, 0, False) for node in range(len(inputs))]  # node * 2**-fraction
    for step, part in enumerate(cmvm_solve(kernel, qintervals=ends, **options)):
        values = []
        for operation in part.ops:
            if operation.opcode == -1:
                place = operation.data[0]
                node, fraction, _ = terms[place]
                values.append((node, fraction - part.inp_shifts[place]))
                continue
            (a, a_fraction), (b, b_fraction) = (values[address] for address in operation.addr)
            shift, subtract = operation.data[0], operation.opcode == 1
            fraction = max(a_fraction, b_fraction - shift)
            shifts = fraction - a_fraction, fraction - b_fraction + shift
            other = vectors[b] << shifts[1]
            vector = (vectors[a] << shifts[0]) + (-other if subtract else other)
            joined = int(np.bitwise_or.reduce(vector))
            drop = (joined & -joined).bit_length() - 1
            vectors.append(vector >> drop)
            adders.append(Adder(a, b, *shifts, subtract, drop))
            values.append((len(vectors) - 1, fraction - drop))
        results = []
        ports = zip(part.out_idxs, part.out_shifts, part.out_negs, strict=True)
        for index, shift, negative in ports:
            node, fraction = values[index] if index >= 0 else (ZERO, 0)
            if negative and step == 0:  # the second solution reads it as it is
                adders.append(Adder(ZERO, node, 0, 0, True))
                vectors.append(-vectors[node])
                node, negative = len(vectors) - 1, False
            results.append((node, fraction - shift, negative))
        terms = results
    outputs = tuple(
        None if node == ZERO else Output(node, -fraction, negative)
        for node, fraction, negative in terms
    )
    return AdderGraph(tuple(inputs), tuple(adders), outputs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=32, help="largest matrix")
    arguments = parser.parse_args()
    ways: tuple = (
        ("ours", build_adder_graph, {}),
        ("ours, depth + 2", build_adder_graph, {"extra_depth": 2}),
        ("alkaid wmc", alkaid, {"method0": "wmc"}),
        ("alkaid, delay + 2", alkaid, {"method0": "wmc", "hard_dc": 2}),
    )
    print("matrix    bits  what              full adders   ratio   adders  depth  seconds")
    for size, bits in CASES:
        if size > arguments.largest:
            continue
        inputs = [(-128, 127)] * size
        rows: dict[str, list[tuple[float, ...]]] = {}
        seeds = arguments.seeds if size < 64 else 1
        for seed in range(seeds):
            weight = random_matrix(size, bits, seed)
            start = time.perf_counter()
            rows.setdefault("tree", []).append((*tree(weight, inputs), time.perf_counter() - start))
            for name, way, options in ways:
                if way is alkaid and (cmvm_solve is None or size >= 64):
                    continue
                start = time.perf_counter()
                graph = way(weight, inputs, **options)
                seconds = time.perf_counter() - start
                if (graph.matrix() != weight).any():
                    raise ArithmeticError(f"Benchmark graph of {name} must equal its matrix")
                figures = (graph.bits, len(graph.adders), graph.depth, seconds)
                rows.setdefault(name, []).append(figures)
        reference = np.mean([row[0] for row in rows["tree"]])
        for name, figures in rows.items():
            full, adders, depth, seconds = np.mean(figures, axis=0)
            print(
                f"{size:3}x{size:<3} {bits:6}  {name:18}{full:10.0f}{full / reference:9.3f}"
                f"{adders:9.0f}{depth:7.1f}{seconds:9.2f}",
                flush=True,
            )
    weights = [random_matrix(64, 8, 1)[:rows, :columns] for rows, columns in MLP]
    start = time.perf_counter()
    pipelines = []
    for weight in weights:
        signed = weight.shape[1] == MLP[0][1]
        ends = (-128, 127) if signed else (0, 255)
        pipelines.append(Pipeline(build_adder_graph(weight, [ends] * weight.shape[1])))
    adders = sum(len(pipeline.sums) for pipeline in pipelines)
    flip_flops = sum(pipeline.flip_flops for pipeline in pipelines)
    print(
        f"16-64-32-32-5, 8 bits: {adders} adders, {flip_flops} flip-flops, "
        f"{sum(pipeline.stages for pipeline in pipelines)} stages, "
        f"{time.perf_counter() - start:.1f} s"
    )


MLP = ((64, 16), (32, 64), (32, 32), (5, 32))  # outputs, inputs of each layer

if __name__ == "__main__":
    main()
