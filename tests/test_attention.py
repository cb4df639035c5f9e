# SPDX-License-Identifier: Apache-2.0
"""Attention: exact but for the shares, which are less than a unit off; every multiplier busy."""

from fractions import Fraction
from importlib import import_module
from math import floor

import mpmath
import numpy as np
import pytest
from refusal import refused

from blocks import (
    Add,
    ArgMax,
    Linear,
    Mul,
    Network,
    Node,
    Projection,
    Rearrange,
    Tensor,
    Weight,
    attention,
    causal,
    gate,
    layer_norm,
    multi_head_attention,
    plan,
)
from hdl import Target
from quant import Format

MODULE, SOFTMAX = import_module("blocks.attention"), import_module("blocks.softmax")
MP = mpmath.MPContext()
MP.prec = 120
SCORE, SHARE, OUTPUT = Format(8, 4), Format(8, 8, False), Format(9, 5)
NUMBER = Format(6, 3)


def streams(queries, keys, heads, groups, depth, width):
    shapes = (queries, heads, depth), (keys, groups, depth), (keys, groups, width)
    return tuple(Tensor(shape, NUMBER) for shape in shapes)


def frames(tensors, count=6, seed=0):
    random = np.random.default_rng(seed)
    made = [random.integers(-32, 32, (count, *tensor.shape)) for tensor in tensors]
    for values in made:
        values[1], values[2] = -32, 31
    made[1][3] = made[1][3][:1]  # equal keys
    return made


def narrowed(value, target, symmetric=False):
    """Nearest number of a format, ties up."""
    code = floor(Fraction(value) * Fraction(2) ** target.frac + Fraction(1, 2))
    return min(max(code, -target.max if symmetric else target.min), target.max)


def rounded_scale(scale, depth):
    """The nearest number with 16 bits."""
    exact = 1 / MP.sqrt(depth) if scale is None else MP.mpf(scale.numerator) / scale.denominator
    power = 15 - int(MP.floor(MP.log(exact, 2)))
    return Fraction(int(MP.nint(MP.ldexp(exact, power)))) / Fraction(2) ** power


def check(network, tensors, values, scale=None, mask=True, bias=0, hard=False):
    """One frame against Fractions, and against powers of e in 120 bits."""
    (queries, heads, depth), (keys, groups, width) = tensors[0].shape, tensors[2].shape
    trace = network.trace(*values)
    y, scores = network.reference(*values), trace["score"]
    mask, bias = (np.broadcast_to(n, scores.shape) for n in (mask, bias))
    unit, factor = Fraction(1, 2) ** NUMBER.frac, rounded_scale(scale, depth)
    for place in np.ndindex(queries, heads):
        group = place[1] * groups // heads
        q, k, v = values[0][place].tolist(), values[1][:, group], values[2][:, group].tolist()
        for key, row in enumerate(k.tolist()):
            dot = sum(a * b for a, b in zip(q, row, strict=True)) * unit**2
            added = int(bias[place][key]) * Fraction(1, 2) ** SCORE.frac
            assert scores[place][key] == narrowed(dot * factor + added, SCORE, symmetric=True)
        seen = mask[place].tolist()
        numbers = [
            n if show else -999 for n, show in zip(scores[place].tolist(), seen, strict=True)
        ]
        if hard:
            shares = [int(n == numbers.index(max(numbers))) for n in range(keys)]
            one = 1
        else:
            shares, one = trace["share.y"][place].tolist(), 1 << SHARE.frac
            terms = [
                MP.exp(MP.ldexp(n, -SCORE.frac)) if show else 0
                for n, show in zip(numbers, seen, strict=True)
            ]
            for share, term, show in zip(shares, terms, seen, strict=True):
                assert show or not share
                wanted = min(one * term / MP.fsum(terms), SHARE.max)
                assert abs(share - wanted) < 1
        for number in range(width):
            total = sum(s * row[number] for s, row in zip(shares, v, strict=True)) * unit / one
            assert y[place][number] == narrowed(total, OUTPUT)


