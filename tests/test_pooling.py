# SPDX-License-Identifier: Apache-2.0
"""Pooling: plain cases written out, and what is refused."""

import numpy as np
import pytest
from conformance import schedule, subjects, synthesis_equals_cost
from refusal import refused

from blocks import (
    Accumulators,
    AveragePool,
    Convolution,
    Lanes,
    MaxPool,
    Network,
    Pooled,
    Reduce,
    Tensor,
    WholeWindows,
    plan,
)
from blocks.configurations import Configuration
from hdl import Target
from quant import Format, Rounding

S8 = Format(8, 2)
X = Tensor((4, 5, 6), S8)
ECP5 = Target.named("ecp5")


def row(*numbers):
    return np.array(numbers)[:, None]


def line(kind, size, kernel, **options):
    """A block over one axis and one channel."""
    tensor = Tensor((size, 1), S8)
    if kind is AveragePool:
        options = {"output_format": S8, **options}
    return kind(tensor, (kernel,), **options)


def test_the_largest_of_each_window():
    block = line(MaxPool, 5, 2, stride=(2,))
    assert block.reference(row(-3, -7, 4, 9, 100))[:, 0].tolist() == [-3, 9]


def test_padding_is_not_seen_by_a_maximum():
    block = line(MaxPool, 3, 3, padding=((1, 1),))
    assert block.reference(row(-3, -7, -9))[:, 0].tolist() == [-3, -3, -7]


def test_ceil_lets_the_last_window_reach_over_the_end():
    assert line(MaxPool, 5, 2, stride=(2,), ceil=True).reference(row(1, 2, 3, 4, 5))[
        :, 0
    ].tolist() == [2, 4, 5]
    # A window that would begin behind the frame is none.
    assert line(MaxPool, 2, 1, stride=(3,), ceil=True, padding=((0, 1),)).shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [3, 5]),  # 6 / 2, 10 / 2
        ({"padding": ((1, 1),)}, [2, 6, 6]),  # 2 / 1, (4 + 8) / 2, 6 / 1; padding not counted
        ({"padding": ((1, 1),), "count_padding": True}, [1, 6, 3]),
    ],
    ids=["plain", "padding not counted", "padding counted"],
)
def test_means_count_what_they_should(options, wanted):
    block = line(AveragePool, 4, 2, stride=(2,), **options)
    x = row(2, 4, 8, 2) if not options else row(2, 4, 8, 6)
    assert block.reference(x)[:, 0].tolist() == wanted


def test_a_window_over_the_end_counts_padding_but_not_what_is_behind_it():
    """As PyTorch does: of the last 4 taps two meet the frame and one the padding."""
    options = {"stride": (3,), "padding": ((0, 1),), "ceil": True}
    counted = line(AveragePool, 5, 4, count_padding=True, **options)
    assert [count.tolist() for count in counted.counts] == [[4, 3]]
    assert counted.reference(row(0, 0, 0, 4, 5))[:, 0].tolist() == [1, 3]
    assert line(AveragePool, 5, 4, **options).counts[0].tolist() == [4, 2]


@pytest.mark.parametrize("rounding", Rounding)
def test_means_are_rounded_once(rounding):
    block = line(AveragePool, 3, 3, rounding=rounding)
    assert block.reference(row(1, 0, 0)).item() == 0  # 1/3, no mode rounds it up
    half = line(AveragePool, 2, 2, rounding=rounding)
    modes = {"RND": 1, "RND_INF": 1}
    assert half.reference(row(1, 0)).item() == modes.get(rounding.value, 0)


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
def test_every_plan_has_the_interval_that_it_says(kind):
    options = {"output_format": S8} if kind is AveragePool else {}
    block = kind(X, (3, 2), stride=(2, 1), padding=((1, 1), (0, 1)), **options)
    for candidate in block.plans(ECP5):
        graph = block.timing(candidate.plan)
        assert graph.schedule(["i"], ["o"]).interval == candidate.interval


