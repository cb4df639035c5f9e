# SPDX-License-Identifier: Apache-2.0
"""The networks of the demo: fixed point beside float, Verilog beside its model, and their page."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rich.console import Console

from examples.demo import Outcome, examine, table
from examples.networks import NETWORKS, Data, Example, Metric, decisions

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `(\w+)` \| .* \| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \|$", re.MULTILINE
)
ROWS = {name: cells for name, *cells in ROW.findall(PAGE)}
QUICK = ("digits_cnn", "denoiser", "conv1d_small_keras", "conv2d_small_keras")
FEW = 4  # frames


def check(name: str, example: Example, folder: Path) -> Outcome:
    """Nothing is wrong with a network, and its row of the page is what was found."""
    if example.missing:
        pytest.skip(example.missing)
    outcome = examine(example, folder)
    assert outcome.problems == []
    assert outcome.checked.frames == example.frames
    figures = outcome.float_figure, outcome.fixed_figure
    found = [f"{figure:.4f}" for figure in figures]
    found += [str(NETWORKS[name].frames), f"{outcome.project.interval:g}"]
    assert ROWS[name] == found
    return outcome


@pytest.mark.parametrize("name", QUICK)
def test_a_few_frames_of_a_network(name, tmp_path):
    if name.startswith("digits"):
        pytest.importorskip("sklearn", reason="the digits are inside scikit-learn")
    check(name, replace(NETWORKS[name], frames=FEW), tmp_path / "build")


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_as_the_demo_shows_it(name, tmp_path):
    check(name, NETWORKS[name], tmp_path / "build")


def test_every_network_has_a_row_of_the_page():
    assert list(ROWS) == list(NETWORKS)
    for name, row in ROWS.items():
        assert int(row[2]) == NETWORKS[name].frames
    pages = [PAGE, *((ROOT / name).read_text() for name in ("README.md", "examples/README.md"))]
    for page in pages:
        named = re.findall(r"make demo NETWORK=(\w+)", page)
        assert named
        assert set(named) <= set(NETWORKS)


def test_a_figure_below_what_may_be_lost_is_a_problem():
    metric = Metric("accuracy", lambda y, x, target: 0.0, 0.005)
    example = Example(Path("net.onnx"), lambda: Data(np.zeros(1), np.zeros(1)), 1, metric)
    passed = type("Verification", (), {"problems": ("frame 3 differs",)})()

    def outcome(fixed):
        return Outcome(example, None, 1, 0.99, fixed, passed)

    assert outcome(0.985).problems == ["frame 3 differs"]
    told = "accuracy must be at most 0.005 below 0.9900 in fixed point, not 0.9840"
    assert outcome(0.984).problems == ["frame 3 differs", told]
    assert outcome(float("nan")).problems[1].endswith("not nan")


def test_a_decision_is_the_largest_output_or_whether_the_only_one_is_above_a_half():
    assert_array_equal(decisions(np.array([[1, 3, 2], [4, 0, 0]])), [1, 0])
    assert_array_equal(decisions(np.array([[0.4], [0.6], [0.5]])), [False, True, False])


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.demo", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_unknown_network_is_refused_with_the_known_ones():
    done = demo("lenet")
    assert done.returncode == 2
    assert "invalid choice: 'lenet'" in done.stderr
    assert all(name in done.stderr for name in NETWORKS)


def test_a_network_that_is_not_there_is_named():
    absent = replace(NETWORKS["mnist_cnn"], model=Path("nowhere", "mnist.onnx"))
    assert absent.missing == "mnist.onnx is not beside this checkout, in ../shared/data"


def test_the_table_shows_what_was_found():
    """Every number where it belongs: they are all different."""
    checked = type(
        "Verification",
        (),
        {
            "frames": 20,
            "frames_that_differ": 3,
            "latency_predicted": 41,
            "latency_measured": 42,
            "interval_predicted": 43,
            "interval_measured": 44,
        },
    )()
    project = type("Project", (), {"name": "net", "target": "ecp5"})()
    example = replace(NETWORKS["digits"], metric=Metric("figure", lambda y, x, target: 0.0, 0.0))
    outcome = Outcome(example, project, 99, 0.5, 0.25, checked)
    names = ("lut", "ff", "carry", "dsp", "bram")
    counted = dict(zip(names, range(50, 55), strict=True))
    counted |= {"estimate": dict(zip(names, range(60, 65), strict=True))}
    console = Console(width=100, file=io.StringIO())
    console.print(table(outcome, counted))
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "net, 99 frames, ecp5"
    rows = [re.sub(r"[│┃ ]+", " ", line).strip() for line in lines if line[:1] in "│┃"]
    assert rows == [
        "float fixed point",
        "figure 0.5000 0.2500",
        "model Verilog",
        "frames compared 20 20",
        "frames that differ 3",
        "predicted measured",
        "latency (cycles) 41 42",
        "interval (cycles) 43 44",
        "estimated synthesised",
        *(f"{name.upper()} {60 + n} {50 + n}" for n, name in enumerate(names)),
    ]
