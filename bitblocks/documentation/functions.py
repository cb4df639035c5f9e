# SPDX-License-Identifier: Apache-2.0
"""The page about functions of one variable: what each takes, and how wrong it is."""

import math
from collections.abc import Sequence
from fractions import Fraction

from bitblocks.documentation.markdown import table
from quant import FUNCTIONS, Approximation, Format, Function, Rounding, candidates
from quant.function import GUARD

WIDTHS = (8, 12, 16)
POLES = {"log": -math.inf, "log2": -math.inf, "reciprocal": math.inf, "rsqrt": math.inf}
POLES |= {"acosh": 0.0, "atanh": -math.inf}
"""What functions are given where they have no value."""
KINDS = ("table", "lines", "parabolas")
HEADER = ("function", "formats", *KINDS, "order")
PAGE = """# Functions of one variable

Written by `python -m bitblocks.documentation` from what is found and measured; a test compares.

A `Nonlinearity` computes any function of one variable: those named here, or a Python function of a
float (`quant.Function.of`). It is a table of every code, or a table of lines or parabolas with one
or two multipliers; `hdl.cheapest` chooses by the prices of a target. Every form is searched for in
integers until it is less than one unit of the output wrong at *every* code of the input, and then
measured at every code: what was found stands above its module in the Verilog, such as

    // {statement}

and the tests prove it again from the Verilog. The error is that against the function limited to the
output's range. Inputs have at most 16 bits, outputs 32.

The inputs here go from -8 to 8, or from 0 to 16 or -1 to 1 where a function has no values
elsewhere; outputs have as many bits as inputs and hold every value, but for the power of two at the
end of the range, and what `tan` gives next to its poles, which saturate. A cell
tells the segments, the stored bits of the form that stores fewest, and its largest error in units
of the output, rounded up. `-` is where the smallest parabolas are lines. At 0 `log` and `log2` are
given minus infinity, `reciprocal` and `rsqrt` infinity; at -1 `atanh` is given minus infinity,
below 1 `acosh` is given 0.

{table}
"""


def page() -> str:
    """docs/functions.md."""
    return text([row(f, width, forms(f, width)) for f in FUNCTIONS.values() for width in WIDTHS])


def text(rows: Sequence[Sequence[str]]) -> str:
    """The page with these rows."""
    tanh = forms(FUNCTIONS["tanh"], 8)[1]
    return PAGE.format(statement=tanh.statement(), table=table(HEADER, rows))


def row(function: Function, width: int, smallest: dict[int, Approximation]) -> tuple[str, ...]:
    """What the page says of a function of so many bits, and of its :func:`forms`."""
    source, target = formats(function, width)
    cells = [_cell(smallest[degree]) if degree in smallest else "-" for degree in range(len(KINDS))]
    order = {1: "never falls", -1: "never rises", 0: ""}
    (monotone,) = {form.monotone for form in smallest.values()}
    return f"`{function.name}`", f"{source} -> {target}", *cells, order[monotone]


def _cell(form: Approximation) -> str:
    assert form.max_error is not None  # measured
    segments = f"{len(form.starts)}: " if form.degree else ""
    return f"{segments}{form.storage_bits} bits, {math.ceil(form.max_error * 1000) / 1000:.3f}"


def forms(function: Function, width: int) -> dict[int, Approximation]:
    """Of each degree the form that stores fewest bits."""
    found: dict[int, Approximation] = {}
    undefined = POLES.get(function.name)
    for form in candidates(function, *formats(function, width), undefined=undefined):
        best = found.setdefault(form.degree, form)
        if (form.storage_bits, form.longest) < (best.storage_bits, best.longest):
            found[form.degree] = form
    return found


def formats(function: Function, width: int) -> tuple[Format, Format]:
    """Input and output of so many bits; the output holds every value, but for 2**n itself."""
    signed, whole = function.defined(Fraction(-1, 2)), 4 if function.defined(Fraction(2)) else 1
    source, grid = (Format(n, n - whole, signed) for n in (width, WIDTHS[0]))
    places = [Fraction(code, 2**grid.frac) for code in range(grid.min, grid.max + 1)]
    poles = (-1, 1) if whole > 1 else (source.max,)
    places += [Fraction(code, 2**source.frac) for code in poles]
    found = [function.at(place, 0, Rounding.RND) for place in places]
    exact = [value[0] for value in found if value is not None]  # with GUARD bits of fraction
    whole = math.ceil(Fraction(max(map(abs, exact)), 1 << GUARD))
    low = min(exact) < 0
    return source, Format(width, width - low - (whole - 1).bit_length(), low)
