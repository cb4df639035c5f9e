# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers: Linear, and Neuron with a single output."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import (
    Cost,
    Events,
    Mac,
    MacArray,
    Parallel,
    ParallelArray,
    Requantisation,
    Requantiser,
    Series,
    Target,
    chain,
)
from hdl.cost import memory_style
from hdl.requantise import requantised
from quant import DenseKernel, Format, Ints, Kernel, Overflow, Rounding

from .block import (
    Candidate,
    Tensor,
    check_format,
    check_mapping,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_ends,
    draw_fitting,
    draw_format,
    draw_integers,
    draw_modes,
    draw_shape,
)

MAX_SHIFT = 4
"""Most fraction bits by which the rows of one weight matrix may differ."""


@dataclass(frozen=True)
class Folded:
    """Plan: ``pe`` rows and ``simd`` columns of the matrix in a cycle, a multiplier for each.

    Parameters
    ----------
    pe, simd : int, dividing outputs and inputs
    weight_style : "block" or "logic", what the memory of the weights becomes
    buffer_style : "block", "distributed" or "registers", what the memory of one vector becomes
    """

    pe: int
    simd: int
    weight_style: str = "logic"
    buffer_style: str = "registers"

    def __post_init__(self) -> None:
        check_mapping(self, rom="weight_style", ram="buffer_style")


