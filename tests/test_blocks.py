# SPDX-License-Identifier: Apache-2.0
"""The blocks: what they refuse, their references against exact fractions, and their forms."""

import numpy as np
import pytest
from oracles import exact
from refusal import refused

from blocks import (
    Add,
    ArgMax,
    ArgMin,
    Divide,
    Folded,
    Gate,
    Identity,
    Lanes,
    Linear,
    Maximum,
    Minimum,
    Mul,
    Neuron,
    PReLU,
    ReLU,
    Rescale,
    Reshape,
    Sub,
    TableLanes,
    Tensor,
    Unrolled,
    Weight,
    activation,
)
from blocks.block import Block
from hdl import Target, verilog
from quant import Format, Overflow, Rounding

S8, S4, U4 = Format(8, 4), Format(4, 1), Format(4, 0, False)
X = Tensor((2, 3), S8)
ONE = Tensor((1,), Format(1, 0))
TARGET = Target.named("ecp5")
ROUNDINGS = "RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, TRN, TRN_ZERO"


def integers(tensor, batch=(), seed=0):
    random = np.random.default_rng(seed)
    low, high = tensor.format.min, tensor.format.max
    return random.integers(low, high + 1, (*batch, *tensor.shape))


def linear(tensor=X, outputs=4, **options):
    random = np.random.default_rng(3)
    parts = {
        "input": tensor,
        "weight": random.integers(-8, 8, (outputs, tensor.shape[-1])),
        "bias": random.integers(-50, 50, outputs),
        "weight_format": S4,
        "output_format": S8,
    }
    return Linear(**(parts | options))


def neuron(**options):
    parts = {
        "input": X,
        "weight": np.array([3, -8, 7]),
        "bias": -11,
        "weight_format": S4,
        "output_format": S8,
    }
    return Neuron(**(parts | options))


BLOCKS = {
    "identity": Identity(X, S4),
    "wires": Identity(X, S8),
    "relu": ReLU(X, U4, Rounding.TRN, Overflow.WRAP),
    "relu unsigned": ReLU(Tensor((5,), U4), S8),
    "add": Add(X, Tensor((2, 3), U4), S8, Rounding.RND_CONV),
    "add narrow": Add(X, X, Format(3, 4), Rounding.RND, Overflow.SAT_SYM),
    "sub": Sub(X, Tensor((2, 3), U4), S8, Rounding.RND_CONV),
    "sub far": Sub(Tensor((2, 3), Format(4, -6)), X, Format(9, 1)),
    "mul": Mul(X, Tensor((2, 3), S4), S8, Rounding.TRN_ZERO),
    "minimum": Minimum(X, Tensor((2, 3), U4), Format(6, 2), Rounding.RND_INF),
    "maximum": Maximum(Tensor((2, 3), U4), X, Format(6, 2), Rounding.TRN, Overflow.WRAP),
    "hardswish": activation.hardswish(X, S8, Rounding.RND_CONV),
    "prelu": PReLU(X, np.array([7, -8, 0]), S4, S8),
    "rescale": Rescale(X, np.array([3, 5, -7]), np.array([2, 3, 4]), S8, -9, 5, "onnx"),
    "argmax": ArgMax(X),
    "argmin": ArgMin(X, True),
    "reshape": Reshape(X, (3, 2)),
    "reshape flat": Reshape(X, (6,)),
    "weight scalar": Weight(X, np.array(-3), S4, S8),
    "weight channels": Weight(X, np.array([7, -8, 0]), S4, S8, Rounding.RND_ZERO),
    "linear": linear(),
    "linear shifted": linear(shift=np.array([0, 4, 1, 2])),
    "linear wrapped": linear(output_format=S4, overflow=Overflow.WRAP),
    "linear relu": linear(output_format=Format(6, 2, False)),
    "neuron": neuron(),
    "one bit": Linear(ONE, np.array([[-1]]), np.array([0]), Format(1, 0), Format(1, 0)),
}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


