# SPDX-License-Identifier: Apache-2.0
"""Circuits of functions: every code through the Verilog, mutants, cycles, costs, the comment."""

import re
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from circuit_check import check_circuit
from refusal import refused
from test_function import DEFINITIONS, FRESH, MIRRORED, check_errors, check_mirror, fresh, monotone
from verilog_bench import lint

from hdl import FunctionArray, FunctionUnit, Tables, Target, cheapest, stream_signature, verilog
from hdl.synthesis import synthesise_many
from quant import FUNCTIONS, Approximation, Format, Function, Symmetry, approximate, candidates
from sim import Design, StreamPort, from_bytes, simulate_bulk, to_bytes

S, U = Format, lambda width, frac: Format(width, frac, False)


def bump(x):
    return 1 / (1 + x * x)


USERS = {"bump": lambda x: FRESH.mpf(bump(float(x)))}
SYMMETRIES = MIRRORED | {"bump": (0, 1)}
BUMP = Function.of(bump, "bump", Symmetry(1))
# function, input, output, degree: mirrored or not, odd or even, clamped or not, falling, rising
CASES = {
    "tanh table": ("tanh", S(8, 5), S(8, 7), 0),
    "softsign table of pairs": ("softsign", S(7, 8), S(3, 3), 0),
    "tanh lines": ("tanh", S(12, 8), S(12, 11), 1),
    "tanh parabolas": ("tanh", S(12, 8), S(12, 11), 2),
    "sigmoid lines": ("sigmoid", S(10, 6), U(10, 10), 1),
    "sigmoid parabolas": ("sigmoid", S(12, 8), U(12, 12), 2),
    "exp lines": ("exp", S(8, 4), U(8, 4), 1),
    "exp parabolas": ("exp", S(8, 4), U(10, 4), 2),
    "gelu lines": ("gelu", S(9, 6), S(9, 6), 1),
    "gelu parabolas": ("gelu", S(9, 6), S(9, 6), 2),
    "tanhshrink lines": ("tanhshrink", S(8, 4), S(7, 4), 1),
    "bump parabolas": (BUMP, S(8, 5), U(8, 8), 2),
    "sqrt lines": ("sqrt", U(8, 4), U(8, 6), 1),
    "log_sigmoid parabolas": ("log_sigmoid", S(8, 5), S(8, 5), 2),
}
LARGE = {
    "tanh 16 table": ("tanh", S(16, 12), S(16, 15), 0),
    "tanh 16 lines": ("tanh", S(16, 12), S(16, 15), 1),
    "tanh 16 parabolas": ("tanh", S(16, 12), S(16, 15), 2),
    "sigmoid 16 parabolas": ("sigmoid", S(16, 12), U(16, 16), 2),
    "bump 16 lines": (BUMP, S(16, 13), U(16, 16), 1),
}


@cache
def forms_of(function, number, target) -> list[Approximation]:
    return candidates(FUNCTIONS.get(function, function), number, target)


@cache
def form_of(name) -> Approximation:
    *asked, degree = (CASES | LARGE)[name]
    forms = [form for form in forms_of(*asked) if form.degree == degree]
    return min(forms, key=lambda form: (form.storage_bits, form.longest))


class Row(wiring.Component):
    """Several units side by side, each with streams of its own."""

    def __init__(self, designs):
        self.designs = designs
        ports = {}
        for n, design in enumerate(designs):
            ports[f"i_{n}"] = In(stream_signature(design.form.input_format, design.lanes))
            ports[f"o_{n}"] = Out(stream_signature(design.form.output_format, design.lanes))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for n, design in enumerate(self.designs):
            unit = FunctionArray(design)
            m.submodules[f"unit_{n}"] = unit
            connect(m, flipped(getattr(self, f"i_{n}")), unit.i)
            connect(m, unit.o, flipped(getattr(self, f"o_{n}")))
        return m


def results_of(designs, stalls=(1.0, 1.0), text=None):
    """What the Verilog of each design makes of every code, ascending; one compiled program."""
    ports, inputs, outputs = [], {}, {}
    for n, design in enumerate(designs):
        form, lanes = design.form, design.lanes
        codes = np.arange(form.input_format.min, form.input_format.max + 1)[None]
        inputs[f"i_{n}"] = to_bytes(codes, form.input_format, lanes)
        outputs[f"o_{n}"] = len(inputs[f"i_{n}"])
        ports += [
            StreamPort.plain(f"i_{n}", "in", form.input_format.width * lanes),
            StreamPort.plain(f"o_{n}", "out", form.output_format.width * lanes),
        ]
    row = Design(text or verilog(Row(designs), "row"), "row", ports)
    result = simulate_bulk(row, inputs, outputs, stalls=stalls, seed=5)
    return [
        from_bytes(result.words[f"o_{n}"], d.form.output_format, len(d.form.results), d.lanes)[0]
        for n, d in enumerate(designs)
    ]


