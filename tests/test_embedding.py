# SPDX-License-Identifier: Apache-2.0
"""Rows of a table for codes: the spec, its plans, and what it refuses."""

import numpy as np
import pytest
from refusal import refused

from blocks import Embedding, Lanes, Network, Reads, Tensor
from hdl import Target
from quant import Format

CODES = Tensor((2, 3), Format(2, 0, False))
S6 = Format(6, 2)
TABLE = np.array(
    [[3, -5, 7, 0, 1, 2], [-32, 31, 0, 0, 0, 1], [4, 4, 4, 4, 4, 4], [1, 2, 3, 4, 5, 6]]
)


def embedding(codes=CODES, table=TABLE, number=S6):
    return Embedding(codes, table, number)


def test_every_code_gives_its_row():
    block = embedding()
    x = np.random.default_rng(0).integers(0, 4, (5, 2, 3))
    y = block.reference(x)
    assert y.shape == (5, 2, 3, 6)
    for place in np.ndindex(5, 2, 3):
        assert y[place].tolist() == TABLE[x[place]].tolist()
    np.testing.assert_array_equal(Network.chain(block).run(x), y)
    assert block.outputs == {"o": Tensor((2, 3, 6), S6)}


@pytest.mark.parametrize("lanes", [1, 2, 3, 6])
def test_a_word_of_a_row_leaves_every_cycle(lanes):
    timing = embedding().timing(Reads(lanes))
    assert timing.schedule(["i"], ["o"]).interval == 6 * 6 // lanes


def test_plans_give_any_part_of_a_row_in_a_memory_that_suits_the_target():
    plans = {c.plan: c.interval for c in embedding().plans(Target.named("ecp5"))}
    assert plans == {Reads(1): 36, Reads(2): 18, Reads(3): 12, Reads(6): 6}
    table = np.random.default_rng(0).integers(-32, 32, (1024, 16))
    large = embedding(Tensor((4,), Format(10, 0, False)), table)
    assert {c.plan.table_style for c in large.plans(Target.named("ecp5"))} == {"block"}


def test_the_table_is_its_own():
    table = TABLE.copy()
    block = embedding(table=table)
    table[0, 0] = 9
    assert block.table[0, 0] == 3
    with refused(ValueError, "assignment destination is read-only"):
        block.table[0, 0] = 0


REFUSALS = {
    "kind": (lambda: embedding(3), TypeError, "Embedding input must be a Tensor, not 3"),
    "format": (
        lambda: embedding(number=8),
        TypeError,
        "Embedding table_format must be a Format, not 8",
    ),
    "signed": (
        lambda: embedding(Tensor((2,), Format(2, 0))),
        ValueError,
        "Embedding input must be unsigned whole numbers, not s2.0",
    ),
    "fractions": (
        lambda: embedding(Tensor((2,), Format(2, 1, False))),
        ValueError,
        "Embedding input must be unsigned whole numbers, not u2.1",
    ),
    "entries": (
        lambda: embedding(table=TABLE[:3]),
        ValueError,
        "Embedding table must have shape (4, width), not (3, 6)",
    ),
    "range": (
        lambda: embedding(table=TABLE * 2),
        ValueError,
        "Embedding table must be in [-32, 31] for format s6.2, not span [-64, 62]",
    ),
    "floats": (
        lambda: embedding(table=TABLE * 1.0),
        TypeError,
        "Embedding table must be integers, not float64",
    ),
    "codes": (
        lambda: embedding().reference(np.full((2, 3), 4)),
        ValueError,
        "Embedding input must be in [0, 3] for format u2.0, not span [4, 4]",
    ),
    "plan": (
        lambda: embedding().rtl(Lanes(1)),
        TypeError,
        "Embedding plan must be Reads, not Lanes(lanes=1)",
    ),
    "lanes": (
        lambda: embedding().timing(Reads(4)),
        ValueError,
        "Embedding lanes must divide 6, not be 4",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(make, error, message):
    with refused(error, message):
        make()
