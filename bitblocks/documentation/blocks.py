# SPDX-License-Identifier: Apache-2.0
"""The page about blocks, and the table in README: what docstrings and the models themselves say."""

import contextlib
import inspect
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from bitblocks.documentation.docstring import Docstring, read
from bitblocks.documentation.markdown import table
from blocks import Network, NetworkPlan, with_smallest_buffers
from blocks.catalogue import CATALOGUE
from blocks.planner import choices, chosen_candidates, intervals_of, mapped
from hdl import Cost, Target
from quant import Overflow, Rounding

TARGETS = ("ecp5", "xilinx7")
ROUNDED, EXACT = "exact, rounded once", "exact"
README_HEADER = (
    "block",
    "computes",
    "cycles a frame",
    *(f"{target}: LUT / FF / DSP" for target in TARGETS),
)
OVERVIEW_HEADER = (
    "block",
    "options",
    "mappings",
    "cycles a frame",
    *(f"{target}: LUT / FF / DSP / BRAM" for target in TARGETS),
    "error",
    "source",
)
PAGE = """# Blocks

Written by `python -m bitblocks.documentation` from the catalogue, its docstrings and the models; a
test compares, and another runs every example.

A block is a specification. `block.reference(x)` is what it computes, in integers; `block.plans`
lists its mappings, and `block.rtl(plan)`, `block.timing(plan)` and `block.cost(plan, target)` are
views of the two. A Tensor is a shape and a Format. `narrow` is the one operation that loses bits,
with the modes of `ap_fixed`:

* `rounding`: {roundings}
* `overflow`: {overflows}

Figures are those of the block of the example. Cycles from frame to frame, and from the first number
of a frame to its last result, are those of simulation, multipliers and block memories those of
synthesis; so are flip-flops on ecp5, but of what is composed of other blocks they are an upper
bound. Look-up tables are estimates. Where the overview shows one mapping, it is one of medium
speed. What is written in small letters is composed of other blocks, a network itself.

{overview}

{sections}"""


@dataclass(frozen=True, eq=False)
class Mapping:
    """One way to map the block of an example, and what comes of it.

    Members
    -------
    name : of the mapping, on the page
    interval, latency : in cycles
    costs : on each of the TARGETS
    """

    name: str
    interval: float
    latency: int
    costs: tuple[Cost, ...]


@dataclass(frozen=True, eq=False)
class Entry:
    """A block of the catalogue as the pages tell it.

    Members
    -------
    words : its docstring
    options : names, with their defaults -> what is said of them
    plans : class of plans -> what is said of it
    printed : by the example
    mappings, typical : of the block of the example
    """

    name: str
    words: Docstring
    options: dict[tuple[str, ...], str]
    plans: dict[str, str]
    printed: str
    mappings: tuple[Mapping, ...]
    typical: Mapping

    @property
    def error(self) -> str:
        rounded = any(option.startswith("`rounding`") for names in self.options for option in names)
        return self.words.labels.get("Error", ROUNDED if rounded else EXACT)

    @property
    def readme_row(self) -> tuple[str, ...]:
        costs = (f"{c.lut} / {c.ff} / {c.dsp}" for c in self.typical.costs)
        name, computes = f"`{self.name}`", self.words.summary.removesuffix(".")
        return name, computes, f"{self.typical.interval:g}", *costs

    @property
    def overview_row(self) -> tuple[str, ...]:
        """In the order of OVERVIEW_HEADER."""
        options = ", ".join(option.split(" ")[0] for names in self.options for option in names)
        intervals = sorted({mapping.interval for mapping in self.mappings})
        ends = f"{intervals[0]:g}" + (f" to {intervals[-1]:g}" if len(intervals) > 1 else "")
        costs = (f"{c.lut} / {c.ff} / {c.dsp} / {c.bram}" for c in self.typical.costs)
        name = f"[`{self.name}`](#{self.name.lower()})"
        return (
            *(name, options, ", ".join(self.plans), ends, *costs, self.error),
            re.sub(r" \(https?://[^)]*\)", "", self.words.labels["Source"]),
        )

    @property
    def section(self) -> str:
        """What the page tells of the block alone."""
        parts = [f"## {self.name}", self.words.summary, *self.words.text]
        parts.append("\n".join(f"* {', '.join(n)}: {text}" for n, text in self.options.items()))
        parts.append(f"```python\n{self.words.example}```")
        parts.append(f"prints\n\n```\n{self.printed}```")
        counts = ("LUT", "FF", "DSP", "BRAM")
        columns = [f"{target}: {count}" for target in TARGETS for count in counts]
        rows = [
            (
                m.name,
                f"{m.interval:g}",
                str(m.latency),
                *(str(n) for c in m.costs for n in (c.lut, c.ff, c.dsp, c.bram)),
            )
            for m in self.mappings
        ]
        parts.append(table(("mapping", "cycles a frame", "latency", *columns), rows))
        parts.append("\n".join(f"* {name}: {text}" for name, text in self.plans.items()))
        parts.append(f"Error: {self.error}.")
        parts.append(f"Source: {self.words.labels['Source']}")
        return "\n\n".join(parts) + "\n"