@every_block
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (1, 1, 1), (0,), (2, 0)], ids=str)
def test_references_equal_exact_fractions_for_any_batch(block, batch):
    frames = [integers(tensor, batch, n) for n, tensor in enumerate(block.inputs.values())]
    y = block.reference(*frames)
    (out,) = block.outputs.values()
    assert y.dtype == np.int64
    assert y.shape == (*batch, *out.shape)
    if y.size:
        single = [
            f.reshape(-1, *t.shape) for f, t in zip(frames, block.inputs.values(), strict=True)
        ]
        (wanted,) = exact(block, *single)
        np.testing.assert_array_equal(y.reshape(wanted.shape), wanted)


@every_block
def test_references_at_the_ends_of_the_formats(block):
    for ends in ((0, 0), (1, 1), (0, 1), (1, 0)):
        frames = []
        for tensor, end in zip(block.inputs.values(), ends, strict=False):
            value = tensor.format.max if end else tensor.format.min
            frames.append(np.full((1, *tensor.shape), value))
        np.testing.assert_array_equal(block.reference(*frames), exact(block, *frames)[0])


@every_block
def test_every_block_keeps_the_contract(block):
    assert isinstance(block, Block)
    candidates = list(block.plans(TARGET))
    assert candidates
    for candidate in candidates:
        lanes = block.lanes(candidate.plan)
        assert set(lanes) == {*block.inputs, *block.outputs}
        for port, tensor in (block.inputs | block.outputs).items():
            assert tensor.shape[-1] % lanes[port] == 0 or tensor.size % lanes[port] == 0
        timing = block.timing(candidate.plan)
        ports = [timing.port(port) for port in (*block.inputs, *block.outputs)]
        schedule = timing.schedule(ports[:-1], ports[-1:])
        assert schedule.interval == candidate.interval
        for port, event in zip((*block.inputs, *block.outputs), ports, strict=True):
            tensor = (block.inputs | block.outputs)[port]
            assert timing.firings[event] == tensor.size // lanes[port]


@pytest.mark.parametrize("modes", [("RND", "SAT"), ("TRN_ZERO", "WRAP"), ("RND_CONV", "SAT_SYM")])
def test_a_neuron_is_a_linear_with_one_output(modes):
    block = neuron(rounding=modes[0], overflow=modes[1])
    same = Linear(X, np.array([[3, -8, 7]]), np.array([-11]), S4, S8, None, *modes)
    x = integers(X, (50,))
    np.testing.assert_array_equal(block.reference(x), same.reference(x))
    assert block.inputs == same.inputs
    assert block.outputs == same.outputs
    assert Tensor((2, 1), S8).holds(block.outputs["o"])
    for plan in (Folded(1, 1), Folded(1, 3), Unrolled()):
        assert verilog(block.rtl(plan), "x") == verilog(same.rtl(plan), "x")
        assert block.lanes(plan) == same.lanes(plan)
        assert block.cost(plan, TARGET) == same.cost(plan, TARGET)
    assert [c.plan for c in block.plans(TARGET)] == [c.plan for c in same.plans(TARGET)]


def test_the_two_forms_of_a_weight_and_a_product_are_one_function():
    """A constant for all, one for each channel and a stream of the same numbers agree."""
    x = integers(X, (20,))
    scalar = Weight(X, np.array(-5), S4, S8)
    channels = Weight(X, np.full(3, -5), S4, S8)
    product = Mul(X, Tensor((2, 3), S4), S8)
    y = scalar.reference(x)
    np.testing.assert_array_equal(channels.reference(x), y)
    np.testing.assert_array_equal(product.reference(x, np.full(x.shape, -5)), y)
    assert scalar.inputs == channels.inputs == {"i": X}
    assert [c.plan.lanes for c in scalar.plans(TARGET)] == [1, 2, 3, 6]
    assert [c.plan.lanes for c in channels.plans(TARGET)] == [1, 3]


