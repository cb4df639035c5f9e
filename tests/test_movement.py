# SPDX-License-Identifier: Apache-2.0
"""Blocks that only move numbers, coordinate by coordinate."""

import itertools

import numpy as np
import pytest
from refusal import refused

from blocks import (
    Concat,
    Lanes,
    Moves,
    Network,
    Node,
    Rearrange,
    Tensor,
    cut,
    depth_to_space,
    expand,
    gather,
    pad,
    plan,
    space_to_depth,
    transpose,
    upsample,
)
from hdl import Target
from quant import Format

S6 = Format(6, 2)
ECP5 = Target.named("ecp5")


def tensor(*shape):
    return Tensor(shape, S6)


def places(shape):
    return itertools.product(*map(range, shape))


def check(block, shape, number_at):
    """``number_at(x, place)`` is what stands at each place of y, for two frames, on both paths."""
    assert block.outputs == {"o": Tensor(shape, S6)}
    x = np.random.default_rng(1).integers(S6.min, S6.max + 1, (2, *block.input.shape))
    y, fast = block.reference(x), Network.chain(block).run(x)
    assert y.dtype == np.int64
    assert y.shape == (2, *shape)
    np.testing.assert_array_equal(fast, y)
    for frame in range(2):
        for place in places(shape):
            assert y[(frame, *place)] == number_at(x[frame], place), place


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 1, 3, 2)], ids=str)
def test_transpose(shape):
    for axes in itertools.permutations(range(len(shape))):

        def at(x, place, axes=axes):
            source = [0] * len(axes)
            for n, axis in enumerate(axes):
                source[axis] = place[n]
            return x[tuple(source)]

        check(transpose(tensor(*shape), axes), tuple(shape[axis] for axis in axes), at)


@pytest.mark.parametrize(
    ("slices", "shape", "sources"),
    [
        ([slice(1, 4)], (3, 6), lambda a, b: (1 + a, b)),
        ([slice(None), slice(1, None, 2)], (5, 3), lambda a, b: (a, 1 + 2 * b)),
        ([slice(None, None, -1)], (5, 6), lambda a, b: (4 - a, b)),
        ([slice(4, 0, -2), slice(-2, None)], (2, 2), lambda a, b: (4 - 2 * a, 4 + b)),
        ([slice(None), slice(5, None, -3)], (5, 2), lambda a, b: (a, 5 - 3 * b)),
        ([], (5, 6), lambda a, b: (a, b)),
    ],
)
def test_cut(slices, shape, sources):
    check(cut(tensor(5, 6), slices), shape, lambda x, place: x[sources(*place)])


def around(mode, n, size):
    """Where a place outside of an axis takes its number from."""
    if mode == "edge":
        return min(max(n, 0), size - 1)
    return -n if n < 0 else 2 * (size - 1) - n if n >= size else n


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    ("before", "after"), [((0, 0), (0, 0)), ((1, 0), (0, 2)), ((2, 3), (1, 1)), ((0, 3), (2, 0))]
)
def test_pad(mode, before, after):
    size = (3, 4)

    def at(x, place):
        place = [n - b for n, b in zip(place, before, strict=True)]
        if mode == "constant":
            inside = all(0 <= n < s for n, s in zip(place, size, strict=True))
            return x[tuple(place)] if inside else -7
        return x[tuple(around(mode, n, s) for n, s in zip(place, size, strict=True))]

    shape = tuple(s + b + a for s, b, a in zip(size, before, after, strict=True))
    fill = -7 if mode == "constant" else 0
    check(pad(tensor(*size), before, after, mode, fill), shape, at)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 1), (1, 3, 2)])
