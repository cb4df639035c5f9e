# SPDX-License-Identifier: Apache-2.0
"""Fixed-point numbers as plain integers: formats and the arithmetic that changes them."""

from .approximation import Approximation
from .bounds import (
    accumulator_format,
    attaining_inputs,
    dot_bounds,
    narrow_bounds,
    product_format,
    sum_format,
)
from .check import check_shape
from .fitting import approximate, candidates
from .floats import from_float, to_float
from .format import Format, Ints
from .function import FUNCTIONS, Function, Symmetry, celu, elu
from .kernels import DenseKernel, Kernel, PlainKernel, ProductKernel, SumKernel, Tile
from .matmul import Matmul
from .narrow import Overflow, Rounding, narrow
from .program import Program, ProgramInput, Step
from .rescale import Rule, rescale, rescale_bounds
from .softmax import Softmax

__all__ = [
    "FUNCTIONS",
    "Approximation",
    "DenseKernel",
    "Format",
    "Function",
    "Ints",
    "Kernel",
    "Matmul",
    "Overflow",
    "PlainKernel",
    "ProductKernel",
    "Program",
    "ProgramInput",
    "Rounding",
    "Rule",
    "Softmax",
    "Step",
    "SumKernel",
    "Symmetry",
    "Tile",
    "accumulator_format",
    "approximate",
    "attaining_inputs",
    "candidates",
    "celu",
    "check_shape",
    "dot_bounds",
    "elu",
    "from_float",
    "narrow",
    "narrow_bounds",
    "product_format",
    "rescale",
    "rescale_bounds",
    "sum_format",
    "to_float",
]
