# SPDX-License-Identifier: Apache-2.0
"""From sums to numbers: ``narrow((sum << shift) + bias)`` in all modes, under stalls."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth_bench import run
from circuit_check import check_circuit, plain
from narrow_oracle import OVERFLOWS, ROUNDINGS, exact_fit, exact_round

from blocks import Linear, Tensor, Unrolled
from hdl import Requantisation, Requantiser, chain, joined, pipeline_events
from hdl.requantise import read_bits
from quant import Format, Overflow, Rounding

PAIRS = [(r, o) for r in ROUNDINGS for o in OVERFLOWS]


class AfterSums(wiring.Component):
    """A requantiser behind a stage, as behind any sums: nothing comes in the cycle after reset."""

    def __init__(self, design):
        self.inner = Requantiser(design)
        members = self.inner.signature.members
        super().__init__({"i": In(members["i"].signature), "o": Out(members["o"].signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self.inner
        enables = joined(m, [self.i], 1, inner.i)
        word = Signal.like(self.i.payload, reset_less=True)
        with m.If(enables[0]):
            m.d.sync += word.eq(self.i.payload)
        m.d.comb += inner.i.payload.eq(word)
        connect(m, inner.o, flipped(self.o))
        return m


def events_after_sums(design):
    return chain(pipeline_events(1), design.events())


class Case:
    """A requantisation of random rows, its transfers and what must become of them.

    The last lane shares the sum of the first, with every bit inverted in some.
    """

    def __init__(self, seed, groups, lanes, count=24):
        random = np.random.default_rng([seed, groups, lanes])
        rounding, overflow = PAIRS[seed % len(PAIRS)]
        rows = groups * lanes
        sources = [*range(lanes - 1), 0] if lanes > 1 else [0]
        sums = [
            Format(int(random.integers(2, 9)), 0, bool(random.integers(2)))
            for _ in range(max(sources) + 1)
        ]
        inverted = [bool(n) for n in random.integers(0, 2, lanes)]
        ends = [sorted(random.integers(sums[s].min, sums[s].max + 1, 2).tolist()) for s in sources]
        ends[-1] = ends[0]
        bounds = [
            (~b, ~a) if other else (a, b) for (a, b), other in zip(ends, inverted, strict=True)
        ]
        low, high = (np.array([b[side] for b in bounds] * groups) for side in (0, 1))
        shift = random.integers(0, 4, rows)
        if overflow == "WRAP" and groups == 1:
            shift[:] = 0
        bias, frac = random.integers(-60, 60, rows), int(random.integers(0, 6))
        target = Format(
            int(random.integers(1, 9)), frac - int(random.integers(-2, 7)), bool(random.integers(2))
        )
        self.design = Requantisation(
            sums,
            sources,
            low,
            high,
            shift,
            bias,
            frac,
            target,
            Rounding(rounding),
            Overflow(overflow),
            inverted,
        )
        self.given, self.wanted = [], []
        for n in range(count * groups):
            word = {}
            for source, (least, most) in zip(sources[: len(sums)], ends, strict=False):
                choices = (least, most, int(random.integers(least, most + 1)))
                word[f"sum_{source}"] = choices[random.integers(3)]
            self.given.append(word)
            results = []
            for p, source in enumerate(sources):
                row = n % groups * lanes + p
                total = -word[f"sum_{source}"] - 1 if inverted[p] else word[f"sum_{source}"]
                value = Fraction((total << int(shift[row])) + int(bias[row])) / 2**frac
                units = exact_round(value * Fraction(2) ** target.frac, rounding)
                results.append(exact_fit(units, target.width, target.signed, overflow))
            self.wanted.append(results)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("seed", range(0, 28, 2))
def test_numbers_are_exact_in_every_mode(seed, groups):
    for more in (0, 1):
        case = Case(seed + more, groups, 4)
        found = run(AfterSums(case.design), {"i": case.given}, {"o": len(case.wanted)}, accept=0.8)
        assert [plain(word) for _, word in found["o"]] == case.wanted


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("lanes", [1, 3])
def test_numbers_and_cycles_under_stalls(lanes, groups):
    case = Case(7, groups, lanes)
    count = len(case.wanted)
    events = events_after_sums(case.design)
    cycles = check_circuit(
        lambda: AfterSums(case.design), {"i": case.given}, {"o": case.wanted}, events, count
    )
    assert cycles["o"] == list(range(3, count + 3))  # two stages and that before, a word a cycle


def requantisation(sums, low, high, shift, bias, drop=0, target=None, **modes):
    """One group of one lane for each sum, RND and SAT unless told."""
    number = target or Format(8, 0)
    modes = {"rounding": Rounding.RND, "overflow": Overflow.SAT} | modes
    return Requantisation(
        sums,
        list(range(len(sums))),
        np.array(low),
        np.array(high),
        np.array(shift),
        np.array(bias),
        number.frac + drop,
        number,
        **modes,
    )


def test_rounding_half_up_joins_the_constant():
    """Half a unit is added with the bias, so what is dropped need not be kept."""
    design = requantisation([Format(8, 0)], [-128], [127], [0], [5], drop=3)
    (lane,) = design.rows
    assert (lane.dropped, lane.bias.tolist()) == (3, [9])
    assert lane.narrowing.rounding is Rounding.TRN
    assert (lane.narrowing.low, lane.narrowing.high) == ((-128 + 9) >> 3, (127 + 9) >> 3)
    assert str(lane.narrowing.source) == str(Format(6, 0))  # -15 to 17


def test_other_roundings_keep_what_they_look_at():
    design = requantisation(
        [Format(8, 0)], [-128], [127], [0], [5], drop=3, rounding=Rounding.RND_CONV
    )
    (lane,) = design.rows
    assert lane.narrowing.rounding is Rounding.RND_CONV
    assert (lane.dropped, lane.bias.tolist()) == (0, [5])


@pytest.mark.parametrize("mode", ["RND_ZERO", "RND_INF", "RND_MIN_INF", "RND_CONV"])
def test_modes_to_nearest_are_one_where_a_constant_leaves_no_ties(mode):
    """Two times the sum and 5: never half of 8, so half a unit joins the constant."""
    design = requantisation(
        [Format(8, 0)], [-128], [127], [1], [5], drop=3, rounding=Rounding(mode)
    )
    (lane,) = design.rows
    assert (lane.dropped, lane.shift.tolist(), lane.bias.tolist()) == (2, [0], [4])
    found = run(Requantiser(design), {"i": [{"sum_0": n} for n in range(-128, 128)]}, {"o": 256})
    wanted = [exact_round(Fraction(2 * n + 5, 8), mode) for n in range(-128, 128)]
    assert [plain(word) for _, word in found["o"]] == [[n] for n in wanted]


def test_equal_lanes_are_there_once():
    sums = [Format(4, 0)]
    design = Requantisation(
        sums,
        [0, 0, 0, 0],
        np.array([-8] * 4),
        np.array([7] * 4),
        np.array([0, 0, 1, 0]),
        np.array([3, 3, 3, 4]),
        0,
        Format(8, 0),
        Rounding.RND,
        Overflow.SAT,
    )
    assert design.twins == [0, 0, 2, 3]


def test_a_shift_leaves_low_bits_that_never_change():
    design = requantisation([Format(4, 0)] * 2, [-8] * 2, [7] * 2, [3, 1], [5, 0], drop=1)
    assert [lane.narrowing.fixed for lane in design.rows] == [2, 0]
    found = run(
        Requantiser(design),
        {"i": [{"sum_0": n, "sum_1": -n} for n in range(-7, 8)]},
        {"o": 15},
    )
    wanted = [[(8 * n + 5 + 1) >> 1, (-2 * n + 1) >> 1] for n in range(-7, 8)]
    assert [plain(word) for _, word in found["o"]] == wanted


def test_low_bits_that_all_rows_of_a_lane_have_alike_never_change():
    """Below sums times 4 and times 8 the constants have 01 both; the higher bits differ."""
    shift, bias = np.array([2, 3]), np.array([5, -3])
    sums, ends = [Format(4, 0)], (np.full(2, -8), np.full(2, 7))
    modes = Format(8, 0), Rounding.RND, Overflow.SAT
    design = Requantisation(sums, [0], *ends, shift, bias, 0, *modes)
    (lane,) = design.rows
    assert (lane.narrowing.fixed, lane.narrowing.source.width, lane.stored) == (2, 8, 6)
    wanted = [(n << shift[k % 2]) + bias[k % 2] for k, n in enumerate(range(-8, 8))]
    events = events_after_sums(design)
    given = [{"sum_0": n} for n in range(-8, 8)]
    check_circuit(
        lambda: AfterSums(design), {"i": given}, {"o": [[int(n)] for n in wanted]}, events, 16
    )


def test_a_bit_below_all_that_rounding_looks_at_is_skipped():
    """Towards 0 from a number that is never whole: the sign tells what to add."""
    modes = {"rounding": Rounding.TRN_ZERO, "overflow": Overflow.WRAP}
    design = requantisation(
        [Format(9, 0)], [-256], [255], [2], [-838], 8, Format(3, 0, signed=False), **modes
    )
    (lane,) = design.rows
    assert (bin(lane.narrowing.needed), lane.dropped, lane.skipped) == ("0b111100000000", 0, 1)


def test_the_adder_of_a_constant_begins_where_the_constant_does():
    """None for 0; for 12 that of the upper 7 of 9 bits."""
    sums = [Format(8, 0)] * 2
    design = requantisation(sums, [-128] * 2, [127] * 2, [0] * 2, [0, 12], target=Format(9, 0))
    assert [lane.added for lane in design.rows] == [0, 7]
    assert [lane.width for lane in design.rows] == [8, 9]


def test_the_number_of_a_single_bit_has_each_bit_once():
    """10 or 21, in lanes that know it and that do not; of the former two bits are stored."""
    sums = [Format(4, 0, signed=False)] * 2
    zeros, modes = np.zeros(2, np.int64), (Rounding.RND, Overflow.SAT)
    design = Requantisation(
        sums,
        [0, 1],
        zeros,
        zeros + 11,
        zeros,
        zeros + 10,
        0,
        Format(5, 0, signed=False),
        *modes,
        twofold=[True, False],
    )
    assert [lane.stored for lane in design.rows] == [2, 5]
    given = [{"sum_0": 11 * (n % 2), "sum_1": n} for n in range(12)]
    found = run(Requantiser(design), {"i": given}, {"o": 12})
    assert [plain(word) for _, word in found["o"]] == [
        [10 + 11 * (n % 2), 10 + n] for n in range(12)
    ]


def test_a_sum_that_never_changes_is_a_constant():
    design = requantisation([Format(4, 0)] * 2, [0, -8], [0, 7], [0, 0], [21, 0])
    assert design.rows[0].narrowing.stored is None
    found = run(
        Requantiser(design), {"i": [{"sum_0": 0, "sum_1": n} for n in range(-8, 8)]}, {"o": 16}
    )
    assert [plain(word) for _, word in found["o"]] == [[21, n] for n in range(-8, 8)]


def test_constants_of_several_groups_follow_each_other_whatever_the_stalls():
    bias = np.arange(12) * 7 - 40
    design = Requantisation(
        [Format(3, 0)] * 2,
        [0, 1],
        np.full(12, -4),
        np.full(12, 3),
        np.arange(12) % 5,
        bias,
        0,
        Format(9, 0),
        Rounding.RND,
        Overflow.SAT,
    )
    given = [{"sum_0": n % 8 - 4, "sum_1": n // 2 % 8 - 4} for n in range(36)]
    wanted = []
    for n, word in enumerate(given):
        rows = [2 * (n % 6), 2 * (n % 6) + 1]
        sums = [word["sum_0"], word["sum_1"]]
        wanted.append([(s << r % 5) + int(bias[r]) for s, r in zip(sums, rows, strict=True)])
    events = events_after_sums(design)
    check_circuit(lambda: AfterSums(design), {"i": given}, {"o": wanted}, events, 36)


def exact_numbers(sums, shift, bias, drop, target, rounding, overflow):
    """What the sums of one row become, as fractions say."""
    values = [((n << shift) + bias) * Fraction(2) ** -drop for n in sums]
    units = [exact_round(value, rounding) for value in values]
    return [exact_fit(n, target.width, target.signed, overflow) for n in units]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("seed", range(28))
def test_numbers_depend_on_no_bit_of_the_sums_that_is_not_read(seed, groups):
    random = np.random.default_rng([seed, groups])
    rounding, overflow = PAIRS[seed]
    for _ in range(20):
        drop, width = int(random.integers(-1, 7)), int(random.integers(1, 9))
        target = Format(width, 0, bool(random.integers(2)))
        shift, bias = random.integers(0, 4, groups), random.integers(-60, 60, groups)
        bias *= random.integers(2)  # without a constant there may be gaps
        low, high = np.full(groups, -9), np.full(groups, 30)
        modes = Rounding(rounding), Overflow(overflow)
        (skipped,), (kept,), (gaps,) = read_bits(low, high, shift, bias, 1, drop, target, *modes)
        for s, b in zip(shift.tolist(), bias.tolist(), strict=True):
            sums = range(-9, 31)
            y = exact_numbers(sums, s, b, drop, target, rounding, overflow)
            seen = {}
            for n, result in zip(sums, y, strict=True):
                read = (n >> skipped << skipped) & ((1 << int(kept)) - 1) & ~gaps
                assert seen.setdefault(read, result) == result, (s, b, drop, target)


@pytest.mark.parametrize("seed", range(28))
def test_numbers_depend_on_every_bit_of_the_sums_that_is_read(seed):
    """Without a constant, where every sum comes, and no bit of two or more of y is dead."""
    random = np.random.default_rng([seed, 3])
    rounding, overflow = PAIRS[seed]
    tried = 0
    while tried < 8:
        drop, width = int(random.integers(-1, 7)), int(random.integers(1, 9))
        target = Format(width, 0, bool(random.integers(2)))
        shift = int(random.integers(0, 4))
        modes = drop, target, Rounding(rounding), Overflow(overflow)
        row = (np.array([n]) for n in (-32, 31, shift, 0))
        (skipped,), (kept,), (gaps,) = read_bits(*row, 1, *modes)
        sums = range(-32, 32)
        y = exact_numbers(sums, shift, 0, drop, target, rounding, overflow)
        results = dict(zip(sums, y, strict=True))
        columns = {tuple(n >> k & 1 for n in y) for k in range(width)}
        if width == 1 or len(columns - {(0,) * 64, (1,) * 64}) < width:
            continue
        tried += 1
        for place in range(int(skipped), min(6, int(kept))):
            if not gaps >> place & 1:
                flipped = {n: ((n ^ 1 << place) + 32) % 64 - 32 for n in sums}
                assert any(results[n] != results[flipped[n]] for n in sums), (place, shift, modes)


@pytest.mark.parametrize("unit", [-16, 8, 3])
def test_rows_of_one_sum_read_as_much_of_it_as_their_constants_ask_for(unit):
    """A constant that carries from low bits reads more than one that does not."""
    bias = np.array([-28, -10, 4, 0, 7])
    block = Linear(
        Tensor((1,), Format(7, 0)), np.full((5, 1), unit), bias, Format(6, 3), Format(6, -2)
    )
    x = np.arange(-64, 64)
    sent = {"i": [[n] for n in x.tolist()]}
    exact = [[Fraction(int(n) * unit + b, 2**5) for b in bias.tolist()] for n in x]
    wanted = [[exact_fit(exact_round(y, "RND"), 6, True, "SAT") for y in row] for row in exact]
    found = run(block.rtl(Unrolled(1)), sent, {"o": len(x)})
    assert [plain(word) for _, word in found["o"]] == wanted
