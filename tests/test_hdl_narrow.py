# SPDX-License-Identifier: Apache-2.0
"""Narrowing in hardware: every input of thousands of casts, against its twin and exact fractions.

The casts of a group stand side by side in one Verilog module, which sees every code of 6 bits.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth_bench import run
from narrow_oracle import OVERFLOWS, ROUNDINGS, exact_narrow, small_formats

import hdl
import quant
from hdl import Narrowing, joined, shape, verilog
from hdl.narrow import simplest_rounding
from quant import Format, Overflow, Rounding
from sim import Design, StreamPort, simulate_bulk, to_bytes

WIDEST = 6
CODES = Format(WIDEST, 0, False)
PAIRS = [(r, o) for r in ROUNDINGS for o in OVERFLOWS]


@dataclass(frozen=True)
class Cast:
    """One narrowing; ``bounds`` of its value, or None."""

    source: Format
    target: Format
    rounding: str
    overflow: str
    bounds: tuple[int, int] | None

    @property
    def modes(self):
        return Rounding(self.rounding), Overflow(self.overflow)

    def inputs(self):
        """Every integer that it may meet."""
        low, high = self.bounds or (self.source.min, self.source.max)
        return range(low, high + 1)


@cache
def formats():
    return small_formats(WIDEST)


def random_casts(count, seed):
    """``count`` casts of each pair of modes; every third knows bounds of its value."""
    random = np.random.default_rng(seed)
    casts = []
    for n in range(count):
        for rounding, overflow in PAIRS:
            source, target = (formats()[k] for k in random.integers(0, len(formats()), 2))
            bounds = None
            if n % 3 == 2:
                low, high = sorted(random.integers(source.min, source.max + 1, 2).tolist())
                bounds = low, high
            casts.append(Cast(source, target, rounding, overflow, bounds))
    return casts


class Casts(wiring.Component):
    """Each code through many casts at once; every source reads its low bits."""

    def __init__(self, casts):
        self.casts = casts
        bits = sum(cast.target.width for cast in casts)
        code = data.ArrayLayout(shape(CODES), 1)
        super().__init__(
            {
                "i": In(stream.Signature(code)),
                "o": Out(stream.Signature(data.ArrayLayout(1, bits))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        enables = joined(m, [self.i], 1, self.o)
        code = Signal(CODES.width, reset_less=True)
        with m.If(enables[0]):
            m.d.sync += code.eq(self.i.payload[0])
        results = []
        for n, cast in enumerate(self.casts):
            value = Signal(shape(cast.source), name=f"value_{n}")
            m.d.comb += value.eq(code[: cast.source.width])
            y = hdl.narrow(value, cast.source, cast.target, *cast.modes, cast.bounds)
            assert y.shape() == shape(cast.target)
            results.append(y)
        m.d.comb += self.o.payload.as_value().eq(Cat(results))
        return m


def differences(casts, seed):
    """(inputs tried, results that differ from the twin or from exact fractions)."""
    name = f"casts_{seed}"
    circuit = Casts(casts)
    bits = sum(cast.target.width for cast in casts)
    ports = (StreamPort.plain("i", "in", WIDEST), StreamPort.plain("o", "out", bits))
    design = Design(verilog(circuit, name), name, ports)
    codes = np.arange(1 << WIDEST).reshape(-1, 1)
    found = simulate_bulk(
        design, {"i": to_bytes(codes, CODES, 1)}, {"o": len(codes)}, optimise="-O0"
    ).words["o"]
    single = np.unpackbits(found, axis=1, bitorder="little").astype(np.int64)
    place = tried = 0
    wrong = []
    for cast in casts:
        width = cast.target.width
        words = single[:, place : place + width] @ (1 << np.arange(width))
        if cast.target.signed:
            words -= (words >> (width - 1)) << width
        place += width
        inputs = cast.inputs()
        got = [int(words[n % (1 << cast.source.width)]) for n in inputs]
        twin = quant.narrow(np.array(inputs), cast.source, cast.target, *cast.modes).tolist()
        exact = [
            exact_narrow(n, cast.source, cast.target, cast.rounding, cast.overflow) for n in inputs
        ]
        tried += len(got)
        if not got == twin == exact:
            wrong.append((cast, got, twin, exact))
    return tried, wrong


def test_the_twins_agree_on_every_input_of_two_thousand_casts():
    """All 28 pairs of modes, formats up to 6 bits, the point from -2 to width + 2."""
    casts = random_casts(72, 0)
    assert len(casts) == 2016
    tried, wrong = differences(casts, 0)
    assert tried > 20_000
    assert not wrong


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_twins_agree_on_every_input_of_more_casts(seed):
    assert not differences(random_casts(72, seed), seed)[1]


@dataclass(frozen=True)
class Kept:
    """A register of a narrowed value: the values that come, and what they must become."""

    narrowing: Narrowing
    values: range
    results: list[int]


def random_registers(count, seed):
    """Half of them with bounds, a third with low bits that never change."""
    random = np.random.default_rng(seed)
    for n in range(count):
        source, target = (formats()[k] for k in random.integers(0, len(formats()), 2))
        rounding, overflow = PAIRS[n % len(PAIRS)]
        low, high = source.min, source.max
        if n // len(PAIRS) % 2:
            low, high = sorted(random.integers(source.min, source.max + 1, 2).tolist())
        fixed = int(random.integers(1, 3)) if n // len(PAIRS) % 3 == 2 else 0
        if overflow == "WRAP":
            low = low >> fixed << fixed
        high = low + ((high - low) >> fixed << fixed)
        values = range(low, high + 1, 1 << fixed)
        if low < source.min:
            continue
        modes = Rounding(rounding), Overflow(overflow)
        yield Kept(
            Narrowing(source, low, high, target, *modes, fixed),
            values,
            [exact_narrow(v, source, target, rounding, overflow) for v in values],
        )


def signed(bits, width):
    """Two's complement of ``width`` bits."""
    return bits - (bits >> (width - 1) << width)


