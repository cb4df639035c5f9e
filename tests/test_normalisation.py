# SPDX-License-Identifier: Apache-2.0
"""LayerNorm and its kin: below one unit from the truth, whatever comes."""

import mpmath
import numpy as np
import pytest
from refusal import refused

from blocks import Tensor, group_norm, layer_norm, rms_norm
from quant import Format

MP = mpmath.MPContext()
MP.prec = 150
SCALE = Format(8, 6)
CASES = [
    (1, Format(8, 4), Format(8, 4), 1e-5),
    (4, Format(8, 4), Format(10, 6), 1e-5),
    (16, Format(8, 3), Format(9, 5), 1e-5),
    (7, Format(6, 2, False), Format(8, 4), 1e-3),
    (64, Format(8, 5), Format(12, 8), 1e-5),
    (24, Format(12, 8), Format(16, 11), 1e-6),
]
IDS = [f"{n} {x} {y}" for n, x, y, _ in CASES]


def vectors(count, number, rows=30):
    """Uniform, small, two-level, constant, and one-hot rows."""
    random = np.random.default_rng(count)
    low, high = number.min, number.max
    uniform = random.integers(low, high + 1, (rows, count))
    hot = np.full((min(count, 8), count), low)
    np.fill_diagonal(hot, high)
    ends = [[low] * count, [high] * count, [0] * count]
    return np.concatenate([uniform, uniform // 16, random.integers(0, 2, (rows, count)), hot, ends])


def parameters(count):
    random = np.random.default_rng(count)
    return random.integers(-100, 128, count), random.integers(-50, 50, count)


def truth(row, number, gain, offset, target, epsilon, centred, groups=1):
    """In output units, limited to the range; epsilon as it is rounded."""
    values = [MP.ldexp(int(n), -number.frac) for n in row]
    count = len(values)
    mean = MP.fsum(values) / count if centred else MP.mpf(0)
    unit = MP.ldexp(1, -2 * number.frac) / count ** (3 if centred else 1)
    rounded = max(1, int(MP.nint(MP.mpf(epsilon) / unit))) * unit
    spread = MP.sqrt(MP.fsum((v - mean) ** 2 for v in values) / count + rounded)
    y = [
        (v - mean) / spread * MP.ldexp(int(g), -SCALE.frac) + MP.ldexp(int(b), -target.frac - 2)
        for v, g, b in zip(values, gain, offset, strict=True)
    ]
    return [min(max(MP.ldexp(v, target.frac), target.min), target.max) for v in y]


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
@pytest.mark.parametrize(("count", "number", "target", "epsilon"), CASES, ids=IDS)
def test_no_result_is_a_unit_off(norm, count, number, target, epsilon):
    gain, offset = parameters(count)
    x = vectors(count, number)
    network = norm(Tensor((count,), number), gain, offset, SCALE, target, epsilon)
    for row, y in zip(x, network.reference(x), strict=True):
        wanted = truth(row, number, gain, offset, target, epsilon, norm is layer_norm)
        assert max(abs(int(a) - b) for a, b in zip(y, wanted, strict=True)) < 1


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_are_normalised_by_themselves(groups):
    number, target = Format(8, 4), Format(10, 6)
    gain, offset = parameters(4)
    network = group_norm(Tensor((3, 2, 4), number), groups, gain, offset, SCALE, target)
    x = np.random.default_rng(groups).integers(-128, 128, (12, 3, 2, 4))
    for frame, y in zip(x, network.reference(x), strict=True):
        for first in range(0, 4, 4 // groups):
            part = slice(first, first + 4 // groups)
            gains, offsets = (np.tile(p[part], 6) for p in (gain, offset))
            row = frame[..., part].ravel()
            wanted = truth(row, number, gains, offsets, target, 1e-5, True)
            found = y[..., part].ravel()
            assert max(abs(int(a) - b) for a, b in zip(found, wanted, strict=True)) < 1


X = Tensor((4,), Format(8, 4))
ONES, Y = np.full(4, 64), Format(8, 4)
REFUSED = {
    "scale": (
        lambda: layer_norm(X, ONES[:3], ONES, SCALE, Y),
        "layer_norm scale must have shape (4,), not (3,)",
    ),
    "bias": (
        lambda: rms_norm(X, ONES, ONES[:2], SCALE, Y),
        "rms_norm bias must have shape (4,), not (2,)",
    ),
    "epsilon": (
        lambda: layer_norm(X, ONES, ONES, SCALE, Y, 0.0),
        "layer_norm epsilon must be a number above 0, not 0.0",
    ),
    "groups": (
        lambda: group_norm(X, 3, ONES, ONES, SCALE, Y),
        "group_norm groups must divide 4, not be 3",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused(make, message):
    with refused(ValueError, message):
        make()
