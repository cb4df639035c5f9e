# SPDX-License-Identifier: Apache-2.0
"""Orders of a stream against frames whose every number is another."""

import itertools
import math

import numpy as np
import pytest

from bitblocks.ordering import Value, axes_of, moves, order_of, same, split_last

SHAPES = [(6,), (4, 4), (2, 3, 4), (1, 8, 8), (3, 1, 5), (2, 2, 2, 2), (2, 3, 1, 3, 2)]


def stream(frame, order):
    return frame.ravel() if order is None else frame.ravel()[order]


def frame_of(shape, seed=0):
    return np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moves_turn_any_order_into_any_other(shape):
    frame = frame_of(shape)
    orders = list(itertools.permutations(range(len(shape))))
    for old, new in itertools.product(orders[::5], orders[::7]):
        before, after = (order_of(shape, axes) for axes in (old, new))
        have = stream(frame, before)[moves(before, after, frame.size)]
        assert have.tolist() == frame.transpose(new).ravel().tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_transposed_is_the_frame_transposed(shape):
    frame = frame_of(shape)
    for axes in itertools.permutations(range(len(shape))):
        value = Value("x", shape, order_of(shape, axes))
        travels = stream(frame, value.order)
        for again in list(itertools.permutations(range(len(shape))))[::3]:
            moved = value.transposed(again)
            assert moved.shape == frame.transpose(again).shape
            assert stream(frame.transpose(again), moved.order).tolist() == travels.tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_axes_are_found_again(shape):
    for axes in itertools.permutations(range(len(shape))):
        order = order_of(shape, axes)
        assert same(order_of(shape, axes_of(shape, order)), order)
    if math.prod(shape) > 6:
        assert axes_of(shape, np.arange(math.prod(shape))[::-1]) is None


def test_rows_travel_as_one_or_not():
    assert split_last(None, (3, 4)) == (None, None)
    outer, inner = split_last(np.array([5, 4, 3, 2, 1, 0]), (3, 2))
    assert (outer.tolist(), inner.tolist()) == ([2, 1, 0], [1, 0])
    assert split_last(order_of((3, 4), (1, 0)), (3, 4)) is None
