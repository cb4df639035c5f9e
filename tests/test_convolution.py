# SPDX-License-Identifier: Apache-2.0
"""Convolutions against other definitions of them, their plans, and what they refuse."""

import numpy as np
import pytest
from refusal import refused

from blocks import (
    Columns,
    Convolution,
    Folded,
    Lanes,
    Linear,
    Network,
    Tensor,
    TransposedConvolution,
    Unrolled,
    plan,
)
from hdl import Target
from quant import Format

S4, S8 = Format(4, 1), Format(8, 2)
WIDE = Format(24, 3)
ECP5 = Target.named("ecp5")


def weights(*shape, seed=0):
    return np.random.default_rng(seed).integers(-8, 8, shape)


def convolution(kind=Convolution, **options):
    parts = {
        "input": Tensor((5, 6, 4), S8),
        "weight": weights(6, 3, 2, 4),
        "bias": np.arange(6),
        "weight_format": S4,
        "output_format": WIDE,
    }
    return kind(**(parts | options))


def test_listing_the_plans_of_a_convolution_finds_no_graph(monkeypatch):
    """It would take minutes for matrices that nobody unrolls."""

    def build_adder_graph(*args, **options):
        raise AssertionError("a plan that is only listed must not be designed")

    monkeypatch.setattr("hdl.parallel.build_adder_graph", build_adder_graph)
    block = convolution(padding=((1, 1), (0, 1)))
    *_, unrolled = block.plans(ECP5)
    monkeypatch.undo()
    timing = block.timing(unrolled.plan)
    assert timing.schedule(["i"], ["o"]).interval == unrolled.interval


def frames(tensor, count=2, seed=1):
    number = tensor.format
    shape = (count, *tensor.shape)
    return np.random.default_rng(seed).integers(number.min, number.max + 1, shape)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_transposed_convolution_is_the_transpose_of_a_convolution(axes):
    """<conv(x), y> = <x, transposed(y)> for all x and y, the weights being the same."""
    sizes, kernel = (5, 4, 3)[:axes], (3, 2, 2)[:axes]
    options = {
        "stride": (2, 1, 2)[:axes],
        "dilation": (1, 2, 1)[:axes],
        "padding": ((1, 0), (0, 1), (1, 1))[:axes],
    }
    weight = weights(3, *kernel, 2)
    x = Tensor((*sizes, 2), S8)
    there = Convolution(x, weight, np.zeros(3, int), S4, WIDE, **options)
    y = Tensor(there.outputs["o"].shape, S8)
    swapped = np.moveaxis(weight, 0, -1)  # (kernel, inputs, outputs)
    swapped = np.moveaxis(swapped, -2, 0)
    back = TransposedConvolution(y, swapped, np.zeros(2, int), S4, WIDE, **options)
    more = tuple(n - m for n, m in zip(sizes, back.outputs["o"].shape[:-1], strict=True))
    back = TransposedConvolution(
        y, swapped, np.zeros(2, int), S4, WIDE, output_padding=more, **options
    )
    a, b = frames(x, 1)[0], frames(y, 1)[0]
    assert (there.reference(a) * b).sum() == (a * back.reference(b)).sum()


def test_a_convolution_of_one_pixel_windows_is_a_linear_layer():
    x = Tensor((3, 4, 5), S8)
    weight, bias = weights(6, 5), np.arange(6)
    layer = Linear(x, weight, bias, S4, WIDE)
    block = Convolution(x, weight[:, None, None], bias, S4, WIDE)
    values = frames(x)
    np.testing.assert_array_equal(block.reference(values), layer.reference(values))


def test_groups_are_convolutions_side_by_side():
    block = convolution(weight=weights(6, 3, 2, 2), groups=2, padding=((1, 1), (0, 1)))
    x = frames(block.input)
    parts = [
        convolution(
            input=Tensor((5, 6, 2), S8),
            weight=block.weight[3 * g : 3 * g + 3],
            bias=block.bias[3 * g : 3 * g + 3],
            padding=block.padding,
        ).reference(x[..., 2 * g : 2 * g + 2])
        for g in range(2)
    ]
    np.testing.assert_array_equal(block.reference(x), np.concatenate(parts, axis=-1))


def test_any_leading_axes_are_a_batch():
    block = convolution()
    x = frames(block.input, 6)
    y = block.reference(x.reshape(2, 3, *x.shape[1:]))
    np.testing.assert_array_equal(y.reshape(6, *y.shape[2:]), block.reference(x))
    np.testing.assert_array_equal(block.reference(x[0]), y[0, 0])