def test_bits_that_no_mean_depends_on_are_nowhere():
    """Sums over powers of two, whose low bits are cut off."""
    coarse = Format(5, -1)
    made = [
        (line(AveragePool, 7, 4, output_format=coarse), WholeWindows("block")),
        (line(AveragePool, 7, 4, output_format=coarse), Pooled(1)),
        (
            line(AveragePool, 4, 2, padding=((0, 1),), stride=(4,), count_padding=True),
            Pooled(1, "distributed"),
        ),
        (
            AveragePool(
                Tensor((3, 2), Format(3, 1)),
                (1,),
                Format(1, 0, signed=False),
                rounding=Rounding.RND_CONV,
                stride=(2,),
            ),
            Pooled(2),
        ),
        (Reduce(Tensor((8, 4), S8), "mean", (0,), Format(7, 1)), Accumulators(2)),
    ]
    synthesis_equals_cost(subjects("mean", [Configuration(*pair) for pair in made]), ECP5)


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
def test_whole_windows_follow_an_unrolled_convolution(kind):
    """A position a cycle, where a folded window takes nine."""
    image = Tensor((8, 8, 2), S8)
    weight = np.arange(1, 17).reshape(2, 2, 2, 2)
    convolution = Convolution(image, weight, np.zeros(2, int), S8, S8)
    options = (S8,) if kind is AveragePool else ()
    pool = kind(convolution.outputs["o"], (3, 3), *options)
    network = Network.chain(convolution, pool)
    made = plan(network, ECP5, unroll=True)
    assert isinstance(list(made.plans.values())[1], WholeWindows)
    assert schedule(network, made).interval == 64
    folded = max(pool.plans(ECP5), key=lambda c: c.plan.lanes if isinstance(c.plan, Pooled) else 0)
    assert folded.interval == 9 * 25


def average(**options):
    return AveragePool(**({"input": X, "kernel_shape": (2, 2), "output_format": S8} | options))


REFUSALS = {
    "input": (lambda: MaxPool(3, (2,)), TypeError, "MaxPool input must be a Tensor, not 3"),
    "axes": (
        lambda: MaxPool(Tensor((4,), S8), ()),
        ValueError,
        "MaxPool input must have 1 to 3 axes and channels, not 1 axes",
    ),
    "kernel": (
        lambda: MaxPool(X, (2,)),
        ValueError,
        "MaxPool kernel_shape must be 2 ints of at least 1, not (2,)",
    ),
    "kernel kind": (
        lambda: MaxPool(X, 2),
        TypeError,
        "MaxPool kernel_shape must be a tuple of ints, not 2",
    ),
    "kernel left out": (
        lambda: MaxPool(X, ()),
        ValueError,
        "MaxPool kernel_shape must be 2 ints of at least 1, not ()",
    ),
    "kernel large": (
        lambda: MaxPool(X, (5, 2)),
        ValueError,
        "MaxPool kernel must fit the padded input, not leave 0 x 4 outputs",
    ),
    "ceil": (lambda: MaxPool(X, (2, 2), ceil=1), TypeError, "MaxPool ceil must be a bool, not 1"),
    "nothing met": (
        lambda: MaxPool(X, (2, 2), padding=((0, 0), (2, 0))),
        ValueError,
        "MaxPool windows must meet the input, not lie in the padding of axis 1 at output 0",
    ),
    "plan": (
        lambda: MaxPool(X, (2, 2)).rtl(Lanes(1)),
        TypeError,
        "MaxPool plan must be Pooled or WholeWindows, not Lanes(lanes=1)",
    ),
    "lanes": (
        lambda: MaxPool(X, (2, 2)).rtl(Pooled(4)),
        ValueError,
        "MaxPool lanes must divide 6 channels, not be 4",
    ),
    "windows of several counts": (
        lambda: average(padding=((0, 1), (0, 0))).rtl(WholeWindows("registers")),
        ValueError,
        (
            "AveragePool plan must be Pooled for these windows, "
            "not WholeWindows(buffer_style='registers')"
        ),
    ),
    "windows of one place": (
        lambda: MaxPool(X, (1, 1)).rtl(WholeWindows()),
        ValueError,
        "MaxPool plan must be Pooled for these windows, not WholeWindows(buffer_style='block')",
    ),
    "format": (
        lambda: average(output_format=8),
        TypeError,
        "AveragePool output_format must be a Format, not 8",
    ),
    "count_padding": (
        lambda: average(count_padding=None),
        TypeError,
        "AveragePool count_padding must be a bool, not None",
    ),
    "quotient": (
        lambda: average(output_format=Format(60, 58)),
        ValueError,
        "AveragePool quotient must fit 60 bits, not 67",
    ),
    "overflow": (
        lambda: average(overflow="clip"),
        ValueError,
        "AveragePool overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 'clip'",
    ),
    "frames": (
        lambda: average().reference(np.zeros((4, 5, 6))),
        TypeError,
        "AveragePool input must be integers, not float64",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_pooling_is_refused(case):
    make, kind, text = case
    with refused(kind, text):
        make()