def page() -> str:
    """docs/blocks.md."""
    return text([entry(name) for name in CATALOGUE])


def text(entries: list[Entry]) -> str:
    return PAGE.format(
        roundings=", ".join(f"`{mode.name}`" for mode in Rounding),
        overflows=", ".join(f"`{mode.name}`" for mode in Overflow),
        overview=table(OVERVIEW_HEADER, [e.overview_row for e in entries], aligned=False),
        sections="\n".join(e.section for e in entries),
    )


def readme() -> str:
    """README.md, its table of blocks written anew."""
    written = Path("README.md").read_text(encoding="utf-8")
    rows = table(README_HEADER, [entry(name).readme_row for name in CATALOGUE], aligned=False)
    return re.sub(r"(?m)^\| block .*\n(\|.*\n)*", lambda _: rows + "\n", written)


@cache
def entry(name: str) -> Entry:
    """What the pages tell of a block of the catalogue."""
    kind = CATALOGUE[name].kind
    words = read(kind, "Error", "Source")
    if "Source" not in words.labels or "block = " not in words.example:
        raise ValueError(f"{name} docstring must have a Source: and a doctest that makes a block")
    printed = io.StringIO()
    made: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(words.example, f"example of {name}", "exec"), made)
    mapped = list(_plans(made["block"]))
    mappings = tuple(_mapping(made["block"], *pair) for pair in mapped)
    kinds = {type(chosen): read(type(chosen)).summary for _, chosen in mapped}
    plans = {f"`{kind.__name__}`": text for kind, text in kinds.items()}
    middle = mappings[len(mappings[:3]) // 2]
    return Entry(name, words, _options(kind), plans, printed.getvalue(), mappings, middle)


def _options(kind: Any) -> dict[tuple[str, ...], str]:
    """Names and defaults of the options of a block that are described together."""
    told = dict(read(kind).parameters)
    for other in re.findall(r":func:`(\w+)`", inspect.getdoc(kind) or ""):
        if other in CATALOGUE:  # all else as that
            told = read(CATALOGUE[other].kind).parameters | told
    found: dict[str, tuple[str, ...]] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        shown = f"`{name}`"
        if parameter.default is not parameter.empty and parameter.default is not None:
            default = parameter.default
            shown += f" (`{default.name if isinstance(default, Enum) else default}`)"
        if name not in told:
            raise ValueError(f"{kind.__name__} docstring must tell its parameter {name}")
        found[told[name]] = (*found.get(told[name], ()), shown)
    return {names: text for text, names in found.items()}


def _plans(block: Any) -> Iterator[tuple[str, Any]]:
    """Some mappings: a slow one, one of medium speed, a fast one, and as a graph of adders."""
    target = Target.named(TARGETS[0])
    if isinstance(block, Network):
        known = choices(block, target)
        intervals = intervals_of(known)
        middle = (intervals[0] * intervals[-1]) ** 0.5
        medium = min(intervals, key=lambda interval: abs(interval - middle))
        for interval in dict.fromkeys((intervals[0], medium, intervals[-1])):
            with contextlib.suppress(ValueError):  # lanes between blocks may be slower than blocks
                chosen = chosen_candidates(block, known, target, interval)
                plan = with_smallest_buffers(block, mapped(block, chosen), target)
                yield f"planned for {interval} cycles", plan
        return
    candidates = sorted(block.plans(target), key=lambda c: (c.unrolled, -c.interval))
    folded = [c for c in candidates if not c.unrolled] or candidates
    middle = (folded[0].interval * folded[-1].interval) ** 0.5
    medium = min(folded, key=lambda c: (abs(c.interval - middle), c.interval))
    unrolled = [c for c in candidates if c.unrolled][:1]
    for chosen in dict.fromkeys((folded[0], medium, folded[-1], *unrolled)):
        composed = isinstance(chosen.plan, NetworkPlan)
        name = f"planned for {chosen.interval:g} cycles" if composed else f"`{chosen.plan}`"
        yield name, chosen.plan


def _mapping(block: Any, name: str, chosen: Any) -> Mapping:
    timing = block.timing(chosen)
    ports = ([timing.port(port) for port in tensors] for tensors in (block.inputs, block.outputs))
    schedule = timing.schedule(*ports)
    costs = tuple(block.cost(chosen, Target.named(target)) for target in TARGETS)
    return Mapping(name, schedule.interval, schedule.latency, costs)
