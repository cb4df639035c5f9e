# SPDX-License-Identifier: Apache-2.0
"""The pages of docs that are made from what the code declares: each says what is so."""

from pathlib import Path

import pytest
from test_function import DEFINITIONS, check_form, fresh

from bitblocks.documentation import functions
from quant import FUNCTIONS

DOCS = Path(__file__).parents[1] / "docs"


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
    """If not: python -m bitblocks.documentation functions.md"""
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
