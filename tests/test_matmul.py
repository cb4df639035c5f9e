# SPDX-License-Identifier: Apache-2.0
"""Exact float linear algebra: equal to Python's integers at the edge of every certificate."""

from itertools import product

import numpy as np
import pytest
from narrow_oracle import OVERFLOWS, ROUNDINGS, exact_narrow
from numpy.testing import assert_array_equal
from refusal import refused

from quant import (
    DenseKernel,
    Format,
    Matmul,
    ProductKernel,
    Program,
    ProgramInput,
    Step,
    SumKernel,
    attaining_inputs,
)

FLOAT32, FLOAT64, INT64 = map(np.dtype, (np.float32, np.float64, np.int64))


def random_inputs(format, frames, size, seed=1):
    """Random values, then every element at the smallest and at the largest."""
    generator = np.random.default_rng(seed)
    x = generator.integers(format.min, format.max, (frames, size), endpoint=True)
    return np.concatenate([x, np.full((1, size), format.min), np.full((1, size), format.max)])


def exact_product(x, weight):
    """x @ weight.T in Python's integers."""
    return x.astype(object) @ np.asarray(weight, object).T


def run(kernel, *inputs):
    """One kernel as a program: (frames, size) arrays of (x, format) pairs."""
    ports = tuple(ProgramInput(f"x{n}", x.shape[1], format) for n, (x, format) in enumerate(inputs))
    program = Program(ports, (Step(kernel, tuple(range(len(ports)))),), (len(ports),))
    return program(*(x for x, _ in inputs))[0]


def exact_narrowed(sums, frac, target, rounding, overflow):
    """Exact sums, narrowed one by one."""
    source = Format(63, frac)
    flat = [exact_narrow(int(n), source, target, rounding, overflow) for n in sums.ravel()]
    return np.array(flat, np.int64).reshape(sums.shape)


# Matmul ------------------------------------------------------------------------------------------

MATMULS = [  # weight magnitude, inputs, input format, type
    (127, 9, Format(8, 0), FLOAT32),
    (2**15, 3, Format(12, 4, signed=False), FLOAT64),
    (2**20, 9, Format(20, 0), FLOAT64),
    (2**20, 9, Format(32, 0), FLOAT64),  # in two halves
    (2**30, 4, Format(29, 0, signed=False), FLOAT64),  # in two halves
    (1, 4, Format(60, 0), INT64),
    (2**40, 2, Format(21, 0), FLOAT64),  # in two halves
]


@pytest.mark.parametrize(("largest", "inputs", "input_format", "dtype"), MATMULS)
def test_matmul_equals_python_integers(largest, inputs, input_format, dtype):
    generator = np.random.default_rng(1)
    weight = generator.integers(-largest, largest, (5, inputs), endpoint=True)
    weight[0], weight[1] = largest, -largest
    matmul = Matmul(weight, input_format)
    assert matmul.dtype == dtype
    attaining = np.concatenate(attaining_inputs(weight, input_format))
    x = np.concatenate([random_inputs(input_format, 50, inputs), attaining])
    found = matmul(x)
    assert found.dtype == np.int64
    assert_array_equal(found, exact_product(x, weight).astype(np.int64))


@pytest.mark.parametrize(("bits", "dtypes"), [(24, (FLOAT32, FLOAT64)), (53, (FLOAT64, FLOAT64))])
def test_the_certificate_is_exact_to_the_last_unit(bits, dtypes):
    input_format = Format(1, 0, signed=False)
    for excess, dtype in enumerate(dtypes):
        weight = np.array([[2 ** (bits - 1), 2 ** (bits - 1) - 1, 1 + excess]])
        matmul = Matmul(weight, input_format)
        assert matmul.dtype == dtype
        assert len(matmul.parts) == (2 if bits + excess == 54 else 1)
        x = np.array(list(product((0, 1), repeat=3)))
        assert_array_equal(matmul(x), exact_product(x, weight).astype(np.int64))