def check_all(network, tensors, **options):
    for values in zip(*frames(tensors), strict=True):
        check(network, tensors, values, **options)


CASES = {
    "one of each": ((1, 2, 1, 1, 1, 1), {}),
    "root of 3": ((3, 4, 1, 1, 3, 2), {}),
    "root of 4": ((2, 3, 2, 2, 4, 3), {}),
    "root of 8, groups": ((2, 3, 4, 2, 8, 2), {}),
    "scale of 3/7": ((2, 3, 1, 1, 2, 2), {"scale": Fraction(3, 7)}),
    "scale of 40": ((2, 3, 1, 1, 2, 2), {"scale": Fraction(40)}),
    "scale of 1/64": ((2, 3, 1, 1, 2, 2), {"scale": Fraction(1, 64)}),
    "causal": ((4, 4, 2, 1, 2, 2), {"mask": causal(4, 4)}),
    "padded": ((2, 4, 2, 2, 2, 2), {"mask": np.array([True, True, True, False])}),
    "biased": ((3, 4, 2, 2, 2, 2), {"bias": np.arange(24).reshape(3, 2, 4) * 5 - 60}),
    "biased by key": ((3, 4, 2, 2, 2, 2), {"bias": np.array([3, -9, 17, 0])}),
    "all": (
        (3, 3, 2, 1, 3, 2),
        {"mask": causal(3, 3), "bias": [4, 0, -4], "scale": Fraction(1, 3)},
    ),
}


def made(name, hard):
    sizes, options = CASES[name]
    tensors = streams(*sizes)
    formats = SCORE, None if hard else SHARE, OUTPUT
    return tensors, attention(*tensors, *formats, **options), options


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("name", CASES)
def test_scores_and_mixtures_are_exact_and_no_share_is_a_unit_off(name, hard):
    tensors, network, options = made(name, hard)
    check_all(network, tensors, hard=hard, **options)


