# SPDX-License-Identifier: Apache-2.0
"""LayerNorm, RMSNorm, GroupNorm and InstanceNorm, composed of other blocks.

Sums and squares are exact. What is rounded is a root, a constant and a quotient, with as many bits
as the wanted error takes; so the error is bounded for every input.
"""

from fractions import Fraction
from math import ceil, isqrt, log2, prod

import numpy as np
from numpy.typing import ArrayLike

from hdl import Target
from quant import Format, Ints, accumulator_format, product_format

from .binary import Mul, Sub
from .block import Tensor, check_format, check_tensor, divisors
from .composition import ONE, Composition
from .configurations import Configuration
from .convolution import Convolution
from .division import Divide, SquareRoot
from .linear import Linear
from .movement import transpose
from .network import Network
from .planner import plan
from .weight import Weight


def layer_norm(
    input: Tensor,
    scale: ArrayLike,
    bias: ArrayLike,
    scale_format: Format,
    output_format: Format,
    epsilon: float = 1e-5,
) -> Network:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` along the last axis.

    Less than one output unit wrong for these integers of scale and bias, counted after saturation;
    epsilon is rounded to a multiple, above 0, of the square of a unit of x divided by n**3.

    Error: less than 1 unit of the output

    Source: J. L. Ba, J. R. Kiros, G. E. Hinton, Layer Normalization, 2016
    (https://arxiv.org/abs/1607.06450); ONNX LayerNormalization
    (https://onnx.ai/onnx/operators/onnx__LayerNormalization.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., n)
    scale : ints in scale_format, shape (n,)
    bias : ints with the fraction bits of the output and 2 more, shape (n,)
    scale_format, output_format : Format of scale and of y
    epsilon : above 0

    >>> scale, bias = np.full(16, 64), np.zeros(16, int)
    >>> block = layer_norm(Tensor((4, 16), Format(8, 4)), scale, bias, Format(8, 6), Format(8, 4))
    >>> print(block.reference(np.arange(64).reshape(4, 16))[0])
    [-26 -22 -19 -15 -12  -8  -5  -1   2   5   9  12  16  19  23  26]
    """
    return _norm("layer_norm", input, scale, bias, scale_format, output_format, epsilon, 0)


def rms_norm(
    input: Tensor,
    scale: ArrayLike,
    bias: ArrayLike,
    scale_format: Format,
    output_format: Format,
    epsilon: float = 1e-5,
) -> Network:
    """``x / sqrt(mean(x**2) + epsilon) * scale + bias`` along the last axis.

    Epsilon is rounded to a multiple, above 0, of the square of a unit of x divided by n; all else
    as :func:`layer_norm`.

    Error: less than 1 unit of the output

    Source: B. Zhang, R. Sennrich, Root Mean Square Layer Normalization, 2019
    (https://arxiv.org/abs/1910.07467); ONNX RMSNormalization
    (https://onnx.ai/onnx/operators/onnx__RMSNormalization.html)

    >>> scale, bias = np.full(16, 64), np.zeros(16, int)
    >>> block = rms_norm(Tensor((4, 16), Format(8, 4)), scale, bias, Format(8, 6), Format(8, 4))
    >>> print(block.reference(np.arange(64).reshape(4, 16))[0])
    [ 0  2  4  6  8  9 11 13 15 17 18 20 22 24 26 28]
    """
    return _norm("rms_norm", input, scale, bias, scale_format, output_format, epsilon, None)


def group_norm(
    input: Tensor,
    groups: int,
    scale: ArrayLike,
    bias: ArrayLike,
    scale_format: Format,
    output_format: Format,
    epsilon: float = 1e-5,
) -> Network:
    """layer_norm over all positions of a group of channels, scale and bias by channel.

    One group is a LayerNorm of the whole frame, as many as channels an InstanceNorm.

    Error: less than 1 unit of the output

    Source: Y. Wu, K. He, Group Normalization, 2018 (https://arxiv.org/abs/1803.08494); ONNX
    GroupNormalization (https://onnx.ai/onnx/operators/onnx__GroupNormalization.html)

    Parameters
    ----------
    input : Tensor of x, shape (*sizes, channels)
    groups : int, dividing the channels
    scale, bias : ints, shape (channels,); all else as :func:`layer_norm`

    >>> scale, bias = np.full(4, 64), np.zeros(4, int)
    >>> x, y = Tensor((16, 4), Format(8, 4)), Format(8, 4)
    >>> block = group_norm(x, 2, scale, bias, Format(8, 6), y)
    >>> print(block.reference(np.arange(64).reshape(16, 4))[0])
    [-26 -25 -26 -25]
    """
    check_tensor(input, "group_norm input")
    if type(groups) is not int or groups < 1 or input.shape[-1] % groups:
        raise ValueError(f"group_norm groups must divide {input.shape[-1]}, not be {groups!r}")
    return _norm("group_norm", input, scale, bias, scale_format, output_format, epsilon, groups)


def _norm(
    name: str,
    input: Tensor,
    scale: ArrayLike,
    bias: ArrayLike,
    scale_format: Format,
    output_format: Format,
    epsilon: float,
    groups: int | None,
) -> Network:
    """``groups``: of a group norm; 0 for the last axis; None for that without the mean."""
    check_tensor(input, f"{name} input")
    check_format(scale_format, f"{name} scale_format")
    check_format(output_format, f"{name} output_format")
    channels = input.shape[-1]
    gain = scale_format.check(scale, f"{name} scale")
    offset = Format(63, output_format.frac + 2).check(bias, f"{name} bias")
    for part, values in (("scale", gain), ("bias", offset)):
        if values.shape != (channels,):
            raise ValueError(f"{name} {part} must have shape ({channels},), not {values.shape}")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1e30:
        raise ValueError(f"{name} epsilon must be a number above 0, not {epsilon!r}")
    net = Composition(x=input)
    largest = max(1, int(np.abs(gain).max()))
    # Three quarters of a unit of z, times the largest scale, must stay below half a unit of y.
    bits = output_format.frac - scale_format.frac + ceil(log2(1.5 * largest + 1))
    if groups:
        source, shape = _grouped(net, groups)
    else:
        source, shape = "x", input.shape
    z = _normalised(net, source, bits, epsilon, centred=groups is not None)
    if groups:
        z = _ungrouped(net, z, groups, shape)
    rows = net.reshaped("z_rows", z, (input.size // channels, channels))
    tensor = net.tensors[rows]
    places = tensor.format.frac + scale_format.frac - output_format.frac - 2
    aligned = offset << places if places >= 0 else _shifted(offset, -places)
    weight = gain.reshape(channels, 1, 1)
    net.add(
        "scaled",
        Convolution(tensor, weight, aligned, scale_format, output_format, groups=channels),
        rows,
    )
    return net.network(y=net.reshaped("y", "scaled", input.shape))


def _shifted(values: Ints, places: int) -> Ints:
    """To nearest, ties up."""
    return values + (1 << places - 1) >> places


def _normalised(net: Composition, source: str, frac: int, epsilon: float, centred: bool) -> str:
    """Rows of mean 0 (if ``centred``) and mean square 1, three quarters of a unit wrong at most.

    With c = n * (x - mean), or c = x, and s the sum of its squares: ``z = c * sqrt(n) / root``,
    root being ``sqrt(s + epsilon * n**3)``, or ``sqrt(s + epsilon * n)``. The constant ``sqrt(n)``
    and the root are wrong by an eighth of a unit of z each at most, as no z exceeds ``sqrt(n)``.
    """
    tensor = net.tensors[source]
    count, shape = tensor.shape[-1], tensor.shape
    if centred:
        factor = Format(count.bit_length() + 1, 0)
        whole = product_format(factor, tensor.format, "norm")
        times = Weight(tensor, np.array(count), factor, whole)
        net.add("times", times, source)
        mean = net.spread("total_each", net.reduced("total", source, "sum"), shape)
        wide = Format(whole.width + 1, whole.frac)
        source = net.add("centred", lambda a, b: Sub(a, b, wide), "times", mean)
        tensor = net.tensors[source]
    number = tensor.format
    square = product_format(number, number, "norm")
    square = Format(square.width, square.frac, False)
    net.add("square", lambda a, b: Mul(a, b, square), source, source)
    exact = Fraction(epsilon) * count ** (3 if centred else 1) * Fraction(2) ** square.frac
    least = max(1, round(exact))
    ends = count * square.min + least, count * square.max + least
    wide = accumulator_format(*ends, square.frac, "norm")
    ones = np.ones((1, count), np.int64)
    squares = Linear(net.tensors["square"], ones, np.array([least]), ONE, wide)
    net.add("squares", squares, "square")
    # The root is at least sqrt(least); as small a share of it as is an eighth of a unit of sqrt(n).
    smallest = isqrt(least << 20) / 1024 / 2.0 ** (square.frac / 2)
    root_frac = max(0, frac + 2 + ceil(log2(max(1.0, count**0.5 / smallest))))
    top = isqrt(wide.max) + 1
    root_frac = max(root_frac, square.frac // 2)
    root_bits = (top << max(0, root_frac - square.frac // 2)).bit_length() + 1
    root = SquareRoot(net.tensors["squares"], Format(min(63, root_bits), root_frac, False))
    each = net.spread("root_each", net.add("root", root, "squares"), shape)
    constant_frac = frac + 2
    constant = isqrt(count << 2 * constant_frac)
    constant_format = Format(constant.bit_length() + 1, constant_frac)
    product = product_format(constant_format, number, "norm")
    scaled = Weight(tensor, np.array(constant), constant_format, product)
    net.add("scaled_up", scaled, source)
    z_format = Format(max(1, frac + isqrt(count).bit_length() + 2), frac)
    return net.add("z", lambda a, b: Divide(a, b, z_format, None), "scaled_up", each)


def _grouped(net: Composition, groups: int) -> tuple[str, tuple[int, ...]]:
    """Rows of all numbers of each group; the shape with the groups apart."""
    *sizes, channels = net.tensors["x"].shape
    apart = (prod(sizes), groups, channels // groups)
    flat = net.reshaped("apart", "x", apart)
    net.add("together", lambda x: transpose(x, (1, 0, 2)), flat)
    rows = (groups, apart[0] * apart[2])
    return net.reshaped("group_rows", "together", rows), apart


def _ungrouped(net: Composition, z: str, groups: int, apart: tuple[int, ...]) -> str:
    positions, _, width = apart
    split = net.reshaped("group_places", z, (groups, positions, width))
    return net.add("channels_last", lambda x: transpose(x, (1, 0, 2)), split)


def _parts(random: np.random.Generator, index: int) -> tuple[Tensor, Ints, Ints, Format, Format]:
    count = 1 if index == 0 else int(random.integers(2, 5 + index // 3))
    shape = (int(random.integers(1, 4)), count)
    width = int(random.integers(3, 8))
    x = Tensor(shape, Format(width, width - int(random.integers(2, 4)), bool(index % 2)))
    scale_format = Format(int(random.integers(3, 7)), 2)
    gain = random.integers(1, scale_format.max + 1, count)
    offset = random.integers(-20, 21, count)
    return x, gain, offset, scale_format, Format(int(random.integers(5, 10)), 4)


def layer_norm_configuration(random: np.random.Generator, index: int) -> Configuration:
    network = layer_norm(*_parts(random, index))
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def rms_norm_configuration(random: np.random.Generator, index: int) -> Configuration:
    network = rms_norm(*_parts(random, index))
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def group_norm_configuration(random: np.random.Generator, index: int) -> Configuration:
    x, gain, offset, scale_format, target = _parts(random, index)
    groups = int(random.choice(divisors(x.shape[-1])))
    network = group_norm(x, groups, gain, offset, scale_format, target)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))