PROOF = re.compile(
    r"// (?P<name>[\w ]+) (?P<source>\S+) -> (?P<target>\S+), (?:table|linear|quadratic)"
    r"(?:, \d+ segments)?: \|error\| <= (?P<largest>[\d.]+) units, (?P<mean>[\d.]+) in the mean, "
    r"over all codes(?:; (?P<order>never falls|never rises))?"
    r"(?P<mirror>; f\(-x\) = (?:(?P<constant>\d+) )?(?P<sign>- ?)?f\(x\))?"
)


@cache
def exact(name, number, target):
    """Of every code: from the definition, in high precision, or in double as the user wrote it."""
    return fresh(USERS.get(name, DEFINITIONS.get(name)), number, target)


def check_proof(text, module, y):
    """What stands above a module in the Verilog is true of what it makes of every code."""
    line = text[: text.index(f"\nmodule {module} (")].splitlines()[-1]
    proof = PROOF.fullmatch(line)
    assert proof, line
    number, target = Format.parse(proof["source"]), Format.parse(proof["target"])
    assert len(y) == 1 << number.width
    values = exact(proof["name"], number, target)
    check_errors(y, values, Fraction(proof["largest"]), Fraction(proof["mean"]))
    assert monotone(y) == {"never falls": 1, "never rises": -1, None: 0}[proof["order"]]
    constant, sign = SYMMETRIES.get(proof["name"], (0, -1))
    mirrored = number.signed and check_mirror(y, values, target, constant, sign)
    assert mirrored == (proof["mirror"] is not None)
    if mirrored:  # f(0) = 0 of an odd function, sigma(x) + sigma(-x) = 1
        assert int(proof["constant"] or 0) == constant << target.frac
        assert (proof["sign"] is None) == (sign > 0)


def check_proofs(designs, stalls):
    """The Verilog of designs equals their references and what it says of itself."""
    text = verilog(Row(designs), "row")
    for n, (design, y) in enumerate(zip(designs, results_of(designs, stalls, text), strict=True)):
        np.testing.assert_array_equal(y, design.form.results, design.form.statement())
        check_proof(text, f"row_unit_{n}", y)


def test_the_verilog_keeps_its_word_at_every_code():
    designs = [
        FunctionUnit(form_of(name), lanes=1 << n % 3, style=("logic", "block")[n % 2])
        for n, name in enumerate(CASES)
    ]
    for stalls in ((1.0, 1.0), (0.6, 0.5)):
        check_proofs(designs, stalls)


@pytest.mark.slow
def test_the_verilog_of_16_bits_keeps_its_word_at_every_code():
    check_proofs([FunctionUnit(form_of(name), 1, "block") for name in LARGE], (1.0, 1.0))


