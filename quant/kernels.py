# SPDX-License-Identifier: Apache-2.0
"""Bit-exact fixed-point layers that stay in floats from one layer to the next.

A tile holds some frames of one tensor, an array of shape (elements + 1, frames): element by
element in raster order, channels last, and below them a row of ones, so that a bias is one more
column of the weights. Its numbers are integers, its type float32, float64 or int64 as its kernel
asks. ``kernel.calls(out, *tiles)`` binds a kernel to tiles: the calls, made one after the other,
fill all rows of ``out`` but the last from what is then in the others. So whatever does not depend
on numbers is done once, and a single frame costs little more than numpy's own start.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .bounds import accumulator_format, dot_bounds, to_ints
from .check import check_shape
from .format import Format, Ints
from .matmul import FLOAT_BITS, Matmul, dot_magnitude, float_dtype
from .narrow import Overflow, Rounding, round_shift, saturation_range, shift_narrow

Tile = np.ndarray[Any, Any]
Call = Callable[[], object]

INT64 = np.dtype(np.int64)
LARGEST_SHIFT: dict[np.dtype[Any], int] = {np.dtype(np.float32): 100, np.dtype(np.float64): 900}
"""Powers of two by which exact integers may be scaled, leaving the exponent's range to spare."""
FEW = 1 << 10
"""Numbers of a tile for which the start of a call takes longer than the rest of it."""
Step = Callable[[Tile], list[Call]]
"""A part of narrowing, in place."""
HALF_ADDED = (Rounding.RND, Rounding.RND_ZERO, Rounding.RND_MIN_INF, Rounding.RND_INF)
"""Modes that add or subtract up to half a unit before they cut."""


class Kernel(Protocol):
    """What :class:`quant.Program` needs to know of one layer."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the tiles it takes and fills."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements per frame of each tile it takes."""

    @property
    def size(self) -> int:
        """Elements per frame of the tile it fills."""

    def calls(self, *tiles: Any) -> list[Call]:
        """What fills the tile given first from the others, as many as ``sizes``."""


class Finish:
    """Narrowing of exact sums in a tile: rounding, then overflow, in place.

    Where it is exact, the sum arrives as a float, already multiplied by ``scale`` (a power of two)
    and with ``offset`` (half a unit, for the modes that need it) added. Steps that the bounds prove
    idle are left out.

    Parameters
    ----------
    low, high : bounds of the sum
    magnitude : largest absolute value on the way to the sum, in any order of summation
    drop : fraction bits of the sum minus those of ``target``
    rectify : take max(sum, 0) first
    """

    def __init__(
        self,
        low: int,
        high: int,
        magnitude: int,
        drop: int,
        target: Format,
        rounding: Rounding | str,
        overflow: Overflow | str,
        rectify: bool = False,
    ):
        self.drop, self.target, self.rectify = drop, target, rectify
        self.rounding, self.overflow = Rounding(rounding), Overflow(overflow)
        self.rectify &= low < 0
        if drop > 0 and self.rounding in HALF_ADDED:
            magnitude += 1 << (drop - 1)
        ends = round_shift(low, drop, self.rounding), round_shift(high, drop, self.rounding)
        self.dtype: np.dtype[Any] = INT64
        for dtype, bits in FLOAT_BITS.items():
            if magnitude <= 1 << bits and abs(drop) <= LARGEST_SHIFT[dtype]:
                steps = self._steps(*ends, 1 << bits)
                if steps is not None:
                    self.dtype, self.steps = dtype, steps
                    self.scale = 2.0**-drop
                    halves = {Rounding.RND: 0.5, Rounding.RND_MIN_INF: -0.5}
                    self.offset = halves.get(self.rounding, 0.0) if drop > 0 else 0.0
                    break

    def calls(self, tile: Tile) -> list[Call]:
        """What narrows the scaled sums in ``tile``."""
        return [call for step in self.steps for call in step(tile)]

    def calls_on(self, tile: Tile) -> list[Call]:
        """What narrows scaled floats that still lack the offset, or plain int64 sums, in place."""
        if self.dtype == INT64:

            def narrow() -> None:
                tile[:] = self.exact(tile)

            return [narrow]
        offset = [partial(np.add, tile, _number(self.offset, tile), tile)] if self.offset else []
        return [*offset, *self.calls(tile)]

    def exact(self, sums: Ints) -> Ints:
        """Narrow plain sums: the definition."""
        sums = np.maximum(sums, 0) if self.rectify else sums
        return shift_narrow(sums, self.drop, self.target, self.rounding, self.overflow)

    def _steps(self, low: int, high: int, exact: int) -> list[Step] | None:
        """What to do to rounded sums from ``low`` to ``high``; None where floats cannot do it."""
        steps: list[Step] = []
        if self.drop > 0:
            steps.append(_rounding_step(self.rounding, self.drop))
        least, most = saturation_range(self.target, self.overflow)
        if self.rectify:
            if self.overflow in (Overflow.SAT, Overflow.SAT_SYM) and most <= exact:
                least = max(least, 0)
            else:
                steps.append(_limiting_step(0, max(high, 0)))
                low, high = 0, max(high, 0)
        if least <= low and high <= most:
            return steps
        span = 1 << self.target.width
        if self.overflow is Overflow.WRAP:
            if max(-low, high) + span > exact:
                return None
            return [*steps, _plain(_wrap, float(least), float(span))]
        if max(-least, most) > exact:
            return None
        if self.overflow is Overflow.SAT_ZERO:
            return [*steps, _plain(_clear, float(least), float(most))]
        return [*steps, _limiting_step(least, most)]


