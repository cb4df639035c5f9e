# SPDX-License-Identifier: Apache-2.0
"""How the numbers of a frame travel over the stream, against the axes that the model knows."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bitblocks.graph import Shape

Order = NDArray[np.int64] | None
"""Element k of the stream is element ``order[k]`` of the frame in the model's raster order; None
where both agree."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the model that differs from frame to frame, and the graph tensor that carries it.

    Parameters
    ----------
    name : the graph tensor; its shape may be any that has the numbers in this order
    shape : lengths of the model's axes without the batch
    order : of the stream
    batch : before which axis of ``shape`` the batch lies
    joined : how many axes before and behind the batch are one axis of the model with it, as heads
        are for a while in attention; 0 or 1 each
    """

    name: str
    shape: Shape
    order: Order = None
    batch: int = 0
    joined: tuple[int, int] = (0, 0)

    @property
    def rank(self) -> int:
        """Axes of the model's tensor, with the batch."""
        return len(self.shape) + 1 - sum(self.joined)

    @property
    def batch_axis(self) -> int:
        """Which of the model's axes is the batch, or has it."""
        return self.batch - self.joined[0]

    def lengths(self, batch: int) -> list[int]:
        """Of the model's axes."""
        before, behind = self.joined
        first, last = self.batch - before, self.batch + behind
        with_batch = batch * math.prod(self.shape[first:last])
        return [*self.shape[:first], with_batch, *self.shape[last:]]

    def reshaped(self, shape: Shape, batch: int = 0, joined: tuple[int, int] = (0, 0)) -> "Value":
        """The same numbers in the model's raster order under another shape."""
        return replace(self, shape=shape, batch=batch, joined=joined)

    def moved(
        self, index: NDArray[np.int64], batch: int = 0, joined: tuple[int, int] = (0, 0)
    ) -> "Value":
        """The same numbers, element ``index`` of the model's raster order at each place now."""
        places = inverse(index.ravel())
        order = _plain(places if self.order is None else places[self.order])
        return Value(self.name, index.shape, order, batch, joined)

    def transposed(self, axes: Shape, batch: int = 0) -> "Value":
        """The same numbers on the stream, frame axis ``axes[k]`` of the model being axis k now."""
        return self.moved(raster(self.shape).transpose(axes), batch)


def raster(shape: Shape) -> NDArray[np.int64]:
    """The number of each element of a frame."""
    return np.arange(math.prod(shape)).reshape(shape)


def inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each element in ``order``."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def moves(old: Order, new: Order, size: int) -> NDArray[np.int64]:
    """For each place of a stream in order ``new`` the place that its number has in ``old``."""
    whole = np.arange(size)
    places = whole if old is None else inverse(old)
    return places if new is None else places[new]


def _plain(order: NDArray[np.int64]) -> Order:
    return None if (order == np.arange(len(order))).all() else order


def order_of(shape: Shape, axes: Shape) -> Order:
    """The order of a frame of ``shape`` that travels with its axes as ``axes``."""
    return _plain(raster(shape).transpose(axes).ravel())


def same(a: Order, b: Order) -> bool:
    """Whether two orders are one."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)


def channels_last(rank: int) -> Shape:
    """Axes of a frame whose channels come first in the model.

    >>> channels_last(3)
    (1, 2, 0)
    """
    return (*range(1, rank), *range(min(rank, 1)))


def axes_of(shape: Shape, order: Order) -> Shape | None:
    """The axes of ``order_of``; the model's own or channels last where they are among them."""
    plain = tuple(range(len(shape)))
    if order is None:
        return plain
    places = inverse(order)
    strides = [math.prod(shape[axis + 1 :]) for axis in plain]
    by_stride = sorted(plain, key=lambda a: -places[strides[a]] if shape[a] > 1 else 1)
    for axes in (channels_last(len(shape)), tuple(by_stride)):
        if same(order, order_of(shape, axes)):
            return axes
    return None


def split_last(order: Order, shape: Shape) -> tuple[Order, NDArray[np.int64] | None] | None:
    """Order of the rows and order within each, if every row along the last axis travels as one.

    The first is of a frame of ``shape[:-1]``; None for a frame that does not travel by rows.
    """
    if order is None:
        return None, None
    rows = order.reshape(-1, shape[-1])
    outer, inner = rows[:, 0] // shape[-1], rows[0] % shape[-1]
    if not np.array_equal(outer[:, np.newaxis] * shape[-1] + inner, rows):
        return None
    return _plain(outer), _plain(inner)
