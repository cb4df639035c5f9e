# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax and Softmin over the last axis, composed of other blocks.

Each is a network: the largest number, distances from it, their exponentials, the sum of these, and
one exact division (or the logarithm of the sum). Where errors come in is in two places only, so
their sum is bounded, and the blocks are refused where the bound is not met.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hdl import Target
from quant import FUNCTIONS, Approximation, Format, Function, candidates, sum_format

from .binary import Add, Sub
from .block import Tensor, check_format, check_tensor
from .composition import ONE, Composition
from .configurations import Configuration
from .division import Divide
from .elementwise import Identity
from .linear import Linear
from .movement import Rearrange
from .network import Network
from .nonlinearity import Nonlinearity
from .planner import plan

Mask = NDArray[np.bool_]

DECAY = Function(
    "exp(-x)",
    lambda mp, x: mp.exp(-x),
    lambda x: Fraction(1) if x == 0 else None,
    lambda x: (Fraction(0), Fraction(1)),
)


def softmax(
    input: Tensor,
    output_format: Format,
    error: float = 1.0,
    sums_to_one: bool = False,
    mask: ArrayLike | None = None,
) -> Network:
    """``exp(x) / sum(exp(x))`` along the last axis, less than ``error`` output units wrong.

    With ``e = exp(x - max)`` in p fraction bits, each wrong by at most d, and s their exact sum,
    at least 1, a quotient is wrong by at most ``d * (1 + n) * 2**-p``, and rounded once: p is the
    fewest bits that meet the error.

    Error: less than ``error`` units of the output, 1 if left out, by the bound above

    Source: ONNX Softmax (https://onnx.ai/onnx/operators/onnx__Softmax.html); units and bound are
    our own

    Parameters
    ----------
    input : Tensor of x, 16 bits at most, shape (..., n)
    output_format : Format of y, unsigned or signed; 1 saturates where it does not fit
    error : above 1/2
    sums_to_one : each y is the difference of two rounded partial sums, so that all of an axis add
        up to exactly 1; then ``error`` holds for the partial sums, and y is less than twice that
        wrong. Output formats must hold 1.
    mask : bools, broadcast to the shape of x: which numbers count, at least one along each last
        axis; y is exactly 0 for the others

    Raises
    ------
    TypeError, ValueError : as blocks do; an error that is not met

    >>> block = softmax(Tensor((4, 16), Format(8, 4)), Format(8, 8, signed=False))
    >>> print(block.reference(np.arange(64).reshape(4, 16))[0])
    [10 10 11 12 12 13 14 15 16 17 18 19 20 22 23 25]
    """
    return _exponentials("softmax", input, output_format, error, sums_to_one, False, mask)


def softmin(
    input: Tensor, output_format: Format, error: float = 1.0, sums_to_one: bool = False
) -> Network:
    """``exp(-x) / sum(exp(-x))`` along the last axis; all else as :func:`softmax`.

    Error: as of softmax

    Source: ONNX Softmax (https://onnx.ai/onnx/operators/onnx__Softmax.html) of -x

    >>> block = softmin(Tensor((4, 16), Format(8, 4)), Format(8, 8, signed=False))
    >>> print(block.reference(np.arange(64).reshape(4, 16))[0])
    [25 23 22 20 19 18 17 16 15 14 13 12 12 11 10 10]
    """
    return _exponentials("softmin", input, output_format, error, sums_to_one, True, None)


