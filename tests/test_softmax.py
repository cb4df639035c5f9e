# SPDX-License-Identifier: Apache-2.0
"""Softmax: below one unit from the truth, whatever comes."""

import math

import mpmath
import numpy as np
import pytest
from refusal import refused

from quant import Format
from quant.softmax import Softmax

MP = mpmath.MPContext()
MP.prec = 120
CASES = [
    (1, Format(8, 4), Format(8, 8, False)),
    (2, Format(8, 4), Format(8, 8, False)),
    (10, Format(8, 3), Format(9, 8, False)),
    (64, Format(8, 5), Format(8, 8, False)),
    (16, Format(8, 0), Format(4, 4, False)),
    (16, Format(12, 8), Format(12, 12, False)),
    (5, Format(6, 2, False), Format(7, 7, False)),
]
IDS = [f"{n} {x} {y}" for n, x, y in CASES]


def vectors(count, number, rows, seed=0):
    """Uniform, normal, two-level and one-hot rows, and rows of equal numbers."""
    random = np.random.default_rng(seed)
    low, high = number.min, number.max
    uniform = random.integers(low, high + 1, (rows, count))
    middle, spread = (low + high) // 2, (high - low) / 12
    normal = np.clip(np.rint(random.normal(middle, spread, (rows, count))), low, high).astype(int)
    levels = random.integers(low, high + 1, (rows, 2))
    chosen = random.integers(0, 2, (rows, count))
    two = np.take_along_axis(levels, chosen, axis=1)
    near = high - random.integers(0, 1 + (high - low) // 8, (rows, count))
    hot = np.full((count, count), low)
    np.fill_diagonal(hot, high)
    ends = np.array([[low] * count, [high] * count])
    return np.concatenate([uniform, normal, two, near, hot, ends])


def truth(x, number, target):
    """In output units, limited to the range."""
    terms = [MP.exp(MP.ldexp(int(n), -number.frac)) for n in x]
    total = MP.fsum(terms)
    return [min(MP.ldexp(t / total, target.frac), target.max) for t in terms]


@pytest.mark.parametrize(("count", "number", "target"), CASES, ids=IDS)
def test_no_result_is_a_unit_off(count, number, target):
    softmax = Softmax.of(count, number, target)
    assert 0.5 < softmax.bound < 1
    x = vectors(count, number, 40)
    y = softmax.reference(x)
    assert y.dtype == np.int64
    assert y.min() >= 0
    assert y.max() <= target.max
    worst = max(
        abs(int(a) - b)
        for row, results in zip(x, y, strict=True)
        for a, b in zip(results, truth(row, number, target), strict=True)
    )
    assert worst <= softmax.bound


@pytest.mark.parametrize(("count", "number", "target"), CASES, ids=IDS)
def test_order_is_kept_and_only_differences_matter(count, number, target):
    softmax = Softmax.of(count, number, target)
    x = vectors(count, number, 20, seed=1)
    y = softmax.reference(x)
    for row, results in zip(x, y, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(results[order]) >= 0).all()
        for value in set(row.tolist()):
            assert len(set(results[row == value].tolist())) == 1
    shifted = x - x.min(axis=1, keepdims=True) + number.min
    np.testing.assert_array_equal(softmax.reference(shifted), y)


def test_one_number_is_everything():
    softmax = Softmax.of(1, Format(8, 4), Format(9, 8, False))
    assert softmax.reference([[5], [-128]]).tolist() == [[256], [256]]


def test_equal_numbers_share_alike():
    softmax = Softmax.of(4, Format(8, 4), Format(8, 8, False))
    assert softmax.reference([7, 7, 7, 7]).tolist() == [64] * 4


def test_a_worse_constant_is_seen():
    """The bound follows the integers: a factor with few bits cannot promise a unit."""
    fine = Softmax.of(8, Format(8, 2), Format(8, 8, False))
    coarse = Softmax(
        8, fine.input_format, fine.output_format, round(fine.factor / 2**9), fine.scale - 9,
        fine.powers, fine.bits, fine.reciprocal,
    )  # fmt: skip
    assert coarse.bound > 1
    assert math.isclose(fine.factor / 2**fine.scale, math.log2(math.e) / 4, rel_tol=1e-3)


def test_what_is_wrong_is_refused():
    x, y = Format(8, 4), Format(8, 8, False)
    with refused(TypeError, "Softmax count must be an int, not 4.0"):
        Softmax.of(4.0, x, y)
    with refused(ValueError, "Softmax count must be between 1 and 4096, not 0"):
        Softmax.of(0, x, y)
    with refused(TypeError, "Softmax input_format must be a Format, not 8"):
        Softmax.of(4, 8, y)
    with refused(
        ValueError,
        "Softmax input_format must have at most 16 bits, 0 to 24 of them behind the point, "
        "not be s17.4",
    ):
        Softmax.of(4, Format(17, 4), y)
    with refused(
        ValueError,
        "Softmax output_format must be unsigned with 1 to 12 fraction bits and at most one other, "
        "not s8.7",
    ):
        Softmax.of(4, x, Format(8, 7))
    softmax = Softmax.of(4, x, y)
    with refused(ValueError, "Softmax input must have shape (..., 4), not (3,)"):
        softmax.reference([1, 2, 3])
    with refused(TypeError, "Softmax input must be integers, not float64"):
        softmax.reference([0.5] * 4)
