# SPDX-License-Identifier: Apache-2.0
"""What README and the pages of docs show is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

import bitblocks.commands
from blocks import (
    Add,
    ArgMax,
    Concat,
    Embedding,
    Folded,
    Identity,
    Lanes,
    Linear,
    Maximum,
    Minimum,
    Moves,
    Mul,
    Neuron,
    PReLU,
    Reads,
    ReLU,
    Rescale,
    Reshape,
    Sub,
    Tensor,
    Unrolled,
    activation,
    transpose,
)
from blocks import Weight as WeightBlock
from hdl import Target
from quant import Format

ROOT = Path(__file__).parents[1]
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
    image, slopes = Tensor((8, 8), Format(8, 4)), random.integers(-64, 64, 8)
    sums, scale = Tensor((64,), Format(20, 0)), (np.array(1518500250), np.array(42))
    codes = Tensor((16,), Format(4, 0, False))
    mapped = [
        (Identity(x, Format(6, 2)), Lanes(8)),
        (ReLU(x, y), Lanes(8)),
        (Add(x, x, Format(8, 4)), Lanes(8)),
        (Sub(x, x, Format(8, 4)), Lanes(8)),
        (Mul(x, x, Format(8, 4)), Lanes(8)),
        (Minimum(x, x, Format(8, 4)), Lanes(8)),
        (Maximum(x, x, Format(8, 4)), Lanes(8)),
        (activation.relu6(x, y), Lanes(8)),
        (activation.hardswish(x, Format(8, 4)), Lanes(8)),
        (PReLU(image, slopes, Format(8, 7), Format(8, 4)), Lanes(8)),
        (WeightBlock(x, weight[0], Format(8, 7), Format(8, 4)), Lanes(8)),
        (Rescale(sums, *scale, Format(8, 0), 0, -3, "tflite_double"), Lanes(1)),
        (ArgMax(x), Lanes(8)),
        (Neuron(x, weight[0], 5, Format(8, 7), y), Folded(1, 4)),
        (linear, Folded(4, 4)),
        (linear, Unrolled()),
        (Reshape(x, (8, 8)), Lanes(8)),
        (transpose(Tensor((8, 8), x.format), (1, 0)), Moves(1, "distributed")),
        (Concat((Tensor((32,), x.format), Tensor((32,), x.format))), Lanes(8)),
        (Embedding(codes, weight[:, :8].reshape(16, 4), x.format), Reads(4)),
    ]
    rows = re.findall(r"^\| `(\w+)` (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == len(mapped) + 1
    for (name, cells), (block, plan) in zip(rows, mapped, strict=False):
        assert name == type(block).__name__
        timing = block.timing(plan)
        ports = [timing.port(port) for port in block.inputs]
        cost = block.cost(plan, Target.named("ecp5"))
        cycles, lut, ff, dsp = (int(cell) for cell in cells.split("|")[-4:])
        assert (cycles, dsp) == (timing.schedule(ports, [timing.port("o")]).interval, cost.dsp)
        assert lut == pytest.approx(cost.lut, rel=0.2)  # as exact as estimates are
        assert ff == pytest.approx(cost.ff, rel=0.1)
