# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable: every code against fresh evaluations, sizes, promises, refusals."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from narrow_oracle import exact_fit, exact_round
from refusal import refused

from quant import (
    FUNCTIONS,
    Approximation,
    Format,
    Function,
    Rounding,
    Symmetry,
    approximate,
    candidates,
    celu,
    elu,
    scaled_tanh,
)

FRESH = mpmath.MPContext()
FRESH.prec = 200


def _sigma(x):
    return FRESH.mpf(1) / (FRESH.exp(-x) + 1)


# Written again, from the definitions, in other words than the library's.
DEFINITIONS = {
    "sigmoid": lambda x: (1 + FRESH.tanh(x / 2)) / 2,
    "tanh": lambda x: FRESH.sinh(x) / FRESH.cosh(x),
    "log_sigmoid": lambda x: FRESH.log(_sigma(x)),
    "softplus": lambda x: FRESH.log(1 + FRESH.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "tanhshrink": lambda x: x - FRESH.sinh(x) / FRESH.cosh(x),
    "elu": lambda x: x if x > 0 else FRESH.exp(x) - 1,
    "selu": lambda x: (
        FRESH.mpf("1.0507009873554804934193349852946")
        * (x if x > 0 else FRESH.mpf("1.6732632423543772848170429916717") * (FRESH.exp(x) - 1))
    ),
    "celu": lambda x: max(0, x) + min(0, FRESH.exp(x) - 1),
    "gelu": lambda x: x * FRESH.ncdf(x),
    "gelu_tanh": lambda x: (
        x / 2 * (1 + FRESH.tanh(FRESH.sqrt(2 / FRESH.pi) * (x + FRESH.mpf("0.044715") * x**3)))
    ),
    "silu": lambda x: x * _sigma(x),
    "mish": lambda x: x * FRESH.tanh(FRESH.log(1 + FRESH.exp(x))),
    "exp": lambda x: FRESH.e**x,
    "exp2": lambda x: FRESH.exp(x * FRESH.log(2)),
    "log": lambda x: FRESH.log(x) if x > 0 else None,
    "log2": lambda x: FRESH.log(x, 2) if x > 0 else None,
    "reciprocal": lambda x: 1 / x if x else None,
    "sqrt": lambda x: x**0.5 if x >= 0 else None,
    "rsqrt": lambda x: x**-0.5 if x > 0 else None,
    "sin": lambda x: FRESH.expj(x).imag,
    "cos": lambda x: FRESH.expj(x).real,
    "erf": lambda x: 2 * FRESH.ncdf(x * FRESH.sqrt(2)) - 1,
    "atan": lambda x: FRESH.arg(FRESH.mpc(1, x)),
    "tan": lambda x: FRESH.expj(x).imag / FRESH.expj(x).real,
    "asin": lambda x: FRESH.arg(FRESH.mpc(FRESH.sqrt(1 - x * x), x)) if abs(x) <= 1 else None,
    "acos": lambda x: FRESH.arg(FRESH.mpc(x, FRESH.sqrt(1 - x * x))) if abs(x) <= 1 else None,
    "sinh": lambda x: (FRESH.exp(x) - FRESH.exp(-x)) / 2,
    "cosh": lambda x: (FRESH.exp(x) + FRESH.exp(-x)) / 2,
    "asinh": lambda x: FRESH.log(x + FRESH.sqrt(x * x + 1)),
    "acosh": lambda x: FRESH.log(x + FRESH.sqrt(x * x - 1)) if x >= 1 else None,
    "atanh": lambda x: FRESH.log((1 + x) / (1 - x)) / 2 if abs(x) < 1 else None,
}
# f(-x) = constant + sign * f(x)
MIRRORED = dict.fromkeys(("tanh", "erf", "atan", "softsign", "tanhshrink", "sin", "asinh"), (0, -1))
MIRRORED |= {"sigmoid": (1, -1), "cos": (0, 1)}


def fresh(definition, number, target, undefined=1.5):
    """Values in output units, limited to the range; NaN-free, at every code."""
    unit, scale = FRESH.mpf(2) ** -number.frac, FRESH.mpf(2) ** target.frac
    found = []
    for code in range(number.min, number.max + 1):
        y = definition(code * unit)
        y = (FRESH.mpf(undefined) if y is None else y) * scale
        found.append(min(max(y, target.min), target.max))
    return found


def check_form(form, name, number, target, values):
    """The stated error is the true one, and the promises of the form hold."""
    y = form.reference(np.arange(number.min, number.max + 1))
    assert y.dtype == np.int64
    assert target.min <= y.min()
    assert y.max() <= target.max
    assert form.max_error < 1
    check_errors(y, values, form.max_error, form.mean_error)
    assert form.monotone == monotone(y)
    steps = [b - a for a, b in pairwise(values)]
    if min(steps) >= 0:
        assert monotone(y) >= 0
    if max(steps) <= 0:
        assert np.diff(y).max() <= 0
    if name in MIRRORED and number.signed:
        check_mirror(y, values, target, *MIRRORED[name])


def check_mirror(y, values, target, constant, sign):
    """The symmetry of a function is that of its results, unless one end alone saturates."""
    constant *= 2**target.frac
    held = is_mirrored(y, constant, sign, 0)
    assert held or not is_mirrored(values, constant, sign, 1 - 2**-20)
    return held


def is_mirrored(y, constant, sign, within):
    zero = len(y) // 2
    pairs = zip(y[zero:], y[zero:0:-1], strict=True)  # 0 belongs to both
    return all(abs(below - constant - sign * above) <= within for above, below in pairs)


def check_errors(y, values, largest, mean):
    """What is stated of errors bounds the true ones, and is no larger than it has to be."""
    errors = [abs(int(a) - b) for a, b in zip(y, values, strict=True)]
    spare = largest - max(errors), mean - math.fsum(map(float, errors)) / len(errors)
    assert 0 <= spare[0] < 2**-23, float(spare[0])
    assert -(2**-40) < spare[1] < 2**-23, float(spare[1])


def monotone(y):
    """1 where y never falls, -1 where it never rises, else 0."""
    return 1 if (np.diff(y) >= 0).all() else -1 if (np.diff(y) <= 0).all() else 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_form_of_8_bits_keeps_its_word_at_every_code(name):
    number = target = Format(8, 5)
    values = fresh(DEFINITIONS[name], number, target)
    forms = candidates(FUNCTIONS[name], number, target, undefined=1.5)
    assert {form.degree for form in forms} >= {0}
    for form in forms:
        check_form(form, name, number, target, values)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("name", ["tanh", "exp2", "softsign", "sqrt", "gelu"])
def test_tables_are_rounded_right_in_every_mode(name, rounding):
    """Ties, saturation and values next to an asymptote included."""
    number, target = Format(8, 2), Format(7, 2)
    form = candidates(
        FUNCTIONS[name], number, target, error=0.5, rounding=rounding, undefined=0.0, degrees=(0,)
    )[-1]
    assert form.symmetry is None
    for code in range(number.min, number.max + 1):
        x = Fraction(code, 4)
        exact = {"exp2": Fraction(2) ** int(x) if x.denominator == 1 else None}.get(name)
        exact = x / (1 + abs(x)) if name == "softsign" else exact
        if exact is None:
            y = DEFINITIONS[name](FRESH.mpf(code) / 4)
            exact = Fraction(0) if y is None else _fraction(y)
        wanted = exact_fit(exact_round(exact * 4, rounding), target.width, target.signed, "SAT")
        assert form.reference(code) == wanted, (code, rounding)


def _fraction(value):
    sign, mantissa, exponent, _ = FRESH.mpf(value)._mpf_
    return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


@pytest.mark.parametrize("rounding", ["TRN", "RND_INF", "TRN_ZERO"])
def test_next_to_an_asymptote_the_rounding_knows_the_side(rounding):
    """tanh(2000) is below 1 by less than 2**-5000; cut off, it is below 1."""
    form = approximate(
        FUNCTIONS["tanh"], Format(12, 0), Format(9, 7), 0, error=2.0, rounding=rounding
    )
    table = candidates(
        FUNCTIONS["tanh"], Format(12, 0), Format(9, 7), error=0.4, rounding=rounding, degrees=(0,)
    )[-1]
    assert table.reference(2000) == {"TRN": 127, "RND_INF": 128, "TRN_ZERO": 127}[rounding]
    assert table.reference(-2000) == {"TRN": -128, "RND_INF": -128, "TRN_ZERO": -127}[rounding]
    assert abs(int(form.reference(2000))) in (127, 128)


def _power(x):
    return Fraction(1, 2 ** int(x)) if x.denominator == 1 else None


FALLING = Function("falling power", lambda mp, x: mp.power(2, -x), _power)
S, U = Format, lambda width, frac: Format(width, frac, False)
# Stored bits of the table, of lines and of parabolas, the latter as exhaustive search found them
# for uniform segments. A power is not mirrored, so its table is that of a bit less.
SIZES = {
    "tanh 8": (FUNCTIONS["tanh"], S(8, 5), S(8, 7), 896, 272, 176),
    "sigmoid 8": (FUNCTIONS["sigmoid"], S(8, 4), U(8, 8), 896, 272, 176),
    "tanh 10": (FUNCTIONS["tanh"], S(10, 7), S(10, 9), 4608, 608, 432),
    "sigmoid 10": (FUNCTIONS["sigmoid"], S(10, 6), U(10, 10), 4608, 608, 432),
    "power 7": (FALLING, U(7, 7), U(7, 7), 896),
    "power 8": (FALLING, U(8, 8), U(8, 8), 1792, 72, 50),
    "sigmoid 12": (FUNCTIONS["sigmoid"], S(12, 8), U(12, 12), 22528, 1408, 576),
    "tanh 12": (FUNCTIONS["tanh"], S(12, 8), S(12, 11), 22528, 2944, 1088),
    "power 11": (FALLING, U(11, 11), U(11, 11), 22528),
    "power 12": (FALLING, U(12, 12), U(12, 12), 45056, 416, 136),
}
LARGE_SIZES = {
    "sigmoid 16": (FUNCTIONS["sigmoid"], S(16, 12), U(16, 16), 491520, 7936, 2496),
    "tanh 16": (FUNCTIONS["tanh"], S(16, 12), S(16, 15), 491520, 16384, 5120),
    "power 15": (FALLING, U(15, 15), U(15, 15), 491520),
    "power 16": (FALLING, U(16, 16), U(16, 16), 983040, 3712, 368),
}


def check_size(function, number, target, *sizes):
    forms = candidates(function, number, target, degrees=(0, 1, 2)[: len(sizes)])
    for degree, known in enumerate(sizes):
        form = min((f for f in forms if f.degree == degree), key=lambda f: f.storage_bits)
        assert form.max_error < 1
        assert form.monotone
        assert form.storage_bits <= known


@pytest.mark.parametrize("case", SIZES.values(), ids=SIZES)
def test_forms_store_no_more_than_uniform_segments_need(case):
    check_size(*case)


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE_SIZES.values(), ids=LARGE_SIZES)
def test_forms_of_16_bits_store_no_more_than_uniform_segments_need(case):
    check_size(*case)


