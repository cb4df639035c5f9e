# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers, from the first step to the last: RNN, LSTM and GRU.

From the last step to the first is the same between two Rearranges that turn the steps round; both
directions meet in a Concat.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

import blocks
import quant
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.layers.activation import KINDS
from bitblocks.layers.dense import ordered_product
from bitblocks.precision import INSIDE
from bitblocks.quantisation import (
    Decision,
    Quantised,
    Stage,
    aligned,
    frac_for,
    means,
    rounded,
    rounded_bias,
)
from blocks import activation
from blocks.composition import Composition
from blocks.recurrent import extremes, smallest
from quant import Format, Ints, Overflow, Rounding, from_float, narrow_bounds, to_float

Function = tuple[str, tuple[float, ...]]
"""A name of KINDS, and its parameters."""

RELU: Function = ("relu", ())
SIGMOID: Function = ("sigmoid", ())
TANH: Function = ("tanh", ())

WEIGHTED = ("output_format", "weight_format", "recurrent_format", "weight_bits")
"""Fields of the precision file for all kinds."""

OUTPUTS = ("h", "h_last", "c_last")
"""What a layer may give: h of every step, h and c of the last."""

SUM_BITS, STATE_BITS = 3, 4
"""Bits that sums of gates, and cells or the state of a GRU, have more than other numbers."""
WIDEST = 16
"""Most bits of a number of which a function is taken."""
NUMBERS_LIMIT = 2**21
"""Most sums that formats are chosen from."""
ROUNDS_LIMIT = 1024
"""Most steps over which bounds may grow where the state is kept."""
FARTHEST = 2.0**10
"""Beyond which a function that still changes counts as one that always does."""
ENDLESS = 2.0**300
"""Stands for every larger bound."""