FAULTS = {
    "last of equals": ("ArgMax", lambda x: ArgMax(x, True), "root of 4"),
    "lost mask": ("masked", lambda net, name, source, *rest: source, "all"),
    "lost scale": ("_constant", lambda scale, depth: (1, 0), "root of 3"),
    "coarse scale": ("SCALE_BITS", 7, "root of 8, groups"),
    "heads in another order": (
        "_each",
        lambda net, name, source, queries, heads: net.add(
            name,
            lambda x: Rearrange(
                x,
                np.broadcast_to(
                    np.arange(x.size)
                    .reshape(x.shape)[:, np.arange(heads) % x.shape[1]]
                    .swapaxes(0, 1),
                    (queries, heads, x.shape[0], x.shape[2]),
                ),
            ),
            source,
        ),
        "root of 8, groups",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_by_the_statement(fault, monkeypatch):
    name, wrong, case = FAULTS[fault]
    monkeypatch.setattr(MODULE, name, wrong)
    tensors, network, options = made(case, hard=True)
    with pytest.raises(AssertionError):
        check_all(network, tensors, hard=True, **options)


def test_a_lost_mask_of_the_shares_is_caught_by_the_statement(monkeypatch):
    monkeypatch.setattr(SOFTMAX, "masked", lambda net, name, source, *rest: source)
    tensors, network, options = made("causal", hard=False)
    with pytest.raises(AssertionError):
        check_all(network, tensors, **options)


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_no_query_depends_on_what_it_does_not_see(hard):
    tensors, network, _ = made("causal", hard)
    q, k, v = frames(tensors)
    y = network.reference(q, k, v)
    for n in range(1, 4):
        later = [np.concatenate([x[:, :n], -1 - x[:, n:]], axis=1) for x in (k, v)]
        np.testing.assert_array_equal(network.reference(q, *later)[:, :n], y[:, :n])


def test_the_constant_is_the_nearest_of_16_bits():
    for depth in range(1, 200):
        constant, frac = MODULE._constant(None, depth)
        assert Fraction(constant) / Fraction(2) ** frac == rounded_scale(None, depth)
    for scale in (Fraction(1, 3), Fraction(999, 7), Fraction(65535, 65536), Fraction(2), 0.1):
        constant, frac = MODULE._constant(scale, 1)
        assert Fraction(constant) / Fraction(2) ** frac == rounded_scale(Fraction(scale), 1)


def mapped(tokens, heads, depth, interval):
    tensors = streams(tokens, tokens, heads, heads, depth, depth)
    network = attention(*tensors, SCORE, SHARE, OUTPUT)
    target = Target.named("xilinx7")
    made = plan(network, target, interval)
    graph = network.timing(made)
    schedule = graph.schedule([graph.port(port) for port in network.inputs], [graph.port("o")])
    kinds = {node.name: node.block for node in network.flat.nodes}
    multipliers = sum(p.lanes for name, p in made.plans.items() if isinstance(kinds[name], Mul))
    return schedule.interval, multipliers, network.cost(made, target)


@pytest.mark.parametrize(("heads", "depth"), [(1, 16), (2, 16), (1, 32)])
def test_every_multiplier_is_busy_in_every_cycle(heads, depth):
    """A key a cycle for each head of each token."""
    interval, multipliers, _ = mapped(16, heads, depth, 256 * heads)
    assert interval == 256 * heads
    assert multipliers == 2 * depth
    products = 2 * 16 * 16 * heads * depth
    assert products / (multipliers * interval) == 1


def test_multipliers_and_logic_do_not_grow_with_the_tokens():
    """But for counters, addresses and the bits of sums."""
    few, many = (mapped(tokens, 1, 8, tokens**2) for tokens in (8, 32))
    assert few[1] == many[1] == 16
    assert few[2].dsp == many[2].dsp
    assert many[2].ff < 1.1 * few[2].ff
    assert many[2].lut < 1.3 * few[2].lut


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)], ids=str)
def test_gates_scale_or_pass_x_for_every_head(shape, hard):
    x, gates = Tensor((2, 4), NUMBER), Tensor(shape, Format(5, 2))
    random = np.random.default_rng(1)
    values, by = random.integers(-32, 32, (9, 2, 4)), random.integers(-16, 16, (9, *shape))
    y = gate(x, gates, OUTPUT, hard).reference(values, by)
    assert y.shape == (9, 2, 3, 4)
    for frame, token, head, channel in np.ndindex(y.shape):
        number = Fraction(int(values[frame, token, channel]), 8)
        place = (frame, token, head, channel)[: by.ndim]
        factor = Fraction(int(by[place]), 4)
        wanted = (number if factor > 0 else 0) if hard else number * factor
        assert y[frame, token, head, channel] == narrowed(wanted, OUTPUT)


def projection(random, outputs, inputs):
    weight = random.integers(-8, 8, (outputs, inputs))
    return Projection(weight, random.integers(-90, 90, outputs), Format(4, 2), NUMBER)


def projected(part, x):
    """Rows of numbers with ``NUMBER.frac`` fraction bits."""
    rows = [
        [
            narrowed(
                Fraction(sum(w * n for w, n in zip(weights, row, strict=True)) + bias, 32), NUMBER
            )
            for weights, bias in zip(part.weight.tolist(), part.bias.tolist(), strict=True)
        ]
        for row in x.tolist()
    ]
    return np.array(rows)


