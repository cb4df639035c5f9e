# SPDX-License-Identifier: Apache-2.0
"""What README and the pages of docs show is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

import bitblocks.commands
from blocks import (
    Accumulators,
    Add,
    ArgMax,
    AveragePool,
    Concat,
    Convolution,
    Divide,
    Embedding,
    Folded,
    Identity,
    Lanes,
    Linear,
    Maximum,
    MaxPool,
    Moves,
    Mul,
    Neuron,
    Nonlinearity,
    Pooled,
    PReLU,
    Reads,
    Reduce,
    ReLU,
    Rescale,
    Reshape,
    SquareRoot,
    TableLanes,
    Tensor,
    TopK,
    TransposedConvolution,
    Unrolled,
    activation,
    glu,
    layer_norm,
    matmul,
    plan,
    softmax,
    transpose,
)
from blocks import Weight as WeightBlock
from hdl import Target
from quant import FUNCTIONS, Format, approximate

ROOT = Path(__file__).parents[1]
TARGET = Target.named("ecp5")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile("```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    examples = EXAMPLE.findall(text)
    assert len(examples) == text.count("```python")
    for code, printed in examples:
        capsys.readouterr()
        exec(compile(code, str(page), "exec"), {})
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_commands_shown_exist():
    shown = re.findall("^    bitblocks ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = [c.name or c.callback.__name__ for c in bitblocks.commands.app.registered_commands]
    assert shown == names


def test_the_costs_shown_are_those_of_the_blocks():
    random = np.random.default_rng(0)
    x, y = Tensor((64,), Format(8, 4)), Format(8, 4, False)
    weight, bias = random.integers(-128, 128, (8, 64)), random.integers(-1000, 1000, 8)
    linear = Linear(x, weight, bias, Format(8, 7), y)
    codes = Tensor((16,), Format(4, 0, False))
    image, square = Tensor((4, 4, 4), x.format), Format(8, 4)
    kernel = random.integers(-128, 128, (4, 3, 3, 4))
    around = ((1, 1), (1, 1))
    tanh = approximate(FUNCTIONS["tanh"], x.format, Format(8, 7), degree=0)
    row = Tensor((4, 16), x.format)
    norm = layer_norm(row, np.full(16, 64), np.zeros(16, int), Format(8, 6), Format(8, 4))
    shares = softmax(row, Format(8, 8, False))
    gated = glu(Tensor((128,), x.format), Format(8, 4))
    product = matmul(Tensor((8, 8), x.format), Tensor((8, 8), x.format), Format(8, 0))
    mapped = [
        ("Identity", Identity(x, Format(6, 2)), Lanes(8)),
        ("ReLU", ReLU(x, y), Lanes(8)),
        ("Piecewise", activation.hardswish(x, Format(8, 4)), Lanes(8)),
        ("PReLU", PReLU(Tensor((8, 8), x.format), weight[0, :8], Format(8, 7), square), Lanes(8)),
        ("Nonlinearity", Nonlinearity(x, tanh), TableLanes(8)),
        ("Add", Add(x, x, Format(8, 4)), Lanes(8)),
        ("Mul", Mul(x, x, Format(8, 4)), Lanes(8)),
        ("Maximum", Maximum(x, x, Format(8, 4)), Lanes(8)),
        ("Divide", Divide(x, x, Format(8, 4), 0), Lanes(1)),
        ("SquareRoot", SquareRoot(Tensor((64,), Format(8, 4, False)), y), Lanes(1)),
        ("Weight", WeightBlock(x, weight[0], Format(8, 7), Format(8, 4)), Lanes(8)),
        ("Rescale", Rescale(x, 5 << 28, 33, Format(8, 0), 3, -2, "tflite_double"), Lanes(8)),
        ("Neuron", Neuron(x, weight[0], 5, Format(8, 7), y), Folded(1, 4)),
        ("Linear", linear, Folded(4, 4)),
        ("Linear", linear, Unrolled()),
        (
            "Convolution",
            Convolution(image, kernel, bias[:4], Format(8, 7), y, padding=around),
            Folded(4, 4),
        ),
        (
            "TransposedConvolution",
            TransposedConvolution(
                image, kernel, bias[:4], Format(8, 7), y, stride=(2, 2), padding=around
            ),
            Folded(4, 4),
        ),
        ("MaxPool", MaxPool(image, (2, 2), (2, 2)), Pooled(4)),
        ("AveragePool", AveragePool(image, (4, 4), square), Pooled(4)),
        ("Reduce", Reduce(x, "mean", (0,), square), Accumulators(8)),
        ("ArgMax", ArgMax(x), Lanes(8)),
        ("TopK", TopK(x, 4), Lanes(1)),
        ("Reshape", Reshape(x, (8, 8)), Lanes(8)),
        (
            "Rearrange",
            transpose(Tensor((8, 8), x.format), (1, 0)),
            Moves(1, "distributed"),
        ),
        ("Concat", Concat((Tensor((32,), x.format), Tensor((32,), x.format))), Lanes(8)),
        ("Embedding", Embedding(codes, weight[:, :8].reshape(16, 4), x.format), Reads(4)),
        ("softmax", shares, plan(shares, TARGET, 64)),
        ("layer_norm", norm, plan(norm, TARGET, 64)),
        ("glu", gated, plan(gated, TARGET, 128)),
        ("matmul", product, plan(product, TARGET, 128)),
    ]
    rows = re.findall(r"^\| `(\w+)` (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == len(mapped) + 1
    for (name, cells), (kind, block, mapping) in zip(rows, mapped, strict=False):
        assert name == kind
        timing = block.timing(mapping)
        ports = [timing.port(port) for port in block.inputs]
        ends = [timing.port(port) for port in block.outputs]
        cost = block.cost(mapping, TARGET)
        cycles, lut, ff, dsp = (int(cell) for cell in cells.split("|")[-4:])
        assert (cycles, dsp) == (timing.schedule(ports, ends).interval, cost.dsp)
        assert lut == pytest.approx(cost.lut, rel=0.2)  # as exact as estimates are
        assert ff == pytest.approx(cost.ff, rel=0.1)