def test_matmul_reaches_63_bits():
    for input_format in (Format(1, 0), Format(1, 0, signed=False)):
        weight = np.array([[2**61 + 1, 2**61 - 1]])
        x = np.array(list(product((input_format.min, input_format.max), repeat=2)))
        found = Matmul(weight, input_format)(x)
        assert_array_equal(found, exact_product(x, weight).astype(np.int64))
    with refused(ValueError, "Linear accumulator must fit 63 bits, not 64"):
        Matmul([[2**61 + 1, 2**61]], Format(1, 0), "Linear")


def test_matmul_keeps_leading_axes():
    weight = np.arange(6).reshape(2, 3)
    x = np.arange(24).reshape(2, 4, 3)
    assert_array_equal(Matmul(weight, Format(8, 0))(x), x @ weight.T)
    assert_array_equal(Matmul(weight, Format(8, 0))(x[0, 0]), x[0, 0] @ weight.T)
    assert Matmul(weight, Format(8, 0))(x[:0]).shape == (0, 4, 2)


def test_matmul_refuses_bad_inputs():
    matmul = Matmul([[1, 2]], Format(4, 0), "Linear")
    with refused(ValueError, "Linear input must have shape (..., 2), not (3,)"):
        matmul([1, 2, 3])
    with refused(ValueError, "Linear input must be in [-8, 7] for format s4.0, not span [1, 8]"):
        matmul([1, 8])
    with refused(TypeError, "Linear input must be integers, not float64"):
        matmul([1.0, 2.0])


# Kernels: every mode, every type ----------------------------------------------------------------

DENSE = [  # weight magnitude, weight_frac, input format, output format, type
    (7, 3, Format(4, 2), Format(4, 1), FLOAT32),
    (7, 3, Format(4, 2), Format(6, 4, signed=False), FLOAT32),
    (7, 0, Format(4, 0), Format(6, 1), FLOAT32),  # one fraction bit more than the sums
    (7, 0, Format(4, 0), Format(9, 3), FLOAT32),
    (7, 0, Format(4, 0), Format(24, 0), FLOAT32),  # nothing to do
    (7, 0, Format(4, 0, False), Format(1, -2), FLOAT32),
    (7, 6, Format(4, 6), Format(3, -1), FLOAT32),
    (7, 60, Format(4, 60), Format(3, 20), None),  # drops a hundred bits
    (7, 60, Format(4, 60), Format(3, 19), None),
    (2**20, 20, Format(14, 10), Format(8, 0), FLOAT64),
    (2**20, 20, Format(14, 10), Format(50, 0), FLOAT64),
    (7, 0, Format(4, 0), Format(63, 40), None),
    (7, 0, Format(4, 0), Format(30, 25), FLOAT64),  # a limit that float32 would round
    (7, 0, Format(4, 0), Format(40, 10, signed=False), FLOAT64),  # wraps to 30 significant bits
    (7, 0, Format(4, 0), Format(9, 128), None),  # beyond the exponents of float32
    (7, 0, Format(4, -1000), Format(9, 1000), INT64),  # beyond those of float64
    (2**20, 20, Format(40, 10), Format(16, 1, signed=False), INT64),
    (2**20, 20, Format(40, 10), Format(63, 28), INT64),
]
MODES = list(product(ROUNDINGS, OVERFLOWS))


@pytest.mark.parametrize(("largest", "weight_frac", "input_format", "target", "dtype"), DENSE)
def test_dense_equals_exact_integers_in_every_mode(
    largest, weight_frac, input_format, target, dtype
):
    generator = np.random.default_rng(3)
    weight = generator.integers(-largest, largest, (3, 4), endpoint=True)
    bias = generator.integers(-8 * largest, 8 * largest, 3)
    attaining = np.concatenate(attaining_inputs(weight, input_format))
    x = np.concatenate([random_inputs(input_format, 40, 4), attaining])
    sums = exact_product(x, weight) + bias
    frac = weight_frac + input_format.frac
    for modes in MODES:
        kernel = DenseKernel(weight, bias, weight_frac, input_format, target, *modes)
        assert dtype is None or kernel.dtype == dtype, modes
        found = run(kernel, (x, input_format))
        assert found.dtype == np.int64
        assert_array_equal(found, exact_narrowed(sums, frac, target, *modes), str(modes))