@pytest.mark.parametrize("crossed", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("groups", [1, 2])
def test_several_heads_are_projections_around_attention(crossed, groups):
    random = np.random.default_rng(groups)
    parts = [projection(random, n, 5) for n in (6, 3 * groups, 2 * groups)]
    last = projection(random, 5, 4)
    x, memory = Tensor((3, 5), NUMBER), Tensor((4, 5), NUMBER)
    given = (x, memory) if crossed else (x,)
    network = multi_head_attention(
        x, memory if crossed else None, 2, *parts, last, NUMBER, SCORE, SHARE
    )
    inner = attention(*streams(3, 4 if crossed else 3, 2, groups, 3, 2), SCORE, SHARE, NUMBER)
    for values in zip(*(random.integers(-32, 32, (5, *t.shape)) for t in given), strict=True):
        tokens = values[0], values[-1], values[-1]
        q, k, v = (projected(part, n) for part, n in zip(parts, tokens, strict=True))
        mixed = inner.reference(
            q.reshape(3, 2, 3), k.reshape(-1, groups, 3), v.reshape(-1, groups, 2)
        )
        np.testing.assert_array_equal(
            network.reference(*values), projected(last, mixed.reshape(3, 4))
        )


def normalised(x):
    spread = x - x.mean(axis=-1, keepdims=True)
    return spread / np.sqrt((spread**2).mean(axis=-1, keepdims=True) + 1e-5)


def test_a_transformer_block_is_a_network_of_blocks():
    """Positions, attention, residuals, norms and two layers, against floats."""
    random = np.random.default_rng(8)
    number, weights, tokens, width = Format(12, 8), Format(8, 6), 6, 8
    x = Tensor((tokens, width), number)
    positions = random.integers(-256, 256, (tokens, width))
    square = [random.integers(-40, 40, (width, width)) for _ in range(4)]
    wide, narrow = (random.integers(-40, 40, shape) for shape in ((16, 8), (8, 16)))
    made = [Projection(w, np.zeros(width, int), weights, Format(14, 9)) for w in square]
    one, none = np.full(width, 32), np.zeros(width, int)
    inner = multi_head_attention(
        x, None, 2, *made, Format(14, 9), Format(8, 4), Format(10, 10, False)
    )
    nodes = (
        Node("placed", Weight(x, np.array(1), Format(2, 0), number, bias=positions), ("x",)),
        Node("attention", inner, ("placed",)),
        Node("add_1", Add(x, inner.outputs["o"], Format(14, 8)), ("placed", "attention")),
        Node("norm_1", norm(Format(14, 8), one, none, number), ("add_1",)),
        Node("up", linear(x, wide, weights, Format(14, 8, False)), ("norm_1",)),
        Node("down", linear(Tensor((6, 16), Format(14, 8, False)), narrow, weights), ("up",)),
        Node("add_2", Add(x, Tensor((6, 8), Format(14, 8)), Format(14, 8)), ("norm_1", "down")),
        Node("norm_2", norm(Format(14, 8), one, none, number), ("add_2",)),
    )
    network = Network({"x": x}, nodes, {"y": "norm_2"})
    codes = random.integers(-512, 512, (20, tokens, width))
    placed = codes / 256 + positions / 256
    q, k, v = (placed @ w.T / 64 for w in square[:3])
    mixed = np.empty_like(placed)
    for part in (slice(0, 4), slice(4, 8)):
        scores = q[..., part] @ k[..., part].swapaxes(1, 2) / 2
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed[..., part] = shares / shares.sum(axis=-1, keepdims=True) @ v[..., part]
    first = normalised(placed + mixed @ square[3].T / 64)
    second = np.maximum(first @ wide.T / 64, 0) @ narrow.T / 64
    wanted = normalised(first + second)
    assert np.abs(network.reference(codes) / 256 - wanted).max() < 0.08


def norm(number, one, none, target):
    return layer_norm(Tensor((6, 8), number), one, none, Format(7, 5), target)


def linear(x, weight, weight_format, target=None):
    target = target or Format(14, 8)
    return Linear(x, weight, np.zeros(len(weight), int), weight_format, target)


Q, K, V = streams(2, 3, 4, 2, 5, 6)
S8 = Format(8, 4)
PART = Projection(np.ones((6, 5), int), np.zeros(6, int), Format(4, 2), NUMBER)


def attend(query=Q, key=K, value=V, score=S8, share=SHARE, output=S8, **options):
    return attention(query, key, value, score, share, output, **options)


def heads(x=None, memory=None, count=2, key=PART, value=PART):
    x = x or Tensor((3, 5), NUMBER)
    return multi_head_attention(x, memory, count, PART, key, value, PART, S8, S8, SHARE)


def rows(count):
    return Projection(np.ones((count, 5), int), np.zeros(count, int), Format(4, 2), NUMBER)


REFUSALS = {
    "query": (lambda: attend(3), TypeError, "attention query must be a Tensor, not 3"),
    "axes": (
        lambda: attend(Tensor((2, 3), S8)),
        ValueError,
        "attention query must have the axes (tokens, heads, depth), not (2, 3)",
    ),
    "key": (
        lambda: attend(key=Tensor((3, 3, 5), S8)),
        ValueError,
        "attention key must have depth 5 and heads that divide 4, not shape (3, 3, 5)",
    ),
    "value": (
        lambda: attend(value=Tensor((4, 2, 5), S8)),
        ValueError,
        "attention value must have tokens and heads (3, 2) like key, not (4, 2)",
    ),
    "score": (
        lambda: attend(score=Format(8, 4, False)),
        ValueError,
        "attention score_format must be signed, of 2 bits or more, not u8.4",
    ),
    "score kind": (
        lambda: attend(score=8),
        TypeError,
        "attention score_format must be a Format, not 8",
    ),
    "output": (
        lambda: attend(output=None),
        TypeError,
        "attention output_format must be a Format, not None",
    ),
    "scale": (
        lambda: attend(scale=0),
        ValueError,
        "attention scale must be above 0 and finite, not 0",
    ),
    "scale kind": (
        lambda: attend(scale="1"),
        TypeError,
        "attention scale must be a number, not '1'",
    ),
    "mask": (
        lambda: attend(mask=np.ones((3, 3), bool)),
        ValueError,
        "attention mask must be broadcast to (2, 4, 3), not have (3, 3)",
    ),
    "hidden": (
        lambda: attend(mask=np.zeros(3, bool)),
        ValueError,
        "attention mask must show a number along each last axis, not hide all",
    ),
    "bias": (
        lambda: attend(bias=np.zeros(3)),
        TypeError,
        "attention bias must be integers, not float64",
    ),
    "bias shape": (
        lambda: attend(bias=np.ones(2, int)),
        ValueError,
        "attention bias must be broadcast to (2, 4, 3), not have (2,)",
    ),
    "nothing to choose": (
        lambda: attend(key=Tensor((1, 2, 5), S8), value=Tensor((1, 2, 5), S8), share=None),
        ValueError,
        "attention key must have at least 2 tokens to choose from, not 1",
    ),
    "gates": (
        lambda: gate(Tensor((2, 3), S8), Tensor((2, 4, 5), S8), S8),
        ValueError,
        "gate gates must have shape (2, 'heads') or (2, 'heads', 3), not (2, 4, 5)",
    ),
    "gate input": (
        lambda: gate(None, Q, S8),
        TypeError,
        "gate input must be a Tensor, not None",
    ),
    "heads": (
        lambda: heads(count=4),
        ValueError,
        "multi_head_attention heads must divide 6 rows of query, not be 4",
    ),
    "heads of key": (
        lambda: heads(key=rows(4)),
        ValueError,
        "multi_head_attention key and value must have rows for whole heads of 3, not 4 and 6",
    ),
    "heads of value": (
        lambda: heads(value=rows(5)),
        ValueError,
        "multi_head_attention key and value must have rows for whole heads of 3, not 6 and 5",
    ),
    "tokens": (
        lambda: heads(Tensor((5,), S8)),
        ValueError,
        "multi_head_attention input must have the axes (tokens, channels), not (5,)",
    ),
    "memory": (
        lambda: heads(memory=Tensor((1, 3, 5), S8)),
        ValueError,
        "multi_head_attention memory must have the axes (tokens, channels), not (1, 3, 5)",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(make, error, message):
    with refused(error, message):
        make()