def log_softmax(input: Tensor, output_format: Format, error: float = 1.0) -> Network:
    """``x - log(sum(exp(x)))`` along the last axis, less than ``error`` output units wrong.

    The sum s of the exponentials, at least 1 and wrong by at most ``n * d * 2**-p``, is narrowed to
    as few bits as do, 16 at most; a share r of it is an error of ``r / (1 - r)`` in its logarithm.

    Error: less than ``error`` units of the output, 1 if left out, by the bound above

    Source: ONNX LogSoftmax (https://onnx.ai/onnx/operators/onnx__LogSoftmax.html); units and bound
    are our own

    Parameters
    ----------
    input : Tensor of x, 16 bits at most, shape (..., n)
    output_format : Format of y
    error : above 1/2

    Raises
    ------
    TypeError, ValueError : as blocks do; an error that is not met

    >>> block = log_softmax(Tensor((4, 16), Format(8, 4)), Format(8, 4))
    >>> print(block.reference(np.arange(64).reshape(4, 16))[0])
    [-52 -51 -50 -49 -48 -47 -46 -45 -44 -43 -42 -41 -40 -39 -38 -37]
    """
    _check("log_softmax", input, output_format, error)
    net = Composition(x=input)
    count, shape = input.shape[-1], input.shape
    largest = _distances(net)
    unit = Fraction(1, 2) ** output_format.frac
    spare = (Fraction(error) - Fraction(5, 8)) * unit  # without the last rounding and the logarithm
    most = 15 - count.bit_length()  # of the sum's fraction: with its whole part 16 at most
    shares = ((bits, Fraction(3, 4 << bits)) for bits in range(1, most))  # 3/4 of its last bit
    bits = next((bits for bits, share in shares if share / (1 - share) < spare), most)
    terms_frac = max(4, bits + count.bit_length() + 2)
    form = _decay(net.tensors["distance"].format, terms_frac)
    net.add("power", Nonlinearity(net.tensors["distance"], form), "distance")
    total = net.reduced("total", "power", "sum")
    wide = net.tensors[total].format
    kept = Format(wide.width - wide.frac + bits, bits, False)
    net.add("sum", lambda x: Identity(x, kept), total)
    logs = Format(6 + output_format.frac + 3, output_format.frac + 3, False)
    logarithm = _logarithm(kept, logs)
    net.add("log", Nonlinearity(net.tensors["sum"], logarithm), "sum")
    share = _worst(form) * count / (1 << terms_frac) + Fraction(1, 2 << bits)
    bound = (share / (1 - share) + _worst(logarithm) / (1 << logs.frac)) / unit + Fraction(1, 2)
    _meet("log_softmax", bound, error)
    exact = sum_format(net.tensors[largest].format, logs)
    offset = net.add("offset", lambda a, b: Add(a, b, exact), largest, "log")
    each = net.spread("offset_each", offset, shape)
    net.add("y", lambda a, b: Sub(a, b, output_format), "x", each)
    return net.network(y="y")


def _exponentials(
    name: str,
    input: Tensor,
    output_format: Format,
    error: float,
    sums_to_one: bool,
    minimum: bool,
    mask: ArrayLike | None,
) -> Network:
    _check(name, input, output_format, error)
    shown = None if mask is None else check_mask(mask, input.shape, f"{name} mask")
    if sums_to_one and output_format.max < 1 << max(0, output_format.frac):
        raise ValueError(f"{name} output_format must hold 1 to sum to one, not {output_format}")
    net = Composition(x=input)
    _distances(net, minimum, shown)
    distance, shape = net.tensors["distance"], input.shape
    count = shape[-1]
    for frac in range(max(1, output_format.frac), 31):
        form = _decay(distance.format, frac)
        wrong = _worst(form) * (1 + count) / (1 << frac) * Fraction(2) ** output_format.frac
        if wrong + Fraction(1, 2) < Fraction(error):
            break
    else:
        raise ValueError(f"{name} error must be one that 30 bits can meet, not {error}")
    power = net.add("power", Nonlinearity(distance, form), "distance")
    power = masked(net, "counted", power, shown, 0)
    sums = net.reduced("total", power, "sum")
    total = net.spread("total_each", sums, shape)
    if not sums_to_one:
        net.add("y", lambda a, b: Divide(a, b, output_format, None), power, total)
        return net.network(y="y")
    ladder = np.tril(np.ones((count, count), np.int64))
    wide = net.tensors[sums].format
    parts = net.add(
        "partial", lambda x: Linear(x, ladder, np.zeros(count, np.int64), ONE, wide), power
    )
    net.add("rounded", lambda a, b: Divide(a, b, output_format, None), parts, total)
    steps = np.eye(count, dtype=np.int64) - np.eye(count, k=-1, dtype=np.int64)
    zeros = np.zeros(count, np.int64)
    net.add("y", lambda x: Linear(x, steps, zeros, ONE, output_format), "rounded")
    return net.network(y="y")