def test_every_sum_is_narrowed_like_exact_fractions():
    """All sums from -128 to 127, so that every tie and every edge of the target occurs."""
    input_format = Format(8, 4)
    x = np.arange(-128, 128)[:, None]
    targets = [Format(w, f, s) for w in (1, 3, 5) for f in (0, 2, 3, 5) for s in (False, True)]
    for target, modes in product(targets, MODES):
        kernel = DenseKernel([[1]], [0], 0, input_format, target, *modes)
        assert kernel.dtype == FLOAT32
        found = run(kernel, (x, input_format))
        wanted = exact_narrowed(x, 4, target, *modes)
        assert_array_equal(found, wanted, f"{target} {modes}")


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("bits", "dtype", "wider"), [(24, FLOAT32, FLOAT64), (53, FLOAT64, INT64)])
def test_bias_and_rounding_are_part_of_the_certificate(bits, dtype, wider, rounding):
    input_format, target = Format(1, 0, signed=False), Format(bits, -1)
    weight = [2 ** (bits - 1) - 1, 2 ** (bits - 2)]
    x = np.array(list(product((0, 1), repeat=2)))
    adds_half = rounding in ("RND", "RND_ZERO", "RND_MIN_INF", "RND_INF")
    last = 2 ** (bits - 2) + (0 if adds_half else 1)
    for bias, wanted in ((last, dtype), (last + 1, wider)):
        kernel = DenseKernel([weight], [bias], 0, input_format, target, rounding, "SAT")
        assert kernel.dtype == wanted
        sums = exact_product(x, [weight]) + bias
        found = run(kernel, (x, input_format))
        assert_array_equal(found, exact_narrowed(sums, 0, target, rounding, "SAT"))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, INT64])
def test_dense_acts_on_each_position(dtype):
    input_format = Format({FLOAT32: 8, FLOAT64: 30, INT64: 56}[dtype], 0)
    weight, bias = np.array([[3, -2, 1], [-1, 4, 0]]), np.array([5, -7])
    target = Format(8, 4 - input_format.width)
    kernel = DenseKernel(weight, bias, 0, input_format, target, positions=4)
    assert kernel.dtype == dtype
    x = random_inputs(input_format, 20, 12)
    sums = exact_product(x.reshape(-1, 4, 3), weight) + bias
    wanted = exact_narrowed(sums.reshape(len(x), 8), 0, target, "RND", "SAT")
    assert_array_equal(run(kernel, (x, input_format)), wanted)


ELEMENTWISE = [  # formats, target, type
    ((Format(5, 2),), Format(3, 0), FLOAT32),
    ((Format(5, 2),), Format(5, 2), FLOAT32),
    ((Format(5, 2),), Format(4, 3, signed=False), FLOAT32),
    ((Format(5, 2), Format(4, 3, signed=False)), Format(4, 1), FLOAT32),
    ((Format(5, -2), Format(4, 3)), Format(4, 0), FLOAT32),
    ((Format(5, 2), Format(30, 3)), Format(20, 1), FLOAT64),
    ((Format(5, 2), Format(61, 3)), Format(20, 1), INT64),
    ((Format(60, 2),), Format(63, 1), INT64),
]


@pytest.mark.parametrize("rectify", [False, True], ids=["plain", "rectified"])
@pytest.mark.parametrize(("formats", "target", "dtype"), ELEMENTWISE)
def test_sums_equal_exact_integers_in_every_mode(formats, target, dtype, rectify):
    xs = [random_inputs(format, 40, 3, seed) for seed, format in enumerate(formats)]
    frac = max(format.frac for format in formats)
    sums = sum(x.astype(object) * 2 ** (frac - f.frac) for x, f in zip(xs, formats, strict=True))
    sums = np.maximum(sums, 0) if rectify else sums
    for modes in MODES:
        kernel = SumKernel(3, formats, target, *modes, rectify=rectify)
        assert kernel.dtype == dtype
        found = run(kernel, *zip(xs, formats, strict=True))
        assert_array_equal(found, exact_narrowed(sums, frac, target, *modes), str(modes))


