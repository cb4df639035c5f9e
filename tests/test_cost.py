# SPDX-License-Identifier: Apache-2.0
"""Costs: their algebra, the rules for memories and multipliers, prices against fresh synthesis."""

import random

import pytest
from refusal import refused

from hdl import cost
from hdl.cost import Cost, Inventory, Product, memory_style
from hdl.synthesis import synthesise_many
from hdl.target import Target

ECP5 = Target.named("ecp5")


def test_costs_add_member_by_member():
    one, two = Cost(1, 2, 3, 4, 5, 6, 7), Cost(10, 20, 30, 40, 50, 60, 70)
    assert one + two == Cost(11, 22, 33, 44, 55, 66, 77)
    assert sum([one, two, one]) == one + two + one
    assert sum([], Cost()) == Cost()
    assert 3 * one == one * 3 == one + one + one
    assert one.register_bits == 2 + 6 + 7


def test_costs_refuse_what_is_no_count():
    with refused(TypeError, "Cost lut must be an int, not float"):
        Cost(lut=1.5)
    with refused(TypeError, "Cost ff must be an int, not bool"):
        Cost(ff=True)
    with refused(ValueError, "Cost dsp must not be negative, not -1"):
        Cost(dsp=-1)
    with pytest.raises(TypeError):
        Cost() + 1
    with pytest.raises(TypeError):
        1 + Cost()


def test_inventories_are_multisets():
    a, b = cost.adder(8), cost.register(3)
    assert a + b + a == Inventory(((a.operators[0][0], 2), (b.operators[0][0], 1)))
    assert sum([a, a], Inventory()) == 2 * a == a * 2
    assert 0 * a == Inventory() == cost.register(0) == cost.adder(0) == cost.counter(1)
    assert (100 * cost.register(3)).cost(ECP5) == Cost(ff=300)
    with refused(ValueError, "Inventory count must not be negative, not -2"):
        a * -2


def test_prices_are_rounded_once_for_the_whole():
    gate = cost.logic(7)
    alone, thousand = gate.cost(ECP5).lut, (1000 * gate).cost(ECP5).lut
    assert abs(thousand - 1000 * alone) <= 500
    assert thousand == sum([gate] * 1000, Inventory()).cost(ECP5).lut


def test_memories_refuse_styles_that_do_not_exist():
    with refused(ValueError, "ram style must be block, distributed or registers, not 'huge'"):
        cost.ram(16, 8, "huge")
    with refused(ValueError, "rom style must be block or logic, not 'distributed'"):
        cost.rom(16, 8, "distributed")
    with refused(ValueError, "ram read of style block must be sync, not async"):
        cost.ram(16, 8, "block", read="async")


def test_look_up_table_memories_are_registers_where_there_are_none():
    ice40 = Target.named("ice40")
    assert cost.ram(16, 8, "distributed").cost(ice40) == cost.ram(16, 8, "registers").cost(ice40)


@pytest.mark.parametrize("name", Target.names())
def test_a_memory_gets_a_style_that_its_target_has(name):
    target = Target.named(name)
    for depth in (1, 2, 3, 16, 64, 500, 5000):
        for width in (1, 8, 100):
            for read in ("sync", "async"):
                style = memory_style(target, depth, width, read)
                assert cost.ram(depth, width, style, read).cost(target).register_bits >= 0
            style = memory_style(target, depth, width, writable=False)
            assert style in ("block", "logic")
    assert memory_style(target, 4096, 8) == "block"
    assert memory_style(target, 2, 8) == "registers"
    assert memory_style(target, 4096, 8, writable=False) == "block"
    assert memory_style(target, 8, 8, writable=False) == "logic"