def test_a_changed_word_of_a_table_breaks_the_proof():
    """A bit of the lowest coefficient in the Verilog: the least that counts, and one above."""
    mutants = []
    for name in ("tanh table", "tanh lines", "tanh parabolas", "bump parabolas"):
        design = FunctionUnit(form_of(name), 1)
        unit, last = 1 << design.form.guard, design.tables.depth - 1
        mutants += [(design, 0, 2 * unit), (design, last // 2, unit), (design, last, unit)]
    designs = [design for design, *_ in mutants]
    modules = verilog(Row(designs), "row").split("\nmodule ")
    for n, (_, word, bits) in enumerate(mutants):
        at = next(k for k, m in enumerate(modules) if m.startswith(f"row_unit_{n}_rom_0 "))
        before, old, after = re.split(rf"(?<=memory\[{word}\] = )(\S+)(?=;)", modules[at])
        width, base, digits = re.fullmatch("(\\d+)'([hd])(.*)", old).groups()
        changed = int(digits, {"h": 16, "d": 10}[base]) ^ bits
        modules[at] = f"{before}{width}'h{changed:x}{after}"
    text = "\nmodule ".join(modules)
    for n, y in enumerate(results_of(designs, text=text)):
        with pytest.raises(AssertionError):
            check_proof(text, f"row_unit_{n}", y)


def shifted_boundary(form, word):
    """A unit whose memory takes a word's segment for that of the word before."""
    design = FunctionUnit(form, 1)
    at = form.segments[design._first].copy()
    at[word] = at[word - 1]
    tables = [*form.coefficients[:, at]]
    if form.longest > form.shortest:
        tables.append(form.lengths[form.segments[design._first]] - 1 >> form.shortest)
    design.__dict__["tables"] = Tables(tables, "logic")
    return design


def test_a_coefficient_or_a_boundary_that_is_wrong_by_one_is_caught():
    form = form_of("tanh parabolas")
    designs = []
    longest = int(form.lengths[:-1].argmax())
    for row, n in ((0, 0), (0, 4), (1, 0), (1, longest), (2, longest)):
        coefficients = form.coefficients.copy()
        coefficients[row, n] += 1 << form.guard if row == 0 else 1
        designs.append(FunctionUnit(replace(form, coefficients=coefficients), 1))
    first = FunctionUnit(form, 1)._first
    boundaries = np.flatnonzero(np.diff(form.segments[first])) + 1
    designs += [shifted_boundary(form, int(word)) for word in boundaries[:3]]
    designs += [FunctionUnit(replace(form, cut=form.cut + 1), 1)]
    for n, found in enumerate(results_of(designs)):
        assert (found != form.results).any(), n


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize(
    ("name", "degree"), [("tanh", 0), ("tanh", 1), ("exp", 1), ("cos", 2), ("sigmoid", 2)]
)
def test_results_and_cycles_under_stalls(name, degree, lanes):
    number = S(6, 3)
    form = approximate(FUNCTIONS[name], number, S(7, 4), degree)
    design = FunctionUnit(form, lanes)
    x = np.random.default_rng(lanes).integers(number.min, number.max + 1, (12, lanes))
    x[0], x[1] = number.min, number.max
    y = form.reference(x)
    check_circuit(
        lambda: FunctionArray(design),
        {"i": x.tolist()},
        {"o": y.tolist()},
        design.events(4),
        3,
        lambda payload: [int(n) for n in payload],
    )


def test_the_module_says_what_was_proven():
    form = form_of("tanh lines")
    text = verilog(FunctionArray(FunctionUnit(form, 2)), "tanh")
    line = (
        f"// tanh s12.8 -> s12.11, linear, {len(form.starts)} segments: |error| <= "
        "0.999539108 units, 0.378583932 in the mean, over all codes; never falls; f(-x) = -f(x)\n"
    )
    assert text.startswith(line)
    assert text == verilog(FunctionArray(FunctionUnit(form, 2)), "tanh")
    inside = verilog(Row([FunctionUnit(form, 1)]), "row")
    assert (
        f'`line {inside[: inside.index(line)].count(chr(10)) + 1} "row_unit_0.v" 0\n{line}'
        in inside
    )


def test_a_comment_of_several_lines_is_refused():
    unit = FunctionArray(FunctionUnit(form_of("tanh table"), 1))
    unit.comment = "one\ntwo"
    with refused(ValueError, "Verilog comment must be a line of plain text, not 'one\\ntwo'"):
        verilog(unit, "top")


def test_the_verilog_is_free_of_lint(tmp_path):
    for n, name in enumerate(CASES):
        design = FunctionUnit(form_of(name), 2, ("logic", "block")[n % 2])
        file = f"unit_{n}.v"
        (tmp_path / file).write_text(verilog(FunctionArray(design), f"unit_{n}"))
        assert lint(tmp_path, file) == "", name


PRICED = [name for name in CASES if name != "sqrt lines"]


@pytest.mark.parametrize("target", ["ecp5", pytest.param("xilinx7", marks=pytest.mark.slow)])
def test_costs_are_those_of_synthesis(target):
    """Flip-flops, multipliers and block memories equal; look-up tables near."""
    target = Target.named(target)
    designs = [
        FunctionUnit(form_of(name), 1 + n % 2, ("logic", "block")[n % 3 == 1])
        for n, name in enumerate(PRICED)
    ]
    texts = {f"u{n}": verilog(FunctionArray(d), f"u{n}") for n, d in enumerate(designs)}
    found = synthesise_many(texts, target)
    errors = []
    for n, (name, design) in enumerate(zip(PRICED, designs, strict=True)):
        price, made = design.inventory().cost(target), found[f"u{n}"].cost
        wanted = (made.register_bits, made.dsp, made.bram)
        assert (price.register_bits, price.dsp, price.bram) == wanted, name
        errors.append(abs(price.lut - made.lut) / max(50, made.lut))
    assert sorted(errors)[len(errors) // 2] < 0.15, errors
    assert max(errors) < 0.4, errors


def test_slopes_of_one_bit_leave_out_what_they_cut_off():
    asked = [
        ("silu", S(6, 2), S(3, 0)),
        ("elu", S(6, 1), S(3, 0)),
        ("erf", S(8, 3), S(5, 0)),
        ("softsign", S(7, 4), S(4, 2)),
    ]
    lines = [form for function in asked for form in forms_of(*function) if form.degree == 1]
    designs = [design for form in lines if (design := FunctionUnit(form, 1)).unread]
    assert len(designs) > 8
    alike = [design.form.longest == design.form.shortest for design in designs]
    assert not all(alike)
    text = verilog(Row(designs), "row")
    for design, y in zip(designs, results_of(designs, text=text), strict=True):
        np.testing.assert_array_equal(y, design.form.results)
    made = [f"u{n}" for n in range(len(designs))]
    texts = {u: verilog(FunctionArray(d), u) for u, d in zip(made, designs, strict=True)}
    found = synthesise_many(texts, Target.named("ecp5"))
    for unit, design, same in zip(made, designs, alike, strict=True):
        price = design.inventory().cost(Target.named("ecp5"))
        excess = price.ff - found[unit].ff  # of lengths that differ, the longest may have slope 0
        assert 0 <= excess <= (not same), design.form.statement()


def test_a_function_that_never_changes_holds_nothing_but_its_turn():
    """From 1 on, cut to less."""
    forms = forms_of("cosh", S(5, 2), S(4, 3))
    designs = [FunctionUnit(form, 1) for form in forms]
    assert {design.constant for design in designs} == {7}
    for design, y in zip(designs, results_of(designs), strict=True):
        assert (y == 7).all()
        assert design.inventory().cost(Target.named("ecp5")).ff == design.stages


MANY = [
    ("tanh", S(8, 5), S(8, 7)),
    ("sigmoid", S(6, 3), U(6, 6)),
    ("exp", S(6, 3), U(8, 4)),
    ("gelu", S(8, 5), S(8, 5)),
    ("softsign", S(8, 4), S(8, 7)),
    ("cos", S(7, 4), S(8, 6)),
    ("exp2", U(8, 8), U(9, 8)),
    ("elu", S(7, 4), S(7, 4)),
    ("atan", S(5, 2), S(5, 3)),
    ("mish", S(3, 1), S(4, 1)),
    ("softplus", S(7, 3), U(6, 2)),
]


@pytest.mark.full
def test_costs_of_many_forms_are_those_of_synthesis():
    target = Target.named("ecp5")
    designs = [
        FunctionUnit(form, 1)
        for name, number, result in MANY
        for form in candidates(FUNCTIONS[name], number, result)
        if form.degree == 0 or form.longest > 2
    ]
    assert len(designs) > 60
    texts = {f"u{n}": verilog(FunctionArray(d), f"u{n}") for n, d in enumerate(designs)}
    found = synthesise_many(texts, target)
    for n, design in enumerate(designs):
        price, made = design.inventory().cost(target), found[f"u{n}"].cost
        wanted = (made.ff, made.dsp, made.bram)
        assert (price.ff, price.dsp, price.bram) == wanted, design.form.statement()


def test_the_cheapest_form_depends_on_what_the_target_has():
    narrow = candidates(FUNCTIONS["tanh"], S(7, 4), S(7, 6))
    for name in Target.names():
        form, style = cheapest(narrow, Target.named(name))
        assert (form.degree, style) == (0, "logic"), name
    wide = candidates(FUNCTIONS["tanh"], S(12, 8), S(12, 11))
    for name in Target.names():
        target = Target.named(name)
        chosen, style = cheapest(wide, target)

        def weight(form, style, target=target):
            cost = FunctionUnit(form, 1, style).inventory().cost(target)
            return cost.lut + 100 * (cost.dsp + cost.bram)

        assert weight(chosen, style) == min(
            weight(f, s)
            for f in wide
            for s in ("logic", "block")
            if FunctionUnit(f, 1).tables.width
        )
    with refused(ValueError, "cheapest forms must be at least one, not none"):
        cheapest([], Target.named("ecp5"))
