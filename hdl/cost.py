# SPDX-License-Identifier: Apache-2.0
"""What circuits cost on a target, priced operator by operator without any tool."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .target import DspShape, Target


@dataclass(frozen=True)
class Cost:
    """Resources of a circuit on one target; costs add, and ``sum`` of costs works.

    Members
    -------
    lut : look-up tables, counted per family as ``hdl.synthesis`` counts them
    ff : flip-flops that remain flip-flops
    carry : carry cells (CCU2C, SB_CARRY, ALU, CARRY4), told beside ``lut``, not added to it
    dsp : hard multipliers
    bram : block RAMs of 18 Kbit (ice40: of 4 Kbit)
    ff_in_dsp, ff_in_srl : register bits that Xilinx tools put into multipliers and into
        shift-register look-up tables; elsewhere 0

    >>> sum([Cost(lut=3, ff=2), Cost(lut=1, dsp=1)])
    Cost(lut=4, ff=2, carry=0, dsp=1, bram=0, ff_in_dsp=0, ff_in_srl=0)
    """

    lut: int = 0
    ff: int = 0
    carry: int = 0
    dsp: int = 0
    bram: int = 0
    ff_in_dsp: int = 0
    ff_in_srl: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            count = getattr(self, field.name)
            if not isinstance(count, int) or isinstance(count, bool):
                kind = type(count).__name__
                raise TypeError(f"Cost {field.name} must be an int, not {kind}")
            if count < 0:
                raise ValueError(f"Cost {field.name} must not be negative, not {count}")

    @property
    def register_bits(self) -> int:
        """All registers, wherever the tool puts them."""
        return self.ff + self.ff_in_dsp + self.ff_in_srl

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def __radd__(self, other: object) -> "Cost":
        if isinstance(other, int) and other == 0:  # the start of sum()
            return self
        return NotImplemented

    def __mul__(self, count: int) -> "Cost":
        if not isinstance(count, int):
            return NotImplemented
        return Cost(*(getattr(self, f.name) * count for f in fields(Cost)))

    __rmul__ = __mul__


class Operator(NamedTuple):
    """One thing a circuit is made of: what it is, and the numbers that its price depends on."""

    kind: str
    parameters: tuple


@dataclass(frozen=True)
class Inventory:
    """The operators a circuit is made of, how often each; inventories add, ``sum`` works.

    Describes the circuit itself, for any target; :meth:`cost` prices it on one. Flip-flops,
    multipliers and block RAMs follow the rules of yosys, look-up tables and carry cells prices
    measured by ``benchmarks/calibrate.py``.

    >>> two = 2 * (register(8) + adder(8))
    >>> two.cost(Target.named("ecp5"))
    Cost(lut=16, ff=16, carry=8, dsp=0, bram=0, ff_in_dsp=0, ff_in_srl=0)
    """

    operators: tuple[tuple[Operator, int], ...] = ()

    def __add__(self, other: "Inventory") -> "Inventory":
        if not isinstance(other, Inventory):
            return NotImplemented
        counts = dict(self.operators)
        for operator, count in other.operators:
            counts[operator] = counts.get(operator, 0) + count
        return Inventory(tuple(counts.items()))

    def __radd__(self, other: object) -> "Inventory":
        if isinstance(other, int) and other == 0:  # the start of sum()
            return self
        return NotImplemented

    def __mul__(self, count: int) -> "Inventory":
        if not isinstance(count, int):
            return NotImplemented
        if count < 0:
            raise ValueError(f"Inventory count must not be negative, not {count}")
        return Inventory(tuple((operator, n * count) for operator, n in self.operators if count))

    __rmul__ = __mul__

    def cost(self, target: Target) -> Cost:
        """What the circuit costs on ``target``; TypeError if that is none."""
        _check_target(target)
        return _price(self, target).rounded()


def _check_target(target: Any) -> None:
    if not isinstance(target, Target):
        raise TypeError(f"cost target must be a Target, not {target!r}")


# Builders of inventories, in the order of the prices below.


def _one(kind: str, *parameters: Any) -> Inventory:
    return Inventory(((Operator(kind, parameters), 1),))


def register(bits: int) -> Inventory:
    """``bits`` flip-flops with any enable and synchronous reset."""
    return _one("register", bits) if bits else Inventory()


def delay_line(bits: int, stages: int) -> Inventory:
    """``stages`` registers in a row with one enable, no reset and no other readers.

    On Xilinx three and more become shift-register tables.
    """
    return _one("delay_line", bits, stages) if bits and stages else Inventory()


def adder(width: int, wired: int = 0) -> Inventory:
    """``a + b`` with a result of ``width`` bits.

    Of ``wired`` bits what meets the carry is an operand alone, or what meets it in the bit below.
    """
    return _one("adder", width, wired) if width > 0 else Inventory()


def carrying_adder(width: int) -> Inventory:
    """``a + b`` of numbers without a sign, the highest of ``width`` bits being the carry."""
    return _one("carrying_adder", width) if width > 1 else adder(width)


def ended_adder(width: int, above: int) -> Inventory:
    """``a + b`` with a result of ``width`` bits, in the ``above`` highest of which b has ended."""
    return _one("ended_adder", width, above) if width > 0 else Inventory()


def subtract(width: int, wired: int = 0) -> Inventory:
    """``a - b`` with a result of ``width`` bits; ``wired`` as of :func:`adder`."""
    return _one("subtract", width, wired) if width > 0 else Inventory()


def trial_subtract(width: int, kept: int, constant: bool = False) -> Inventory:
    """``a - b`` if that is not negative, else ``a``, and which: ``kept`` bits of that number.

    ``width``: bits of the difference with that of its sign; ``constant``: the lowest of b is.
    """
    return _one("trial_subtract", width, kept, constant)


def constant_adder(width: int) -> Inventory:
    """``a + constant`` with a result of ``width`` bits."""
    return _one("constant_adder", width) if width > 0 else Inventory()


def step_adder(width: int, steps: int) -> Inventory:
    """``a`` plus one of so many constants, a flag for each but one, ``width`` bits of it."""
    return _one("step_adder", width, steps) if width > 0 else Inventory()


def negate(width: int) -> Inventory:
    """``negative ? -a : a`` with a result of ``width`` bits."""
    return _one("negate", width) if width > 0 else Inventory()


def increment(width: int) -> Inventory:
    """``a`` plus one bit that comes from elsewhere, as rounding does it."""
    return _one("increment", width) if width > 0 else Inventory()


def accumulate(width: int) -> Inventory:
    """``(load ? 0 : sum) + a``, without the register of the sum."""
    return _one("accumulate", width) if width > 0 else Inventory()


def compare_constant(width: int) -> Inventory:
    """``a == constant`` of ``width`` bits."""
    return logic(width)


def compare_place(width: int) -> Inventory:
    """``a >= constant`` of ``width`` bits as a tool does it, the lowest of the constant being 1."""
    return _one("compare_place", width) if width > 1 else Inventory()


CHAINED = range(3, 5)
"""Bits of the comparisons that are a carry chain on ecp5 only if their lowest bit is repeated."""


def compare(width: int, chained: bool = False) -> Inventory:
    """``a < b`` of ``width`` bits."""
    kind = "chained_compare" if chained and width in CHAINED else "compare"
    return _one(kind, width) if width > 0 else Inventory()


def logic(inputs: int, bits: int = 1) -> Inventory:
    """``bits`` functions of ``inputs`` bits each that are trees of gates (and, or, reductions)."""
    return _one("logic", inputs) * bits if inputs > 1 else Inventory()


def mask(flags: int, bits: int) -> Inventory:
    """``bits`` that are constant unless all of ``flags`` are set, before a sum or a comparison.

    Tables that have inputs left for the flags take them in.
    """
    return _one("mask", flags) * bits if flags else Inventory()


def mux2(width: int) -> Inventory:
    """One of two words."""
    return mux(2, width)


def mux(n: int, width: int) -> Inventory:
    """One of ``n`` words, chosen by a binary number."""
    return _one("mux", n) * width if n > 1 and width > 0 else Inventory()


def late_mux(n: int, width: int) -> Inventory:
    """One of ``n`` words, chosen by comparisons right before it, a flag for each word but one."""
    return _one("late_mux", n) * width if n > 1 and width > 0 else Inventory()


def flag_mux(n: int, width: int) -> Inventory:
    """One of ``n`` words: the first that has its flag set, or the last, which has none."""
    return _one("flag_mux", n) * width if n > 1 and width > 0 else Inventory()


def counter(n: int) -> Inventory:
    """Counts 0 to ``n - 1`` and again, with an enable; its register included."""
    return _one("counter", n) if n > 1 else Inventory()


def level(n: int) -> Inventory:
    """Counts 0 to ``n`` up and down and tells 0 and ``n``, as FIFOs do; its register included."""
    return _one("level", n) if n > 0 else Inventory()


def elastic(stages: int) -> Inventory:
    """Valid bits and enables of ``stages`` elastic stages."""
    return _one("elastic", stages) if stages else Inventory()


def saturate(
    from_width: int,
    from_signed: bool,
    to_width: int,
    to_signed: bool,
    overflow: str = "SAT",
    registered: bool = False,
) -> Inventory:
    """Fits a number into fewer bits (``overflow`` SAT, SAT_ZERO or SAT_SYM; WRAP is free).

    With a register right behind it, of numbers without a sign and of all that become zero only the
    gate is left that sets or resets it.
    """
    excess = (from_width - from_signed) - (to_width - to_signed)
    if overflow == "WRAP" or (excess <= 0 and from_signed <= to_signed):
        return Inventory()
    if from_signed and to_signed and to_width == 1 and overflow != "SAT_ZERO":
        return Inventory()  # the sign
    if registered and (not from_signed or overflow == "SAT_ZERO"):
        ways = 2 if from_signed and to_signed else 1  # all ones and all zeros are inside
        return logic(ways * (max(0, excess) + from_signed) + 1)
    symmetric = overflow == "SAT_SYM" and from_signed and to_signed
    if symmetric and 2 < excess < 8:
        # To be outside then depends on every bit, so no table finds it again for each bit of the
        # result, as it does on the slowest path for few bits, but no more for 8.
        excess = 8
    clipped = _one(
        "saturate",
        "SU"[not from_signed] + "SU"[not to_signed],
        overflow == "SAT_ZERO",
        max(0, excess),
        to_width,
    )
    return clipped + logic(to_width) if symmetric else clipped


def rounding(width: int, dropped: int, mode: str = "RND") -> Inventory:
    """Drops ``dropped`` of ``width`` bits by the rounding ``mode`` (a name of quant.Rounding)."""
    if dropped <= 0 or mode == "TRN":
        return Inventory()
    result = increment(max(1, width - dropped + 1))
    return result if mode == "RND" else result + logic(min(width, dropped) + 1)


def tabulated(inputs: int, outputs: int, logic: Inventory) -> Inventory:
    """``logic`` without registers, a table an output where a table takes all of its ``inputs``."""
    few = inputs <= 6  # of the largest tables
    return _one("tabulated", inputs, outputs, logic) if few and logic.operators else logic


class Product(NamedTuple):
    """A multiplication: operand widths and signs, bits of the result that are kept.

    A factor that is always 1 has width 0: then there is no multiplier, only the register behind it.
    """

    a_width: int
    a_signed: bool
    b_width: int
    b_signed: bool
    y_width: int


def multiplier(
    a_width: int,
    a_signed: bool,
    b_width: int,
    b_signed: bool,
    y_width: int | None = None,
    b_sources: int = 0,
) -> Inventory:
    """``a * b``, ``y_width`` bits of it, without any register.

    ``b_sources``: of how many bits those of b are copies, if of fewer than it has; else 0.
    """
    if a_width == 0 or b_width == 0:
        return Inventory()
    y_width = a_width + b_width if y_width is None else y_width
    product = Product(a_width, a_signed, b_width, b_signed, y_width)
    inputs = a_width + b_sources if 0 < b_sources < b_width else None
    return _one("multiplier", product, inputs)


def squarer(width: int, signed: bool, y_width: int) -> Inventory:
    """``a * a``, ``y_width`` bits of it, without any register."""
    return _one("squarer", Product(width, signed, width, signed, y_width))


def product_register(product: Product, skipped: int = 0) -> Inventory:
    """The register of the kept bits right behind a multiplier, where nobody else reads these.

    One without the lowest ``skipped`` bits never moves into the multiplier.
    """
    if skipped:
        return register(product.y_width - skipped)
    return _one("product_register", product)


def operand_register(bits: int, products: Sequence[Product]) -> Inventory:
    """A register, behind any logic but not a memory, that nobody but multipliers reads."""
    return _one("operand_register", bits, tuple(products)) if bits else Inventory()


def product_adder(
    width: int,
    terms: Sequence[Product | None],
    load: bool = False,
    register: bool = True,
    skipped: int = 0,
    zeros: Sequence[int] = (),
) -> Inventory:
    """An adder of one or two terms, its result in a register if ``register``.

    A term is the Product whose register is read by nobody else, or None for anything else. One term
    is no adder, just the next register; with ``load`` it is an accumulator, whose other term is its
    own register, or 0. A register without the lowest ``skipped`` bits stays outside of the
    multiplier; below each term there may be ``zeros``, where the other one passes the adder by.
    """
    shifts = tuple(zeros) or (0,) * len(terms)
    return _one("product_adder", width, tuple(terms), load, register, skipped, shifts)


def rom(
    depth: int,
    width: int,
    style: str = "logic",
    contents: Sequence[int] | None = None,
    by_data: bool = False,
) -> Inventory:
    """Read-only memory with synchronous read and enable, ``style`` "block" or "logic".

    ``contents`` (words) makes the price of logic much better. Constant and equal columns of bits
    should not be counted in ``width``. ``by_data``: the address is data, not a counter, from whose
    adder synthesis builds larger logic.
    """
    if style not in ("block", "logic"):
        raise ValueError(f"rom style must be block or logic, not {style!r}")
    if not width:
        return Inventory()
    if style == "block":
        return _one("block_memory", depth, width, False)
    words = tuple(contents) if contents is not None else None
    return register(width) + _one("logic_rom", depth, width, words, by_data)


def table(depth: int, width: int, contents: Sequence[int]) -> Inventory:
    """Functions of an address that comes from data, in logic: ``contents`` are the words.

    Synthesis finds more in common between them than is seen here; the price is for the usual
    amount, measured on tables of smooth functions.
    """
    return _one("table", depth, width, tuple(contents)) if width else Inventory()


def ram(depth: int, width: int, style: str = "block", read: str = "sync") -> Inventory:
    """Memory with one write and one read port, ``read`` "sync" (with enable) or "async".

    ``style`` "block", "distributed" or "registers".
    """
    if style not in ("block", "distributed", "registers"):
        raise ValueError(f"ram style must be block, distributed or registers, not {style!r}")
    if not width:
        return Inventory()
    if style == "block":
        if read != "sync":
            raise ValueError(f"ram read of style block must be sync, not {read}")
        return _one("block_memory", depth, width, True)
    output = register(width) if read == "sync" else Inventory()
    if style == "distributed":
        return output + _one("distributed_memory", depth, width)
    return output + _memory_of_registers(depth, width)


def _memory_of_registers(depth: int, width: int) -> Inventory:
    bits = max(1, (depth - 1).bit_length())
    shared = max(0, bits - 3)  # upper address bits are decoded once for eight words
    decode = logic(bits - shared + 1, depth) + logic(shared + 1, (1 << shared) * (shared > 0))
    return register(depth * width) + mux(depth, width) + decode


# Memories: the rules of yosys' memory_libmap pass (0.70) for one write and one read port.


class _Ram(NamedTuple):
    """One way to use a memory primitive: ``2**address_bits`` words of ``widths[0]`` bits and so on.

    ``cost`` and ``scaled`` are yosys' own weights, ``units`` ours; ``byte`` is the grain of write
    enables, ``write_minimum`` the narrowest width yosys may write it in.
    """

    address_bits: int
    widths: tuple[int, ...]
    byte: int
    cost: float
    units: int
    scaled: float = 0
    write_minimum: int = 0


_XILINX_BLOCK = (
    _Ram(14, (1, 2, 4, 9, 18), 9, 129, 1),
    _Ram(15, (1, 2, 4, 9, 18, 36), 9, 257, 2),
    _Ram(14, (1, 2, 4, 9, 18, 36), 9, 129, 1),
    _Ram(15, (1, 2, 4, 9, 18, 36, 72), 9, 257, 2),
)
_BLOCK = {
    "ecp5": (
        _Ram(14, (1, 2, 4, 9, 18), 9, 128, 1),
        _Ram(14, (1, 2, 4, 9, 18, 36), 9, 128, 1, write_minimum=36),
    ),
    "ice40": (_Ram(11, (2, 4, 8), 0, 64, 1), _Ram(11, (2, 4, 8, 16), 1, 64, 1)),
    "gowin": (
        _Ram(14, (1, 2, 4, 9, 18), 9, 128, 1),
        _Ram(14, (1, 2, 4, 9, 18, 36), 9, 128, 1),
    ),
    "xilinx7": _XILINX_BLOCK,
    "xilinxup": _XILINX_BLOCK,
}
_DISTRIBUTED = {
    "ecp5": (_Ram(4, (4,), 0, 4, 4),),
    "gowin": (_Ram(4, (4,), 0, 4, 4, scaled=4),),
    "xilinx7": (
        _Ram(7, (1,), 0, 8, 4, scaled=8),
        _Ram(5, (6,), 0, 8, 4, scaled=7),
        _Ram(6, (3,), 0, 8, 4, scaled=7),
    ),
    "xilinxup": (_Ram(5, (14,), 0, 16, 8, scaled=16), _Ram(6, (7,), 0, 16, 8, scaled=16)),
}


@functools.cache
def _mapped(rams: tuple[_Ram, ...], depth: int, width: int, written: bool) -> tuple[int, int]:
    """What yosys chooses: units of the primitive, and rows of them that multiplexers must join."""
    chosen: tuple[float, int, int] | None = None
    for ram in rams:
        best: tuple[int, float, int, int] | None = None
        byte_widths = [w for w in ram.widths if w <= ram.byte]
        for n, unit in enumerate(ram.widths):
            if written and unit < ram.write_minimum and n < len(byte_widths) - 1:
                continue
            grain = unit if ram.byte == 0 or ram.byte > unit else ram.byte
            word = -(-width // grain) * grain if written else width
            rows = -(-depth // (1 << (ram.address_bits - n)))
            copies = -(-rows * word // unit)
            cost = (ram.cost - ram.scaled) * copies + ram.scaled * rows * width / unit
            cost += 0.5 * (rows - 1) * width + (0.5 * rows if written and rows > 1 else 0) + 2
            if best is None or cost < best[0]:
                best = int(cost), cost, copies * ram.units, rows
        if best is not None and (chosen is None or best[1] < chosen[0]):
            chosen = best[1:]
    assert chosen is not None  # every table has an entry
    return chosen[1], chosen[2]


_LUTS_PER_BLOCK = 100  # about what devices have of each


def memory_style(
    target: Target,
    depth: int,
    width: int,
    read: str = "sync",
    writable: bool = True,
    by_data: bool = False,
) -> str:
    """The style a memory should have: the one that spends the target evenly.

    A block RAM is worth a hundred look-up tables. "registers", "distributed" or "block" for a
    memory that is written, "logic" or "block" for one that is not; never one that the target
    lacks. ``by_data`` as of :func:`rom`.
    """
    _check_target(target)
    blocks, _ = _mapped(_BLOCK[target.name], depth, width, writable)
    block = "block" if read == "sync" else "registers" if writable else "logic"
    if not writable:
        logic = width * _measured(target, "lookup" if by_data else "rom", depth).lut
        return block if logic > _LUTS_PER_BLOCK * blocks else "logic"
    if depth <= 2:
        return "registers"
    if target.lut_ram:
        tables, _ = _mapped(_DISTRIBUTED[target.name], depth, width, True)
        return block if tables > _LUTS_PER_BLOCK * blocks and read == "sync" else "distributed"
    return block if depth * width > _LUTS_PER_BLOCK * blocks else "registers"


# Multipliers, by the rules of yosys' mul2dsp (version 0.70).


def hard_multipliers(product: Product, target: Target) -> int:
    """Hard multipliers that yosys spends on one product."""
    return _multipliers(product, target)[0]


def _is_hard(product: Product, target: Target) -> bool:
    """The product is one hard multiplier and nothing else."""
    return _multipliers(product, target) == (1, 0, 0)


def _multipliers(product: Product, target: Target) -> tuple[int, int, int]:
    """Hard multipliers, bits of adders that join their results, and partial products in logic."""
    a, b = product.a_width, product.b_width
    if a == 0 or b == 0:
        return 0, 0, 0
    signed = product.a_signed or product.b_signed
    a += signed and not product.a_signed
    b += signed and not product.b_signed
    pieces, adders = [(max(a, b), min(a, b), min(product.y_width, a + b))], 0
    hard = 0
    for shape in target.dsp:
        left: list[tuple[int, int, int]] = []
        for a, b, y in pieces:
            one_more = shape.signed_only and not signed
            if a < shape.a_minimum or b < shape.b_minimum or y < shape.y_minimum:
                left.append((a, b, y))
                continue
            count, bits, rest = _sliced(shape, a + one_more, b + one_more, y)
            hard, adders = hard + count, adders + bits
            left += rest
        pieces = left
    return hard, adders, len(pieces)


def _sliced(shape: DspShape, a: int, b: int, y: int) -> tuple[int, int, list[tuple[int, int, int]]]:
    """One product in slices: hard multipliers, bits of adders, slices that are too narrow."""
    if a < shape.a_minimum or b < shape.b_minimum or y < shape.y_minimum:
        return 0, 0, [(max(a, b), min(a, b), y)]
    spare = int(shape.signed_only)
    if a > shape.a_maximum:
        step = shape.a_slice - spare
        count = (a - shape.a_maximum + step - 1 + spare) // step if spare else 0
        count = count or (a - shape.a_maximum + shape.a_slice - 1) // shape.a_slice
        parts = [(shape.a_slice, b, min(y, b + shape.a_slice))] * count
        parts.append((a - count * step, b, b + a - count * step))
    elif b > shape.b_maximum:
        step = shape.b_maximum - spare
        count = (b - 1 - spare) // step if spare else (b - 1) // step
        parts = [(a, shape.b_maximum, min(y, a + shape.b_maximum))] * count
        parts.append((a, b - count * step, a + b - count * step))
    else:
        return 1, 0, []
    hard, adders = 0, y * (len(parts) - 1)
    left: list[tuple[int, int, int]] = []
    for part in parts:
        more, bits, rest = _sliced(shape, *part)
        hard, adders, left = hard + more, adders + bits, left + rest
    return hard, adders, left


# Prices. What look-up tables and carry cells cost was measured; the rest is rules.


class _Price(NamedTuple):
    lut: float = 0
    carry: float = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    ff_in_dsp: int = 0
    ff_in_srl: int = 0

    def plus(self, other: "_Price", count: int = 1) -> "_Price":
        totals: Any = (mine + count * more for mine, more in zip(self, other, strict=True))
        return _Price(*totals)

    def rounded(self) -> Cost:
        return Cost(
            round(self.lut),
            self.ff,
            round(self.carry),
            self.dsp,
            self.bram,
            self.ff_in_dsp,
            self.ff_in_srl,
        )


@functools.cache
def _calibration() -> dict[str, Any]:
    path = Path(__file__).with_name("calibration.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _measured(target: Target, table: str, size: float) -> _Price:
    """Measured look-up tables and carry cells, straight lines between measured sizes."""
    grid, luts, carries = _calibration()[target.name][table]
    return _Price(_between(grid, luts, size), _between(grid, carries, size))


def _between(grid: Sequence[float], values: Sequence[float], size: float) -> float:
    if len(grid) == 1:
        return values[0]
    n = sum(size > place for place in grid[1:-1])
    slope = (values[n + 1] - values[n]) / (grid[n + 1] - grid[n])
    return max(0.0, values[n] + slope * (size - grid[n]))


def _price(inventory: Inventory, target: Target) -> _Price:
    total = _Price()
    for operator, count in inventory.operators:
        total = total.plus(_PRICES[operator.kind](target, *operator.parameters), count)
    return total


def _price_register(target: Target, bits: int) -> _Price:
    return _Price(ff=bits)


def _price_delay_line(target: Target, bits: int, stages: int) -> _Price:
    if not target.shift_registers or stages < 3:
        return _Price(ff=bits * stages)
    return _Price(lut=bits * -(-stages // 32), ff_in_srl=bits * stages)


def _by_width(table: str) -> Callable[..., _Price]:
    def price(target: Target, width: int) -> _Price:
        return _measured(target, table, width)

    return price


def _by_width_and_wires(table: str) -> Callable[..., _Price]:
    def price(target: Target, width: int, wired: int) -> _Price:
        """A table beside its carry cell, as of Xilinx, is not needed for a wire."""
        whole = _measured(target, table, width)
        return whole._replace(lut=max(0.0, whole.lut - wired)) if target.lut_size >= 6 else whole

    return price


def _price_ended_adder(target: Target, width: int, above: int) -> _Price:
    whole = _measured(target, "adder", width)
    if not above:
        return whole
    both = _measured(target, "adder", width - above).lut if above < width else 0
    return whole._replace(lut=min(whole.lut, both + _measured(target, "increment", above).lut))


def _price_step_adder(target: Target, width: int, steps: int) -> _Price:
    """A table beside its carry cell, as of Xilinx, takes in the choice of the constant."""
    adder = _measured(target, "adder", width)
    if steps == 1 or target.lut_size >= max(6, steps):
        return adder
    return adder.plus(_measured(target, "logic", steps), width)


def _price_trial_subtract(target: Target, width: int, kept: int, constant: bool) -> _Price:
    """It is measured with all bits below the sign and the next; each is one of two.

    A carry cell beside its table, as of Xilinx, needs none for a bit less a constant.
    """
    price = _measured(target, "trial_subtract", width)
    less = (width - 2 - kept) * _measured(target, "mux", 2).lut
    less += constant and target.lut_size >= 6
    return price._replace(lut=max(0.0, price.lut - less))


_LATE = {"ecp5": 1.6, "gowin": 2.0}
"""Measured: tables that each bit takes for a flag, if there are several."""


def _price_late_mux(target: Target, n: int) -> _Price:
    """Flags are the end of the slowest path. Where multiplexers join tables of four inputs, abc9
    does not choose word by word, but makes each bit a tree with all flags near its root; elsewhere
    a bit takes as few tables as its inputs need.
    """
    if target.name in _LATE and n > 2:
        return _Price(lut=_LATE[target.name] * (n - 1))
    return _Price(lut=-(-(2 * n - 2) // (target.lut_size - 1)))


def _price_flag_mux(target: Target, n: int) -> _Price:
    """A table takes the result of the one before, and words with their flags."""
    return _Price(lut=-(-(n - 1) // ((target.lut_size - 1) // 2)))


def _price_counter(target: Target, n: int) -> _Price:
    bits = (n - 1).bit_length()
    power = "counter_power" if n & (n - 1) == 0 else "counter"
    return _measured(target, power, bits)._replace(ff=bits)


def _price_level(target: Target, n: int) -> _Price:
    return _measured(target, "level", n.bit_length())._replace(ff=n.bit_length())


def _price_elastic(target: Target, stages: int) -> _Price:
    return _measured(target, "elastic", stages)._replace(ff=stages)


def _price_saturate(target: Target, kind: str, zero: bool, excess: int, to_width: int) -> _Price:
    if kind == "US":  # the sign that is always 0 needs no gate
        kind, to_width = "UU", to_width - 1
    table = f"saturate_{kind}_{'SAT_ZERO' if zero else 'SAT'}"
    narrow, wide = (_measured(target, f"{table}_{width}", excess) for width in (4, 12))
    share = (to_width - 4) / 8
    return _Price(max(0.0, narrow.lut + share * (wide.lut - narrow.lut)))


def _price_multiplier(target: Target, product: Product, inputs: int | None) -> _Price:
    hard, adders, _ = _multipliers(product, target)
    if hard:
        return _measured(target, "adder", adders)._replace(dsp=hard) if adders else _Price(dsp=hard)
    signed = product.a_signed and product.b_signed
    kind = "soft_signed_" if signed else "soft_unsigned_"
    a = product.a_width + (product.a_signed and not signed)  # the sign takes a row more
    b = product.b_width + (product.b_signed and not signed)
    a, b = max(a, b), min(a, b)
    tables = [name for name in _calibration()[target.name] if name.startswith(kind)]
    rows = sorted(int(name.removeprefix(kind)) for name in tables)
    columns = [_measured(target, f"{kind}{row}", a) for row in rows]
    whole = _Price(
        _between(rows, [c.lut for c in columns], b), _between(rows, [c.carry for c in columns], b)
    )
    kept = min(1.0, product.y_width / (a + b))
    lut = whole.lut * kept
    if inputs is not None and inputs <= target.lut_size:  # a table for each bit
        lut = min(lut, product.y_width)
    return _Price(lut, whole.carry * kept)


def _price_squarer(target: Target, product: Product) -> _Price:
    if _is_hard(product, target):
        return _price_multiplier(target, product, None)
    kind = "signed" if product.a_signed else "unsigned"
    whole = _measured(target, f"squarer_{kind}", product.a_width)
    return whole._replace(lut=whole.lut * product.y_width / (2 * product.a_width))


def _price_product_register(target: Target, product: Product) -> _Price:
    if target.dsp_registers and _is_hard(product, target):
        return _Price(ff_in_dsp=product.y_width)
    return _Price(ff=product.y_width)


def _price_operand_register(target: Target, bits: int, products: tuple[Product, ...]) -> _Price:
    if target.dsp_registers and all(_is_hard(product, target) for product in products):
        return _Price(ff_in_dsp=bits)
    return _Price(ff=bits)


def _price_product_adder(
    target: Target,
    width: int,
    terms: tuple[Product | None, ...],
    load: bool,
    register: bool,
    skipped: int,
    shifts: tuple[int, ...],
) -> _Price:
    alone = len(terms) == 1 and not load
    zeros = max(shifts)
    products = [(term, zeros - n) for term, n in zip(terms, shifts, strict=True) if term]
    bits = width - skipped if register else 0
    if target.dsp_registers and any(not n and _is_hard(term, target) for term, n in products):
        moved = sum(term.y_width - n for term, n in products if not _is_hard(term, target))
        if skipped:
            return _Price(ff=bits - moved, ff_in_dsp=moved)
        return _Price(ff=min(bits, zeros) - moved, ff_in_dsp=max(0, bits - zeros) + moved)
    if alone:
        return _Price(ff=bits)
    table = "accumulate" if load else "adder"
    return _measured(target, table, max(1, width - zeros))._replace(ff=bits)


def _price_block_memory(target: Target, depth: int, width: int, written: bool) -> _Price:
    blocks, rows = _mapped(_BLOCK[target.name], depth, width, written)
    lut = width * _measured(target, "mux", rows).lut + (rows if written else 0) if rows > 1 else 0
    return _Price(lut=lut, bram=blocks, ff=(rows - 1).bit_length())


def _price_distributed_memory(target: Target, depth: int, width: int) -> _Price:
    if not target.lut_ram:  # synthesis takes registers there
        return _price(_memory_of_registers(depth, width), target)
    tables, rows = _mapped(_DISTRIBUTED[target.name], depth, width, True)
    lut = width * _measured(target, "mux", rows).lut + rows if rows > 1 else 0
    return _Price(lut=tables + lut)


def _price_logic_rom(
    target: Target, depth: int, width: int, contents: tuple[int, ...] | None, by_data: bool
) -> _Price:
    share = 1.0 if contents is None else _distinct(contents, width, 1 << target.lut_size)
    table = "lookup" if by_data else "rom"
    return _Price(lut=share * width * _measured(target, table, depth).lut)


def _price_tabulated(target: Target, inputs: int, outputs: int, logic: Inventory) -> _Price:
    """A carry chain stays one."""
    whole = _price(logic, target)
    if whole.carry or inputs > target.lut_size:
        return whole
    return whole._replace(lut=min(whole.lut, outputs))


def _price_table(target: Target, depth: int, width: int, contents: tuple[int, ...]) -> _Price:
    largest = _calibration()[target.name]["table"][0][-1]  # beyond, the share stays about the same
    share = _measured(target, "table", min((depth - 1).bit_length(), largest)).lut
    at_once = share * decisions(contents, width, target.lut_size)
    return _Price(lut=min(at_once, _numbered_decisions(contents, width, target.lut_size)))


@functools.cache
def _numbered_decisions(contents: tuple[int, ...], width: int, size: int) -> int:
    """Look-up tables of the number of a run of equal words, and of the word with that number."""
    first = [n for n, word in enumerate(contents) if not n or word != contents[n - 1]]
    numbers = np.searchsorted(first, np.arange(len(contents)), side="right") - 1
    words = tuple(contents[n] for n in first)
    bits = (len(first) - 1).bit_length()
    return decisions(tuple(numbers.tolist()), bits, size) + decisions(words, width, size)


_OPPOSITE = bytes.maketrans(b"\0\1", b"\1\0")


@functools.cache
def decisions(contents: tuple[int, ...], width: int, size: int) -> int:
    """Look-up tables and multiplexers of a table that is split by its highest address bit first.

    Functions of ``size`` or fewer address bits are look-up tables, those of more are multiplexers
    of two halves; each is there once, up to inversion; what depends on one bit or none costs
    nothing.
    """
    depth = 1 << max(1, (len(contents) - 1).bit_length())
    words = np.array(contents, object)
    words = np.append(words, [words[-1]] * (depth - len(words)))
    columns = {(words >> bit & 1).astype(np.uint8).tobytes() for bit in range(width)}
    columns = {column.translate(_OPPOSITE) if column[0] else column for column in columns}
    count = 0
    while depth > 1 << size:
        depth //= 2
        halves = set()
        for column in columns:
            needed = _address_bits(column)
            if needed <= size:
                count += needed > 1
                continue
            low, high = column[:depth], column[depth:]
            count += low != high
            halves |= {low, high.translate(_OPPOSITE) if high[0] else high}
        columns = halves
    return count + sum(_address_bits(column) > 1 for column in columns)


def _address_bits(column: bytes) -> int:
    """How many bits of its address a function depends on."""
    values = np.frombuffer(column, np.uint8)
    pairs = (values.reshape(-1, 2, 1 << bit) for bit in range(len(column).bit_length() - 1))
    return sum(bool((pair[:, 0] != pair[:, 1]).any()) for pair in pairs)


def _distinct(contents: tuple[int, ...], width: int, size: int) -> float:
    """Share of the look-up tables of ``size`` words that differ, up to inversion, and change."""
    functions: set[tuple[int, ...]] = set()
    parts = 0
    for bit in range(width):
        column = [word >> bit & 1 for word in contents]
        for first in range(0, len(column), size):
            part = column[first : first + size]
            functions.add(tuple(part if part[0] == 0 else [1 - b for b in part]))
            parts += 1
    return sum(any(part) for part in functions) / parts


_PRICES: dict[str, Callable[..., _Price]] = {
    "register": _price_register,
    "delay_line": _price_delay_line,
    "adder": _by_width_and_wires("adder"),
    "subtract": _by_width_and_wires("subtract"),
    "carrying_adder": _by_width("carrying_adder"),
    "ended_adder": _price_ended_adder,
    "step_adder": _price_step_adder,
    "trial_subtract": _price_trial_subtract,
    "constant_adder": _by_width("constant_adder"),
    "negate": _by_width("negate"),
    "tabulated": _price_tabulated,
    "increment": _by_width("increment"),
    "accumulate": _by_width("accumulate"),
    "compare": _by_width("compare"),
    "chained_compare": _by_width("chained_compare"),
    "compare_place": _by_width("compare_place"),
    "logic": _by_width("logic"),
    "mask": _by_width("mask"),
    "mux": _by_width("mux"),
    "late_mux": _price_late_mux,
    "flag_mux": _price_flag_mux,
    "counter": _price_counter,
    "level": _price_level,
    "elastic": _price_elastic,
    "saturate": _price_saturate,
    "multiplier": _price_multiplier,
    "squarer": _price_squarer,
    "product_register": _price_product_register,
    "operand_register": _price_operand_register,
    "product_adder": _price_product_adder,
    "block_memory": _price_block_memory,
    "distributed_memory": _price_distributed_memory,
    "logic_rom": _price_logic_rom,
    "table": _price_table,
}