@dataclass(frozen=True, eq=False)
class Recurrent(Layer):
    """What all kinds have in common; x has the shape (steps, inputs).

    Parameters
    ----------
    weight, recurrent, bias : floats, shapes (..., units, inputs), (..., units, outputs) and (...,
        units), one for each gate where the kind has gates
    outputs : some of OUTPUTS, in their order
    initial : the state before the first step, floats, or None where a further source gives it;
        zeros if left out
    kept : whether the state lives on from frame to frame, so that frames follow each other in time
    functions : the kind's functions, in the order of its formulas; parameters become float32
    clip : float, the largest magnitude of what functions are taken of
    """

    weight: Floats
    recurrent: Floats
    bias: Floats
    outputs: tuple[str, ...] = ("h",)
    initial: tuple[Floats | None, ...] | None = None
    kept: bool = False
    functions: tuple[Function, ...] = (TANH,)
    clip: float = math.inf

    block: ClassVar[Any]
    gates: ClassVar[tuple[int, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ("h",)
    held: ClassVar[tuple[str, ...]] = ("h",)
    """What has the format of h, by its name in a step."""

    def __post_init__(self) -> None:
        short = tuple(
            (name, tuple(float(np.float32(value)) for value in parameters))
            for name, parameters in self.functions
        )
        object.__setattr__(self, "functions", short)
        object.__setattr__(self, "clip", float(np.float32(self.clip)))

    @property
    def tensors(self) -> tuple[str, ...]:
        if len(self.outputs) == 1:
            return (self.name,)
        return tuple(f"{self.name}.{output}" for output in self.outputs)

    @property
    def units(self) -> int:
        return self.weight.shape[-2]

    @property
    def _width(self) -> int:
        """Of h."""
        return self.units

    @property
    def _sizes(self) -> dict[str, int]:
        return {"h": self._width, "c": self.units}

    @property
    def _initial(self) -> tuple[Floats | None, ...]:
        return self.initial or tuple(np.zeros(self._sizes[name]) for name in self.states)

    def shape(self, source: Shape, *given: Shape) -> Any:
        kind = type(self).__name__
        rows = *self.gates, self.units
        for name, wanted in (
            ("weight", (*rows, self.weight.shape[-1])),
            ("recurrent", (*rows, self._width)),
            ("bias", rows),
        ):
            have = getattr(self, name).shape
            if have != wanted:
                raise InputError(f"{kind} {self.name} {name} must have shape {wanted}, not {have}")
        if len(source) != 2 or source[1] != self.weight.shape[-1]:
            raise InputError(
                f"{kind} {self.name} input must have steps of {self.weight.shape[-1]} numbers, "
                f"not shape {source}"
            )
        initial = dict(zip(self.states, self._initial, strict=True))
        constants = {name: np.shape(x) for name, x in initial.items() if x is not None}
        states = [name for name in self.states if name not in constants]
        if self.kept and states:
            raise InputError(
                f"{kind} {self.name} must have a constant initial state where it is kept"
            )
        if len(given) != len(states):
            raise InputError(
                f"{kind} {self.name} sources must be {1 + len(states)}, x and initial states that "
                f"are not constant, not {1 + len(given)}"
            )
        for name, first in (constants | dict(zip(states, given, strict=True))).items():
            if first != (self._sizes[name],):
                raise InputError(
                    f"{kind} {self.name} initial {name} must have shape {(self._sizes[name],)}, "
                    f"not {first}"
                )
        wanted = tuple(n for n in OUTPUTS if n in self.outputs and n[0] in self.states)
        if not wanted or self.outputs != wanted:
            raise InputError(
                f"{kind} {self.name} outputs must be some of {', '.join(OUTPUTS)} in that order, "
                f"not {self.outputs}"
            )
        shapes = self._shapes(source[0])
        return shapes[0] if len(shapes) == 1 else shapes

    def _shapes(self, steps: int) -> tuple[Shape, ...]:
        found = {"h": (steps, self._width), "h_last": (self._width,), "c_last": (self.units,)}
        return tuple(found[output] for output in self.outputs)

    # -- floats -------------------------------------------------------------------------------

    def evaluate(self, x: Floats, *given: Floats) -> Any:
        seen = self._run(self.states, x, *given)
        found = {"h": seen["h"]} | {f"{name}_last": seen[name][:, -1] for name in self.states}
        results = tuple(found[output] for output in self.outputs)
        return results[0] if len(results) == 1 else results

    def _run(self, names: tuple[str, ...], x: Floats, *given: Floats) -> dict[str, Floats]:
        """What there is at every step under these names, shape (frames, steps, ...)."""
        frames, steps = x.shape[:2]
        if self.kept:
            x = x.reshape(1, -1, x.shape[-1])
        own = iter(given)
        state = [
            np.broadcast_to(next(own) if first is None else first, (len(x), self._sizes[name]))
            for name, first in zip(self.states, self._initial, strict=True)
        ]
        rows = self.weight.reshape(-1, self.weight.shape[-1])
        sums = ordered_product(x, rows) + self.bias.ravel()
        seen: dict[str, list[Floats]] = {name: [] for name in names}
        for step in range(x.shape[1]):
            found = self._step(sums[:, step].reshape(len(x), *self.bias.shape), *state)
            state = [found[name] for name in self.states]
            for name, values in seen.items():
                values.append(found[name])
        stacked = {name: np.stack(values, 1) for name, values in seen.items()}
        return {n: y.reshape(frames, steps, *y.shape[2:]) for n, y in stacked.items()}

    def _step(self, sums: Floats, *state: Floats) -> dict[str, Floats]:
        """All there is in a step, by name, of ``W x + b``, shape (frames, gates, units)."""
        raise NotImplementedError

    def _of_h(self, h: Floats) -> Floats:
        """``R h``, shape (frames, gates, units)."""
        rows = self.recurrent.reshape(-1, self.recurrent.shape[-1])
        return ordered_product(h, rows).reshape(len(h), *self.bias.shape)

    def _value(self, number: int, x: Floats) -> Floats:
        """A function of what is clipped."""
        name, parameters = self.functions[number]
        return KINDS[name].real(np.clip(x, -self.clip, self.clip), *parameters)

    # -- bounds -------------------------------------------------------------------------------

    def _limits(self, stage: Stage) -> dict[str, float]:
        """The largest magnitudes of all there is in a step, whatever the data are."""
        x, *given = stage.sources
        own = iter(given)
        first = [
            float((_peaks(next(own)) if values is None else np.abs(values)).max())
            for values in self._initial
        ]
        channels = _peaks(x).reshape(-1, self.weight.shape[-1]).max(axis=0)
        rows = np.abs(self.weight).reshape(-1, len(channels))
        of_x = ordered_product(channels[np.newaxis], rows)[0] + self._constants
        rows = np.abs(self.recurrent).reshape(len(of_x), -1)
        of_h = ordered_product(np.ones((1, rows.shape[1])), rows)[0]
        steps = ROUNDS_LIMIT if self.kept else x.low.shape[0]
        peaks = first
        for _ in range(min(steps, ROUNDS_LIMIT)):
            before = peaks
            found = self._bounded(lambda h: float((of_x + h * of_h).max()), *before)
            peaks = [
                min(max(old, found[name]), ENDLESS)
                for name, old in zip(self.states, before, strict=True)
            ]
            if peaks == before:
                break
        return found | dict(zip(self.states, peaks, strict=True))

    @property
    def _constants(self) -> Floats:
        """Magnitudes of what is added to each sum."""
        return np.abs(self.bias).ravel()

    def _bounded(self, sums: Callable[[float], float], *peaks: float) -> dict[str, float]:
        """Magnitudes in a step behind states of magnitude ``peaks``; ``sums`` are of that of h."""
        raise NotImplementedError

    def _ends(self, number: int, peak: float) -> tuple[float, float]:
        """The smallest and largest value of a function of magnitudes up to ``peak``."""
        name, parameters = self.functions[number]
        peak = min(peak, self.clip)
        turns = np.nextafter([0.0, *parameters], math.inf)  # a function turns or jumps there alone
        y = KINDS[name].real(np.clip([-peak, peak, 0.0, *turns], -peak, peak), *parameters)
        return float(y.min()), float(y.max())

    def _magnitude(self, number: int, peak: float) -> float:
        return max(map(abs, self._ends(number, peak)))

    def _below_zero(self, *numbers: int) -> bool:
        """Whether one of these functions can be negative."""
        return any(self._ends(number, FARTHEST)[0] < 0 for number in numbers)

    def _reach(self, unit: float, *numbers: int) -> float:
        """From where on these functions stay within half a unit; infinite if one does not."""
        far = np.array([-FARTHEST, FARTHEST]) ** 3
        for power in range(-2, int(math.log2(FARTHEST))):
            near = np.array([-1.0, 1.0]) * 2.0**power
            if all(
                (np.abs(self._value(n, near) - self._value(n, far)) <= unit / 2).all()
                for n in numbers
            ):
                return 2.0**power
        return math.inf

    # -- integers -----------------------------------------------------------------------------

    def quantise(self, stage: Stage) -> Decision:
        """Formats are chosen from what the float layer does behind the integers of its sources."""
        steps, count = stage.sources[0].low.shape[0], len(stage.sources[0].frames)
        most = max(1, NUMBERS_LIMIT // (steps * self.bias.size))
        few = slice(0, most) if self.kept else slice(0, None, -(-count // most))
        floats = [source.floats()[few] for source in stage.sources]
        limits = self._limits(stage)
        seen = self._run(("before", *limits), *floats) | {"x": floats[0]}
        signed = any(source.format.signed for source in stage.sources[1:])
        signed |= any(bool((x < 0).any()) for x in self._initial if x is not None)
        target = np.concatenate([seen[name] for name in self.held])
        whole = replace(stage, target=target, bits=self._state_bits(stage))
        state = whole.range_format(_below(limits["h"]), signed or self._signed)
        formats = self._formats(stage, seen, limits) | {"output_format": state}
        own = {name: formats[FORMATS[name]] for name in self.states}
        initial = tuple(
            None if x is None else from_float(x, own[name])
            for name, x in zip(self.states, self._initial, strict=True)
        )
        loop = {
            "initial": initial,
            "sequences": tuple(name for name in self.outputs if name == "h"),
            "finals": tuple(name[0] for name in self.outputs if name != "h"),
            "kept": self.kept,
        }
        arguments = self._arguments(stage, seen, formats)
        block = self.block(input=stage.inputs[0], **arguments, **loop)
        ends = {name: (format.min, format.max) for name, format in own.items()}
        ends["h"] = self._state_ends(block.nodes[0].block.cell, state, initial)
        bounds = tuple(
            (np.full(shape, ends[name[0]][0]), np.full(shape, ends[name[0]][1]))
            for name, shape in zip(self.outputs, self._shapes(steps), strict=True)
        )
        read = [own[n] for n, x in zip(self.states, initial, strict=True) if x is None]
        conversions = (
            None if tensor.format == format else blocks.Identity(tensor, format)
            for tensor, format in zip(stage.inputs[1:], read, strict=True)
        )
        named = {name: x for name, x in arguments.items() if isinstance(x, Format)}
        return Decision(block, bounds, (None, *conversions), named)

    def _state_bits(self, stage: Stage) -> int:
        return stage.bits

    @property
    def _signed(self) -> bool:
        """Whether h may be below 0 behind an initial state that is not."""
        raise NotImplementedError

    def _formats(
        self, stage: Stage, seen: dict[str, Floats], limits: dict[str, float]
    ) -> dict[str, Format]:
        """Formats of what lies inside, by their fields of the precision file."""
        raise NotImplementedError

    def _sum_format(
        self, stage: Stage, seen: dict[str, Floats], limits: dict[str, float], *numbers: int
    ) -> Format:
        """The one whose error is least behind the functions, which are of these numbers."""
        bits = min(stage.activation_bits + SUM_BITS, WIDEST)
        peak = min(limits["sums"], self._reach(2.0**-stage.activation_bits, *numbers), self.clip)
        return stage.inner_format(
            "sum_format", seen["sums"], bits, _below(peak), True, self._of_sums
        )

    def _gate_format(self, stage: Stage, gates: Floats, peak: float) -> Format:
        bits, signed = min(stage.activation_bits, WIDEST), self._below_zero(0)
        return stage.inner_format("gate_format", gates, bits, _below(peak), signed)

    def _of_sums(self, sums: Floats) -> Floats:
        """What the functions make of the sums of all gates."""
        raise NotImplementedError

    def _arguments(
        self, stage: Stage, seen: dict[str, Floats], formats: dict[str, Format]
    ) -> dict[str, Any]:
        """Of the block: biases take up what their products lose in the mean."""
        of_x = _rounded(stage, "weight_format", self.weight, seen["x"])
        of_h = _rounded(stage, "recurrent_format", self.recurrent, seen["before"])
        frac = of_x.format.frac + stage.sources[0].format.frac
        return {
            "weight": of_x.codes,
            "recurrent": of_h.codes,
            "bias": rounded_bias(stage.name, self.bias + of_x.lost + of_h.lost, frac),
            "weight_format": of_x.format,
            "recurrent_format": of_h.format,
            "shift": of_x.shift,
            "recurrent_shift": of_h.shift,
            **formats,
        }

    def _state_ends(
        self, cell: blocks.Network, state: Format, initial: tuple[Ints | None, ...]
    ) -> tuple[int, int]:
        """The smallest and largest number of h behind the first step."""
        return state.min, state.max

    def _maker(self, number: int) -> Callable[[blocks.Tensor, Format], Any]:
        """What makes the block of a function."""
        (name, parameters), clip = self.functions[number], self.clip
        kind = KINDS[name]

        def made(tensor: blocks.Tensor, format: Format) -> Any:
            if kind.exact is not None:
                return kind.exact(tensor, format, (Rounding.RND, Overflow.SAT), *parameters)
            form = smallest(_real(name, parameters), tensor.format, format)
            return blocks.Nonlinearity(tensor, form)

        def clipped(tensor: blocks.Tensor, format: Format) -> Any:
            if -tensor.format.min <= clip * 2.0**tensor.format.frac:
                return made(tensor, format)
            net = Composition(x=tensor)
            ends = -Fraction(clip), Fraction(clip)
            net.add("clipped", activation.clip(tensor, *ends, tensor.format), "x")
            net.add("function", lambda x: made(x, format), "clipped")
            return net.network(y="function")

        return clipped


FORMATS = {"h": "output_format", "c": "cell_format"}
"""State -> field of the precision file."""


@lru_cache(maxsize=64)
def _real(name: str, parameters: tuple[float, ...]) -> quant.Function:
    function = KINDS[name].function
    assert function is not None
    return function(*parameters)


def _below(peak: float) -> float:
    """A little less, so that a number at the very end of a format may saturate by a unit."""
    return peak * (1 - 2.0**-32)


def _peaks(source: Quantised) -> Floats:
    """The largest magnitude of each number."""
    return np.maximum(*(np.abs(to_float(x, source.format)) for x in (source.low, source.high)))


class Rounded(NamedTuple):
    """A matrix of integers.

    Parameters
    ----------
    codes : as many as there are weights
    format : of those in the finest row
    shift : by how many fraction bits each row has less
    lost : what rounding takes from the mean of each sum over the data
    """

    codes: Ints
    format: Format
    shift: Ints
    lost: Floats


def _rounded(stage: Stage, name: str, weight: Floats, data: Floats) -> Rounded:
    """Each row with as many fraction bits as its largest weight allows."""
    rows, places = weight.reshape(-1, weight.shape[-1]), weight.shape[:-1]
    peaks = np.abs(rows).max(axis=1)
    override = stage.settings.inside.get(name)
    bits = stage.settings.weight_bits if override is None else override.width
    fracs = [frac_for(float(peak), bits, True) if peak else None for peak in peaks]
    frac, shift = aligned(fracs, None if override is None else override.frac)
    format = Format(bits, frac)
    codes = rounded(rows, bits, frac - shift)
    lost = rows - np.ldexp(to_float(codes, format), shift[:, np.newaxis])
    data = data.reshape(-1, weight.shape[-1])
    mean = means(data) if stage.calibrated else np.zeros(weight.shape[-1])
    found = ordered_product(mean[np.newaxis], lost).reshape(places)
    return Rounded(codes.reshape(weight.shape), format, shift.reshape(places), found)


@dataclass(frozen=True, eq=False)
class Rnn(Recurrent):
    """``h = f(W x + R h + b)``: blocks.rnn.

    Parameters
    ----------
    functions : f; tanh if left out
    """

    block = staticmethod(blocks.rnn)
    decides = (*WEIGHTED, "sum_format")

    def _step(self, sums: Floats, h: Floats) -> dict[str, Floats]:  # type: ignore[override]
        sums = sums + self._of_h(h)
        return {"before": h, "sums": sums, "h": self._of_sums(sums)}

    def _of_sums(self, sums: Floats) -> Floats:
        return self._value(0, sums)

    def _bounded(self, sums: Callable[[float], float], h: float) -> dict[str, float]:  # type: ignore[override]
        peak = sums(h)
        return {"sums": peak, "h": self._magnitude(0, peak)}

    @property
    def _signed(self) -> bool:
        return self._below_zero(0)

    def _formats(
        self, stage: Stage, seen: dict[str, Floats], limits: dict[str, float]
    ) -> dict[str, Format]:
        return {"sum_format": self._sum_format(stage, seen, limits, 0)}

    def _arguments(
        self, stage: Stage, seen: dict[str, Floats], formats: dict[str, Format]
    ) -> dict[str, Any]:
        """A plain rectifier takes exact sums."""
        own = {"activation": "relu" if self._plain else self._maker(0)}
        return super()._arguments(stage, seen, formats) | own

    def _state_ends(
        self, cell: blocks.Network, state: Format, initial: tuple[Ints | None, ...]
    ) -> tuple[int, int]:
        return (0, state.max) if self._plain else extremes(cell, "h_next")

    @property
    def _plain(self) -> bool:
        return self.functions == (RELU,) and self.clip == math.inf


@dataclass(frozen=True, eq=False)
class Lstm(Recurrent):
    """``i, f, o = s(W x + R h + b)``, ``c = f c + i t(...)``, ``h = o u(c)``: blocks.lstm.

    Parameters
    ----------
    weight, recurrent, bias : of the gates i, f, g, o
    initial : of h and c
    functions : s, t and u; sigmoid, tanh and tanh if left out
    peephole : floats, shape (3, units): of i, f, o; or None
    projection : floats, shape (outputs, units), or None
    """

    functions: tuple[Function, ...] = (SIGMOID, TANH, TANH)
    peephole: Floats | None = None
    projection: Floats | None = None

    block = staticmethod(blocks.lstm)
    gates = (4,)
    states = ("h", "c")
    decides = (*WEIGHTED, *INSIDE, "peephole_format", "projection_format")

    @property
    def _width(self) -> int:
        return self.units if self.projection is None else len(self.projection)

    def shape(self, source: Shape, *given: Shape) -> Any:
        for name, wanted in (
            ("peephole", (3, self.units)),
            ("projection", (self._width, self.units)),
        ):
            have = getattr(self, name)
            if have is not None and have.shape != wanted:
                raise InputError(
                    f"Lstm {self.name} {name} must have shape {wanted}, not {have.shape}"
                )
        return super().shape(source, *given)

    def _step(self, sums: Floats, h: Floats, c: Floats) -> dict[str, Floats]:  # type: ignore[override]
        sums, cell = sums + self._of_h(h), c
        if self.peephole is not None:
            sums[:, :2] += self.peephole[:2] * c[:, np.newaxis]
        i, f = (self._value(0, sums[:, row]) for row in (0, 1))
        g = self._value(1, sums[:, 2])
        c = f * c + i * g
        if self.peephole is not None:
            sums[:, 3] += self.peephole[2] * c
        o, shown = self._value(0, sums[:, 3]), self._value(2, c)
        mixed = o * shown
        squashed = [g, shown, *(() if self.projection is None else (mixed,))]
        return {
            "before": h,
            "sums": sums,
            "gates": np.stack([i, f, o], 1),
            "squashed": np.stack(squashed, 1),
            "cells": np.stack([cell, cell, c], 1),
            "c": c,
            "mixed": mixed,
            "h": mixed if self.projection is None else ordered_product(mixed, self.projection),
        }

    def _of_sums(self, sums: Floats) -> Floats:
        values = [self._value(n, sums[..., row, :]) for row, n in enumerate((0, 0, 1, 0))]
        return np.stack(values, -2)

    def _bounded(self, sums: Callable[[float], float], h: float, c: float) -> dict[str, float]:  # type: ignore[override]
        looked = 0.0 if self.peephole is None else float(np.abs(self.peephole).max())
        gate, taken = (self._magnitude(n, sums(h) + looked * c) for n in (0, 1))
        c = gate * (c + taken)
        peak, shown = sums(h) + looked * c, self._magnitude(2, c)
        mixed = max(gate, self._magnitude(0, peak)) * shown
        rows = np.ones((1, 1)) if self.projection is None else np.abs(self.projection)
        given = float(ordered_product(np.full((1, rows.shape[1]), mixed), rows).max())
        squashed = max(taken, shown, 0.0 if self.projection is None else mixed)
        return {
            "sums": peak,
            "gates": gate,
            "squashed": squashed,
            "cells": c,
            "c": c,
            "mixed": mixed,
            "h": given,
        }

    @property
    def _signed(self) -> bool:
        return self._below_zero(0, 2) or self.projection is not None

    def _formats(
        self, stage: Stage, seen: dict[str, Floats], limits: dict[str, float]
    ) -> dict[str, Format]:
        """A cell without data has room for what is flat to its function, and more."""
        bits = min(stage.activation_bits, WIDEST)
        wide = min(bits + STATE_BITS, WIDEST)
        cell = limits["c"] if self._reach(2.0**-bits, 2) == math.inf else min(limits["c"], ROOM)
        signed = self._below_zero(0, 1, 2)
        return {
            "sum_format": self._sum_format(stage, seen, limits, 0, 1),
            "gate_format": self._gate_format(stage, seen["gates"], limits["gates"]),
            "tanh_format": stage.inner_format(
                "tanh_format", seen["squashed"], bits, _below(limits["squashed"]), signed
            ),
            "cell_format": stage.inner_format("cell_format", seen["c"], wide, _below(cell), True),
        }

    def _arguments(
        self, stage: Stage, seen: dict[str, Floats], formats: dict[str, Format]
    ) -> dict[str, Any]:
        own: dict[str, Any] = {"activations": tuple(self._maker(n) for n in range(3))}
        if self.peephole is not None:
            looked = _rounded(stage, "peephole_format", self.peephole.reshape(1, -1), seen["cells"])
            own |= {
                "peephole": looked.codes.reshape(self.peephole.shape),
                "peephole_format": looked.format,
            }
        if self.projection is not None:
            given = _rounded(stage, "projection_format", self.projection, seen["mixed"])
            own |= {
                "projection": given.codes,
                "projection_format": given.format,
                "projection_shift": given.shift,
            }
        return super()._arguments(stage, seen, formats) | own

    def _state_ends(
        self, cell: blocks.Network, state: Format, initial: tuple[Ints | None, ...]
    ) -> tuple[int, int]:
        if self.projection is not None:
            return state.min, state.max
        mixed = next(node.block for node in cell.nodes if node.name == "h_next")
        a, b = (np.array(extremes(cell, name)) for name in ("output", "c_tanh"))
        products = np.outer(a, b)
        ends = np.array([products.min()]), np.array([products.max()])
        low, high = narrow_bounds(*ends, mixed.exact_format, state)
        return int(low[0]), int(high[0])


ROOM = 32.0
"""Largest magnitude of a cell without data, where its function is flat long before."""


@dataclass(frozen=True, eq=False)
class Gru(Recurrent):
    """``z, r = s(W x + R h + b)``, ``n = t(...)``, ``h = (1 - z) n + z h``: blocks.gru.

    Parameters
    ----------
    weight, recurrent, bias : of the gates z, r, n
    functions : s and t; sigmoid and tanh if left out
    recurrent_bias : floats, shape (units,), what is added to R h of n; zeros if left out
    reset_after : whether r acts on R h and that bias, instead of on h
    """

    functions: tuple[Function, ...] = (SIGMOID, TANH)
    recurrent_bias: Floats | None = None
    reset_after: bool = True

    block = staticmethod(blocks.gru)
    gates = (3,)
    held = ("h", "taken")
    decides = (*WEIGHTED, "sum_format", "gate_format")

    def shape(self, source: Shape, *given: Shape) -> Any:
        if self._own.shape != (self.units,):
            raise InputError(
                f"Gru {self.name} recurrent_bias must have shape {(self.units,)}, "
                f"not {self._own.shape}"
            )
        return super().shape(source, *given)

    @property
    def _own(self) -> Floats:
        return np.zeros(self.units) if self.recurrent_bias is None else self.recurrent_bias

    @property
    def _constants(self) -> Floats:
        own = np.abs(self.bias)
        own[2] += np.abs(self._own)
        return own.ravel()

    def _step(self, sums: Floats, h: Floats) -> dict[str, Floats]:  # type: ignore[override]
        of_h = self._of_h(h)
        sums = np.concatenate([sums[:, :2] + of_h[:, :2], sums[:, 2:]], 1)
        z, r = (self._value(0, sums[:, row]) for row in (0, 1))
        left = h if self.reset_after else r * h
        seen = (of_h[:, 2] if self.reset_after else self._of_h(left)[:, 2]) + self._own
        sums[:, 2] += r * seen if self.reset_after else seen
        n = self._value(1, sums[:, 2])
        return {
            "before": h,
            "sums": sums,
            "gates": np.stack([z, r], 1),
            "taken": n,
            "h": n + z * (h - n),
        }

    def _of_sums(self, sums: Floats) -> Floats:
        values = [self._value(n, sums[..., row, :]) for row, n in enumerate((0, 0, 1))]
        return np.stack(values, -2)

    @property
    def _mixes(self) -> bool:
        """Whether z is from 0 to 1, so that h stays between n and the former h."""
        least, most = self._ends(0, FARTHEST)
        return least >= 0 and most <= 1

    def _bounded(self, sums: Callable[[float], float], h: float) -> dict[str, float]:  # type: ignore[override]
        gate = self._magnitude(0, sums(h))
        peak = sums(h) * max(1.0, gate)
        taken = self._magnitude(1, peak)
        given = max(taken, h) if self._mixes else (1 + gate) * taken + gate * h
        return {"sums": peak, "gates": gate, "taken": taken, "h": max(given, taken)}

    def _state_bits(self, stage: Stage) -> int:
        """As many as a cell has: it takes small steps."""
        return max(stage.bits, min(stage.activation_bits + STATE_BITS, WIDEST))

    @property
    def _signed(self) -> bool:
        return self._below_zero(1) or not self._mixes

    def _formats(
        self, stage: Stage, seen: dict[str, Floats], limits: dict[str, float]
    ) -> dict[str, Format]:
        return {
            "sum_format": self._sum_format(stage, seen, limits, 0, 1),
            "gate_format": self._gate_format(stage, seen["gates"], limits["gates"]),
        }

    def _arguments(
        self, stage: Stage, seen: dict[str, Floats], formats: dict[str, Format]
    ) -> dict[str, Any]:
        arguments = super()._arguments(stage, seen, formats)
        frac = arguments["recurrent_format"].frac + formats["output_format"].frac
        return arguments | {
            "recurrent_bias": rounded_bias(stage.name, self._own, frac),
            "reset_after": self.reset_after,
            "activations": tuple(self._maker(n) for n in range(2)),
        }

    def _state_ends(
        self, cell: blocks.Network, state: Format, initial: tuple[Ints | None, ...]
    ) -> tuple[int, int]:
        (first,), (least, most) = initial, extremes(cell, "candidate")
        if first is None or not self._mixes:
            return state.min, state.max
        return min(least, int(first.min())), max(most, int(first.max()))