@pytest.mark.parametrize("weight", [[-5], [3, -4, 7], 6], ids=str)
@pytest.mark.parametrize("input_format", [Format(5, 2), Format(26, 2), Format(59, 2)], ids=str)
def test_constant_weights_multiply_each_channel(weight, input_format):
    x = random_inputs(input_format, 30, 6)
    products = x.astype(object) * np.resize(np.asarray(weight, object), 6)
    target = Format(5, 1)
    for modes in MODES:
        kernel = SumKernel(6, (input_format,), target, *modes, weights=(weight,), weight_fracs=(2,))
        found = run(kernel, (x, input_format))
        assert_array_equal(found, exact_narrowed(products, 4, target, *modes), str(modes))


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(
    ("input_format", "weight_format", "dtype"),
    [
        (Format(5, 2), Format(4, 2, signed=False), FLOAT32),
        (Format(20, 2), Format(20, 2), FLOAT64),
        (Format(31, 2), Format(32, 2, signed=False), INT64),
    ],
    ids=str,
)
def test_products_of_two_streams_equal_exact_integers(channels, input_format, weight_format, dtype):
    x, w = random_inputs(input_format, 30, 6), random_inputs(weight_format, 30, channels, 2)
    w[-1] = weight_format.min
    products = x.astype(object) * np.tile(w, 6 // channels)
    target = Format(4, 1)
    for modes in MODES:
        kernel = ProductKernel(6, channels, input_format, weight_format, target, *modes)
        assert kernel.dtype == dtype
        found = run(kernel, (x, input_format), (w, weight_format))
        assert_array_equal(found, exact_narrowed(products, 4, target, *modes), str(modes))


def test_kernels_refuse_what_they_cannot_hold():
    with refused(ValueError, "Linear accumulator must fit 63 bits, not 64"):
        DenseKernel([[2**40], [-1]], [2**62, 0], 0, Format(8, 0), Format(8, 0), name="Linear")
    with refused(ValueError, "Linear bias must have shape (1,), not (2,)"):
        DenseKernel([[2]], [1, 2], 0, Format(8, 0), Format(8, 0), name="Linear")
    with refused(TypeError, "Linear bias must be integers, not float64"):
        DenseKernel([[2]], [0.5], 0, Format(8, 0), Format(8, 0), name="Linear")
    with refused(ValueError, "Add accumulator must fit 63 bits, not 64"):
        SumKernel(2, (Format(63, 0), Format(63, 0)), Format(8, 0), name="Add")
    with refused(ValueError, "Weight accumulator must fit 63 bits, not 64"):
        ProductKernel(2, 2, Format(32, 0), Format(32, 0), Format(8, 0), name="Weight")
    with refused(ValueError, "Weight channels must divide 6, not be 4"):
        ProductKernel(6, 4, Format(8, 0), Format(8, 0), Format(8, 0), name="Weight")


# Program -----------------------------------------------------------------------------------------


def residual_program():
    """x -> dense -> + x -> wide dense in float64 -> dense in int64, all outputs."""
    generator = np.random.default_rng(5)
    first, second, third = Format(8, 4), Format(9, 4), Format(40, 4)
    w0, w1 = generator.integers(-20, 21, (6, 6)), generator.integers(-(2**20), 2**20, (4, 6))
    w2 = generator.integers(-(2**20), 2**20, (3, 4))
    bias = np.arange(6)
    steps = (
        Step(DenseKernel(w0, bias, 5, first, first), (0,)),
        Step(SumKernel(6, (first, first), second), (1, 0)),
        Step(DenseKernel(w1, bias[:4], 5, second, third), (2,)),
        Step(DenseKernel(w2, bias[:3], 5, third, Format(12, -10)), (3,)),
    )
    program = Program((ProgramInput("x", 6, first),), steps, (1, 2, 3, 4, 0))

    def definition(x):
        y1 = exact_narrowed(exact_product(x, w0) + bias, 9, first, "RND", "SAT")
        y2 = exact_narrowed(y1 + x, 4, second, "RND", "SAT")
        y3 = exact_narrowed(exact_product(y2, w1) + bias[:4], 9, third, "RND", "SAT")
        sums = exact_product(y3, w2) + bias[:3]
        return y1, y2, y3, exact_narrowed(sums, 9, Format(12, -10), "RND", "SAT"), x

    return program, definition


def test_a_graph_of_all_types_equals_its_definition():
    program, definition = residual_program()
    assert {step.kernel.dtype for step in program.steps} == {FLOAT32, FLOAT64, INT64}
    x = random_inputs(Format(8, 4), 100, 6)
    for found, wanted in zip(program(x), definition(x), strict=True):
        assert found.dtype == np.int64
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("frames", [0, 1, 15, 16, 17, 33])
def test_any_number_of_frames_gives_the_same_integers(frames):
    program, definition = residual_program()
    program.tile = 16
    x = random_inputs(Format(8, 4), 40, 6)
    for _ in range(2):  # the second time with the tiles of the first
        for found, wanted in zip(program(x[:frames]), definition(x[:frames]), strict=True):
            assert_array_equal(found, wanted)


def test_earlier_results_are_not_overwritten():
    program, definition = residual_program()
    x = random_inputs(Format(8, 4), 40, 6)
    before = program(x)
    program(x[::-1])
    for found, wanted in zip(before, definition(x), strict=True):
        assert_array_equal(found, wanted)


def test_any_integer_type_and_memory_order_is_taken():
    program, definition = residual_program()
    x = random_inputs(Format(8, 4), 40, 6)
    wanted = definition(x)
    for same in (x.astype(np.int8), x.astype(np.int16), np.asfortranarray(x), x[::1].tolist()):
        assert_array_equal(program(same)[3], wanted[3])


@pytest.mark.parametrize(
    ("width", "signed"), [(24, False), (24, True), (25, True), (63, False), (63, True)]
)
def test_values_just_outside_the_input_format_are_refused(width, signed):
    format = Format(width, 0, signed)
    kernel = SumKernel(1, (format,), Format(4, 0))
    program = Program((ProgramInput("Network input x", 1, format),), (Step(kernel, (0,)),), (1,))
    assert_array_equal(program([[format.min], [format.max]])[0], [[-8 * signed], [7]])
    for value in {format.min - 1, format.max + 1, 2**64 - 1} - {2**63}:
        message = (
            f"Network input x must be in [{format.min}, {format.max}] for format {format}, "
            f"not span [{value}, {value}]"
        )
        with refused(ValueError, message):
            program(np.array([[value]], np.uint64 if value > 0 else np.int64))


def test_bad_programs_and_batches_are_refused():
    format = Format(8, 0)
    ports = ProgramInput("a", 2, format), ProgramInput("b", 2, format)
    step = Step(SumKernel(2, (format, format), format), (0, 1))
    program = Program(ports, (step,), (2,))
    with refused(ValueError, "Program step 0 must use earlier tensors, not 2"):
        Program(ports, (Step(step.kernel, (0, 2)),), (2,))
    with refused(ValueError, "Program step 0 must use 2 elements, not 3"):
        Program((ports[0], ProgramInput("b", 3, format)), (step,), (2,))
    with refused(ValueError, "Program outputs must be tensors below 3, not (3,)"):
        Program(ports, (step,), (3,))
    with refused(ValueError, "b must have shape (frames, 2), not (4, 3)"):
        program(np.zeros((4, 2), int), np.zeros((4, 3), int))
    with refused(ValueError, "Program inputs must have equally many frames, not [3, 4]"):
        program(np.zeros((4, 2), int), np.zeros((3, 2), int))
    with refused(TypeError, "a must be integers, not float64"):
        program(np.zeros((4, 2)), np.zeros((4, 2), int))