@dataclass(frozen=True)
class Unrolled:
    """Plan: the whole matrix as one shift-add graph, a vector a cycle.

    Parameters
    ----------
    adders_per_stage : int, adders between two registers
    narrow_stages : int, registers behind those: 2 behind the sum with its constant and behind the
        narrowed number, 1 behind the latter alone, or 0
    held : bool, whether a vector stays in a register at the entry until its sums are taken: one at
        a time, no value has two registers, and none of these waits
    """

    adders_per_stage: int = 1
    narrow_stages: int = 2
    held: bool = False

    def __post_init__(self) -> None:
        check_mapping(self)
        if self.adders_per_stage < 1:
            raise ValueError(
                f"Unrolled adders_per_stage must be at least 1, not {self.adders_per_stage}"
            )
        if self.narrow_stages not in (0, 1, 2):
            raise ValueError(
                f"Unrolled narrow_stages must be 0, 1 or 2, not {self.narrow_stages!r}"
            )


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = narrow((W << shift) @ x + b)`` on the last axis: exact sums, narrowed once.

    Source: ONNX Gemm (https://onnx.ai/onnx/operators/onnx__Gemm.html); Y. Umuroglu et al., FINN,
    2017 (https://arxiv.org/abs/1612.07119), of the folding; R. I. Hartley, Subexpression Sharing in
    Filters, 1996, of the shift-add graph

    Parameters
    ----------
    input : Tensor of x, shape (..., inputs); leading axes are positions with the same weights
    weight : ints in weight_format, shape (outputs, inputs)
    bias : ints with ``weight_format.frac + input.format.frac`` fraction bits, shape (outputs,)
    weight_format, output_format : Format of W and of y
    shift : ints 0 to 4, shape (outputs,), 0 if left out: row j of W stands for
        ``weight[j] << shift[j]``, it has ``shift[j]`` fraction bits less than weight_format
    rounding, overflow : how the sums are narrowed; an unsigned y that saturates is a free ReLU

    >>> weight = np.random.default_rng(0).integers(-128, 128, (8, 64))
    >>> x, bias = Tensor((64,), Format(8, 4)), np.arange(8) * 100
    >>> block = Linear(x, weight, bias, Format(8, 7), Format(8, 0))
    >>> print(block.reference(np.arange(64)))
    [ 7  2 20 -8 -3 19 -2  4]
    """

    input: Tensor
    weight: Ints
    bias: Ints
    weight_format: Format
    output_format: Format
    shift: Ints | None = None
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Linear input")
        check_format(self.weight_format, "Linear weight_format")
        check_format(self.output_format, "Linear output_format")
        check_modes(self)
        inputs = self.input.shape[-1]
        quant.check_shape(self.weight, ("outputs", inputs), "Linear weight")
        outputs = len(self.weight)
        quant.check_shape(self.bias, (outputs,), "Linear bias")
        weight = self.weight_format.check(self.weight, "Linear weight")
        bias = Format(63, self._frac).check(self.bias, "Linear bias")
        shift = np.zeros(outputs, np.int64) if self.shift is None else self.shift
        quant.check_shape(shift, (outputs,), "Linear shift")
        if not np.issubdtype(np.asarray(shift).dtype, np.integer):
            raise TypeError(f"Linear shift must be integers, not {np.asarray(shift).dtype}")
        shift = np.asarray(shift).astype(np.int64)
        if shift.min() < 0 or shift.max() > MAX_SHIFT:
            raise ValueError(
                f"Linear shift must be between 0 and {MAX_SHIFT}, "
                f"not span [{shift.min()}, {shift.max()}]"
            )
        for attribute, value in (("weight", weight), ("bias", bias), ("shift", shift)):
            value.setflags(write=False)
            object.__setattr__(self, attribute, value)
        _ = self.sum_format

    @property
    def _frac(self) -> int:
        return self.weight_format.frac + self.input.format.frac

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": self._output}

    @cached_property
    def _output(self) -> Tensor:
        shape = *self.input.shape[:-1], len(self.weight)
        least, most = np.array(self.input.channels, np.int64).T
        positive, negative = self.matrix.clip(0), self.matrix.clip(None, 0)
        low = positive @ least + negative @ most + self.bias  # within sum_format, so exact
        high = positive @ most + negative @ least + self.bias
        modes = self.rounding, self.overflow
        ends = quant.narrow_bounds(low, high, self.sum_format, self.output_format, *modes)
        return Tensor.between(shape, self.output_format, *ends)

    @property
    def positions(self) -> int:
        """Vectors in a frame."""
        return self.input.size // self.input.shape[-1]

    @property
    def shifts(self) -> Ints:
        """``shift``, zeros if it was left out, shape (outputs,)."""
        return np.zeros(len(self.weight), np.int64) if self.shift is None else self.shift

    @cached_property
    def matrix(self) -> Ints:
        """``W << shift``, shape (outputs, inputs)."""
        return self.weight << self.shifts[:, None]

    @cached_property
    def sum_format(self) -> Format:
        """Format of the sums before they are narrowed, exact for these weights."""
        low, high = quant.dot_bounds(self.matrix, self.input.format, "Linear")
        # In Python's integers: the sum of two int64 could wrap.
        ends = [
            n + b
            for n, b in zip((*low.tolist(), *high.tolist()), 2 * self.bias.tolist(), strict=True)
        ]
        return quant.accumulator_format(min(ends), max(ends), self._frac, "Linear")

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., inputs) -> (..., outputs)."""
        values = self.input.check(x, "Linear input")
        sums = values @ self.matrix.T + self.bias
        return quant.narrow(sums, self.sum_format, self.output_format, self.rounding, self.overflow)

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        return DenseKernel(
            self.matrix,
            self.bias,
            self.weight_format.frac,
            self.input.format,
            self.output_format,
            self.rounding,
            self.overflow,
            self.positions,
            "Linear",
        )

    def plans(self, target: Target) -> Iterator[Candidate]:
        """Every folding that divides the matrix, from few multipliers to many, then unrolled."""
        outputs, inputs = self.weight.shape
        pairs = [(pe, simd) for pe in divisors(outputs) for simd in divisors(inputs)]
        for pe, simd in sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair)):
            if pe * simd < outputs * inputs and self.weight.any():
                plan = self._folded(pe, simd, target)
                interval = self.positions * outputs * inputs // (pe * simd)
                yield Candidate(plan, interval, partial(self.cost, plan, target))
        price = partial(self.cost, Unrolled(), target)
        yield Candidate(Unrolled(), self.positions, price, unrolled=True)

    def _folded(self, pe: int, simd: int, target: Target) -> Folded:
        """The folding with the memories that suit the target."""
        steps = self.weight.size // (pe * simd)
        weights = memory_style(target, steps, pe * simd * self.weight_format.width, writable=False)
        words = self.weight.shape[1] // simd
        return Folded(
            pe, simd, weights, memory_style(target, words, simd * self.input.format.width)
        )

    def lanes(self, plan: Folded | Unrolled) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        outputs, inputs = self.weight.shape
        _check_folding(plan, outputs, inputs, "Linear")
        if isinstance(plan, Unrolled):
            return {"i": inputs, "o": outputs}
        return {"i": plan.simd, "o": plan.pe}

    def design(self, plan: Folded | Unrolled) -> tuple[Mac | Parallel, Requantisation]:
        """The two parts of the circuit: exact sums, and what narrows them."""
        self.lanes(plan)
        return _design(self, plan)

    def rtl(self, plan: Folded | Unrolled) -> Series:
        """A new circuit: exact sums, then what narrows them."""
        part, requantisation = self.design(plan)
        sums = MacArray(part) if isinstance(part, Mac) else ParallelArray(part)
        return Series(sums=sums, narrow=Requantiser(requantisation))

    def timing(self, plan: Folded | Unrolled) -> Events:
        """When every transfer of a frame happens."""
        part, requantisation = self.design(plan)
        return chain(part.events(), requantisation.events().repeated(part.groups)).repeated(
            self.positions
        )

    def cost(self, plan: Folded | Unrolled, target: Target) -> Cost:
        """What it takes on a target."""
        part, requantisation = self.design(plan)
        return part.inventory().cost(target) + requantisation.inventory().cost(target)


