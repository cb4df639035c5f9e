# SPDX-License-Identifier: Apache-2.0
"""Small Amaranth components that together hold every kind of cell that Amaranth can emit."""

import random

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Circuit(wiring.Component):
    """Inputs ``a``, ``b``, ... of the given shapes; outputs ``y0``, ``y1``, ... from ``build``."""

    def __init__(self, shapes, build):
        letters = "abcdefgh"[: len(shapes)]
        self.m = Module()
        self.inputs = [
            Signal(shape, name=f"{x}_in") for x, shape in zip(letters, shapes, strict=True)
        ]
        self.results = [Value.cast(value) for value in build(self.m, *self.inputs)]
        self.letters = letters
        members = {x: In(shape) for x, shape in zip(letters, shapes, strict=True)}
        for at, value in enumerate(self.results):
            members[f"y{at}"] = Out(Shape(max(1, len(value)), value.shape().signed))
        super().__init__(members)

    def elaborate(self, platform):
        for letter, value in zip(self.letters, self.inputs, strict=True):
            self.m.d.comb += value.eq(getattr(self, letter))
        for at, value in enumerate(self.results):
            self.m.d.comb += getattr(self, f"y{at}").eq(value)
        return self.m


def arithmetic(m, a, b):
    yield from (a + b, a - b, b - a, a * b, a // b, a % b, -a, abs(a), +a)
    yield from (a + 5, a - 3, 7 - a, a * -3, a * 4, a * 0, a + 0, a // 3, a % 3, b // -2, b % -5)
    yield from ((a + b)[1:], (a * b)[2:5], (a - b) >> 1, (a + 4) >> 3, (a + 12) >> 2, (a * a)[3:])
    yield from ((a * b + 8) >> 4, (a * b - 8) >> 4, (a * b + 24)[4:], (a + a)[1:], (b - 1)[1:])
    yield (a + b + a * b)[0]


def bitwise(m, a, b):
    yield from (a & b, a | b, a ^ b, ~a, ~(a ^ b), a & 5, a | -2, a ^ -1, (a & b)[1:], (~a)[:1])
    yield from (a.bool(), a.any(), a.all(), a.xor(), Cat(a, b).all(), ~a.bool(), ~b.xor())
    yield from (a.bool() & b.bool(), a.bool() | b.all(), (a == 0) | (b == 0))
    yield from (a.matches("1" + "-" * (len(a) - 1)), a.implies(b))


def comparisons(m, a, b):
    yield from (
        a == b,
        a != b,
        a < b,
        a <= b,
        a > b,
        a >= b,
        a == 1,
        a < 2,
        a >= -1,
        a > -2,
        a <= 0,
    )
    yield from (a + b > a, a - b < 0, (a * b) >= b, a.as_signed() < b.as_signed())
    yield from (a.as_unsigned() < b.as_unsigned(), Mux(a < b, a, b), Mux(a > b, a, b) + 1)


def shifts(m, a, b):
    amount = b.as_unsigned()
    small = amount[:2]
    yield from (a << small, a >> small, (a << small)[1:], (a >> small)[:1], a >> amount, 5 >> small)
    yield from (a.shift_left(2), a.shift_right(1), a.rotate_left(1), a.rotate_right(1))
    yield from (a.bit_select(small, 2), a.word_select(small[0], 2), a.bit_select(amount, 1))
    yield from (Cat(a, b, a).word_select(small, 3), a.as_signed() >> small, a.as_signed() >> amount)
    yield from (Cat(a, a, a, a).word_select(small, len(a)), (a >> small) + b, Const(-3, 4) >> small)


def slices(m, a, b):
    yield from (Cat(a, b), Cat(a, b)[1:-1], a.replicate(3), a[0], a[-1], a[::2], a[::-1])
    yield from (Cat(a[-1], Const(1, 2), b), a.as_signed(), a.as_unsigned(), Cat(b, a)[1:] + 1)
    left = Signal(12)
    m.d.comb += [left[0:3].eq(a), left[5:9].eq(b), Cat(left[3], left[9:11]).eq(a + b)]
    yield left
    spread = Signal(8)
    m.d.comb += spread.bit_select(b.as_unsigned()[:3], 2).eq(a)
    yield spread
    words = Signal(12)
    m.d.comb += words.word_select(b.as_unsigned()[:2], 3).eq(a)
    yield words


def choices(m, a, b):
    yield from (Mux(a[0], a, b), Mux(a, b, 3), Mux(a.bool(), 1, 0), Mux(b[0], Mux(a[0], a, 1), b))
    index = b.as_unsigned()
    yield Array([a, b, a + b, 5, a ^ b])[index]
    yield Array([Const(v, 6) for v in (3, 1, 4, 1, 5, 9, 2, 6, 53, 5)])[index]
    yield Array([Const(v, signed(7)) for v in (3, -1, 4, -1, 5)])[index]
    targets = [Signal(4, name=f"target{n}") for n in range(3)]
    m.d.comb += Array(targets)[index].eq(a)
    yield Cat(targets)
    coded = Signal(signed(6))
    with m.Switch(Cat(a, b, a, b)[:4]):
        with m.Case(0, 3):
            m.d.comb += coded.eq(a)
        with m.Case("1--0"):
            m.d.comb += coded.eq(b)
        with m.Case("01-1"):
            with m.If(a > b):
                m.d.comb += coded[1:4].eq(5)
            with m.Elif(a == b):
                m.d.comb += coded.eq(-7)
        with m.Default():
            m.d.comb += coded.eq(11)
    yield coded
    nested = Signal(5, init=9)
    with m.If(a[0]):
        m.d.comb += nested.eq(a)
        with m.If(b[0]):
            m.d.comb += nested[2:].eq(b)
        with m.Else():
            m.d.comb += nested[0].eq(1)
    yield nested


def registers(m, a, b):
    total = Signal(10, init=77)
    m.d.sync += total.eq(total + a)
    yield from (total, total[3:])
    gated = Signal(signed(7), init=-9)
    with m.If(b[0]):
        m.d.sync += gated.eq(gated - b)
    yield gated
    free = Signal(6, reset_less=True)
    m.d.sync += free.eq(a + b)
    loaded = Signal()
    m.d.sync += loaded.eq(1)
    yield Mux(loaded, free, 0)
    held = Signal(data.StructLayout({"x": 3, "y": signed(4), "z": 2}), reset_less=True)
    full = Signal()
    with m.If(a[0]):
        m.d.sync += [held.x.eq(a), held.y.eq(b), held.z.eq(a), full.eq(1)]
    yield Mux(full, held.x + held.y, 1)
    many = Signal(data.ArrayLayout(signed(5), 4), init=[1, -2, 3, -4])
    m.d.sync += many[b.as_unsigned()[:2]].eq(many[a.as_unsigned()[:2]] + a)
    yield from (many[0], many[3], many.as_value()[7:13])
    cleared = Signal(4)
    with m.If(a[0]):
        m.d.sync += cleared.eq(cleared + 1)
    with m.If(b[0]):
        m.d.sync += cleared.eq(2)
    yield cleared
    flipped = Signal(8, init=0b10100110)
    m.d.sync += flipped.eq(flipped ^ Cat(a, b, a, b, a, b, a, b)[:8])
    yield flipped[5:]
    delayed = [Signal(4, name=f"delayed{n}") for n in range(3)]
    for before, after in zip([a, *delayed], delayed, strict=False):
        m.d.sync += after.eq(before)
    yield delayed[-1]
    wide = Signal(16)
    m.d.sync += wide.eq((wide << 3) ^ Cat(a, b) ^ wide[5:])
    yield from (wide[4], wide[9:12], wide[15])


def machine(m, a, b):
    count = Signal(3)
    shown = Signal(4)
    with m.FSM(name="walk") as fsm:
        with m.State("idle"):
            m.d.sync += count.eq(0)
            with m.If(a[0]):
                m.next = "run"
        with m.State("run"):
            m.d.sync += count.eq(count + 1)
            m.d.comb += shown.eq(count)
            with m.If(count == 5):
                m.next = "rest"
            with m.If(b[0] & a[0]):
                m.next = "skip"
        with m.State("rest"):
            m.d.comb += shown.eq(9)
            with m.Switch(b):
                with m.Case(0):
                    m.next = "idle"
                with m.Case(1, 3):
                    m.next = "skip"
        with m.State("skip"):
            m.d.comb += shown.eq(15)
            m.next = "idle"
        yield from (shown, fsm.ongoing("run"), fsm.ongoing("skip") | a[0])


def memories(m, a, b):
    written = Signal(16)  # which words may be read
    address = a.as_unsigned()[:4]
    m.submodules.table = table = Memory(shape=unsigned(7), depth=16, init=[])
    write, read, look = table.write_port(), table.read_port(), table.read_port(domain="comb")
    m.d.comb += [write.addr.eq(address), write.data.eq(Cat(b, a)), write.en.eq(b[0])]
    m.d.comb += [read.addr.eq(address + 1), read.en.eq(a[-1]), look.addr.eq(address + 2)]
    with m.If(write.en):
        m.d.sync += written.bit_select(write.addr, 1).eq(1)
    known = Signal()
    m.d.sync += known.eq(Mux(read.en, written.bit_select(read.addr, 1), known))
    yield Mux(known, read.data, 0)
    yield Mux(written.bit_select(look.addr, 1), look.data, 0)
    m.submodules.lanes = lanes = Memory(
        shape=data.ArrayLayout(signed(3), 3), depth=4, init=[], attrs={"ram_style": "distributed"}
    )
    put, get = lanes.write_port(granularity=1), lanes.read_port(domain="comb")
    sweep = Signal(3)  # writes every word whole before anything is read
    with m.If(~sweep[2]):
        m.d.sync += sweep.eq(sweep + 1)
    m.d.comb += put.addr.eq(Mux(sweep[2], b.as_unsigned()[:2], sweep))
    m.d.comb += [put.en.eq(Mux(sweep[2], a, 7)), get.addr.eq(a.as_unsigned()[:2])]
    m.d.comb += [put.data[n].eq(a + n * b) for n in range(3)]
    yield from (Mux(sweep[2], get.data[0], 0), Mux(sweep[2], get.data[2], 0))
    rows = [{"re": n - 3, "im": 5 * n} for n in range(6)]
    layout = data.StructLayout({"re": signed(4), "dead": 3, "im": 6})
    m.submodules.rom = rom = Memory(shape=layout, depth=6, init=rows, attrs={"rom_style": "block"})
    fetch, peek = rom.read_port(), rom.read_port(domain="comb")
    counter = Signal(range(6))
    m.d.sync += counter.eq(Mux(counter == 5, 0, counter + 1))
    m.d.comb += [fetch.addr.eq(counter), fetch.en.eq(1), peek.addr.eq(counter)]
    started = Signal()
    m.d.sync += started.eq(1)
    yield from (Mux(started, fetch.data.im, 0), peek.data.re + peek.data.im)
    m.submodules.single = single = Memory(shape=5, depth=1, init=[])
    store, fetched = single.write_port(), single.read_port(domain="comb")
    m.d.comb += [store.data.eq(a + b), store.en.eq(1)]
    yield Mux(started, fetched.data, 0)


class Accumulator(wiring.Component):
    """A submodule of which the parents use only parts."""

    step: In(signed(5))
    spare: In(4)
    total: Out(signed(9))
    flag: Out(1)
    echo: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.total.eq(self.total + self.step)
        m.d.comb += [self.flag.eq(self.total[-1]), self.echo.eq(self.spare)]
        return m


class Pair(wiring.Component):
    step: In(signed(5))
    result: Out(signed(7))

    def elaborate(self, platform):
        m = Module()
        m.submodules.left = left = Accumulator()
        m.submodules.right = right = Accumulator()
        m.submodules.idle = Accumulator()
        m.d.comb += [left.step.eq(self.step), right.step.eq(left.total[2:6]), left.spare.eq(3)]
        m.d.comb += self.result.eq(Mux(right.flag, right.total[2:], left.total + left.echo))
        return m


def hierarchy(m, a, b):
    m.submodules.pair = pair = Pair()
    m.submodules += Accumulator()
    m.submodules.reg = named_like_a_keyword = Accumulator()
    m.d.comb += [pair.step.eq(a - b), named_like_a_keyword.step.eq(b)]
    yield from (pair.result, named_like_a_keyword.total, pair.result[1:3])


def constants(m, a, b):
    yield from (Const(5, 4), Const(-1, signed(3)), Const(0, 1), a, b, Const(2**70 + 5, 80))
    never = Signal(4, init=6)
    yield never
    stuck = Signal(4, init=3)
    m.d.sync += stuck.eq(3)
    yield stuck + a


PARTS = {
    "arithmetic": arithmetic,
    "bitwise": bitwise,
    "comparisons": comparisons,
    "shifts": shifts,
    "slices": slices,
    "choices": choices,
    "registers": registers,
    "machine": machine,
    "memories": memories,
    "hierarchy": hierarchy,
    "constants": constants,
}
SHAPES = [
    (unsigned(4), unsigned(4)),
    (signed(4), signed(5)),
    (signed(5), unsigned(3)),
    (unsigned(4), signed(4)),
    (unsigned(1), signed(1)),
    (signed(1), signed(1)),
]
# Operators in every mixture of signs and with single bits; the others twice.
ZOO = {
    f"{part}_{number}": (build, shapes)
    for part, build in PARTS.items()
    for number, shapes in enumerate(SHAPES)
    if number < 2 or part in {"arithmetic", "bitwise", "comparisons", "shifts", "slices"}
}


# Part selects of slices only: beyond the end of x.as_signed() or x.as_unsigned() Amaranth's
# simulator fills as for x, its RTLIL as the conversion says.
OPERATIONS = [
    lambda draw, part, x, y, z: x + y,
    lambda draw, part, x, y, z: x + y,
    lambda draw, part, x, y, z: x - y,
    lambda draw, part, x, y, z: x - y,
    lambda draw, part, x, y, z: x * y,
    lambda draw, part, x, y, z: x + (1 << draw.randint(0, 5)),
    lambda draw, part, x, y, z: x & y,
    lambda draw, part, x, y, z: x | ~y,
    lambda draw, part, x, y, z: x ^ y,
    lambda draw, part, x, y, z: x < y,
    lambda draw, part, x, y, z: x == y,
    lambda draw, part, x, y, z: x >= 3,
    lambda draw, part, x, y, z: Mux(x, y, z),
    lambda draw, part, x, y, z: Mux(x[0], y, z),
    lambda draw, part, x, y, z: x << y.as_unsigned()[:2],
    lambda draw, part, x, y, z: x >> y.as_unsigned()[:3],
    lambda draw, part, x, y, z: part().bit_select(y.as_unsigned()[:4], draw.randint(1, 5)),
    lambda draw, part, x, y, z: Cat(x, y),
    lambda draw, part, x, y, z: part(),
    lambda draw, part, x, y, z: part().as_signed(),
    lambda draw, part, x, y, z: Array([x, y, z])[part()],
    lambda draw, part, x, y, z: x.any() | y.all(),
    lambda draw, part, x, y, z: -x,
    lambda draw, part, x, y, z: x // y,
    lambda draw, part, x, y, z: x % y,
    lambda draw, part, x, y, z: x.as_signed() % y.as_signed(),
]


def random_circuit(seed: int) -> Circuit:
    """Registers, wires and operators drawn by ``seed``."""

    def build(m, *inputs):
        draw = random.Random(seed)
        pool = [*inputs, Const(draw.randint(-9, 9)), Const(1 << draw.randint(1, 5))]
        results = []

        def pick():
            value = draw.choice(pool)
            if len(value) > 20:
                start = draw.randint(0, len(value) - 4)
                value = value[start : start + draw.randint(1, 12)]
            return value if len(value) else Const(1)

        def part():
            value = pick()
            low = draw.randint(0, len(value) - 1)
            return value[low : draw.randint(low + 1, len(value))]

        for number in range(draw.randint(8, 30)):
            x, y, z = pick(), pick(), pick()
            value = draw.choice(OPERATIONS)(draw, part, x, y, z)
            way = draw.random()
            if way < 0.6:
                wire = Signal(
                    value.shape(), name=draw.choice(["wire", "sum", "x", f"node{number}"])
                )
                m.d.comb += wire.eq(value)
                value = wire
            elif way < 0.8:
                shape = Shape(min(len(value) + 1, 24) or 1, value.shape().signed)
                register = Signal(shape, name=draw.choice(["reg", "state", f"hold{number}"]))
                with m.If(pick()):
                    m.d.sync += register.eq(value)
                if draw.random() < 0.3:
                    with m.If(pick()):
                        m.d.sync += register.eq(draw.randint(0, 3))
                value = register
            pool.append(value)
            if draw.random() < 0.25:
                results.append(part())
        return [*results, pick()]

    draw = random.Random(-seed)
    shapes = [Shape(draw.randint(1, 6), draw.random() < 0.5) for _ in range(draw.randint(1, 4))]
    return Circuit(shapes, build)