def _plain(function: Callable[..., None], *arguments: float) -> Step:
    """A step that is one call."""
    return lambda tile: [partial(function, tile, *arguments)]


def _number(value: float, tile: Tile) -> Tile:
    """A number of a tile's type, which numpy takes sooner than one of Python."""
    return np.array(value, tile.dtype)


def _rounding_step(rounding: Rounding, drop: int) -> Step:
    """Round multiples of ``2**-drop``, to which ``Finish.offset`` was added, in place."""
    whole: dict[Rounding, np.ufunc] = {
        Rounding.RND: np.floor,
        Rounding.TRN: np.floor,
        Rounding.RND_MIN_INF: np.ceil,
        Rounding.RND_CONV: np.rint,
        Rounding.TRN_ZERO: np.trunc,
    }
    if rounding in whole:
        return lambda tile: [partial(whole[rounding], tile, tile)]
    return _plain(_round_away, 0.5 if rounding is Rounding.RND_INF else 0.5 - 2.0**-drop)


def _limiting_step(least: int, most: int) -> Step:
    """Saturate, in place."""

    def step(tile: Tile) -> list[Call]:
        low, high = _number(least, tile), _number(most, tile)
        if tile.size > FEW:
            return [partial(tile.clip, low, high, out=tile)]
        # two plain calls start sooner
        ends = (np.minimum, high), (np.maximum, low)
        return [partial(function, tile, end, out=tile) for function, end in ends]

    return step


def _round_away(tile: Tile, away: float) -> None:
    tile += np.copysign(tile.dtype.type(away), tile)
    np.trunc(tile, out=tile)


def _clear(tile: Tile, least: float, most: float) -> None:
    """0 for what lies outside."""
    np.copyto(tile, 0, where=tile.clip(least, most) != tile)


def _wrap(tile: Tile, least: float, span: float) -> None:
    """Reduce integers modulo ``span`` to those from ``least`` upwards, in place."""
    turns = tile - least
    turns *= 1.0 / span
    np.floor(turns, out=turns)
    turns *= span
    tile -= turns