# (depth, width): blocks and flip-flops (for the row read last), counted in yosys' netlists.
BLOCKS = {
    "ecp5": {(512, 36): (1, 0), (513, 36): (2, 0), (2048, 128): (15, 0), (4097, 40): (12, 4)},
    "ice40": {(256, 16): (1, 0), (257, 17): (3, 0), (4097, 73): (78, 5), (2049, 8): (5, 3)},
    "gowin": {(512, 36): (1, 0), (1025, 32): (3, 2), (8192, 8): (4, 0), (4097, 128): (34, 4)},
    "xilinx7": {(512, 36): (1, 0), (512, 37): (2, 0), (1025, 128): (12, 2), (8192, 9): (4, 1)},
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block_memories_take_the_blocks_that_yosys_took(name):
    target = Target.named(name)
    for (depth, width), (blocks, flip_flops) in BLOCKS[name].items():
        found = cost.ram(depth, width, "block").cost(target)
        assert (found.bram, found.ff) == (blocks, flip_flops), (depth, width)


# operand widths and signs: multipliers in yosys' netlists
MULTIPLIERS = {
    "ecp5": {(8, 1, 8, 1): 1, (18, 1, 18, 1): 1, (19, 0, 8, 1): 2, (1, 1, 8, 1): 0},
    "ice40": {(8, 1, 8, 1): 0, (18, 1, 18, 1): 0},
    "gowin": {
        (3, 1, 8, 1): 0,
        (3, 0, 8, 1): 1,
        (8, 1, 3, 0): 1,
        (24, 1, 16, 1): 3,
        (24, 1, 24, 1): 1,
    },
    "xilinx7": {(4, 1, 4, 1): 0, (4, 1, 5, 1): 1, (25, 1, 18, 1): 1, (26, 1, 19, 1): 4},
    "xilinxup": {(27, 1, 18, 1): 1, (28, 1, 18, 1): 2, (8, 0, 8, 0): 1},
}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_products_take_the_multipliers_that_yosys_took(name):
    for (a, a_signed, b, b_signed), expected in MULTIPLIERS[name].items():
        product = cost.multiplier(a, bool(a_signed), b, bool(b_signed))
        assert product.cost(Target.named(name)).dsp == expected, (a, a_signed, b, b_signed)


def test_registers_move_into_multipliers_on_series_7_only():
    hard, soft = Product(8, True, 8, True, 16), Product(2, True, 3, True, 5)
    pair = cost.product_register(hard) + cost.product_adder(17, [hard, None])
    assert pair.cost(Target.named("xilinx7")) == Cost(ff_in_dsp=33)
    assert pair.cost(Target.named("xilinxup")).ff == pair.cost(ECP5).ff == 33
    shifted = cost.product_adder(17, [hard, None], zeros=(2, 0))
    assert shifted.cost(Target.named("xilinx7")) == Cost(ff=2, ff_in_dsp=15)
    beside = cost.product_register(soft) + cost.product_adder(17, [hard, soft], zeros=(2, 0))
    assert beside.cost(Target.named("xilinx7")) == Cost(ff=2 + 2, ff_in_dsp=15 + 3)
    assert cost.product_register(soft).cost(Target.named("xilinx7")) == Cost(ff=5)
    operand = cost.operand_register(8, [hard, hard])
    assert operand.cost(Target.named("xilinx7")) == Cost(ff_in_dsp=8)
    both = cost.operand_register(8, [hard, soft])
    assert both.cost(Target.named("xilinx7")) == Cost(ff=8)


def test_the_choice_of_a_step_is_free_where_tables_stand_before_the_carry():
    chosen, adder = cost.step_adder(8, 3), cost.adder(8)
    assert chosen.cost(Target.named("xilinx7")) == adder.cost(Target.named("xilinx7"))
    assert chosen.cost(ECP5) == (adder + cost.logic(3, 8)).cost(ECP5)
    assert cost.step_adder(8, 1).cost(ECP5) == adder.cost(ECP5)


def words(depth, width):
    source = random.Random(depth * width)
    return [source.getrandbits(width) for _ in range(depth)]


def memory(style, depth, width, contents=None):
    bits = max(1, (depth - 1).bit_length())
    ports = f"input [{bits - 1}:0] wa, input [{bits - 1}:0] ra, input we, input [{width - 1}:0] d"
    body = f'(* {"ram" if contents is None else "rom"}_style = "{style}" *) '
    body += f"reg [{width - 1}:0] m [0:{depth - 1}];\nalways @(posedge clk) if (en) y <= m[ra];"
    if contents is None:
        body += "\nalways @(posedge clk) if (we) m[wa] <= d;"
    else:
        init = "".join(f"m[{n}] = {width}'d{word};" for n, word in enumerate(contents))
        body += f"\ninitial begin {init} end"
    return f"{ports}, output reg [{width - 1}:0] y", body


def two(width):
    return f"input [{width - 1}:0] a, input [{width - 1}:0] b, output [{width - 1}:0] y"


def signed(a, b, y):
    ports = f"input signed [{a - 1}:0] a, input signed [{b - 1}:0] b, output reg [{y - 1}:0] y"
    return ports, "always @(posedge clk) if (en) y <= a * b;"


HARD, SOFT = Product(9, True, 7, True, 16), Product(3, True, 2, True, 5)
UP = "always @(posedge clk) if (rst) y <= 0; else if (en) y <= y == 36 ? 6'd0 : y + 6'd1;"
# Sizes between those the prices were measured at, and what Verilog they stand for.
PRIMITIVES = {
    "adder": (cost.adder(11), two(11), "assign y = a + b;"),
    "subtract": (cost.subtract(19), two(19), "assign y = a - b;"),
    "counter": (cost.counter(37), "output reg [5:0] y", UP),
    "gates": (cost.logic(4, 2), "input [7:0] a, output [1:0] y", "assign y = {&a[7:4], |a[3:0]};"),
    "choice": (cost.mux2(13), f"input s, {two(13)}", "assign y = s ? a : b;"),
    "hard": (
        cost.multiplier(*HARD[:5]) + cost.product_register(HARD),
        *signed(9, 7, 16),
    ),
    "soft": (
        cost.multiplier(*SOFT[:5]) + cost.product_register(SOFT),
        *signed(3, 2, 5),
    ),
    "block": (cost.ram(600, 20, "block"), *memory("block", 600, 20)),
    "small": (cost.ram(20, 11, "distributed"), *memory("distributed", 20, 11)),
    "table": (
        cost.rom(14, 9, "logic", words(14, 9)),
        *memory("logic", 14, 9, words(14, 9)),
    ),
    "saved": (
        cost.rom(300, 30, "block", words(300, 30)),
        *memory("block", 300, 30, words(300, 30)),
    ),
    "line": (
        cost.delay_line(3, 5),
        "input [2:0] a, output [2:0] y",
        "reg [14:0] s; always @(posedge clk) if (en) s <= {s[11:0], a}; assign y = s[14:12];",
    ),
}


@pytest.mark.parametrize("name", Target.names())
def test_primitives_cost_what_synthesis_finds(name):
    target = Target.named(name)
    texts = {}
    tops = [top for top in PRIMITIVES if target.lut_ram or top != "small"]
    for top in tops:
        _, ports, body = PRIMITIVES[top]
        texts[top] = f"module {top}(input clk, input rst, input en, {ports});\n{body}\nendmodule\n"
    found = synthesise_many(texts, target)
    for top in tops:
        estimate, real = PRIMITIVES[top][0].cost(target), found[top].cost
        exact = ("ff", "dsp", "bram", "ff_in_dsp", "ff_in_srl")
        assert [getattr(estimate, n) for n in exact] == [getattr(real, n) for n in exact], top
        assert abs(estimate.lut - real.lut) <= max(4, 0.25 * real.lut), (top, estimate, real)
        assert abs(estimate.carry - real.carry) <= max(1, 0.15 * real.carry), (top, estimate, real)
