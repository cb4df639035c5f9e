# SPDX-License-Identifier: Apache-2.0
"""GLU, the gated linear unit, composed of other blocks."""

from fractions import Fraction
from functools import lru_cache

import numpy as np

from hdl import Target
from quant import FUNCTIONS, Approximation, Format, candidates

from .binary import Mul
from .block import Tensor, check_format, check_tensor
from .composition import Composition
from .configurations import Configuration, draw_shape
from .movement import cut
from .network import Network
from .nonlinearity import Nonlinearity
from .planner import plan


def glu(input: Tensor, output_format: Format, axis: int = -1, error: float = 1.0) -> Network:
    """``a * sigmoid(b)``, a and b the halves of x along an axis; less than ``error`` units wrong.

    With the sigmoid in p fraction bits, wrong by at most d, an exact product is wrong by at most
    ``max(|a|) * d * 2**-p``, and rounded once, counted after saturation: p is the fewest bits that
    meet the error.

    Error: less than ``error`` units of y

    Source: Y. Dauphin et al., Language modeling with gated convolutional networks, 2017, section 2
    (https://arxiv.org/abs/1612.08083)

    Parameters
    ----------
    input : Tensor of x, 16 bits at most, of an even length along the axis
    output_format : Format of y
    axis : int, of a frame
    error : above 1/2

    Raises
    ------
    TypeError, ValueError : as blocks do; an error that is not met

    >>> block = glu(Tensor((8, 16), Format(8, 4)), Format(8, 4))
    >>> print(block.reference(np.arange(128).reshape(8, 16) - 64)[4])
    [0 1 1 2 3 3 4 5]
    """
    check_tensor(input, "glu input")
    check_format(output_format, "glu output_format")
    rank = len(input.shape)
    if type(axis) is not int or not -rank <= axis < rank:
        raise ValueError(f"glu axis must be from {-rank} to {rank - 1}, not {axis!r}")
    length, axis = input.shape[axis], axis % rank
    if length % 2:
        raise ValueError(f"glu input must have an even length along axis {axis}, not {length}")
    if isinstance(error, bool) or not isinstance(error, int | float | Fraction):
        raise TypeError(f"glu error must be a number, not {error!r}")
    if not 0.5 < error:
        raise ValueError(f"glu error must be above 1/2, not {error}")
    x = input.format
    unit = Fraction(2) ** (output_format.frac - x.frac) * max(-x.min, x.max)
    for frac in range(1, 31):
        form = _gate(x, frac)
        assert form.max_error is not None  # measured when it was made
        if unit * Fraction(form.max_error) / (1 << frac) + Fraction(1, 2) < Fraction(error):
            break
    else:
        raise ValueError(f"glu error must be one that 30 bits can meet, not {error}")
    net, whole = Composition(x=input), (slice(None),) * axis
    net.add("a", lambda x: cut(x, (*whole, slice(0, length // 2))), "x")
    net.add("b", lambda x: cut(x, (*whole, slice(length // 2, length))), "x")
    net.add("gate", lambda b: Nonlinearity(b, form), "b")
    net.add("y", lambda a, gate: Mul(a, gate, output_format), "a", "gate")
    return net.network(y="y")


@lru_cache(maxsize=64)
def _gate(number: Format, frac: int) -> Approximation:
    """The sigmoid with ``frac`` fraction bits."""
    degrees = (0,) if number.width <= 8 else (0, 1, 2)  # small tables are the cheapest
    forms = candidates(FUNCTIONS["sigmoid"], number, Format(frac, frac, False), degrees=degrees)
    return min(forms, key=lambda form: (form.storage_bits, form.degree))


def glu_configuration(random: np.random.Generator, index: int) -> Configuration:
    shape = list(draw_shape(random, index))
    axis = int(random.integers(len(shape)))
    shape[axis] *= 2
    width = int(random.integers(6, 9))
    x = Tensor(tuple(shape), Format(width, width - int(random.integers(3, 5))))
    network = glu(x, Format(width, x.format.frac + int(random.integers(0, 3))), axis)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))