class DenseKernel:
    """``y = narrow(weight @ x + bias)``, for each of ``positions`` vectors x of a frame.

    Raises ValueError where a sum can exceed 63 bits, starting with ``name``.

    Parameters
    ----------
    weight : ints with weight_frac fraction bits, shape (outputs, inputs)
    bias : ints with the fraction bits of weight @ x, shape (outputs,)
    """

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike,
        weight_frac: int,
        input_format: Format,
        output_format: Format,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.SAT,
        positions: int = 1,
        name: str = "DenseKernel",
    ):
        weight, bias = to_ints(weight, f"{name} weight"), to_ints(bias, f"{name} bias")
        dots = dot_bounds(weight, input_format, name)
        outputs, inputs = weight.shape
        check_shape(bias, (outputs,), f"{name} bias")
        biases: list[int] = bias.tolist()
        low = min(n + b for n, b in zip(dots[0].tolist(), biases, strict=True))
        high = max(n + b for n, b in zip(dots[1].tolist(), biases, strict=True))
        frac = weight_frac + input_format.frac
        accumulator_format(low, high, frac, name)
        magnitude = dot_magnitude(weight, input_format) + max(map(abs, biases))
        drop = frac - output_format.frac
        self.finish = Finish(low, high, magnitude, drop, output_format, rounding, overflow)
        self.dtype = self.finish.dtype
        self.positions, self.inputs, self.outputs = positions, inputs, outputs
        self.sizes, self.size = (positions * inputs,), positions * outputs
        if self.dtype == INT64:
            self.bias, self.product = bias, Matmul(weight, input_format, name)
        else:
            scaled = np.column_stack([weight, bias]) * self.finish.scale
            scaled[:, -1] += self.finish.offset
            self.matrix = scaled.astype(self.dtype)

    def calls(self, out: Tile, x: Tile) -> list[Call]:
        y = out[:-1]
        vectors = x[:-1].reshape(self.positions, self.inputs, -1)
        sums = y.reshape(self.positions, self.outputs, -1)
        if self.dtype == INT64:

            def multiply() -> None:
                products = self.product.unchecked(np.moveaxis(vectors, 1, 2))
                sums[:] = np.moveaxis(self.finish.exact(products + self.bias), 2, 1)

            return [multiply]
        if self.positions == 1:
            return [partial(np.matmul, self.matrix, x, y), *self.finish.calls(y)]
        return [
            partial(np.matmul, self.matrix[:, :-1], vectors, sums),
            partial(np.add, sums, self.matrix[:, -1:], sums),
            *self.finish.calls(y),
        ]