def test_weights_are_copies_that_cannot_be_written():
    weight = np.array([[1, 2, 3]] * 4)
    block = linear(weight=weight)
    weight[0, 0] = 7
    assert block.weight[0, 0] == 1
    for name in ("weight", "bias", "shift"):
        with refused(ValueError, "assignment destination is read-only"):
            getattr(block, name)[0] = 0


def test_a_reshape_keeps_the_order():
    block = Reshape(Tensor((2, 3, 4), S8), (4, 6))
    x = integers(block.input, (2,))
    assert block.reference(x).shape == (2, 4, 6)
    assert block.reference(x).ravel().tolist() == x.ravel().tolist()
    assert block.outputs == {"o": Tensor((4, 6), S8)}


def test_modes_may_be_written_as_names():
    block = Identity(X, S4, "TRN", "WRAP")
    assert (block.rounding, block.overflow) == (Rounding.TRN, Overflow.WRAP)


def test_values_are_what_an_equal_block_is():
    assert Identity(X, S4) == Identity(X, S4)
    assert Add(X, X, S4) != Add(X, X, S8)


MAKERS = {
    "Identity": lambda tensor=X, number=S4, **modes: Identity(tensor, number, **modes),
    "ReLU": lambda tensor=X, number=S4, **modes: ReLU(tensor, number, **modes),
    "Weight": lambda tensor=X, number=S4, **modes: Weight(tensor, np.array(1), S4, number, **modes),
    "Linear": lambda tensor=X, number=S4, **modes: Linear(
        tensor, np.ones((4, 3), int), np.zeros(4, int), S4, number, **modes
    ),
    "Neuron": lambda tensor=X, number=S4, **modes: Neuron(
        tensor, np.ones(3, int), 0, S4, number, **modes
    ),
}
every_maker = pytest.mark.parametrize("name", MAKERS)


@every_maker
def test_inputs_and_formats_of_another_kind_are_refused(name):
    make = MAKERS[name]
    with refused(TypeError, f"{name} input must be a Tensor, not (2, 3)"):
        make((2, 3))
    with refused(TypeError, f"{name} output_format must be a Format, not 8"):
        make(number=8)


@every_maker
def test_unknown_modes_are_refused(name):
    make = MAKERS[name]
    with refused(ValueError, f"{name} rounding must be one of {ROUNDINGS}, not 'UP'"):
        make(rounding="UP")
    overflows = "SAT, SAT_ZERO, SAT_SYM, WRAP"
    with refused(ValueError, f"{name} overflow must be one of {overflows}, not 3"):
        make(overflow=3)


@pytest.mark.parametrize("modes", [("RND", "SAT"), ("TRN", "WRAP"), ("RND_ZERO", "SAT_ZERO")])
def test_the_ends_of_a_sum_are_attained(modes):
    """Over every input of every channel; what they promise is what there is, and 0."""
    random = np.random.default_rng(3)
    for number in (Format(3, 0), Format(4, 1, signed=False)):
        x = Tensor((2,), S4, ((-3, 1), (0, 5)))
        for _ in range(20):
            weight, bias = random.integers(-8, 8, (3, 2)), random.integers(-40, 40, 3)
            block = Linear(x, weight, bias, Format(4, 1), number, None, *modes)
            y = block.reference(np.stack(np.meshgrid(range(-3, 2), range(6)), -1).reshape(-1, 2))
            ends = y.min(0).clip(None, 0), y.max(0).clip(0), block.outputs["o"].channels
            for low, high, (least, most) in zip(*ends, strict=True):
                if modes[1] == "SAT":
                    assert (low, high) == (least, most)
                assert number.min <= least <= low <= high <= most <= number.max