def test_a_register_stores_all_that_changes():
    """From its bits, and the unchanging ones below, the narrowed number comes back."""
    constants = 0
    for kept in random_registers(3000, 1):
        narrowing, target = kept.narrowing, kept.narrowing.target
        low, high = narrowing.bounds
        assert low <= min(kept.results)
        assert max(kept.results) <= high
        if narrowing.stored is None:
            constants += 1
            assert set(kept.results) == {low}
            continue
        stored, lost = narrowing.stored, narrowing.unchanging
        for result in kept.results:
            bits = (result >> lost) & ((1 << stored.width) - 1)
            upper = signed(bits, stored.width) if stored.signed else bits
            whole = ((upper << lost) | low % (1 << lost)) & ((1 << target.width) - 1)
            assert (signed(whole, target.width) if target.signed else whole) == result, kept
    assert constants > 100


def test_a_register_stores_no_copies_of_the_sign_and_no_zeros_below():
    """Where every value of the source comes and all of them fit."""
    tried = 0
    for kept in random_registers(3000, 2):
        narrowing, target = kept.narrowing, kept.narrowing.target
        wide = Format(40, target.frac)
        mode = narrowing.rounding.value
        unfitted = [exact_narrow(v, narrowing.source, wide, mode, "SAT") for v in kept.values]
        every = len(kept.values) == 1 << narrowing.source.width
        if not every or unfitted != kept.results or len(set(kept.results)) == 1:
            continue
        columns = [{r >> k & 1 for r in kept.results} for k in range(target.width)]
        first = next(k for k, column in enumerate(columns) if len(column) > 1)
        width = max((r if r >= 0 else ~r).bit_length() for r in kept.results)
        assert narrowing.unchanging == first
        assert narrowing.stored.width == width + (min(kept.results) < 0) - first
        tried += 1
    assert tried > 100


def test_a_number_depends_on_no_bit_that_is_not_needed():
    for kept in random_registers(3000, 3):
        needed, seen = kept.narrowing.needed, {}
        for value, result in zip(kept.values, kept.results, strict=True):
            assert seen.setdefault(value & needed, result) == result, kept


def alive(results, narrowing):
    """Whether there are two bits or more, and each changes and is no copy of another."""
    columns = [tuple(r >> k & 1 for r in results) for k in range(narrowing.target.width)]
    changing = all(len(set(column)) > 1 for column in columns)
    return changing and len(set(columns)) == len(columns) > 1


def test_a_number_depends_on_every_bit_that_is_needed():
    """Where every value of the source comes, and no bit of two or more is dead in the result."""
    tried = 0
    for kept in random_registers(12000, 6):
        narrowing = kept.narrowing
        if len(kept.values) < 1 << narrowing.source.width or not alive(kept.results, narrowing):
            continue
        results = dict(zip(kept.values, kept.results, strict=True))
        width, number = narrowing.source.width, narrowing.source
        for place in range(narrowing.needed.bit_length()):
            if narrowing.needed >> place & 1:
                flipped = {v: (v ^ 1 << place) & ((1 << width) - 1) for v in results}
                if number.signed:
                    flipped = {v: signed(other, width) for v, other in flipped.items()}
                assert any(results[v] != results[flipped[v]] for v in results), (place, kept)
        tried += 1
    assert tried > 200


def test_the_simplest_rounding_gives_the_same_numbers():
    simpler = 0
    for cast in random_casts(60, 4):
        low = cast.inputs()[0]
        drop = cast.source.frac - cast.target.frac
        mode = simplest_rounding(*cast.modes[:1], drop, low, cast.target, cast.modes[1])
        simpler += mode is not cast.modes[0]
        for n in cast.inputs():
            wanted = exact_narrow(n, cast.source, cast.target, cast.rounding, cast.overflow)
            assert exact_narrow(n, cast.source, cast.target, mode, cast.overflow) == wanted
    assert simpler > 500


class Registers(wiring.Component):
    """Many registers beside each other, each fed by the low bits of one code."""

    def __init__(self, kept):
        self.kept = kept
        code = data.ArrayLayout(shape(CODES), 1)
        widths = {f"y_{n}": shape(k.narrowing.target) for n, k in enumerate(kept)}
        super().__init__(
            {
                "i": In(stream.Signature(code)),
                "o": Out(stream.Signature(data.StructLayout(widths))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        enables = joined(m, [self.i], 1, self.o)
        for n, kept in enumerate(self.kept):
            value = Signal(shape(kept.narrowing.source), name=f"value_{n}")
            m.d.comb += value.eq(self.i.payload[0][: len(value)])
            y = kept.narrowing.register(m, enables[0], value, f"narrowed_{n}")
            assert y.shape() == shape(kept.narrowing.target)
            m.d.comb += getattr(self.o.payload, f"y_{n}").eq(y)
        return m


def test_registers_hold_the_narrowed_numbers():
    kept = list(random_registers(168, 5))
    codes = [[n] for n in range(64)]
    found = run(Registers(kept), {"i": codes}, {"o": 64}, offer=0.7, accept=0.5)["o"]
    for n, register in enumerate(kept):
        width = register.narrowing.source.width
        got = [int(getattr(found[v % (1 << width)][1], f"y_{n}")) for v in register.values]
        assert got == register.results, register