def test_a_tighter_error_is_met_or_left_to_the_table():
    for error in (0.9, 0.75, 0.6):
        for form in candidates(FUNCTIONS["tanh"], S(8, 5), S(8, 5), error=error):
            assert form.max_error < error
    forms = candidates(FUNCTIONS["tanh"], S(8, 5), S(8, 5), error=0.3)
    assert [form.degree for form in forms] == [0]
    assert forms[0].max_error <= 0.5 + 2**-20


def test_any_python_function_becomes_a_unit():
    def bump(x):
        return 1 / (1 + x * x)

    function = Function.of(bump, "bump", Symmetry(1))
    forms = candidates(function, S(8, 5), U(8, 8))
    assert {form.degree for form in forms} == {0, 1, 2}
    for form in forms:
        for code in range(-128, 128):
            y = min(bump(code / 32) * 256, 255)
            assert abs(int(form.reference(code)) - y) <= form.max_error < 1
    assert any(form.symmetry for form in forms)


def test_a_jump_is_a_segment_boundary_or_a_table():
    """What the pieces cannot follow is refused, not smoothed."""
    step = Function.of(lambda x: 0.0 if x < 0.3 else 3.0, "step")
    for form in candidates(step, S(6, 4), S(8, 5)):
        wanted = [0 if code / 16 < 0.3 else 96 for code in range(-32, 32)]
        assert form.results.tolist() == wanted
    noise = np.random.default_rng(1).integers(-100, 100, 64)
    rough = Function.of(lambda x: float(noise[int(x * 16) + 32]), "noise")
    table = approximate(rough, S(6, 4), S(8, 0), 0)
    assert table.results.tolist() == noise.tolist()