class WindowKernel:
    """``y = narrow(weight @ window + bias)`` for windows of a frame: a convolution.

    Windows are gathered pixel by pixel, a few at a time, so that they stay in the cache, and meet
    the weights in a matrix product each. Raises ValueError where a sum can exceed 63 bits, starting
    with ``name``.

    Parameters
    ----------
    weight : ints with weight_frac fraction bits, shape (outputs, taps, channels)
    bias : ints with the fraction bits of the sums, shape (outputs,)
    places : ints, shape (positions, taps): the pixel that each tap of each window meets, -1 where
        that lies outside the frame
    pixels : of a frame
    groups : parts of the outputs, each of which meets a part of the channels of a pixel
    """

    BUFFER = 1 << 20
    """Bytes of gathered windows that are worked on at once, with their sums in the cache."""

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike,
        weight_frac: int,
        input_format: Format,
        output_format: Format,
        rounding: Rounding | str,
        overflow: Overflow | str,
        places: Ints,
        pixels: int,
        groups: int = 1,
        name: str = "WindowKernel",
    ):
        weight, bias = to_ints(weight, f"{name} weight"), to_ints(bias, f"{name} bias")
        outputs, taps, channels = weight.shape
        flat = weight.reshape(outputs, taps * channels)
        dots = dot_bounds(flat, input_format, name)
        biases: list[int] = bias.tolist()
        low = min(n + b for n, b in zip(dots[0].tolist(), biases, strict=True))
        high = max(n + b for n, b in zip(dots[1].tolist(), biases, strict=True))
        frac = weight_frac + input_format.frac
        accumulator_format(low, high, frac, name)
        magnitude = dot_magnitude(flat, input_format) + max(map(abs, biases))
        drop = frac - output_format.frac
        self.finish = Finish(low, high, magnitude, drop, output_format, rounding, overflow)
        self.dtype = self.finish.dtype
        self.groups, self.channels, self.pixels = groups, channels, pixels
        self.sizes, self.size = (pixels * groups * channels,), len(places) * outputs
        # Row p * groups + g of the frame holds the channels of group g of pixel p.
        rows = places[:, None, :] * groups + np.arange(groups)[:, None]
        self.outside = np.broadcast_to(places[:, None, :] < 0, rows.shape)
        self.rows = np.maximum(rows, 0)
        matrix = flat.reshape(groups, outputs // groups, taps * channels)
        column = bias.reshape(groups, -1, 1)
        if self.dtype == INT64:
            self.matrix, self.bias = matrix, column
        else:
            self.matrix = (matrix * self.finish.scale).astype(self.dtype)
            self.bias = (column * self.finish.scale + self.finish.offset).astype(self.dtype)

    def calls(self, out: Tile, x: Tile) -> list[Call]:
        return [partial(self._fill, out, x)]

    def _fill(self, out: Tile, x: Tile) -> None:
        frames = x.shape[1]
        pixels = x[:-1].reshape(self.pixels * self.groups, self.channels * frames)
        positions, groups, taps = self.rows.shape
        sums = out[:-1].reshape(positions, groups, -1, frames)
        bytes_each = groups * taps * pixels[0].nbytes
        block = min(positions, max(1, self.BUFFER // bytes_each))
        buffer = np.empty((block, groups, taps, self.channels * frames), x.dtype)
        for start in range(0, positions, block):
            end = min(start + block, positions)
            windows = buffer[: end - start]
            np.take(pixels, self.rows[start:end], axis=0, out=windows, mode="clip")
            windows[self.outside[start:end]] = 0
            vectors = windows.reshape(end - start, groups, taps * self.channels, frames)
            part = sums[start:end]
            np.matmul(self.matrix, vectors, out=part)
            part += self.bias
            if self.dtype == INT64:
                part[:] = self.finish.exact(part)
                continue
            for call in self.finish.calls(part):
                call()


class MaximumKernel:
    """The largest number of every window of a frame, channel by channel.

    Parameters
    ----------
    places : ints, shape (positions, taps): the pixel that each tap of each window meets, -1 where
        that lies outside the frame; every window meets one
    pixels : of a frame
    channels : of a pixel
    number : Format of the numbers
    """

    def __init__(self, places: Ints, pixels: int, channels: int, number: Format):
        first = places[np.arange(len(places)), (places >= 0).argmax(axis=1)]
        self.places = np.where(places < 0, first[:, None], places)  # once more what is seen anyway
        self.dtype = float_dtype(max(-number.min, number.max)) or INT64
        self.channels = channels
        self.sizes, self.size = (pixels * channels,), len(places) * channels

    def calls(self, out: Tile, x: Tile) -> list[Call]:
        return [partial(self._fill, out, x)]

    def _fill(self, out: Tile, x: Tile) -> None:
        row = self.channels * x.shape[1]
        pixels, y = x[:-1].reshape(-1, row), out[:-1].reshape(-1, row)
        np.take(pixels, self.places[:, 0], axis=0, out=y, mode="clip")
        seen = np.empty_like(y)
        for tap in self.places.T[1:]:
            np.take(pixels, tap, axis=0, out=seen, mode="clip")
            np.maximum(y, seen, out=y)


class SumKernel:
    """``y = narrow(sum of weight * x)``, element by element, over one or more terms.

    Identity is one term of weight 1, Add two of them; with ``rectify`` the sum is max(sum, 0).
    Raises ValueError where a sum can exceed 63 bits, starting with ``name``.

    Parameters
    ----------
    size : elements per frame
    formats : Format of each x
    weights : ints, for each x: one for all elements, or an array of shape (channels,) that is
        repeated along the frame; 1 by default
    weight_fracs : fraction bits of each weight; 0 by default
    """

    def __init__(
        self,
        size: int,
        formats: tuple[Format, ...],
        output_format: Format,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.SAT,
        weights: tuple[ArrayLike, ...] | None = None,
        weight_fracs: tuple[int, ...] | None = None,
        rectify: bool = False,
        name: str = "SumKernel",
    ):
        weights = weights or (1,) * len(formats)
        weight_fracs = weight_fracs or (0,) * len(formats)
        fracs = [f.frac + w for f, w in zip(formats, weight_fracs, strict=True)]
        frac = max(fracs)
        low = high = magnitude = 0
        self.factors: list[Any] = []
        for weight, format, have in zip(weights, formats, fracs, strict=True):
            column = to_ints(weight, f"{name} weight").reshape(-1, 1)
            shift = frac - have
            least, most = dot_bounds(column, format, name)
            low += int(least.min()) << shift
            high += int(most.max()) << shift
            magnitude += dot_magnitude(column, format) << shift
            self.factors.append((column, min(shift, 63)))  # more leaves bounds only if all are 0
        accumulator_format(low, high, frac, name)
        drop = frac - output_format.frac
        self.finish = Finish(low, high, magnitude, drop, output_format, rounding, overflow, rectify)
        self.dtype = self.finish.dtype
        self.sizes, self.size = (size,) * len(formats), size
        if self.dtype == INT64:
            self.factors = [column << shift for column, shift in self.factors]
        else:
            scaled = [(column << s) * self.finish.scale for column, s in self.factors]
            self.factors = [column.astype(self.dtype) for column in scaled]
        self.factors = [f.item() if f.size == 1 else f for f in self.factors]

    def calls(self, out: Tile, *tiles: Tile) -> list[Call]:
        y = out[:-1]
        calls: list[Call] = []
        for index, (factor, tile) in enumerate(zip(self.factors, tiles, strict=True)):
            x, term = tile[:-1], np.empty_like(y) if index else y
            if isinstance(factor, np.ndarray):
                shape = self.size // factor.size, factor.size, -1
                parts = x.reshape(shape), factor, term.reshape(shape)
                calls.append(partial(np.multiply, *parts))
            elif factor != 1:
                calls.append(partial(np.multiply, x, _number(factor, y), term))
            elif index == 0:
                calls.append(partial(np.copyto, y, x))
            else:
                term = x
            if index:
                calls.append(partial(np.add, y, term, y))
        return [*calls, *self.finish.calls_on(y)]


class ProductKernel:
    """``y = narrow(w * x)`` of two tiles; ``w`` has as many elements as x or its channels, or one.

    Raises ValueError where a product can exceed 63 bits, starting with ``name``.

    Parameters
    ----------
    size, channels : elements per frame of x and of w
    """

    def __init__(
        self,
        size: int,
        channels: int,
        input_format: Format,
        weight_format: Format,
        output_format: Format,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.SAT,
        name: str = "ProductKernel",
    ):
        if size % channels:
            raise ValueError(f"{name} channels must divide {size}, not be {channels}")
        a, b = input_format, weight_format
        corners = [x * y for x in (a.min, a.max) for y in (b.min, b.max)]
        low, high, frac = min(corners), max(corners), a.frac + b.frac
        accumulator_format(low, high, frac, name)
        magnitude = max(*map(abs, corners), a.max, -a.min, b.max, -b.min)
        drop = frac - output_format.frac
        self.finish = Finish(low, high, magnitude, drop, output_format, rounding, overflow)
        self.dtype = self.finish.dtype
        self.sizes, self.size = (size, channels), size

    def calls(self, out: Tile, x: Tile, w: Tile) -> list[Call]:
        y = out[:-1]
        channels = self.sizes[1]
        shape = (self.size // channels, channels, -1) if channels < self.size else y.shape
        calls: list[Call] = [partial(np.multiply, x[:-1].reshape(shape), w[:-1], y.reshape(shape))]
        if self.dtype != INT64 and self.finish.scale != 1.0:
            calls.append(partial(np.multiply, y, _number(self.finish.scale, y), y))
        return [*calls, *self.finish.calls_on(y)]


class MoveKernel:
    """``y = x[index]`` on the elements of all tiles, one tile behind the other.

    Parameters
    ----------
    index : ints, any shape, raveled; -1 for ``fill``
    sizes : elements per frame of each tile
    format : of all numbers
    fill : int in ``format``
    """

    def __init__(self, index: Ints, sizes: tuple[int, ...], format: Format, fill: int = 0):
        self.index, self.sizes, self.size = index.ravel(), sizes, index.size
        self.filled, self.fill = np.flatnonzero(self.index < 0), fill
        steps = set(np.diff(self.index).tolist())
        self.steady = len(steps) == 1 and min(steps) > 0 and self.index[0] >= 0
        wide = (dtype for dtype, bits in FLOAT_BITS.items() if format.width <= bits)
        self.dtype: np.dtype[Any] = next(wide, INT64)

    def calls(self, out: Tile, *tiles: Tile) -> list[Call]:
        y = out[:-1]
        if self.steady and len(tiles) == 1:
            step = int(self.index[1] - self.index[0])
            x = tiles[0][self.index[0] : self.index[-1] + 1 : step]
            return [partial(np.copyto, y, x)]
        if self.steady and self.size == sum(self.sizes):
            return [partial(np.concatenate, [tile[:-1] for tile in tiles], out=y)]
        return [partial(self._fill, out, tiles)]

    def _fill(self, out: Tile, tiles: tuple[Tile, ...]) -> None:
        x = tiles[0] if len(tiles) == 1 else np.concatenate([tile[:-1] for tile in tiles])
        np.take(x, self.index, axis=0, out=out[:-1], mode="wrap")
        out[self.filled] = self.fill


class TableKernel:
    """``y = table[x]``, a look-up of every number.

    Parameters
    ----------
    table : ints, of every code of ``input_format`` from the lowest
    size : elements per frame
    """

    def __init__(self, table: Ints, input_format: Format, output_format: Format, size: int):
        width = max(input_format.width, output_format.width)
        self.dtype = next((dtype for dtype, bits in FLOAT_BITS.items() if width <= bits), INT64)
        self.table, self.least = table.astype(self.dtype), input_format.min
        self.sizes, self.size = (size,), size

    def calls(self, out: Tile, x: Tile) -> list[Call]:
        from .lookup import look_up  # imports a compiler

        return [partial(look_up, out[:-1], self.table, x[:-1], self.least)]


class PlainKernel:
    """A reference as it is, on int64 tiles, a frame at a time: for what floats do no quicker.

    Parameters
    ----------
    function : arrays of ints of shape (frames, *shape), one for each shape -> an array likewise
    shapes : of one frame of each input; the last axis of a tile is the batch
    size : elements per frame of the result
    """

    dtype = INT64

    def __init__(
        self, function: Callable[..., Ints], shapes: tuple[tuple[int, ...], ...], size: int
    ):
        self.function, self.shapes = function, shapes
        self.sizes, self.size = tuple(prod(shape) for shape in shapes), size

    def calls(self, out: Tile, *tiles: Tile) -> list[Call]:
        return [partial(self._fill, out, tiles)]

    def _fill(self, out: Tile, tiles: tuple[Tile, ...]) -> None:
        frames = [
            tile[:-1].T.reshape(-1, *shape) for tile, shape in zip(tiles, self.shapes, strict=True)
        ]
        out[:-1] = self.function(*frames).reshape(-1, self.size).T
