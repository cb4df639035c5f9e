# SPDX-License-Identifier: Apache-2.0
"""One suite for every block of the catalogue: the seven questions of the architecture.

Question 6, refusals, is asked in test_blocks.py and test_network.py, where the messages stand.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache

import conformance as ask
import numpy as np
import pytest
from simulators import icarus_needed

from blocks import Tensor
from blocks.catalogue import CATALOGUE, Configuration
from hdl import Target
from quant import Overflow

# All questions about one block go to one process, which makes its circuits once.
NAMES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CATALOGUE]
CONFIGURATIONS = 20
SYNTHESISED = 5
TOGETHER = 25  # in one simulation of a campaign


def is_composed(name: str) -> bool:
    return CATALOGUE[name].composed


def chosen(name: str, indices: Iterable[int]) -> list[ask.Subject]:
    return ask.subjects(name, [CATALOGUE[name].configuration(n) for n in indices])


@cache
def subjects(name: str) -> list[ask.Subject]:
    """Each configuration once, with its Verilog."""
    return chosen(name, range(CONFIGURATIONS))


@pytest.mark.parametrize("name", NAMES)
def test_reference_equals_an_independent_statement(name):
    for subject in subjects(name):
        ask.reference_equals_an_independent_statement(subject)


@pytest.mark.parametrize("name", NAMES)
def test_verilog_equals_reference_cycle_for_cycle(name):
    ask.verilog_equals_reference(subjects(name))


@pytest.mark.parametrize("name", NAMES)
def test_verilog_has_no_unknown_values_in_icarus(name):
    icarus_needed()
    ask.verilog_equals_reference(subjects(name)[:4], "icarus")


def check_synthesis(name: str, subjects: list[ask.Subject], target: str, fewest: int = 1) -> None:
    """Question 4, look-up tables included; the median of ``fewest`` large designs or more."""
    pairs = ask.synthesis_equals_cost(subjects, Target.named(target), is_composed(name))
    large = [(estimate, found) for estimate, found in pairs if found > 200]
    errors = [abs(estimate - found) / found for estimate, found in large]
    if len(errors) >= fewest:
        assert np.median(errors) <= (0.25 if is_composed(name) else 0.15), pairs
    assert max(errors, default=0) <= 0.40, pairs


@pytest.mark.parametrize("target", ["ecp5", "xilinx7"])
@pytest.mark.parametrize("name", NAMES)
def test_synthesis_equals_cost(name, target):
    check_synthesis(name, subjects(name)[:SYNTHESISED], target)


ONCE_WRONG = {
    "Linear": (83,),  # numbers that keep off the ends of their format, in an unrolled matrix
    "Reduce": (50, 98),  # symmetric, to the format that the numbers have
    "Recur": (26, 56, 86),  # a kept state that is ready before the one before it is taken
}
"""Configurations whose circuit once differed, in a number or a cycle, and why."""


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_circuits_that_once_differed(name):
    ask.verilog_equals_reference(chosen(name, ONCE_WRONG[name]))


ONCE_DEAD = {
    "Add": (83, 87),  # bits of a number that many lanes meet alike; what of it is cut off
    "Sub": (95,),
    "Minimum": (11, 99),  # that many lanes meet alike; what is too low to decide
    "Maximum": (11, 67),
    "Piecewise": (65,),  # an exact value of which a single bit comes out
    "Divide": (32, 42),  # zeros below a dividend far above the point; digits that are cut off
    "PReLU": (77,),  # what lies above a number that is never rounded up
    # rows of unlike shifts, the lowest bit of whose sum carries nowhere; a product that two rows
    # have at different places; low bits that the constants of all rows have alike; what is cut off
    # of rows that never change
    "Linear": (31, 28, 58, 83),
    # weights between others that no window meets; a product that goes into the multiplier of
    # another without its lowest bits; a product that two rows have at different places
    "Convolution": (32, 23, 72),
    "TransposedConvolution": (54,),  # a bit of the sum that rounding to zero cannot see
    "AveragePool": (59, 98),  # all but the sign of what saturates to a single bit
    "Nonlinearity": (16, 29, 58),  # what is cut off; a function that never changes
    "Rescale": (61, 85),  # low bits that the constants of all channels have alike
    # bits of a constant times a single bit; the lowest of a place whose table does not need it
    "Network": (42, 31),
}
"""Configurations that once held a bit which synthesis found dead, and which."""


@pytest.mark.parametrize("name", ONCE_DEAD)
def test_no_register_holds_what_is_known_before_synthesis(name):
    """Those of an odd number are asked on xilinx7 too."""
    numbers = ONCE_DEAD[name]
    dead = chosen(name, numbers)
    ask.synthesis_equals_cost(dead, Target.named("ecp5"))
    odd = [subject for n, subject in zip(numbers, dead, strict=True) if n % 2]
    ask.synthesis_equals_cost(odd, Target.named("xilinx7"))


def kept_off_the_ends(configuration: Configuration) -> Configuration:
    """The same with inputs of which every channel needs fewer bits than its format has."""
    block, narrow = configuration.block, {}
    for field in fields(block):
        tensor = getattr(block, field.name)
        if field.name.startswith("input") and isinstance(tensor, Tensor):
            ends = tensor.format.min // 4, tensor.format.max // 4
            narrow[field.name] = replace(tensor, ends=(ends,) * len(tensor.channels))
    return Configuration(replace(block, **narrow), configuration.plan)


@pytest.mark.parametrize(
    "names",
    [("Linear", "Neuron", "Convolution", "TransposedConvolution"), ("Rescale", "Weight", "Reduce")],
    ids=" ".join,
)
def test_numbers_may_keep_off_the_ends_of_their_format(names):
    narrow = [
        subject
        for name in names
        for subject in ask.subjects(
            name, [kept_off_the_ends(CATALOGUE[name].configuration(n)) for n in range(6)]
        )
    ]
    for subject in narrow:
        ask.reference_equals_an_independent_statement(subject)
    ask.verilog_equals_reference(narrow)


def test_a_format_that_stays_may_still_lose_its_lowest_number():
    """SAT_SYM narrows even to the format that a number has."""
    symmetric = []
    for name in ("Identity", "Minimum", "Maximum", "Weight", "Reduce"):
        kept = []
        for configuration in map(CATALOGUE[name].configuration, range(6)):
            tensor = next(iter(configuration.block.inputs.values()))
            modes = {"output_format": tensor.format, "overflow": Overflow.SAT_SYM}
            kept.append(replace(configuration, block=replace(configuration.block, **modes)))
        symmetric += ask.subjects(name, kept)
    for subject in symmetric:
        ask.reference_equals_an_independent_statement(subject)
    ask.verilog_equals_reference(symmetric)


@pytest.mark.full
@pytest.mark.parametrize("target", ["ice40", "gowin", "xilinxup"])
@pytest.mark.parametrize("name", NAMES)
def test_synthesis_equals_cost_elsewhere(name, target):
    check_synthesis(name, subjects(name)[:SYNTHESISED], target)


@pytest.mark.parametrize("name", NAMES)
def test_verilog_is_clean(name):
    ask.verilog_is_clean(subjects(name))


@pytest.mark.parametrize("name", NAMES)
def test_saved_equals_original(name):
    for subject in subjects(name)[:6]:
        ask.saved_equals_original(subject)


@pytest.mark.full
@pytest.mark.parametrize("start", [0, 50])
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_hundred_configurations(name, start):
    """Each is synthesised for one target: every fourth for xilinx7, where it takes three times as
    long as for ecp5.
    """
    fifty = chosen(name, range(start, start + 50))
    for first in range(0, 50, TOGETHER):
        together = fifty[first : first + TOGETHER]
        for subject in together:
            ask.reference_equals_an_independent_statement(subject)
        ask.verilog_equals_reference(together)
        ask.verilog_is_clean(together)
    fourth = fifty[1::4]
    others = [subject for subject in fifty if subject not in fourth]
    for asked, target in ((others, "ecp5"), (fourth, "xilinx7")):
        check_synthesis(name, asked, target, fewest=5)


@pytest.mark.full
@pytest.mark.parametrize("start", range(100, 300, 25))
def test_two_hundred_networks(start):
    """Random networks; some with a word less in a buffer too, which are slower and not wrong."""
    random = [CATALOGUE["Network"].configuration(n) for n in range(start, start + 25)]
    searched = [c for c in random if all(c.plan.depths.values())]  # the others have wires
    for configuration in searched[::4]:
        slower = ask.no_buffer_has_a_word_too_many(configuration.block, configuration.plan)
        random += [Configuration(configuration.block, plan) for plan in slower[:1]]
    networks = ask.subjects("Network", random)
    for subject in networks:
        ask.reference_equals_an_independent_statement(subject)
    ask.verilog_equals_reference(networks)