@pytest.mark.parametrize("length", [1, 2, 8])
def test_a_table_has_one_value_for_neighbours_that_are_always_equal(length):
    values = np.arange(64) // length * 3 - 90
    stairs = Function.of(lambda x: float(values[int(x * 16) + 32]), "stairs")
    form = approximate(stairs, S(6, 4), S(8, 0), 0)
    assert form.starts.tolist() == [*range(0, 64, length)]
    assert form.results.tolist() == values.tolist()


def test_a_function_that_wraps_is_a_table():
    forms = candidates(FUNCTIONS["exp"], S(6, 3), U(5, 2), overflow="WRAP")
    assert [form.degree for form in forms] == [0]
    for code in range(-32, 32):
        exact = math.floor(FRESH.exp(FRESH.mpf(code) / 8) * 4 + FRESH.mpf(0.5))
        assert forms[0].reference(code) == int(exact) % 32


@pytest.mark.parametrize("make", [elu, celu])
def test_a_parameter_is_part_of_the_function(make):
    alpha = 0.7
    form = approximate(make(alpha), S(8, 5), S(9, 5), 0)
    for code in range(-128, 128):
        x = FRESH.mpf(code) / 32
        inner = x / alpha if make is celu else x
        y = x if code >= 0 else alpha * (FRESH.exp(inner) - 1)
        assert abs(int(form.reference(code)) - y * 32) <= form.max_error


