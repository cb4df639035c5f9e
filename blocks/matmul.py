# SPDX-License-Identifier: Apache-2.0
"""The product of two streams of matrices, composed of other blocks."""

import numpy as np

from hdl import Target
from quant import Format, Overflow, Rounding, product_format

from .block import Tensor, check_format, check_tensor, to_modes
from .composition import Composition
from .configurations import Configuration, draw_fitting, draw_format, draw_modes
from .movement import transpose
from .network import Network
from .planner import plan


def matmul(
    input_a: Tensor,
    input_b: Tensor,
    output_format: Format,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> Network:
    """``y = narrow(a @ b)`` of two streams, exact sums of exact products, narrowed once.

    Matrices are repeated as often as they are needed, multiplied number by number and summed: with
    so many lanes in the sum there are as many multipliers, all busy. The rows of b travel as they
    are: with ``transpose_b`` each of them gives one sum, else each number of a meets a row.

    Source: ONNX MatMul (https://onnx.ai/onnx/operators/onnx__MatMul.html)

    Parameters
    ----------
    input_a : Tensor, shape (..., rows, inner), or (..., inner, rows) with ``transpose_a``
    input_b : Tensor, shape (..., inner, columns), or (..., columns, inner) with ``transpose_b``;
        leading axes equal those of a
    output_format : Format of y, shape (..., rows, columns)
    rounding, overflow : how the exact sums are narrowed
    transpose_a, transpose_b : whether the matrices come with their last two axes swapped

    >>> x = Tensor((8, 8), Format(8, 4))
    >>> block = matmul(x, x, Format(12, 4))
    >>> print(block.reference(np.arange(64).reshape(8, 8), np.eye(8, dtype=int) * 16)[1])
    [ 8  9 10 11 12 13 14 15]
    """
    check_tensor(input_a, "matmul input_a")
    check_tensor(input_b, "matmul input_b")
    check_format(output_format, "matmul output_format")
    rounding, overflow = to_modes("matmul", rounding, overflow)
    for name, tensor in (("input_a", input_a), ("input_b", input_b)):
        if len(tensor.shape) < 2:
            raise ValueError(f"matmul {name} must have 2 axes or more, not shape {tensor.shape}")
    *lead, rows, inner = _swapped(input_a.shape) if transpose_a else input_a.shape
    *lead_b, columns, depth = input_b.shape if transpose_b else _swapped(input_b.shape)
    if lead != lead_b or inner != depth:
        raise ValueError(
            f"matmul input_b must match input_a of shape {input_a.shape}, not have shape "
            f"{input_b.shape}"
        )
    net = Composition(a=input_a, b=input_b)
    a = net.add("a_turned", _turn, "a") if transpose_a else "a"
    if transpose_b:
        whole = (*lead, rows, columns, inner)
        a = net.reshaped("a_rows", a, (*lead, rows, 1, inner))
        b = net.reshaped("b_rows", "b", (*lead, 1, columns, inner))
        a, b, axis = net.spread("a_each", a, whole), net.spread("b_each", b, whole), -1
    else:
        a = net.reshaped("a_numbers", a, (*lead, rows, inner, 1))
        b = net.reshaped("b_rows", "b", (*lead, 1, inner, columns))
        b, axis = net.spread("b_each", b, (*lead, rows, inner, columns)), -2
    narrowed = output_format, rounding, overflow
    if inner == 1:  # no sum
        total = net.multiplied("product", b, a, *narrowed)
    else:
        product = net.multiplied("product", b, a)
        total = net.reduced("sum", product, "sum", *narrowed, axis=axis)
    return net.network(y=net.reshaped("y", total, (*lead, rows, columns)))


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _turn(tensor: Tensor):
    last = len(tensor.shape) - 1
    return transpose(tensor, (*range(last - 1), last, last - 1))


def matmul_configuration(random: np.random.Generator, index: int) -> Configuration:
    most = 3 + min(index // 4, 12)
    sizes = [1] * 3 if index == 0 else [int(n) for n in random.integers(1, most + 1, 3)]
    rows, inner, columns = sizes
    lead = (2,) if index % 5 == 4 else ()
    turned = bool(index & 1), bool(index & 2)
    a = Tensor((*lead, inner, rows) if turned[0] else (*lead, rows, inner), draw_format(random, 1))
    b = Tensor(
        (*lead, columns, inner) if turned[1] else (*lead, inner, columns), draw_format(random, 1)
    )
    exact = product_format(a.format, b.format)
    target = draw_fitting(random, exact.min * inner, exact.max * inner, exact.frac)
    network = matmul(a, b, target, *draw_modes(random, index), *turned)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))