@lru_cache(maxsize=256)  # timing, cost and rtl of one plan need the same design
def _design(linear: Linear, plan: Folded | Unrolled) -> tuple[Mac | Parallel, Requantisation]:
    narrowing = linear._frac, linear.output_format, linear.rounding, linear.overflow
    rest = linear.shifts, linear.bias, *narrowing
    if isinstance(plan, Unrolled):
        channels = linear.input.channels
        weight = np.where([low < high for low, high in channels], linear.weight, 0)
        part = Parallel(weight, linear.input.format, plan.adders_per_stage, channels, plan.held)
        return requantised(part, *rest, stages=plan.narrow_stages)
    styles = plan.weight_style, plan.buffer_style
    mac = Mac(linear.weight, linear.input.format, plan.pe, plan.simd, *styles)
    core, requantisation = requantised(mac.core, *rest)
    return mac.over(core), requantisation


@dataclass(frozen=True, eq=False)
class Neuron:
    """``y = narrow(w @ x + b)``: a Linear with a single output.

    Source: F. Rosenblatt, The Perceptron, 1958; mappings as of Linear

    Parameters
    ----------
    input : Tensor of x, shape (..., inputs)
    weight : ints in weight_format, shape (inputs,)
    bias : int with ``weight_format.frac + input.format.frac`` fraction bits
    weight_format, output_format : Format of w and of y
    rounding, overflow : how the sum is narrowed; an unsigned y that saturates is a free ReLU

    >>> weight = np.random.default_rng(0).integers(-128, 128, 64)
    >>> block = Neuron(Tensor((64,), Format(8, 4)), weight, 5, Format(8, 7), Format(12, 4))
    >>> print(block.reference(np.arange(64)))
    [115]
    """

    input: Tensor
    weight: Ints
    bias: int
    weight_format: Format
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Neuron input")
        check_format(self.weight_format, "Neuron weight_format")
        check_format(self.output_format, "Neuron output_format")
        check_modes(self)
        quant.check_shape(self.weight, (self.input.shape[-1],), "Neuron weight")
        weight = self.weight_format.check(self.weight, "Neuron weight")
        weight.setflags(write=False)
        object.__setattr__(self, "weight", weight)
        quant.check_shape(self.bias, (), "Neuron bias")
        frac = self.weight_format.frac + self.input.format.frac
        object.__setattr__(self, "bias", int(Format(63, frac).check(self.bias, "Neuron bias")))
        _ = self.linear

    @cached_property
    def linear(self) -> Linear:
        """The same as a Linear with one output."""
        return Linear(
            self.input,
            self.weight[None],
            np.array([self.bias]),
            self.weight_format,
            self.output_format,
            None,
            self.rounding,
            self.overflow,
        )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return self.linear.inputs

    @property
    def outputs(self) -> dict[str, Tensor]:
        return self.linear.outputs

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., inputs) -> (..., 1)."""
        return self.linear.reference(self.input.check(x, "Neuron input"))

    def kernel(self) -> Kernel:
        """The reference on tiles of floats."""
        return self.linear.kernel()

    def plans(self, target: Target) -> Iterator[Candidate]:
        """Folded over the inputs, then unrolled."""
        return self.linear.plans(target)

    def _mapped(self, plan: Folded | Unrolled) -> Linear:
        _check_folding(plan, 1, len(self.weight), "Neuron")
        return self.linear

    def lanes(self, plan: Folded | Unrolled) -> dict[str, int]:
        """Port name -> numbers in a transfer."""
        return self._mapped(plan).lanes(plan)

    def rtl(self, plan: Folded | Unrolled) -> Series:
        """A new circuit."""
        return self._mapped(plan).rtl(plan)

    def timing(self, plan: Folded | Unrolled) -> Events:
        """When every transfer of a frame happens."""
        return self._mapped(plan).timing(plan)

    def cost(self, plan: Folded | Unrolled, target: Target) -> Cost:
        """What it takes on a target."""
        return self._mapped(plan).cost(plan, target)


def _check_folding(plan: Any, outputs: int, inputs: int, name: str) -> None:
    """Raise an error unless a plan is one for a matrix of this shape."""
    if not isinstance(plan, Folded | Unrolled):
        raise TypeError(f"{name} plan must be Folded or Unrolled, not {plan!r}")
    if isinstance(plan, Unrolled):
        return
    if min(plan.pe, plan.simd) < 1 or outputs % plan.pe or inputs % plan.simd:
        raise ValueError(
            f"{name} pe and simd must divide {outputs} outputs and {inputs} inputs, "
            f"not be {plan.pe} and {plan.simd}"
        )


def linear_parts(random: np.random.Generator, index: int, outputs: int) -> dict[str, Any]:
    """Arguments of a Linear."""
    inputs = 1 if index == 0 else int(random.integers(1, 6 + index))
    shape = (*draw_shape(random, index)[:-2], inputs)
    tensor = Tensor(shape, draw_format(random, index))
    number = draw_format(random, index)
    weight = draw_integers(random, number, (outputs, tensor.shape[-1]))
    frac = tensor.format.frac + number.frac
    lows, highs = quant.dot_bounds(weight, tensor.format)
    low, high = int(lows.min()), int(highs.max())
    bias = random.integers(low // 2 - 1, high // 2 + 2, outputs)
    target = draw_fitting(random, low + int(bias.min()), high + int(bias.max()), frac)
    rounding, overflow = draw_modes(random, index)
    return {
        "input": tensor,
        "weight": weight,
        "bias": bias,
        "weight_format": number,
        "output_format": target,
        "rounding": rounding,
        "overflow": overflow,
    }


def _linear_plan(random: np.random.Generator, block: Linear, index: int) -> Folded | Unrolled:
    plans = [candidate.plan for candidate in block.plans(Target.named("ecp5"))]
    folded = [p for p in plans if isinstance(p, Folded) and p.pe * p.simd <= 64]
    if not folded or index % 3 == 2:
        return Unrolled(1 + index % 2, (1, 2, 0)[index // 3 % 3], index % 4 > 1)
    return folded[random.integers(len(folded))]


def linear_configuration(random: np.random.Generator, index: int) -> Configuration:
    outputs = 1 if index == 0 else int(random.integers(1, 6 + index // 2))
    parts = linear_parts(random, index, outputs)
    if index % 5 == 3:
        parts["input"] = draw_ends(random, parts["input"])
    shift = random.integers(0, 5, outputs) if index % 2 else None
    block = Linear(**parts, shift=shift)
    return Configuration(block, _linear_plan(random, block, index))


def neuron_configuration(random: np.random.Generator, index: int) -> Configuration:
    parts = linear_parts(random, index, 1)
    parts["weight"], parts["bias"] = parts["weight"][0], int(parts["bias"][0])
    block = Neuron(**parts)
    return Configuration(block, _linear_plan(random, block.linear, index))