def test_infinity_saturates_where_it_is_given():
    form = approximate(FUNCTIONS["reciprocal"], U(8, 4), U(8, 4), 0, undefined=math.inf)
    assert form.reference([0, 1, 2, 255]).tolist() == [255, 255, 128, 1]


def test_an_approximation_shifted_by_one_is_seen():
    """Any coefficient or start that is wrong by one shows in the error or in its measure."""
    number, target = S(8, 5), S(8, 7)
    form = approximate(FUNCTIONS["tanh"], number, target, 1)
    values = fresh(DEFINITIONS["tanh"], number, target)

    def errors(wrong):
        return [abs(int(a) - b) for a, b in zip(wrong.results, values, strict=True)]

    seen = 0
    mutants = []
    for row in range(2):
        for n in range(len(form.starts)):
            for step in (-1, 1):
                coefficients = form.coefficients.copy()
                coefficients[row, n] += step << (form.guard if row == 0 else 0)
                mutants.append(coefficients)
    for coefficients in mutants:
        try:
            wrong = replace(form, coefficients=coefficients)
        except ValueError:
            seen += 1
            continue
        changed = (wrong.results != form.results).any()
        seen += changed
        if changed:
            mean = math.fsum(map(float, errors(wrong))) / 256
            assert max(errors(wrong)) > form.max_error or abs(mean - form.mean_error) > 2**-12
    assert seen > len(mutants) * 3 // 4


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "cos"])
def test_the_narrowest_formats_work(name, width):
    for form in candidates(FUNCTIONS[name], Format(width, 0), Format(3, 1)):
        check_form(
            form,
            "",
            Format(width, 0),
            Format(3, 1),
            fresh(DEFINITIONS[name], Format(width, 0), S(3, 1)),
        )


def test_what_is_wrong_is_refused():
    tanh, number, target = FUNCTIONS["tanh"], S(8, 5), S(8, 7)
    with refused(TypeError, "Approximation function must be a Function, not 'tanh'"):
        candidates("tanh", number, target)
    with refused(TypeError, "Approximation input_format must be a Format, not 8"):
        candidates(tanh, 8, target)
    with refused(ValueError, "Approximation input_format must have at most 16 bits, not 17"):
        candidates(tanh, S(17, 5), target)
    with refused(ValueError, "Approximation output_format must have at most 32 bits, not 33"):
        candidates(tanh, number, S(33, 5))
    with refused(ValueError, "Approximation error must be above 0 and below 2**40, not 0"):
        candidates(tanh, number, target, error=0)
    with refused(TypeError, "Approximation error must be a number, not True"):
        candidates(tanh, number, target, error=True)
    with refused(ValueError, "Approximation degree must be 0, 1 or 2, not 3"):
        approximate(tanh, number, target, 3)
    with refused(
        ValueError, "Approximation of tanh must have another degree for an error below 0.3, not 1"
    ):
        approximate(tanh, number, target, 1, error=0.3)
    with refused(
        ValueError,
        "Function reciprocal must be given a value (undefined) for where it has none, as at 0.0",
    ):
        approximate(FUNCTIONS["reciprocal"], number, target, 0)
    with refused(
        ValueError,
        "Function log must be given a value (undefined) for where it has none, as at -4.0",
    ):
        approximate(FUNCTIONS["log"], number, target, 0)
    with refused(ValueError, "Function log undefined must be a number, not NaN"):
        approximate(FUNCTIONS["log"], number, target, 0, undefined=math.nan)
    with refused(ValueError, "Function odd one must give a number, not NaN at -4.0"):
        approximate(Function.of(lambda x: math.nan, "odd one"), number, target, 0)
    with refused(TypeError, "Function odd one must give a float, not 'x'"):
        approximate(Function.of(lambda x: "x", "odd one"), number, target, 0)
    with refused(
        ValueError,
        "Function odd one must be given a value (undefined) for where it has none, as at 0.0",
    ):
        approximate(Function.of(lambda x: 1 / x, "odd one"), number, target, 0)
    with refused(ValueError, "elu alpha must be above 0, not 0"):
        elu(0)
    with refused(ValueError, "scaled_tanh beta must be above 0, not -1"):
        scaled_tanh(1, -1)
    with refused(TypeError, "celu alpha must be a number, not '1'"):
        celu("1")
    with refused(TypeError, "Symmetry must have ints, not 1.0 and 0"):
        Symmetry(1.0)
    with refused(
        ValueError,
        "Symmetry must be even, or odd about a constant, not have sign 1 and constant 1",
    ):
        Symmetry(1, 1)
    form = approximate(tanh, number, target, 0)
    with refused(TypeError, "tanh input must be integers, not float64"):
        form.reference([0.5])


