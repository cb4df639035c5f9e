# SPDX-License-Identifier: Apache-2.0
"""Rescaling: each rule against exact fractions and gemmlowp's own steps, in numpy and hardware."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth_bench import run
from oracle_activations import doubling_high_product, rescaled, rounding_divide_by_power
from oracle_numbers import fit
from refusal import refused

from blocks import Lanes, Linear, Network, Node, Rescale, Tensor
from quant import Format, Overflow, Program, ProgramInput, Rule, rescale
from quant import Step as KernelStep

INT8, INT32, WIDE = Format(8, 0), Format(32, 0), Format(40, 0)
NAMED = ("tflite_single", "tflite_double", "onnx")
X = Tensor((2, 3), INT8)
FACTORS, SHIFTS = np.array([1518500250, 1073741824, 2147483647]), np.array([33, 31, 38])


def test_rules_have_names():
    assert [rule for rule in Rule if rule.islower()] == list(NAMED)
    assert len(Rule) == 10


def exact_rows(values, multipliers, shifts, rule, point=0):
    """A thousand times faster than fractions and as exact: Python's integers, two roundings."""
    rows = zip(values.tolist(), multipliers.tolist(), shifts.tolist(), strict=True)
    return [rescaled(v, m, s, rule) + point for v, m, s in rows]


@pytest.mark.parametrize("rule", Rule)
def test_random_values_of_32_bits_equal_the_definitions(rule):
    check_random(rule, 4_000)


@pytest.mark.full
@pytest.mark.parametrize("rule", Rule)
def test_a_million_random_values_of_32_bits_equal_the_definitions(rule):
    check_random(rule, 1_000_000)


def check_random(rule, count):
    """``count`` accumulators and multipliers as networks have them, 100 channels at a time."""
    random = np.random.default_rng(list(Rule).index(rule))
    while count > 0:
        values = random.integers(-(2**31), 2**31, (50, 100)) >> random.integers(0, 30, (50, 100))
        multipliers = random.integers(1 << 30, 1 << 31, 100)
        shifts = random.integers(31, 60, 100)
        point = int(random.integers(-128, 128))
        found = rescale(values, INT32, WIDE, multipliers, shifts, rule, zero_point_out=point)
        rows = (np.broadcast_to(n, values.shape).ravel() for n in (multipliers, shifts))
        assert found.ravel().tolist() == exact_rows(values.ravel(), *rows, rule, point)
        count -= values.size


@pytest.mark.parametrize("rule", NAMED)
def test_every_small_accumulator_with_sixty_four_multipliers(rule):
    check_small(rule, np.arange(-(2**12), 2**12, 13))


@pytest.mark.full
@pytest.mark.parametrize("rule", NAMED)
def test_all_small_accumulators_with_sixty_four_multipliers(rule):
    check_small(rule, np.arange(-(2**12), 2**12))


def check_small(rule, values):
    random = np.random.default_rng(4)
    multipliers = random.integers(1 << 30, 1 << 31, 64)
    multipliers[:4] = 1 << 30, (1 << 31) - 1, 3 << 29, 5 << 28
    shifts = random.integers(31, 44, 64)
    shifts[:4] = 31, 31, 32, 35
    for m, s in zip(multipliers.tolist(), shifts.tolist(), strict=True):
        found = rescale(values, INT32, WIDE, m, s, rule)
        wanted = [rescaled(v, m, s, rule) for v in values.tolist()]
        assert found.tolist() == wanted, (m, s)


def test_the_rules_differ_so_that_mixing_them_is_found():
    random = np.random.default_rng(5)
    values = random.integers(-(2**15), 2**15, 20_000)
    found = {rule: rescale(values, INT32, WIDE, 3 << 29, 33, rule).tolist() for rule in NAMED}
    for a in NAMED:
        for b in NAMED:
            differing = sum(x != y for x, y in zip(found[a], found[b], strict=True))
            assert (differing > 100) == (a != b), (a, b, differing)


def test_gemmlowp_rounds_half_up_then_half_away_from_zero():
    """The two steps as fractions: what the circuit is built on."""
    random = np.random.default_rng(6)
    for _ in range(2000):
        a, b = int(random.integers(-(2**31), 2**31)), int(random.integers(0, 2**31))
        a >>= int(random.integers(0, 31))
        half_up = (Fraction(a * b, 2**31) + Fraction(1, 2)).__floor__()
        assert doubling_high_product(a, b) == half_up
        bits = int(random.integers(0, 20))
        away = (Fraction(abs(a), 2**bits) + Fraction(1, 2)).__floor__()
        assert rounding_divide_by_power(a, bits) == (away if a >= 0 else -away)