@pytest.mark.parametrize("kind", [Convolution, TransposedConvolution])
def test_every_folding_has_the_interval_that_it_says(kind):
    block = convolution(kind, stride=(2, 1), padding=((1, 1), (1, 0)))
    for candidate in block.plans(ECP5):
        graph = block.timing(candidate.plan)
        assert graph.schedule(["i"], ["o"]).interval == candidate.interval


def foldings(block):
    plans = [candidate.plan for candidate in block.plans(ECP5)]
    return {(plan.pe, plan.simd) for plan in plans if isinstance(plan, Folded)}


def test_a_first_layer_may_take_a_row_of_its_kernel_in_a_cycle():
    block = convolution(
        input=Tensor((8, 8, 1), S8), weight=weights(4, 3, 3, 1) | 1, bias=np.arange(4)
    )
    plans = [candidate for candidate in block.plans(ECP5) if isinstance(candidate.plan, Columns)]
    assert [candidate.plan.pe for candidate in plans] == [1, 2, 4]
    # 6 rows of 6 outputs, 3 cycles for each, 9 of 9 products in them
    assert [candidate.interval for candidate in plans] == [432, 216, 108]
    assert block.cost(plans[-1].plan, ECP5).dsp == 12


def test_foldings_divide_outputs_and_channels_of_a_group():
    plain = foldings(convolution())
    assert plain == {(pe, simd) for pe in (1, 2, 3, 6) for simd in (1, 2, 4)}
    grouped = convolution(weight=weights(6, 3, 2, 2), groups=2)
    assert foldings(grouped) == {(1, 1), (1, 2), (3, 1), (3, 2), (6, 4)}


def test_a_network_with_a_convolution_meets_its_interval():
    x = Tensor((6, 6, 2), S8)
    first = Convolution(
        x, weights(4, 3, 3, 2), np.arange(4), S4, Format(6, 1, False), padding=((1, 1), (1, 1))
    )
    second = Convolution(first.outputs["o"], weights(2, 2, 2, 4), np.zeros(2, int), S4, S8)
    network = Network.chain(first, second)
    mapped = plan(network, ECP5, 800)
    graph = network.timing(mapped)
    ends = [graph.port(p) for p in network.inputs], [graph.port(p) for p in network.outputs]
    assert graph.schedule(*ends).interval <= 800
    values = frames(x, 5)
    np.testing.assert_array_equal(network.run(values), network.reference(values))


@pytest.mark.parametrize("number", [Format(8, 2), Format(24, 3), Format(40, 3)], ids=str)
def test_the_fast_path_equals_the_reference_in_every_type_of_number(number):
    """In float32, float64 and int64."""
    block = convolution(
        input=Tensor((5, 6, 4), number), padding=((2, 1), (0, 1)), output_format=Format(50, 4)
    )
    x = frames(block.input, 7)
    np.testing.assert_array_equal(Network.chain(block).run(x), block.reference(x))


