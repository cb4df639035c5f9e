# SPDX-License-Identifier: Apache-2.0
"""Memories: what their heads do to one word, how long they stay exact, where they lie."""

import numpy as np
import pytest
from refusal import refused

from blocks import Heads, Memory
from hdl import Target, synthesise, verilog
from quant import Format
from sim import Design, StreamPort, from_bytes, simulate_bulk, to_bytes

S4 = Format(4, 0)


def test_heads_at_one_word():
    """The later writing head wins, a word is read as written, what is not there reads as 0."""
    memory = Memory((3,), 1, S4, 2, reads=3, writes=2, initial=[[5], [6], [7]])
    to = np.array([[[1], [1]], [[3], [0]]])
    words = np.array([[[-1], [-2]], [[4], [-8]]])
    of = np.array([[[1], [0], [3]], [[1], [0], [3]]])
    assert memory.reference(to, words, of)[..., 0].tolist() == [[-2, 5, 0], [-2, -8, 0]]


def test_every_frame_begins_with_the_initial_words():
    memory = Memory((2,), 1, S4, 2, initial=[[5], [6]])
    to, words = np.array([[[[0]], [[1]]]] * 2), np.array([[[[1]], [[2]]]] * 2)
    assert memory.reference(to, words, to[:, ::-1])[..., 0, 0].tolist() == [[6, 1]] * 2


@pytest.mark.slow
def test_ten_thousand_steps_are_exact():
    """Against a dictionary, and the Verilog against both."""
    memory = Memory((20, 12), 2, S4, 10_000, reads=2, writes=2)
    random = np.random.default_rng(4)
    frames = [
        random.integers(t.format.min, t.format.max, t.shape, np.int64, endpoint=True)
        for t in memory.inputs.values()
    ]
    table: dict[tuple[int, ...], list[int]] = {place: [0, 0] for place in np.ndindex(20, 12)}
    wanted = []
    for to, words, of in zip(*(frame.tolist() for frame in frames), strict=True):
        for address, word in zip(map(tuple, to), words, strict=True):
            if address in table:
                table[address] = word
        wanted.append([table.get(tuple(address), [0, 0]) for address in of])
    assert memory.reference(*frames).tolist() == wanted
    plan = Heads("block")
    lanes = memory.lanes(plan)
    ports = [
        StreamPort.plain(port, direction, tensor.format.width * lanes[port])
        for direction, tensors in (("in", memory.inputs), ("out", memory.outputs))
        for port, tensor in tensors.items()
    ]
    design = Design(verilog(memory.rtl(plan), "memory"), "memory", tuple(ports))
    data = {
        port: to_bytes(frame[None], tensor.format, lanes[port])
        for (port, tensor), frame in zip(memory.inputs.items(), frames, strict=True)
    }
    found = simulate_bulk(design, data, {"o": memory.steps}, frames=1)
    np.testing.assert_array_equal(
        from_bytes(found.words["o"], S4, 40_000, 4).ravel(), np.ravel(wanted)
    )


@pytest.mark.slow
def test_a_large_memory_lies_in_block_ram():
    memory = Memory((8, 64), 16, Format(8, 0), 100, reads=2)
    for name in ("ecp5", "xilinx7"):
        target = Target.named(name)
        (candidate,) = memory.plans(target)
        assert candidate.plan == Heads("block")
        text = verilog(memory.rtl(candidate.plan), "memory")
        found = synthesise(text, "memory", target).cost
        assert found.bram == candidate.cost.bram > 0
        assert found.ff == candidate.cost.ff


REFUSALS = {
    "sizes": ({"sizes": 4}, TypeError, "Memory sizes must be a tuple of ints, not 4"),
    "one word": (
        {"sizes": (1, 1)},
        ValueError,
        "Memory sizes must hold at least 2 words, not (1, 1)",
    ),
    "none": ({"sizes": ()}, ValueError, "Memory sizes must hold at least 2 words, not ()"),
    "width": ({"width": 0}, ValueError, "Memory width must be an int from 1, not 0"),
    "steps": ({"steps": 1}, ValueError, "Memory steps must be an int from 2, not 1"),
    "reads": ({"reads": 1.0}, ValueError, "Memory reads must be an int from 1, not 1.0"),
    "writes": ({"writes": 0}, ValueError, "Memory writes must be an int from 1, not 0"),
    "format": (
        {"word_format": 8},
        TypeError,
        "Memory word_format must be a Format, not 8",
    ),
    "initial": (
        {"initial": np.zeros((2, 4), int)},
        ValueError,
        "Memory initial must have shape (4, 2), not (2, 4)",
    ),
    "initial beyond": (
        {"initial": np.full((4, 2), 8)},
        ValueError,
        "Memory initial must be in [-8, 7] for format s4.0, not span [8, 8]",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {"sizes": (4,), "width": 2, "word_format": S4, "steps": 3, **change}
    with refused(error, message):
        Memory(**arguments)


def test_a_plan_of_another_kind_is_refused():
    with refused(TypeError, "Memory plan must be Heads, not 3"):
        Memory((4,), 2, S4, 3).lanes(3)