def test_ties_of_every_rule():
    values = np.arange(-7, 8)
    quarters = {
        "tflite_single": [-3, -3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4],
        "onnx": [-4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4],
        "RND_INF": [-4, -3, -3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3, 3, 4],
    }
    for rule, wanted in quarters.items():
        assert rescale(values, INT8, INT8, 1, 1, rule).tolist() == wanted
    double = rescale(values, INT8, INT8, 1 << 30, 31, "tflite_double").tolist()
    assert double == quarters["tflite_single"]
    double = rescale(values, INT8, INT8, (1 << 31) - 1, 32, "tflite_double").tolist()
    assert double == quarters["RND_INF"]


def test_the_zero_point_of_onnx_comes_after_the_rounding():
    assert rescale([1, 3], INT8, INT8, 1, 1, "onnx", zero_point_out=1).tolist() == [1, 3]
    assert rescale([2, 4], INT8, INT8, 1, 1, "onnx", zero_point_in=1).tolist() == [0, 2]


def test_zero_points_and_saturation():
    found = rescale([0, 10, 255], Format(8, 0, False), INT8, 5, 2, "RND", "SAT", 128, -3)
    assert found.tolist() == [-128, -128, 127]
    for overflow in Overflow:
        found = rescale(np.arange(-128, 128), INT8, Format(4, 0), 3, 1, "TRN", overflow, 5, 1)
        wanted = [fit((n - 5) * 3 // 2 + 1, Format(4, 0), overflow) for n in range(-128, 128)]
        assert found.tolist() == wanted


CASES = {
    f"{rule} {kind}": (rule, multiplier, shift)
    for rule in Rule
    for kind, multiplier, shift in (
        ("tensor", np.array(1518500250), np.array(32)),
        ("channels", FACTORS, SHIFTS),
        ("one shift", FACTORS, np.array([33, 33, 33])),
    )
}


@pytest.mark.parametrize("name", CASES)
def test_every_code_through_the_circuit(name):
    rule, multiplier, shift = CASES[name]
    number = Format(6, 0)
    tensor = Tensor((1, 3), number)
    for zero_out, zero_in, target in ((-3, 5, Format(5, 0)), (4, -32, Format(6, 0, False))):
        block = Rescale(tensor, multiplier, shift, target, zero_in, zero_out, rule)
        codes = np.arange(number.min, number.max + 1)
        x = np.stack([codes] * 3, axis=-1)[:, None]
        y = block.reference(x)
        for lanes in (1, 3):
            words = x.reshape(-1, lanes).tolist()
            found = run(block.rtl(Lanes(lanes)), {"i": words}, {"o": len(words)})["o"]
            got = [[int(n) for n in word] for _, word in found]
            assert got == y.reshape(-1, lanes).tolist()


def test_exact_sums_of_a_layer_are_rescaled_as_tensorflow_lite_does():
    """Two blocks are a fully connected layer of int8 with zero points, by its definition."""
    random = np.random.default_rng(7)
    x, weight = random.integers(-128, 128, (30, 16)), random.integers(-127, 128, (4, 16))
    bias, point = random.integers(-2000, 2000, 4), -11
    multipliers, shifts = random.integers(1 << 30, 1 << 31, 4), np.array([38, 39, 38, 40])
    folded = bias - point * weight.sum(axis=1)  # the zero point of the input
    layer = Linear(Tensor((16,), INT8), weight, folded, INT8, Format(24, 0))
    scale = Rescale(layer.outputs["o"], multipliers, shifts, INT8, 0, 5, "tflite_double")
    network = Network(
        {"x": layer.input},
        (Node("layer", layer, ("x",)), Node("scale", scale, ("layer",))),
        {"y": "scale"},
    )
    sums = (x - point) @ weight.T + bias
    scales = (np.tile(n, 30).tolist() for n in (multipliers, shifts))
    rows = zip(sums.ravel().tolist(), *scales, strict=True)
    wanted = [fit(rescaled(*row, "tflite_double") + 5, INT8, "SAT") for row in rows]
    assert network.reference(x).ravel().tolist() == wanted


def test_the_kernel_equals_the_reference():
    block = Rescale(X, FACTORS, SHIFTS, INT8, 3, -5, "tflite_double")
    x = np.random.default_rng(1).integers(-128, 128, (50, 6))
    program = Program((ProgramInput("x", 6, INT8),), (KernelStep(block.kernel(), (0,)),), (1,))
    wanted = block.reference(x.reshape(50, 2, 3))
    np.testing.assert_array_equal(program(x)[0], wanted.reshape(50, 6))


def block(**fields):
    parts = {"input": X, "multiplier": FACTORS, "shift": SHIFTS, "output_format": INT8}
    return Rescale(**{**parts, **fields})


RULES = ", ".join(Rule)
REFUSALS = {
    "input": (lambda: block(input=3), TypeError, "Rescale input must be a Tensor, not 3"),
    "format": (
        lambda: block(output_format=8),
        TypeError,
        "Rescale output_format must be a Format, not 8",
    ),
    "rule": (
        lambda: block(rounding="tflite"),
        ValueError,
        f"Rescale rounding must be one of {RULES}, not 'tflite'",
    ),
    "overflow": (
        lambda: block(overflow="CUT"),
        ValueError,
        "Rescale overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 'CUT'",
    ),
    "multiplier kind": (
        lambda: block(multiplier=FACTORS / 2),
        TypeError,
        "Rescale multiplier must be integers, not float64",
    ),
    "multiplier shape": (
        lambda: block(multiplier=FACTORS[:2]),
        ValueError,
        "Rescale multiplier must have shape (3,), not (2,)",
    ),
    "multiplier zero": (
        lambda: block(multiplier=FACTORS * 0),
        ValueError,
        "Rescale multiplier must not be 0",
    ),
    "shift shape": (
        lambda: block(shift=np.array(31)),
        ValueError,
        "Rescale shift must have shape (3,), not ()",
    ),
    "shift range": (
        lambda: block(shift=SHIFTS - 32),
        ValueError,
        "Rescale shift must be between 0 and 62, not span [-1, 6]",
    ),
    "zero_point_in": (
        lambda: block(zero_point_in=200),
        ValueError,
        "Rescale zero_point_in must be in [-128, 127] for format s8.0, not span [200, 200]",
    ),
    "zero_point_out": (
        lambda: block(zero_point_out=1.0),
        TypeError,
        "Rescale zero_point_out must be an int, not 1.0",
    ),
    "double multiplier": (
        lambda: block(multiplier=FACTORS + 1, rounding="tflite_double"),
        ValueError,
        f"Rescale multiplier must be in [0, 2**31) for tflite_double, not {2**31}",
    ),
    "double value": (
        lambda: block(shift=np.array([33, 31, 6]), rounding="tflite_double"),
        ValueError,
        "Rescale value must fit 32 bits for tflite_double, not span [-128, 127] times 2**25",
    ),
    "sums": (
        lambda: block(input=Tensor((3,), INT32)),
        ValueError,
        "Rescale sums must fit 59 bits at the largest shift, not 68",
    ),
    "accumulator": (
        lambda: block(input=Tensor((3,), WIDE)),
        ValueError,
        "Rescale accumulator must fit 63 bits, not 71",
    ),
    "reference": (
        lambda: block().reference(np.full((2, 3), 128)),
        ValueError,
        "Rescale input must be in [-128, 127] for format s8.0, not span [128, 128]",
    ),
    "plan": (lambda: block().rtl(3), TypeError, "Rescale plan must be Lanes, not 3"),
    "lanes": (
        lambda: block().rtl(Lanes(2)),
        ValueError,
        "Rescale lanes must divide 3, not be 2",
    ),
    "function shape": (
        lambda: rescale([1], INT8, INT8, [1, 2], [1], "RND"),
        ValueError,
        "rescale shift must have shape (2,), not (1,)",
    ),
    "function axes": (
        lambda: rescale([1], INT8, INT8, [[1]], [[1]], "RND"),
        ValueError,
        "rescale multiplier must have shape () or (channels,), not (1, 1)",
    ),
    "function value": (
        lambda: rescale([128], INT8, INT8, 1, 1, "RND"),
        ValueError,
        "rescale value must be in [-128, 127] for format s8.0, not span [128, 128]",
    ),
    "function rule": (
        lambda: rescale([1], INT8, INT8, 1, 1, "UP"),
        ValueError,
        f"Rule must be one of {RULES}, not 'UP'",
    ),
}


@pytest.mark.parametrize(("made", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(made, error, message):
    with refused(error, message):
        made()