REFUSALS = {
    "divide shapes": (
        lambda: Divide(X, ONE, S8, 0),
        ValueError,
        "Divide input_b must have shape (2, 3) like input_a, not (1,)",
    ),
    "divide pole": (
        lambda: Divide(X, X, S8, -128, overflow="SAT_SYM"),
        ValueError,
        "Divide pole must be -127 or more under SAT_SYM, not -128",
    ),
    "tensor format": (
        lambda: Tensor((3,), 8),
        TypeError,
        "Tensor format must be a Format, not 8",
    ),
    "tensor list": (
        lambda: Tensor([3], S8),
        TypeError,
        "Tensor shape must be a tuple of ints, not [3]",
    ),
    "tensor float": (
        lambda: Tensor((3.0,), S8),
        TypeError,
        "Tensor shape must be a tuple of ints, not (3.0,)",
    ),
    "tensor empty": (
        lambda: Tensor((), S8),
        ValueError,
        "Tensor shape must have axes of at least 1, not ()",
    ),
    "tensor zero": (
        lambda: Tensor((3, 0), S8),
        ValueError,
        "Tensor shape must have axes of at least 1, not (3, 0)",
    ),
    "tensor ends": (
        lambda: Tensor((2, 3), S8, ((0, 1), (0, 1))),
        ValueError,
        "Tensor ends must be one pair for each of 3 channels, not 2",
    ),
    "tensor ends beyond": (
        lambda: Tensor((2,), S8, ((0, 1), (-129, 1))),
        ValueError,
        "Tensor ends must lie around 0 in [-128, 127], not at (-129, 1)",
    ),
    "tensor ends apart": (
        lambda: Tensor((2,), S8, ((0, 1), (1, 2))),
        ValueError,
        "Tensor ends must lie around 0 in [-128, 127], not at (1, 2)",
    ),
    "beyond the ends": (
        lambda: Linear(
            Tensor((2,), S8, ((0, 1), (-2, 3))), np.ones((1, 2), int), [0], S4, S8
        ).reference([[0, 3], [1, 4]]),
        ValueError,
        "Linear input channel 1 must be in [-2, 3], not span [3, 4]",
    ),
    "reshape kind": (lambda: Reshape(3, (3,)), TypeError, "Reshape input must be a Tensor, not 3"),
    "reshape size": (
        lambda: Reshape(X, (5,)),
        ValueError,
        "Reshape shape must have 6 numbers, not (5,)",
    ),
    "reshape list": (
        lambda: Reshape(X, [6]),
        TypeError,
        "Reshape shape must be a tuple of ints, not [6]",
    ),
    "weight format": (
        lambda: Weight(X, np.array(1), 4, S8),
        TypeError,
        "Weight weight_format must be a Format, not 4",
    ),
    "weight shape": (
        lambda: Weight(X, np.ones(2, int), S4, S8),
        ValueError,
        "Weight weight must have shape (3,), not (2,)",
    ),
    "weight frame": (
        lambda: Weight(X, np.ones((3, 2), int), S4, S8),
        ValueError,
        "Weight weight must have shape (2, 3), not (3, 2)",
    ),
    "weight axes": (
        lambda: Weight(X, np.ones((1, 2, 3), int), S4, S8),
        ValueError,
        "Weight weight must have shape (2, 3), not (1, 2, 3)",
    ),
    "weight bias": (
        lambda: Weight(X, np.array(1), S4, S8, bias=np.ones(2, int)),
        ValueError,
        "Weight bias must have shape (3,), not (2,)",
    ),
    "weight bias kind": (
        lambda: Weight(X, np.array(1), S4, S8, bias=0.5),
        TypeError,
        "Weight bias must be integers, not float64",
    ),
    "weight range": (
        lambda: Weight(X, np.array(8), S4, S8),
        ValueError,
        "Weight weight must be in [-8, 7] for format s4.1, not span [8, 8]",
    ),
    "linear weight_format": (
        lambda: linear(weight_format=4),
        TypeError,
        "Linear weight_format must be a Format, not 4",
    ),
    "linear weight": (
        lambda: linear(weight=np.ones((4, 2), int)),
        ValueError,
        "Linear weight must have shape (outputs, 3), not (4, 2)",
    ),
    "linear weight float": (
        lambda: linear(weight=np.ones((4, 3))),
        TypeError,
        "Linear weight must be integers, not float64",
    ),
    "linear bias": (
        lambda: linear(bias=np.ones(3, int)),
        ValueError,
        "Linear bias must have shape (4,), not (3,)",
    ),
    "linear shift": (
        lambda: linear(shift=np.ones(3, int)),
        ValueError,
        "Linear shift must have shape (4,), not (3,)",
    ),
    "linear shift float": (
        lambda: linear(shift=np.ones(4)),
        TypeError,
        "Linear shift must be integers, not float64",
    ),
    "linear shift large": (
        lambda: linear(shift=np.array([0, 5, 0, 0])),
        ValueError,
        "Linear shift must be between 0 and 4, not span [0, 5]",
    ),
    "linear shift negative": (
        lambda: linear(shift=np.array([0, 1, 0, -1])),
        ValueError,
        "Linear shift must be between 0 and 4, not span [-1, 1]",
    ),
    "linear input": (
        lambda: linear().reference(np.zeros((2, 4), int)),
        ValueError,
        "Linear input must have shape (..., 2, 3), not (2, 4)",
    ),
    "linear input flat": (
        lambda: linear().reference(np.zeros(3, int)),
        ValueError,
        "Linear input must have shape (..., 2, 3), not (3,)",
    ),
    "linear input float": (
        lambda: linear().reference(np.zeros((2, 3))),
        TypeError,
        "Linear input must be integers, not float64",
    ),
    "linear plan": (
        lambda: linear().rtl(Lanes(1)),
        TypeError,
        "Linear plan must be Folded or Unrolled, not Lanes(lanes=1)",
    ),
    "linear folding": (
        lambda: linear().rtl(Folded(3, 3)),
        ValueError,
        "Linear pe and simd must divide 4 outputs and 3 inputs, not be 3 and 3",
    ),
    "linear zeros": (
        lambda: linear(weight=np.zeros((4, 3), int)).rtl(Folded(1, 1)),
        ValueError,
        "Mac weight must not be all zero",
    ),
    "neuron weight": (
        lambda: neuron(weight=np.ones(2, int)),
        ValueError,
        "Neuron weight must have shape (3,), not (2,)",
    ),
    "neuron weight_format": (
        lambda: neuron(weight_format=None),
        TypeError,
        "Neuron weight_format must be a Format, not None",
    ),
    "neuron bias": (
        lambda: neuron(bias=np.array([1])),
        ValueError,
        "Neuron bias must have shape (), not (1,)",
    ),
    "neuron bias float": (
        lambda: neuron(bias=0.5),
        TypeError,
        "Neuron bias must be integers, not float64",
    ),
    "neuron input": (
        lambda: neuron().reference(np.zeros(2, int)),
        ValueError,
        "Neuron input must have shape (..., 2, 3), not (2,)",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(make, error, message):
    with refused(error, message):
        make()


@pytest.mark.parametrize("kind", [Add, Sub, Mul, Minimum, Maximum, Gate])
def test_what_is_wrong_with_two_streams_is_refused(kind):
    name = kind.__name__
    with refused(TypeError, f"{name} input_a must be a Tensor, not None"):
        kind(None, X, S8)
    with refused(TypeError, f"{name} input_b must be a Tensor, not None"):
        kind(X, None, S8)
    with refused(TypeError, f"{name} output_format must be a Format, not 's8'"):
        kind(X, X, "s8")
    message = f"{name} input_b must have shape (2, 3) like input_a, or 1 on its last axes, "
    message += "not (3, 2)"
    with refused(ValueError, message):
        kind(X, Tensor((3, 2), S8), S8)
    with refused(ValueError, f"{name} rounding must be one of {ROUNDINGS}, not 'UP'"):
        kind(X, X, S8, "UP")
    zeros = np.zeros((2, 3), int)
    range_ = "must be in [-128, 127] for format s8.4, not span [128, 128]"
    with refused(ValueError, f"{name} input_a {range_}"):
        kind(X, X, S8).reference(zeros + 128, zeros)
    with refused(ValueError, f"{name} input_b {range_}"):
        kind(X, X, S8).reference(zeros, zeros + 128)


def test_lanes_that_split_what_meets_one_number_are_refused():
    block = Mul(Tensor((3, 4), S8), Tensor((3, 1), S8), S8)
    assert block.lanes(Lanes(2)) == {"i_a": 2, "i_b": 1, "o": 2}
    assert block.lanes(Lanes(12)) == {"i_a": 12, "i_b": 3, "o": 12}
    assert [candidate.plan.lanes for candidate in block.plans(Target.named("ecp5"))] == [
        1,
        2,
        4,
        12,
    ]
    with refused(ValueError, "Mul lanes must be a divisor or a multiple of 4, not 3"):
        block.rtl(Lanes(3))


PLANNED = ["identity", "relu", "add", "sub", "mul", "minimum", "maximum", "reshape"]


@pytest.mark.parametrize("name", [*PLANNED, "weight scalar"])
def test_plans_of_another_kind_or_size_are_refused(name):
    block = BLOCKS[name]
    kind, lanes_kind = type(block).__name__, TableLanes if isinstance(block, Weight) else Lanes
    other = "Unrolled(adders_per_stage=1, narrow_stages=2, held=False)"
    with refused(TypeError, f"{kind} plan must be {lanes_kind.__name__}, not {other}"):
        block.rtl(Unrolled())
    for lanes in (0, 4, 12, -1):
        with refused(ValueError, f"{kind} lanes must divide 6, not be {lanes}"):
            block.timing(lanes_kind(lanes))


def test_a_weight_refuses_a_plan_without_a_memory():
    with refused(TypeError, "Weight plan must be TableLanes, not Lanes(lanes=1)"):
        BLOCKS["weight scalar"].rtl(Lanes(1))


def test_constants_for_each_position_go_where_they_are_cheaper():
    target = Target.named("ecp5")
    for positions, style in ((2, "logic"), (1024, "block")):
        tensor = Tensor((positions, 4), S8)
        bias = np.random.default_rng(0).integers(-128, 128, tensor.shape)
        block = Weight(tensor, np.array(1), Format(2, 0), S8, bias=bias)
        assert next(block.plans(target)).plan.style == style


def test_lanes_that_mix_channels_are_refused():
    with refused(ValueError, "Weight lanes must divide 3, not be 2"):
        BLOCKS["weight channels"].rtl(TableLanes(2))


def test_sums_beyond_63_bits_are_refused():
    wide = Tensor((4,), Format(40, 0))
    with refused(ValueError, "Linear accumulator must fit 63 bits, not 72"):
        Linear(wide, np.full((1, 4), 2**30), np.zeros(1, int), wide.format, S8)
    with refused(ValueError, "Weight accumulator must fit 63 bits, not 80"):
        Weight(wide, np.array(1), wide.format, S8)
    with refused(ValueError, "Add accumulator must fit 63 bits, not 69"):
        Add(Tensor((4,), Format(8, 0)), Tensor((4,), Format(8, 60)), S8)
    with refused(ValueError, "Mul accumulator must fit 63 bits, not 80"):
        Mul(wide, wide, S8)
    with refused(ValueError, "Sub accumulator must fit 63 bits, not 69"):
        Sub(Tensor((4,), Format(8, 0)), Tensor((4,), Format(8, 60)), S8)
    with refused(ValueError, "Minimum accumulator must fit 63 bits, not 68"):
        Minimum(Tensor((4,), Format(8, 0)), Tensor((4,), Format(8, 60)), S8)
