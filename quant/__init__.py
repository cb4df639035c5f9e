# SPDX-License-Identifier: Apache-2.0
"""Fixed-point numbers as plain integers: formats and the arithmetic that changes them."""

from .bounds import (
    accumulator_format,
    attaining_inputs,
    dot_bounds,
    narrow_bounds,
    product_format,
    sum_format,
)
from .check import check_shape
from .floats import from_float, to_float
from .format import Format, Ints
from .kernels import DenseKernel, FunctionKernel, Kernel, ProductKernel, SumKernel, Tile
from .matmul import Matmul
from .narrow import Overflow, Rounding, narrow
from .program import Program, ProgramInput, Step

__all__ = [
    "DenseKernel",
    "Format",
    "FunctionKernel",
    "Ints",
    "Kernel",
    "Matmul",
    "Overflow",
    "ProductKernel",
    "Program",
    "ProgramInput",
    "Rounding",
    "Step",
    "SumKernel",
    "Tile",
    "accumulator_format",
    "attaining_inputs",
    "check_shape",
    "dot_bounds",
    "from_float",
    "narrow",
    "narrow_bounds",
    "product_format",
    "sum_format",
    "to_float",
]
