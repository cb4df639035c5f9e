# SPDX-License-Identifier: Apache-2.0
"""Attention, composed of other blocks: gates, dot products of tokens, several heads.

Scores, shares and mixtures are computed in the order of the tokens of the query, a key a cycle for
each head where there are lanes enough, so that keys and values alone lie in memories: multipliers
do not depend on the number of tokens.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hdl import Target
from quant import Format, Ints, Overflow, Rounding

from .binary import Gate, Mul
from .block import Tensor, check_format, check_formats, check_tensor, to_modes
from .composition import Composition
from .configurations import Configuration, draw_format, draw_integers, draw_modes
from .embedding import Embedding
from .extremum import ArgMax
from .linear import Linear
from .movement import Rearrange
from .network import Network
from .planner import plan
from .softmax import check_mask, masked, softmax
from .weight import Weight

SCALE_BITS = 16
"""Bits of the constant by which scores are scaled."""
ONE_BIT = Format(1, 0, False)


def gate(
    input: Tensor,
    gates: Tensor,
    output_format: Format,
    hard: bool = False,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
) -> Network:
    """``narrow(gates * x)`` for each of several heads, or x where a gate is above 0, else 0.

    Gates come as a second stream, such as that of a Linear; constants are a Weight. With one head
    this is a Mul or a Gate by itself.

    Source: E. Culurciello, Neural Networks Building Blocks, 2017, attention

    Parameters
    ----------
    input : Tensor of x, shape (..., channels)
    gates : Tensor, shape (..., heads) for all channels or (..., heads, channels) for each
    output_format : Format of y, shape (..., heads, channels)
    hard : whether x passes or not, instead of being scaled
    rounding, overflow : how the products, or the numbers that pass, are narrowed

    >>> x, gates = Tensor((8, 8), Format(8, 4)), Tensor((8, 2), Format(8, 8, signed=False))
    >>> block = gate(x, gates, Format(8, 4))
    >>> print(block.reference(np.full((8, 8), 40), np.full((8, 2), (64, 128)))[0])
    [[10 10 10 10 10 10 10 10]
     [20 20 20 20 20 20 20 20]]
    """
    check_tensor(input, "gate input")
    check_tensor(gates, "gate gates")
    check_format(output_format, "gate output_format")
    rounding, overflow = to_modes("gate", rounding, overflow)
    *lead, channels = input.shape
    alone = list(gates.shape[:-1]) == lead
    if not alone and [*gates.shape[:-2], gates.shape[-1]] != [*input.shape]:
        raise ValueError(
            f"gate gates must have shape {(*lead, 'heads')} or {(*lead, 'heads', channels)}, "
            f"not {gates.shape}"
        )
    heads = gates.shape[-1] if alone else gates.shape[-2]
    net = Composition(x=input, gates=gates)
    x = net.reshaped("x_heads", "x", (*lead, 1, channels))
    x = net.spread("x_each", x, (*lead, heads, channels))
    by = net.reshaped("gates_each", "gates", (*lead, heads, 1 if alone else channels))
    kind = Gate if hard else Mul
    net.add("y", lambda a, b: kind(a, b, output_format, rounding, overflow), x, by)
    return net.network(y="y")


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_format: Format,
    share_format: Format | None,
    output_format: Format,
    scale: float | Fraction | None = None,
    mask: ArrayLike | None = None,
    bias: ArrayLike = 0,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
    error: float = 1.0,
) -> Network:
    """``softmax(scale * q @ k.T + bias) @ v`` for every head.

    Scores are exact sums of products times one constant of 16 bits, with the bias, narrowed once
    (RND, SAT_SYM); shares are those of :func:`softmax`; y are exact sums, narrowed once. Without
    shares attention is hard: y is the value of the largest score, the first of equal ones.

    With a lane for each number of a head a frame takes queries * heads * keys cycles, and every
    multiplier is busy in all of them.

    Error: less than ``error`` units of the shares; sums and products are exact

    Source: A. Vaswani et al., Attention Is All You Need, 2017, section 3.2
    (https://arxiv.org/abs/1706.03762)

    Parameters
    ----------
    query : Tensor of q, shape (queries, heads, depth)
    key : Tensor of k, shape (keys, groups, depth); groups divide the heads, which share them
    value : Tensor of v, shape (keys, groups, width)
    score_format : Format of scores, signed
    share_format : Format of shares; None for hard attention
    output_format : Format of y, shape (queries, heads, width)
    scale : above 0, rounded to 16 bits; None for 1 / sqrt(depth)
    mask : bools, broadcast to (queries, heads, keys): which keys a query sees, at least one each
    bias : ints with the fraction bits of score_format, broadcast likewise
    rounding, overflow : how y is narrowed
    error : of the shares, in their units, see :func:`softmax`

    >>> q, k = Tensor((4, 2, 8), Format(8, 4)), Tensor((4, 1, 8), Format(8, 4))
    >>> shares = Format(8, 8, signed=False)
    >>> block = attention(q, k, k, Format(8, 4), shares, Format(8, 4))
    >>> x = np.arange(64).reshape(4, 2, 8)
    >>> print(block.reference(x, x[:, :1], x[:, :1])[0, 0])
    [35 36 37 38 39 40 41 42]
    """
    _check_streams(query, key, value, score_format)
    check_format(output_format, "attention output_format")
    if share_format is not None:
        check_format(share_format, "attention share_format")
    rounding, overflow = to_modes("attention", rounding, overflow)
    (queries, heads, depth), (keys, _, width) = query.shape, value.shape
    scores = queries, heads, keys
    shown = None if mask is None else check_mask(mask, scores, "attention mask")
    net = Composition(q=query, k=key, v=value)
    q = net.reshaped("q_heads", "q", (queries, heads, 1, depth))
    q = net.spread("q_each", q, (*scores, depth))
    product = net.multiplied("qk", _each(net, "k_each", "k", queries, heads), q)
    dot = net.reshaped("dot", net.reduced("qk_sum", product, "sum"), scores)
    constant = _constant(scale, depth)
    score = net.add("score", lambda x: _scaled(x, *constant, bias, score_format), dot)
    v = _each(net, "v_each", "v", queries, heads)
    if share_format is not None:
        shares = net.add("share", lambda x: softmax(x, share_format, error, mask=shown), score)
        by = net.reshaped("share_each", shares, (*scores, 1))
        mixed = net.multiplied("sv", v, by)
    else:
        first = first_largest(net, score, shown)
        by = net.reshaped("pick_each", first, (*scores, 1))
        mixed = net.add("picked", lambda a, b: Gate(a, b, value.format), v, by)
    total = net.reduced("sum", mixed, "sum", output_format, rounding, overflow, axis=-2)
    return net.network(y=net.reshaped("y", total, (queries, heads, width)))


def causal(queries: int, keys: int) -> Any:
    """The mask by which each query sees the keys up to its own place, from the first on."""
    return np.tril(np.ones((queries, keys), bool))[:, np.newaxis]


def _check_streams(query: Tensor, key: Tensor, value: Tensor, score_format: Format) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_tensor(tensor, f"attention {name}")
        if len(tensor.shape) != 3:
            raise ValueError(
                f"attention {name} must have the axes (tokens, heads, depth), not {tensor.shape}"
            )
    heads, depth = query.shape[1:]
    if key.shape[2] != depth or heads % key.shape[1]:
        raise ValueError(
            f"attention key must have depth {depth} and heads that divide {heads}, "
            f"not shape {key.shape}"
        )
    if value.shape[:2] != key.shape[:2]:
        raise ValueError(
            f"attention value must have tokens and heads {key.shape[:2]} like key, "
            f"not {value.shape[:2]}"
        )
    check_format(score_format, "attention score_format")
    if not score_format.signed or score_format.width < 2:
        raise ValueError(
            f"attention score_format must be signed, of 2 bits or more, not {score_format}"
        )


def _each(net: Composition, name: str, source: str, queries: int, heads: int) -> str:
    """Rows of keys or values from a memory, all of a head for each head of each query."""
    tensor = net.tensors[source]
    keys, groups, width = tensor.shape
    rows = np.arange(tensor.size).reshape(tensor.shape)
    rows = rows[:, np.arange(heads) * groups // heads].swapaxes(0, 1)
    index = np.broadcast_to(rows, (queries, heads, keys, width))
    return net.add(name, lambda x: Rearrange(x, index), source)


def _constant(scale: float | Fraction | None, depth: int) -> tuple[int, int]:
    """An odd integer and fraction bits: the scale, of 16 bits at most; 1 / sqrt(depth) for None."""
    if scale is None:
        frac = SCALE_BITS - 1 + ((depth - 1).bit_length() + 1) // 2
        constant = (isqrt((4 << 2 * frac) // depth) + 1) // 2
    else:
        if isinstance(scale, bool) or not isinstance(scale, int | float | Fraction):
            raise TypeError(f"attention scale must be a number, not {scale!r}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"attention scale must be above 0 and finite, not {scale}")
        exact = Fraction(scale)
        frac = SCALE_BITS + exact.denominator.bit_length() - exact.numerator.bit_length()
        constant = round(exact * Fraction(2) ** frac)
        while constant.bit_length() > SCALE_BITS:
            frac -= 1
            constant = round(exact * Fraction(2) ** frac)
    zeros = (constant & -constant).bit_length() - 1
    return constant >> zeros, frac - zeros


def _scaled(dot: Tensor, constant: int, frac: int, bias: ArrayLike, score: Format) -> Weight:
    """Scores from exact dot products."""
    added = np.asarray(bias)
    if not np.issubdtype(added.dtype, np.integer):
        raise TypeError(f"attention bias must be integers, not {added.dtype}")
    if added.any():
        try:
            added = np.broadcast_to(added, dot.shape)
        except ValueError:
            raise ValueError(
                f"attention bias must be broadcast to {dot.shape}, not have {added.shape}"
            ) from None
        while added.ndim and (added == added[:1]).all():
            added = added[0]
        missing = max(0, score.frac - dot.format.frac - frac)
        constant, frac = constant << missing, frac + missing
        added = added.astype(np.int64) << dot.format.frac + frac - score.frac
    number = Format(constant.bit_length(), frac, False)
    modes = Rounding.RND, Overflow.SAT_SYM
    return Weight(dot, np.array(constant), number, score, *modes, added)


def first_largest(
    net: Composition, score: str, shown: Any, one: int = 1, number: Format = ONE_BIT
) -> str:
    """A number for each key, ``one`` for the first of the largest scores that are seen, else 0."""
    scores = net.tensors[score]
    keys = scores.shape[-1]
    if keys < 2:
        raise ValueError("attention key must have at least 2 tokens to choose from, not 1")
    seen = masked(net, "seen", score, shown, scores.format.min)  # no score is as small
    net.add("first", ArgMax, seen)
    codes = net.tensors["first"].format
    table = one * np.eye(1 << codes.width, keys, dtype=np.int64)
    net.add("pick", lambda x: Embedding(x, table, number), "first")
    return "pick"


@dataclass(frozen=True, eq=False)
class Projection:
    """A Linear in the making: ``y = narrow(W x + b)`` of every token.

    Parameters
    ----------
    weight, bias, weight_format, output_format : as those of Linear
    """

    weight: Ints
    bias: Ints
    weight_format: Format
    output_format: Format

    def __call__(self, x: Tensor) -> Linear:
        return Linear(x, self.weight, self.bias, self.weight_format, self.output_format)


def multi_head_attention(
    input: Tensor,
    memory: Tensor | None,
    heads: int,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    mixed_format: Format,
    score_format: Format,
    share_format: Format | None,
    **options: Any,
) -> Network:
    """Tokens attend to others in several heads: projections, :func:`attention`, a projection.

    Error: as of attention

    Source: A. Vaswani et al., Attention Is All You Need, 2017, section 3.2.2
    (https://arxiv.org/abs/1706.03762)

    Parameters
    ----------
    input : Tensor of tokens, shape (queries, channels)
    memory : Tensor of the tokens of keys and values, shape (keys, channels); None for the input's
        own: self-attention
    heads : int, dividing the rows of ``query``; those of ``key`` may belong to fewer heads
    query, key, value, output : Projection
    mixed_format : Format of what attention gives
    score_format, share_format, options : of :func:`attention`

    >>> x, y = Tensor((4, 8), Format(8, 4)), Format(8, 4)
    >>> W = np.random.default_rng(0).integers(-64, 64, (4, 8, 8))
    >>> parts = [Projection(w, np.zeros(8, int), Format(8, 7), y) for w in W]
    >>> block = multi_head_attention(x, None, 2, *parts, y, y, Format(8, 8, signed=False))
    >>> print(block.reference(np.arange(32).reshape(4, 8))[0])
    [10  0 12 -5  4 10 11  1]
    """
    check_tensor(input, "multi_head_attention input")
    if memory is not None:
        check_tensor(memory, "multi_head_attention memory")
    for name, tensor in (("input", input), ("memory", memory or input)):
        if len(tensor.shape) != 2:
            raise ValueError(
                f"multi_head_attention {name} must have the axes (tokens, channels), "
                f"not {tensor.shape}"
            )
    projections = {"query": query, "key": key, "value": value, "output": output}
    for name, part in projections.items():
        if not isinstance(part, Projection):
            raise TypeError(f"multi_head_attention {name} must be a Projection, not {part!r}")
    check_formats("multi_head_attention", mixed_format=mixed_format, score_format=score_format)
    if share_format is not None:
        check_format(share_format, "multi_head_attention share_format")
    rows = [len(part.weight) for part in (query, key, value)]
    if type(heads) is not int or heads < 1 or rows[0] % heads:
        raise ValueError(
            f"multi_head_attention heads must divide {rows[0]} rows of query, not be {heads!r}"
        )
    depth = rows[0] // heads
    if rows[1] % depth or rows[2] % max(1, rows[1] // depth):
        raise ValueError(
            f"multi_head_attention key and value must have rows for whole heads of {depth}, "
            f"not {rows[1]} and {rows[2]}"
        )
    groups = rows[1] // depth
    net = Composition(x=input) if memory is None else Composition(x=input, memory=memory)
    tokens = "x" if memory is None else "memory"
    parts = []
    for name, made, source, count in (
        ("q", query, "x", heads),
        ("k", key, tokens, groups),
        ("v", value, tokens, groups),
    ):
        linear = net.add(name, made, source)
        length, width = net.tensors[linear].shape
        parts.append(net.reshaped(f"{name}_heads", linear, (length, count, width // count)))
    formats = score_format, share_format, mixed_format
    net.add("attention", lambda q, k, v: attention(q, k, v, *formats, **options), *parts)
    mixed = net.tensors["attention"]
    flat = net.reshaped("mixed", "attention", (mixed.shape[0], mixed.shape[1] * mixed.shape[2]))
    return net.network(y=net.add("output", output, flat))


def gate_configuration(random: np.random.Generator, index: int) -> Configuration:
    lead = () if index % 3 == 0 else (int(random.integers(1, 4)),)
    channels, heads = (1, 1) if index == 0 else (int(n) for n in random.integers(1, 6, 2))
    x = Tensor((*lead, channels), draw_format(random, 1))
    each = (channels,) if index % 2 else ()
    gates = Tensor((*lead, heads, *each), draw_format(random, 1))
    number = x.format
    target = Format(number.width + 2, number.frac + 1)
    network = gate(x, gates, target, bool(index // 2 % 2), *draw_modes(random, index))
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def attention_configuration(random: np.random.Generator, index: int) -> Configuration:
    """Of every second one attention is hard; masks, biases, several heads and groups by turns."""
    queries, keys, depth, width = (int(n) for n in random.integers(1, 4 + min(index // 4, 12), 4))
    hard = index % 2 == 1
    heads = groups = 1
    if index:
        keys, groups = keys + 1, 1 + index % 3 // 2
        heads = groups * (1 + index % 5 // 3)
    query, key, value = (
        Tensor(shape, Format(int(random.integers(3, 7)), int(random.integers(1, 4))))
        for shape in ((queries, heads, depth), (keys, groups, depth), (keys, groups, width))
    )
    mask, bias = None, np.array(0)
    if index % 4 >= 2:
        mask = random.integers(0, 2, (queries, heads, keys)).astype(bool)
        mask[..., int(random.integers(keys))] = True
    if index % 4 == 1:
        bias = random.integers(-9, 10, (heads, keys))
    shares = None if hard else Format(int(random.integers(5, 9)), int(random.integers(5, 9)), False)
    target = Format(int(random.integers(3, 9)), value.format.frac + 1)
    formats = Format(int(random.integers(4, 7)), 2), shares, target
    scale = None if index % 3 else Fraction(int(random.integers(1, 9)), 4)
    modes = draw_modes(random, index)
    network = attention(query, key, value, *formats, scale, mask, bias, *modes)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))


def multi_head_attention_configuration(random: np.random.Generator, index: int) -> Configuration:
    """Self-attention and cross-attention by turns; of every second pair one is hard."""
    heads, depth = (1, 1) if index == 0 else (1 + index % 2, int(random.integers(1, 3)))
    tokens, others, channels = (int(n) for n in random.integers(2, 4 + index // 8, 3))
    x = Tensor((tokens, channels), Format(4, 2))
    memory = Tensor((others, channels), Format(5, 2)) if index % 2 else None

    def projection(outputs: int, inputs: int) -> Projection:
        weight = draw_integers(random, Format(4, 2), (outputs, inputs))
        return Projection(weight, random.integers(-20, 20, outputs), Format(4, 2), Format(5, 2))

    groups = heads if index % 3 else 1
    query, key, value = (projection(n * depth, channels) for n in (heads, groups, groups))
    output = projection(channels, heads * depth)
    shares = None if index % 4 >= 2 else Format(5, 5, False)
    formats = Format(6, 3), Format(5, 2), shares
    network = multi_head_attention(x, memory, heads, query, key, value, output, *formats)
    return Configuration(network, plan(network, Target.named("ecp5"), 1 << 10))
