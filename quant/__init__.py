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
from .function import (
    FUNCTIONS,
    Function,
    Symmetry,
    celu,
    elu,
    power,
    reciprocal,
    scaled_tanh,
    selu,
    swish,
)
from .kernels import (
    DenseKernel,
    Kernel,
    MaximumKernel,
    MoveKernel,
    PlainKernel,
    ProductKernel,
    SumKernel,
    TableKernel,
    Tile,
    WindowKernel,
)
from .matmul import Matmul
from .narrow import Overflow, Rounding, narrow
from .program import LoopKernel, Program, ProgramInput, Session, Step
from .rescale import Rule, rescale, rescale_bounds

__all__ = [
    "FUNCTIONS",
    "Approximation",
    "DenseKernel",
    "Format",
    "Function",
    "Ints",
    "Kernel",
    "LoopKernel",
    "Matmul",
    "MaximumKernel",
    "MoveKernel",
    "Overflow",
    "PlainKernel",
    "ProductKernel",
    "Program",
    "ProgramInput",
    "Rounding",
    "Rule",
    "Session",
    "Step",
    "SumKernel",
    "Symmetry",
    "TableKernel",
    "Tile",
    "WindowKernel",
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
    "power",
    "product_format",
    "reciprocal",
    "rescale",
    "rescale_bounds",
    "scaled_tanh",
    "selu",
    "sum_format",
    "swish",
    "to_float",
]