def test_upsample(factors):
    shape = tuple(n * f for n, f in zip((2, 3, 2), factors, strict=True))
    check(
        upsample(tensor(2, 3, 2), factors),
        shape,
        lambda x, place: x[tuple(n // f for n, f in zip(place, factors, strict=True))],
    )


def channel(mode, size, left, row, column, c):
    """Channel in which ONNX's DepthToSpace finds number c of a pixel of a square."""
    return (row * size + column) * left + c if mode == "DCR" else (c * size + row) * size + column


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(("size", "left"), [(1, 3), (2, 1), (2, 3), (3, 2)])
def test_depth_to_space_and_back(mode, size, left):
    deep, wide = (2, 3, left * size**2), (2 * size, 3 * size, left)

    def spread(x, place):
        h, w, c = place
        source = channel(mode, size, left, h % size, w % size, c)
        return x[h // size, w // size, source]

    check(depth_to_space(tensor(*deep), size, mode), wide, spread)
    x = np.random.default_rng(2).integers(S6.min, S6.max + 1, (2, *deep))
    there = depth_to_space(tensor(*deep), size, mode).reference(x)
    back = space_to_depth(tensor(*wide), size, mode)
    np.testing.assert_array_equal(back.reference(there), x)

    def gathered(x, place):
        h, w, c = place
        for row, column, n in places((size, size, left)):
            if channel(mode, size, left, row, column, n) == c:
                return x[h * size + row, w * size + column, n]
        raise AssertionError(place)

    check(back, deep, gathered)


@pytest.mark.parametrize(
    ("have", "wanted"),
    [((3,), (2, 3)), ((1, 3), (4, 3)), ((2, 1), (2, 5)), ((1,), (2, 2)), ((2, 1, 3), (2, 2, 3))],
)
def test_expand(have, wanted):
    def at(x, place):
        place = place[len(wanted) - len(have) :]
        return x[tuple(n if size > 1 else 0 for n, size in zip(place, have, strict=True))]

    check(expand(tensor(*have), wanted), wanted, at)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("indices", [[1, 0], [-1, 0, 0], [[0, 1], [1, 1]], 1])
def test_gather(indices, axis):
    shape, taken = (2, 3, 2), np.shape(indices)

    def at(x, place):
        n = np.asarray(indices)[place[axis : axis + len(taken)]] % shape[axis]
        return x[(*place[:axis], int(n), *place[axis + len(taken) :])]

    check(gather(tensor(*shape), indices, axis), (*shape[:axis], *taken, *shape[axis + 1 :]), at)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis):
    sizes = 2, 1, 3
    shapes = [[2, 3, 2] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    block = Concat(tuple(tensor(*shape) for shape in shapes), axis)
    frames = [np.random.default_rng(n).integers(-32, 32, (2, *s)) for n, s in enumerate(shapes)]
    y = block.reference(*frames)
    for place in places(y.shape):
        source, n = list(place), 0
        while source[axis + 1] >= sizes[n]:
            source[axis + 1] -= sizes[n]
            n += 1
        assert y[place] == frames[n][tuple(source)]
    assert block.outputs == {"o": Tensor(y.shape[1:], S6)}


def test_concat_in_a_network_takes_the_fast_path_too():
    x = {"a": tensor(2, 3), "b": tensor(2, 2)}
    network = Network(x, (Node("both", Concat(tuple(x.values()), 1), ("a", "b")),), {"y": "both"})
    random = np.random.default_rng(3)
    frames = [random.integers(-32, 32, (5, *part.shape)) for part in x.values()]
    np.testing.assert_array_equal(network.run(*frames), network.reference(*frames))


WIDTHS = {
    1: Format(1, 0),
    24: Format(24, 3),
    25: Format(25, 0),
    53: Format(53, 0),
    63: Format(63, 9),
}


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_of_any_width_are_moved_exactly(width):
    number = WIDTHS[width]
    block = pad(Tensor((4,), number), (1,), (1,), fill=number.min)
    x = np.array([[number.min, number.max, -1, 0], [number.max, number.max, 0, number.min]])
    wanted = [[number.min, *row, number.min] for row in x.tolist()]
    assert block.reference(x).tolist() == wanted
    assert Network.chain(block).run(x).tolist() == wanted


def lanes_of(block):
    return [candidate.plan.lanes for candidate in block.plans(ECP5)]


def test_numbers_that_stay_together_travel_together():
    assert lanes_of(transpose(tensor(4, 6), (1, 0))) == [1]
    assert lanes_of(transpose(tensor(4, 3, 6), (1, 0, 2))) == [1, 2, 3, 6]
    assert lanes_of(cut(tensor(4, 6), [slice(1, 3)])) == [1, 2, 3, 6]
    assert lanes_of(cut(tensor(4, 6), [slice(None), slice(3, 6)])) == [1, 3]
    assert lanes_of(cut(tensor(4, 6), [slice(None), slice(2, 5)])) == [1]
    assert lanes_of(pad(tensor(4, 6), (1, 0), (0, 0))) == [1, 2, 3, 6]
    assert lanes_of(pad(tensor(4, 6), (0, 2), (0, 2))) == [1, 2]
    assert lanes_of(upsample(tensor(2, 2, 6), (2, 2, 1))) == [1, 2, 3, 6]
    assert lanes_of(Concat((tensor(4, 6), tensor(4, 9)), 1)) == [1, 3]
    assert lanes_of(Concat((tensor(4, 6), tensor(1, 6)), 0)) == [1, 2, 3, 6]


@pytest.mark.parametrize(
    ("block", "depth"),
    [
        (cut(tensor(9, 9), [slice(2, 7), slice(1, None, 3)]), 0),
        (pad(tensor(9, 9), (1, 1), (1, 1)), 0),
        (expand(tensor(6, 1), (6, 5)), 0),
        (transpose(tensor(1, 9, 1, 4), (2, 1, 0, 3)), 0),
        (upsample(tensor(4, 8), (2, 2)), 16),
    ],
    ids=["cut", "pad", "expand", "transpose", "upsample"],
)
def test_memory_is_what_the_order_needs(block, depth):
    assert block.design(Moves(1)).depth == depth


def test_memories_suit_the_target():
    large = transpose(Tensor((64, 64), S6), (1, 0))
    assert [candidate.plan for candidate in large.plans(ECP5)] == [Moves(1, "block")]
    chosen = gather(tensor(1000), np.random.default_rng(0).permutation(1000))
    assert [candidate.plan for candidate in chosen.plans(ECP5)] == [Moves(1, "block", "block")]
    small = transpose(tensor(3, 4), (1, 0))
    assert [c.plan for c in small.plans(Target.named("ice40"))] == [Moves(1, "registers")]


def test_intervals_are_what_plans_say():
    for block in (
        transpose(tensor(3, 4, 2), (1, 0, 2)),
        pad(tensor(3, 4), (1, 1), (1, 1)),
        cut(tensor(5, 6), [slice(1, 4), slice(None, None, -2)]),
        Concat((tensor(3, 4), tensor(3, 6)), 1),
    ):
        for candidate in block.plans(ECP5):
            timing = block.timing(candidate.plan)
            ports = [timing.port(port) for port in block.inputs]
            assert timing.schedule(ports, [timing.port("o")]).interval == candidate.interval


def test_a_network_of_moves_is_planned():
    x = tensor(4, 6)
    turned = transpose(x, (1, 0))
    padded = pad(turned.outputs["o"], (1, 0), (1, 0))
    both = Concat((padded.outputs["o"], padded.outputs["o"]), 1)
    nodes = (
        Node("turn", turned, ("x",)),
        Node("pad", padded, ("turn",)),
        Node("both", both, ("pad", "pad")),
    )
    network = Network({"x": x}, nodes, {"y": "both"})
    timing = network.timing(plan(network, ECP5, interval=64))
    assert timing.schedule([timing.port("i")], [timing.port("o")]).interval == 64


T = tensor(2, 3)
REFUSALS = {
    "kind": (lambda: Rearrange(3, [0]), TypeError, "Rearrange input must be a Tensor, not 3"),
    "floats": (
        lambda: Rearrange(T, [0.0]),
        TypeError,
        "Rearrange index must be integers, not float64",
    ),
    "no axes": (
        lambda: Rearrange(T, 0),
        ValueError,
        "Rearrange index must have axes of at least 1, not the shape ()",
    ),
    "nothing": (
        lambda: Rearrange(T, np.empty((2, 0), int)),
        ValueError,
        "Rearrange index must have axes of at least 1, not the shape (2, 0)",
    ),
    "beyond": (
        lambda: Rearrange(T, [0, 6]),
        ValueError,
        "Rearrange index must be from -1 to 5 and not -1 everywhere, not span [0, 6]",
    ),
    "below": (
        lambda: Rearrange(T, [0, -2]),
        ValueError,
        "Rearrange index must be from -1 to 5 and not -1 everywhere, not span [-2, 0]",
    ),
    "constant": (
        lambda: Rearrange(T, [-1, -1]),
        ValueError,
        "Rearrange index must be from -1 to 5 and not -1 everywhere, not span [-1, -1]",
    ),
    "fill": (
        lambda: Rearrange(T, [0, -1], 32),
        ValueError,
        "Rearrange fill must be in [-32, 31] for format s6.2, not span [32, 32]",
    ),
    "fill shape": (
        lambda: Rearrange(T, [0, -1], [1]),
        ValueError,
        "Rearrange fill must have shape (), not (1,)",
    ),
    "plan": (
        lambda: transpose(T, (1, 0)).rtl(Lanes(1)),
        TypeError,
        "Rearrange plan must be Moves, not Lanes(lanes=1)",
    ),
    "lanes": (
        lambda: cut(tensor(4, 6), [slice(None), slice(3, 6)]).timing(Moves(2)),
        ValueError,
        "Rearrange lanes must be one of 1, 3, not 2",
    ),
    "input": (
        lambda: transpose(T, (1, 0)).reference(np.zeros((3, 2), int)),
        ValueError,
        "Rearrange input must have shape (..., 2, 3), not (3, 2)",
    ),
    "transpose kind": (
        lambda: transpose(3, (0,)),
        TypeError,
        "transpose input must be a Tensor, not 3",
    ),
    "transpose axes": (
        lambda: transpose(T, (0, 0)),
        ValueError,
        "transpose axes must be all from 0 to 1, not (0, 0)",
    ),
    "transpose floats": (
        lambda: transpose(T, (0.0, 1)),
        TypeError,
        "transpose axes must be ints, not (0.0, 1)",
    ),
    "cut kind": (lambda: cut(T, [1]), TypeError, "cut slices must be slices, not [1]"),
    "cut many": (
        lambda: cut(T, [slice(None)] * 3),
        ValueError,
        "cut slices must be at most 2, not 3",
    ),
    "cut all": (
        lambda: cut(T, [slice(2, None)]),
        ValueError,
        "cut slices must leave something of (2, 3), not (0, 3)",
    ),
    "pad widths": (
        lambda: pad(T, (1,), (1, 1)),
        ValueError,
        "pad before must be 2 ints from 0, not (1,)",
    ),
    "pad negative": (
        lambda: pad(T, (1, 1), (1, -1)),
        ValueError,
        "pad after must be 2 ints from 0, not (1, -1)",
    ),
    "pad reflect": (
        lambda: pad(T, (1, 1), (2, 1), "reflect"),
        ValueError,
        "pad after must be less than (2, 3) to reflect, not (2, 1)",
    ),
    "pad mode": (
        lambda: pad(T, (1, 1), (2, 1), "wrap"),
        ValueError,
        "pad mode must be one of constant, edge, reflect, not 'wrap'",
    ),
    "upsample": (
        lambda: upsample(T, (2, 0)),
        ValueError,
        "upsample factors must be 2 ints from 1, not (2, 0)",
    ),
    "depth axes": (
        lambda: depth_to_space(T, 2),
        ValueError,
        "depth_to_space input must have 3 axes, not 2",
    ),
    "depth size": (
        lambda: depth_to_space(tensor(2, 2, 4), 0),
        ValueError,
        "depth_to_space size must be an int from 1, not 0",
    ),
    "depth mode": (
        lambda: depth_to_space(tensor(2, 2, 4), 2, "RCD"),
        ValueError,
        "depth_to_space mode must be DCR or CRD, not 'RCD'",
    ),
    "depth channels": (
        lambda: depth_to_space(tensor(2, 2, 6), 2),
        ValueError,
        "depth_to_space channels must be a multiple of 4, not 6",
    ),
    "space": (
        lambda: space_to_depth(tensor(4, 3, 1), 2),
        ValueError,
        "space_to_depth height and width must be multiples of 2, not 4 and 3",
    ),
    "expand": (
        lambda: expand(T, (2, 4)),
        ValueError,
        "expand shape must be one that (2, 3) broadcasts to, not (2, 4)",
    ),
    "expand less": (
        lambda: expand(T, (3,)),
        ValueError,
        "expand shape must be one that (2, 3) broadcasts to, not (3,)",
    ),
    "gather floats": (
        lambda: gather(T, [0.5]),
        TypeError,
        "gather indices must be integers, not float64",
    ),
    "gather axis": (
        lambda: gather(T, [0], 2),
        ValueError,
        "gather axis must be from 0 to 1, not 2",
    ),
    "gather range": (
        lambda: gather(T, [0, 2]),
        ValueError,
        "gather indices must be from -2 to 1, not span [0, 2]",
    ),
    "concat list": (
        lambda: Concat([T, T]),
        TypeError,
        f"Concat tensors must be a tuple, not {[T, T]!r}",
    ),
    "concat one": (
        lambda: Concat((T,)),
        ValueError,
        "Concat tensors must be at least 2, not 1",
    ),
    "concat kind": (
        lambda: Concat((T, 3)),
        TypeError,
        "Concat tensor 1 must be a Tensor, not 3",
    ),
    "concat axis": (
        lambda: Concat((T, T), 2),
        ValueError,
        "Concat axis must be from 0 to 1, not 2",
    ),
    "concat shape": (
        lambda: Concat((T, tensor(3, 2)), 1),
        ValueError,
        "Concat tensor 1 must be like 2x3 s6.2 but for axis 1, not 3x2 s6.2",
    ),
    "concat format": (
        lambda: Concat((T, Tensor((2, 3), Format(6, 1)))),
        ValueError,
        "Concat tensor 1 must be like 2x3 s6.2 but for axis 0, not 2x3 s6.1",
    ),
    "concat lanes": (
        lambda: Concat((T, tensor(2, 2)), 1).rtl(Lanes(3)),
        ValueError,
        "Concat lanes must divide 1, not be 3",
    ),
    "concat plan": (
        lambda: Concat((T, T)).rtl(Moves(1)),
        TypeError,
        f"Concat plan must be Lanes, not {Moves(1)!r}",
    ),
    "concat input": (
        lambda: Concat((T, T)).reference(np.zeros((2, 3), int), np.zeros((2, 2), int)),
        ValueError,
        "Concat input 1 must have shape (..., 2, 3), not (2, 2)",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(make, error, message):
    with refused(error, message):
        make()
