# SPDX-License-Identifier: Apache-2.0
"""The pages that are made from what the code declares: each says what is so."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracle_numbers import Within
from oracles import exact
from refusal import refused
from test_function import DEFINITIONS, check_form, fresh

from bitblocks.documentation import blocks, functions
from bitblocks.documentation.docstring import read
from blocks.catalogue import CATALOGUE
from quant import FUNCTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def rows_of(page, header):
    """Cells of the one table of a page with this header."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    cells = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines]
    at = cells.index(header) + 2
    return [row for row in cells[at:] if len(row) == len(header)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"),
    [
        pytest.param(name, width, marks=pytest.mark.full if width > 12 else ())
        for name in FUNCTIONS
        for width in functions.WIDTHS
    ],
)
def test_functions_are_as_good_as_the_page_says(name, width):
    """If not: python -m bitblocks.documentation docs/functions.md"""
    function = FUNCTIONS[name]
    forms = functions.forms(function, width)
    assert functions.row(function, width, forms) in rows_of("functions.md", functions.HEADER)
    number, target = functions.formats(function, width)
    values = fresh(DEFINITIONS[name], number, target, functions.POLES.get(name))
    for form in forms.values():
        check_form(form, name, number, target, values)


def test_the_page_of_functions_lists_every_one_and_is_as_it_is_written():
    rows = rows_of("functions.md", functions.HEADER)
    formats = [functions.formats(f, n) for f in FUNCTIONS.values() for n in functions.WIDTHS]
    names = [f"`{name}`" for name in FUNCTIONS for _ in functions.WIDTHS]
    assert [row[:2] for row in rows] == [
        (name, f"{source} -> {target}")
        for name, (source, target) in zip(names, formats, strict=True)
    ]
    assert (DOCS / "functions.md").read_text(encoding="utf-8") == functions.text(rows)


@pytest.mark.parametrize("name", CATALOGUE)
def test_blocks_are_as_the_page_says(name):
    """If not: python -m bitblocks.documentation README.md docs/blocks.md"""
    entry = blocks.entry(name)
    assert 4 <= len(entry.words.example.splitlines()) <= 10
    page = (DOCS / "blocks.md").read_text(encoding="utf-8")
    assert entry.section in [f"## {section}" for section in page.split("\n## ")[1:]]
    for header, row, text in (
        (blocks.OVERVIEW_HEADER, entry.overview_row, page),
        (blocks.README_HEADER, entry.readme_row, (ROOT / "README.md").read_text(encoding="utf-8")),
    ):
        assert len(row) == len(header)
        assert f"\n| {' | '.join(row)} |\n" in text


def test_the_page_of_blocks_and_the_readme_list_every_block_once():
    page = (DOCS / "blocks.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [*CATALOGUE]
    assert re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE) == [*CATALOGUE]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [*CATALOGUE]


SINGLE = [
    name
    for name, entry in CATALOGUE.items()
    if isinstance(entry.kind, type) and name not in ("Network", "Recur")  # as exact as their blocks
]


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_not_exact_says_how_wrong_it_is(name):
    """Where the independent statement of a block is a range, and only there."""
    block = CATALOGUE[name].configuration(0).block
    frames = [np.zeros((1, *tensor.shape), int) for tensor in block.inputs.values()]
    ranges = any(isinstance(y, Within) for y in exact(block, *frames))
    assert ranges == ("Error" in read(type(block), "Error").labels)


def test_every_figure_has_a_command_that_exists_and_every_benchmark_is_named():
    page = (DOCS / "figures.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\|.*\|(.*)\|$", page, re.MULTILINE)
    assert all("`" in command or command.strip() in ("command", "---") for command in commands)
    named = re.findall(r"`python -m benchmarks\.(\w+)`", page)
    unmeasured = {"__main__", "calibrate"}
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - unmeasured
    assert set(named) == modules
    for command in re.findall(r"`python -m pytest ([^`]*)`", page):
        files = [word for word in command.split() if word.startswith("tests/")]
        assert files
        assert all((ROOT / file).is_file() for file in files)


class Bare:
    """A block that tells little."""

    def __init__(self, input):
        self.input = input


def test_a_block_that_tells_little_is_refused(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "Bare", replace(CATALOGUE["ReLU"], kind=Bare))
    sentence = "Bare docstring must have a Source: and a doctest that makes a block"
    with refused(ValueError, sentence):
        blocks.entry("Bare")
    with refused(ValueError, "Bare docstring must tell its parameter input"):
        blocks._options(Bare)