def _distances(net: Composition, minimum: bool = False, shown: Mask | None = None) -> str:
    """Add ``distance``, how far each x is from the extreme of its axis, which is given back."""
    x = net.tensors["x"]
    seen = masked(net, "seen", "x", shown, x.format.min)
    extreme = net.reduced("extreme", seen, "minimum" if minimum else "maximum")
    each = net.spread("extreme_each", extreme, x.shape)
    unsigned = Format(x.format.width, x.format.frac, False)
    ends = (seen, each) if minimum else (each, seen)
    net.add("distance", lambda a, b: Sub(a, b, unsigned), *ends)
    return extreme


def check_mask(mask: ArrayLike, shape: tuple[int, ...], name: str) -> Mask:
    """``mask`` broadcast to ``shape``, refused if it is none or hides all of a last axis."""
    shown = np.asarray(mask)
    if shown.dtype != bool:
        raise TypeError(f"{name} must be bools, not {shown.dtype}")
    try:
        shown = np.broadcast_to(shown, shape)
    except ValueError:
        raise ValueError(f"{name} must be broadcast to {shape}, not have {shown.shape}") from None
    if not shown.any(axis=-1).all():
        raise ValueError(f"{name} must show a number along each last axis, not hide all")
    return shown


def masked(net: Composition, name: str, source: str, shown: Mask | None, fill: int) -> str:
    """``source`` with ``fill`` in place of what a mask hides."""
    if shown is None or shown.all():
        return source
    index = np.where(shown, np.arange(shown.size).reshape(shown.shape), -1)
    return net.add(name, lambda x: Rearrange(x, index, fill), source)


@lru_cache(maxsize=64)
def _decay(number: Format, frac: int) -> Approximation:
    """``exp(-x)`` of an unsigned format, exactly 1 at 0, with ``frac`` fraction bits."""
    degrees = (0,) if number.width <= 8 else (0, 1, 2)  # small tables are the cheapest
    forms = candidates(DECAY, number, Format(frac + 1, frac, False), degrees=degrees)
    exact = [form for form in forms if int(form.reference(np.zeros(1, np.int64))[0]) == 1 << frac]
    return min(exact, key=lambda form: (form.storage_bits, form.degree))


@lru_cache(maxsize=64)
def _logarithm(number: Format, target: Format) -> Approximation:
    """``log(x)`` of an unsigned format; below 1, where no sum is, as at its end."""
    forms = candidates(FUNCTIONS["log"], number, target, undefined=0.0)
    return min(forms, key=lambda form: (form.storage_bits, form.degree))


def _worst(form: Approximation) -> Fraction:
    assert form.max_error is not None  # measured when it was made
    return Fraction(form.max_error)


def _meet(name: str, bound: Fraction, error: float) -> None:
    if not bound < Fraction(error):
        raise ValueError(
            f"{name} error must be one that its formats can meet, above {float(bound):.3f}, "
            f"not {error}"
        )


def _check(name: str, input: Tensor, output_format: Format, error: float) -> None:
    check_tensor(input, f"{name} input")
    check_format(output_format, f"{name} output_format")
    if isinstance(error, bool) or not isinstance(error, int | float | Fraction):
        raise TypeError(f"{name} error must be a number, not {error!r}")
    if not 0.5 < error:
        raise ValueError(f"{name} error must be above 1/2, not {error}")


def _configuration(compose: Callable[..., Network], positive: bool, masks: bool = False) -> Any:
    def configuration(random: np.random.Generator, index: int) -> Configuration:
        # a logarithm of 1 alone is constant: yosys leaves half of its circuit out
        count = 1 if index == 0 and positive else int(random.integers(2, 5 + index // 3))
        shape = (count,) if index % 3 else (int(random.integers(1, 4)), count)
        width = int(random.integers(3, 8))
        x = Tensor(shape, Format(width, width - int(random.integers(2, 4)), bool(index % 2)))
        bits = int(random.integers(4, 9))
        target = Format(bits + 1, bits, False) if positive else Format(bits + 2, bits - 2)
        options = {}
        if masks and index % 4 == 3:
            hidden = random.integers(0, 2, shape, np.int64, endpoint=False).astype(bool)
            options["mask"] = hidden | (np.arange(count) == int(random.integers(count)))
        network = compose(x, target, **options)
        return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))

    return configuration


softmax_configuration = _configuration(softmax, positive=True, masks=True)
softmin_configuration = _configuration(softmin, positive=True)
log_softmax_configuration = _configuration(log_softmax, positive=False)