REFUSALS = {
    "axes": (
        lambda: convolution(input=Tensor((4,), S8)),
        ValueError,
        "Convolution input must have 1 to 3 axes and channels, not 1 axes",
    ),
    "input": (lambda: convolution(input=3), TypeError, "Convolution input must be a Tensor, not 3"),
    "weight format": (
        lambda: convolution(weight_format=8),
        TypeError,
        "Convolution weight_format must be a Format, not 8",
    ),
    "weight": (
        lambda: convolution(weight=weights(6, 3, 2, 3)),
        ValueError,
        "Convolution weight must have shape (outputs, kernel, kernel, 4), not (6, 3, 2, 3)",
    ),
    "weight axes": (
        lambda: convolution(weight=weights(6, 3, 4)),
        ValueError,
        "Convolution weight must have shape (outputs, kernel, kernel, 4), not (6, 3, 4)",
    ),
    "weight range": (
        lambda: convolution(weight=weights(6, 3, 2, 4) * 2),
        ValueError,
        "Convolution weight must be in [-8, 7] for format s4.1, not span [-16, 14]",
    ),
    "weight float": (
        lambda: convolution(weight=weights(6, 3, 2, 4) * 0.5),
        TypeError,
        "Convolution weight must be integers, not float64",
    ),
    "bias": (
        lambda: convolution(bias=np.arange(5)),
        ValueError,
        "Convolution bias must have shape (6,), not (5,)",
    ),
    "shift": (
        lambda: convolution(shift=np.full(6, 5)),
        ValueError,
        "Convolution shift must be between 0 and 4, not span [5, 5]",
    ),
    "shift float": (
        lambda: convolution(shift=np.full(6, 0.5)),
        TypeError,
        "Convolution shift must be integers, not float64",
    ),
    "stride": (
        lambda: convolution(stride=(1, 0)),
        ValueError,
        "Convolution stride must be 2 ints of at least 1, not (1, 0)",
    ),
    "stride axes": (
        lambda: convolution(stride=(1,)),
        ValueError,
        "Convolution stride must be 2 ints of at least 1, not (1,)",
    ),
    "stride kind": (
        lambda: convolution(stride=2),
        TypeError,
        "Convolution stride must be a tuple of ints, not 2",
    ),
    "dilation": (
        lambda: convolution(dilation=(1, 1.0)),
        TypeError,
        "Convolution dilation must be a tuple of ints, not (1, 1.0)",
    ),
    "padding": (
        lambda: convolution(padding=((1, 1),)),
        ValueError,
        "Convolution padding must be 2 pairs of ints, not ((1, 1),)",
    ),
    "padding of an axis": (
        lambda: convolution(padding=((1, -1), (0, 0))),
        ValueError,
        "Convolution padding of an axis must be 2 ints of at least 0, not (1, -1)",
    ),
    "groups": (
        lambda: convolution(groups=3),
        ValueError,
        "Convolution groups must divide 4 channels, not be 3",
    ),
    "groups kind": (
        lambda: convolution(groups=2.0),
        TypeError,
        "Convolution groups must be an int, not 2.0",
    ),
    "groups of outputs": (
        lambda: convolution(weight=weights(6, 3, 2, 1), groups=4),
        ValueError,
        "Convolution groups must divide 6 outputs, not be 4",
    ),
    "kernel": (
        lambda: convolution(dilation=(3, 1)),
        ValueError,
        "Convolution kernel must fit the padded input, not leave -1 x 5 outputs",
    ),
    "accumulator": (
        lambda: convolution(
            input=Tensor((5, 6, 4), Format(60, 0)),
            bias=np.zeros(6, int),
        ),
        ValueError,
        "Convolution accumulator must fit 63 bits, not 67",
    ),
    "plan": (
        lambda: convolution().rtl(Lanes(1)),
        TypeError,
        "Convolution plan must be Folded, Columns or Unrolled, not Lanes(lanes=1)",
    ),
    "folding": (
        lambda: convolution(weight=weights(6, 3, 2, 2), groups=2).rtl(Folded(2, 4)),
        ValueError,
        "Convolution pe x simd must be one of 1 x 1, 1 x 2, 3 x 1, 3 x 2, 6 x 4, not 2 x 4",
    ),
    "columns": (
        lambda: convolution().rtl(Columns(4)),
        ValueError,
        "Convolution pe must divide 6 outputs, not be 4",
    ),
    "columns of groups": (
        lambda: convolution(weight=weights(6, 3, 2, 2), groups=2).rtl(Columns(3)),
        ValueError,
        (
            "Convolution plan must not be Columns for these windows, "
            "not Columns(pe=3, weight_style='logic', buffer_style='registers')"
        ),
    ),
    "unrolled": (
        lambda: convolution(TransposedConvolution, stride=(2, 1)).rtl(Unrolled()),
        ValueError,
        (
            "TransposedConvolution plan must be Folded for these windows, "
            "not Unrolled(adders_per_stage=1, narrow_stages=2, held=False)"
        ),
    ),
    "output padding": (
        lambda: convolution(TransposedConvolution, stride=(2, 1), output_padding=(2, 0)),
        ValueError,
        "TransposedConvolution output_padding must be less than (2, 1), not (2, 0)",
    ),
    "output padding kind": (
        lambda: convolution(TransposedConvolution, output_padding=1),
        TypeError,
        "TransposedConvolution output_padding must be a tuple of ints, not 1",
    ),
    "nothing left": (
        lambda: convolution(TransposedConvolution, padding=((4, 4), (0, 0))),
        ValueError,
        "TransposedConvolution kernel must fit the padded input, not leave -1 x 7 outputs",
    ),
    "rounding": (
        lambda: convolution(rounding="up"),
        ValueError,
        (
            "Convolution rounding must be one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, "
            "TRN, TRN_ZERO, not 'up'"
        ),
    ),
    "frames": (
        lambda: convolution().reference(np.zeros((5, 6, 3), int)),
        ValueError,
        "Convolution input must have shape (..., 5, 6, 4), not (5, 6, 3)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_convolution_is_refused(case):
    make, kind, text = case
    with refused(kind, text):
        make()