def parts(**changes):
    fields = {
        "name": "f",
        "input_format": Format(3, 0),
        "output_format": Format(8, 0),
        "symmetry": None,
        "places": 8,
        "starts": np.array([0, 4, 6]),
        "coefficients": np.array([[0, 8, 12], [2, 2, 2]]),
        "cut": 0,
        "lift": 0,
        "guard": 0,
        "clamp": False,
        "low": -128,
        "high": 127,
    }
    return fields | changes


STARTS = (
    "Approximation starts must ascend from 0 by powers of two, each at a multiple of its length"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a\nb"}, "Approximation name must be a line of plain text, not 'a\\nb'"),
        ({"places": 9}, "Approximation places must be between 1 and 8, not 9"),
        (
            {"coefficients": np.zeros(3, int)},
            "Approximation coefficients must have shape (1 to 3, segments), not (3,)",
        ),
        ({"starts": np.array([0, 4])}, "Approximation starts must have shape (3,), not (2,)"),
        (
            {"starts": np.array([0, 3, 6])},
            STARTS,
        ),
        (
            {"starts": np.array([1, 4, 6])},
            STARTS,
        ),
        ({"lift": 1}, "Approximation lift must be between 0 and 0 for degree 1, not 1"),
        ({"cut": -1}, "Approximation cut must be between 0 and 40 for degree 1, not -1"),
        (
            {"coefficients": np.array([[0, 8, 126], [2, 2, 2]])},
            "Approximation result must be in [-128, 127] for format s8.0, not span [0, 128]",
        ),
        ({"low": -129}, "Approximation low and high must be in [-128, 127], not be -129 and 127"),
        (
            {"input_format": Format(3, 0, False), "symmetry": Symmetry(-1)},
            "Approximation symmetry must have a signed input, not an unsigned one",
        ),
    ],
)
def test_integers_that_make_no_approximation_are_refused(changes, message):
    Approximation(**parts())
    with refused(ValueError, message):
        Approximation(**parts(**changes))


def test_the_datapath_is_the_stated_formula():
    """Against a plain loop over codes with Python's integers."""
    for name, degree in (("tanh", 1), ("gelu", 2), ("exp", 2), ("sigmoid", 0)):
        form = approximate(FUNCTIONS[name], S(8, 4), S(9, 6), degree)
        for code in range(-128, 128):
            place = abs(code) if form.symmetry else code + 128
            place = min(place, form.places - 1)
            n = max(k for k, start in enumerate(form.starts.tolist()) if start <= place)
            c, u = form.coefficients[:, n].tolist(), place - int(form.starts[n])
            if degree == 0:
                y = c[0]
            elif degree == 1:
                y = (c[0] + (c[1] * u >> form.cut)) >> form.guard
            else:
                y = (c[0] + (((c[1] << form.lift) + c[2] * u) * u >> form.cut)) >> form.guard
            if form.symmetry and code < 0:
                y = form.symmetry.constant + form.symmetry.sign * y
            y = min(max(y, form.low), form.high) if form.clamp else y
            assert form.reference(code) == y
