# SPDX-License-Identifier: Apache-2.0
"""Softmax and its kin: below one unit from the truth, whatever comes."""

import mpmath
import numpy as np
import pytest
from refusal import refused

from blocks import Tensor, log_softmax, softmax, softmin
from quant import Format

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


def truth(x, number, target, logarithm=False, sign=1):
    """In output units, limited to the range."""
    terms = [MP.exp(MP.ldexp(sign * int(n), -number.frac)) for n in x]
    total = MP.fsum(terms)
    values = [MP.log(t / total) if logarithm else t / total for t in terms]
    return [min(max(MP.ldexp(v, target.frac), target.min), target.max) for v in values]


def worst(network, x, *arguments, **options):
    """Largest distance from the truth, in output units."""
    y = network.reference(x)
    return max(
        abs(int(a) - b)
        for row, results in zip(x, y, strict=True)
        for a, b in zip(results, truth(row, *arguments, **options), strict=True)
    )


@pytest.mark.parametrize(("count", "number", "target"), CASES, ids=IDS)
def test_no_result_is_a_unit_off(count, number, target):
    x = vectors(count, number, 20)
    assert worst(softmax(Tensor((count,), number), target), x, number, target) < 1


@pytest.mark.parametrize(("count", "number", "target"), CASES[:3], ids=IDS[:3])
def test_a_smaller_error_can_be_asked_for(count, number, target):
    x = vectors(count, number, 20)
    network = softmax(Tensor((count,), number), target, error=0.55)
    assert worst(network, x, number, target) < 0.55


@pytest.mark.parametrize(("count", "number", "target"), CASES[1:4], ids=IDS[1:4])
def test_softmin_is_softmax_of_opposites(count, number, target):
    x = vectors(count, number, 20)
    network = softmin(Tensor((count,), number), target)
    assert worst(network, x, number, target, sign=-1) < 1


@pytest.mark.parametrize("target", [Format(10, 5), Format(6, 2)], ids=str)
@pytest.mark.parametrize(("count", "number"), [case[:2] for case in CASES[:4]], ids=IDS[:4])
def test_no_logarithm_is_a_unit_off(count, number, target):
    x = vectors(count, number, 20)
    network = log_softmax(Tensor((count,), number), target)
    assert worst(network, x, number, target, logarithm=True) < 1


@pytest.mark.parametrize(("count", "number"), [case[:2] for case in CASES[:4]], ids=IDS[:4])
def test_the_results_can_sum_to_exactly_one(count, number):
    target = Format(9, 8, False)
    network = softmax(Tensor((count,), number), target, sums_to_one=True)
    x = vectors(count, number, 20)
    assert (network.reference(x).sum(axis=-1) == 256).all()
    assert worst(network, x, number, target) < 2


@pytest.mark.parametrize("sums_to_one", [False, True])
@pytest.mark.parametrize(("count", "number"), [case[:2] for case in CASES[1:4]], ids=IDS[1:4])
def test_what_a_mask_hides_is_zero_and_plays_no_part(count, number, sums_to_one):
    target = Format(9, 8, False)
    mask = np.random.default_rng(3).integers(0, 2, count).astype(bool)
    mask[0] = True
    network = softmax(Tensor((count,), number), target, sums_to_one=sums_to_one, mask=mask)
    x = vectors(count, number, 20)
    y = network.reference(x)
    assert not y[:, ~mask].any()
    for row, results in zip(x[:, mask], y[:, mask], strict=True):
        for a, b in zip(results, truth(row, number, target), strict=True):
            assert abs(int(a) - b) < 1 + sums_to_one
    changed = np.where(mask, x, number.max)
    np.testing.assert_array_equal(network.reference(changed), y)


def test_a_mask_that_shows_all_is_none():
    x, y = Tensor((2, 3), Format(8, 4)), Format(8, 8, False)
    names = [node.name for node in softmax(x, y, mask=[True] * 3).nodes]
    assert names == [node.name for node in softmax(x, y).nodes]


@pytest.mark.parametrize(("count", "number", "target"), CASES, ids=IDS)
def test_order_is_kept_and_only_differences_matter(count, number, target):
    network = softmax(Tensor((count,), number), target)
    x = vectors(count, number, 20, seed=1)
    y = network.reference(x)
    for row, results in zip(x, y, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(results[order]) >= 0).all()
        for value in set(row.tolist()):
            assert len(set(results[row == value].tolist())) == 1
    shifted = x - x.min(axis=1, keepdims=True) + number.min
    np.testing.assert_array_equal(network.reference(shifted), y)


def test_equal_numbers_share_alike():
    network = softmax(Tensor((2, 4), Format(8, 4)), Format(8, 8, False))
    assert network.reference([[7] * 4, [-9] * 4]).tolist() == [[64] * 4] * 2


X = Tensor((4,), Format(8, 4))
REFUSED = {
    "input": (
        lambda: softmax(Format(8, 4), Format(8, 8, False)),
        TypeError,
        "softmax input must be a Tensor, not Format(width=8, frac=4, signed=True)",
    ),
    "format": (
        lambda: softmin(X, 8),
        TypeError,
        "softmin output_format must be a Format, not 8",
    ),
    "error": (
        lambda: log_softmax(X, Format(8, 4), 0.5),
        ValueError,
        "log_softmax error must be above 1/2, not 0.5",
    ),
    "kind of error": (
        lambda: softmax(X, Format(8, 8, False), "1"),
        TypeError,
        "softmax error must be a number, not '1'",
    ),
    "a sum that does not fit": (
        lambda: softmax(X, Format(8, 8, False), sums_to_one=True),
        ValueError,
        "softmax output_format must hold 1 to sum to one, not u8.8",
    ),
    "an error too small": (
        lambda: log_softmax(X, Format(16, 12), 0.51),
        ValueError,
        "log_softmax error must be one that its formats can meet, above 1.187, not 0.51",
    ),
    "a wide input": (
        lambda: softmax(Tensor((4,), Format(17, 4)), Format(8, 8, False)),
        ValueError,
        "Approximation input_format must have at most 16 bits, not 17",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused(make, error, message):
    with refused(error, message):
        make()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([0, 1, 1], TypeError, "softmax mask must be bools, not int64"),
        ([True] * 2, ValueError, "softmax mask must be broadcast to (2, 3), not have (2,)"),
        (
            [[True] * 3, [False] * 3],
            ValueError,
            "softmax mask must show a number along each last axis, not hide all",
        ),
    ],
)
def test_a_wrong_mask_is_refused(mask, error, message):
    with refused(error, message):
        softmax(Tensor((2, 3), Format(8, 4)), Format(8, 8, False), mask=mask)
