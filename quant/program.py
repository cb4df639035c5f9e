# SPDX-License-Identifier: Apache-2.0
"""Runs a graph of kernels over a batch, tile by tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .format import Format, Ints
from .kernels import Call, Kernel, Tile
from .matmul import FLOAT_BITS

TILE_BYTES = 1 << 21
"""Most that the tiles of one step take together, so that they stay in the caches."""


@dataclass(frozen=True)
class ProgramInput:
    """One input of a program: ``size`` elements per frame, in ``format``."""

    name: str
    size: int
    format: Format


@dataclass(frozen=True)
class Step:
    """One kernel of a program, applied to the tensors numbered ``sources``."""

    kernel: Kernel
    sources: tuple[int, ...]


class Program:
    """Kernels in topological order, as one exact function of a batch of integers.

    Tensors are numbered: first the inputs, then the result of each step. Raises ValueError where
    a step's sources do not exist yet or have the wrong size.

    Parameters
    ----------
    inputs : sequence of ProgramInput
    steps : sequence of Step
    outputs : numbers of the tensors to return
    """

    def __init__(
        self,
        inputs: tuple[ProgramInput, ...],
        steps: tuple[Step, ...],
        outputs: tuple[int, ...],
    ):
        self.inputs, self.steps, self.outputs = tuple(inputs), tuple(steps), tuple(outputs)
        self.sizes = [port.size for port in self.inputs]
        for number, step in enumerate(self.steps):
            for source, size in zip(step.sources, step.kernel.sizes, strict=True):
                if not 0 <= source < len(self.sizes):
                    raise ValueError(
                        f"Program step {number} must use earlier tensors, not {source}"
                    )
                if self.sizes[source] != size:
                    raise ValueError(
                        f"Program step {number} must use {size} elements, not {self.sizes[source]}"
                    )
            self.sizes.append(step.kernel.size)
        if not all(0 <= output < len(self.sizes) for output in self.outputs):
            raise ValueError(
                f"Program outputs must be tensors below {len(self.sizes)}, not {self.outputs}"
            )
        per_frame = [
            (sum(step.kernel.sizes) + step.kernel.size) * step.kernel.dtype.itemsize
            for step in self.steps
        ]
        frames = TILE_BYTES // max(per_frame, default=8)
        self._idle: list[_Run] = []
        self.tile = 1 << (min(max(frames, 16), 2048).bit_length() - 1)

    def __call__(self, *arrays: ArrayLike) -> tuple[Ints, ...]:
        """Integers in, one array (frames, size) per input; integers out, one per output.

        Refuses values outside the input's format.
        """
        checked = [self._check(x, port) for x, port in zip(arrays, self.inputs, strict=True)]
        counts = {len(x) for x in checked}
        if len(counts) > 1:
            raise ValueError(f"Program inputs must have equally many frames, not {sorted(counts)}")
        frames = counts.pop() if counts else 0
        results = tuple(np.empty((frames, self.sizes[n]), np.int64) for n in self.outputs)
        first = run = self._run(min(self.tile, frames))
        for start in range(0, frames, self.tile):
            count = min(self.tile, frames - start)
            run = run if run.frames == count else _Run(self, count)
            run(checked, start)
            for result, number in zip(results, self.outputs, strict=True):
                np.copyto(result[start : start + count], run.result(number).T, casting="unsafe")
        self._idle = [first]
        return results

    def _run(self, frames: int) -> "_Run":
        """Tiles for ``frames``: those of the last batch, still in the caches, or new ones."""
        try:
            run = self._idle.pop()  # in one step, so that no two threads share tiles
        except IndexError:
            return _Run(self, frames)
        return run if run.frames == frames else _Run(self, frames)

    def _check(self, x: ArrayLike, port: ProgramInput) -> np.ndarray:
        """``x`` as an array of the right shape and kind; its values are checked tile by tile."""
        array = np.asarray(x)
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{port.name} must be integers, not {array.dtype}")
        if array.ndim != 2 or array.shape[1] != port.size:
            raise ValueError(
                f"{port.name} must have shape (frames, {port.size}), not {array.shape}"
            )
        return array


class _Run:
    """The tiles of a program for a number of frames, and the calls that fill them in turn."""

    def __init__(self, program: Program, frames: int):
        self.program, self.frames = program, frames
        self.tiles: dict[tuple[int, np.dtype[Any]], Tile] = {}
        inputs = len(program.inputs)
        self.native = [np.dtype(np.int64)] * inputs + [s.kernel.dtype for s in program.steps]
        self.sizes = program.sizes
        self.loads: list[tuple[int, Tile]] = []
        self.calls: list[Call] = []
        for number, step in enumerate(program.steps, inputs):
            dtype = step.kernel.dtype
            sources = tuple(self._tile(source, dtype, inputs) for source in step.sources)
            self.calls += step.kernel.calls(self._new(number, dtype), *sources)
        for number in program.outputs:
            self._tile(number, self.native[number], inputs)

    def __call__(self, arrays: list[np.ndarray], start: int) -> None:
        """Fill the tiles from the frames beginning at ``start``."""
        for number, tile in self.loads:
            port, x = self.program.inputs[number], tile[:-1]
            part = arrays[number][start : start + self.frames]
            np.copyto(x, part.T, casting="unsafe")
            if port.format.width > FLOAT_BITS.get(tile.dtype, 0):
                x = part  # in the tile a small excess could be rounded off, or a large one wrap
            if not (port.format.min <= x.min() and x.max() <= port.format.max):
                port.format.check(arrays[number], port.name)
        self.act()

    def act(self) -> None:
        """Fill all tiles but those of the inputs."""
        for call in self.calls:
            call()

    def result(self, number: int) -> Tile:
        """The numbers of a tensor."""
        return self.tiles[number, self.native[number]][:-1]

    def entries(self, number: int) -> list[Tile]:
        """Where the numbers of an input go, whose values are not checked."""
        return [tile[:-1] for n, tile in self.loads if n == number]

    def _new(self, number: int, dtype: np.dtype[Any]) -> Tile:
        tile = np.empty((self.sizes[number] + 1, self.frames), dtype)
        tile[-1] = 1
        self.tiles[number, dtype] = tile
        return tile

    def _tile(self, number: int, dtype: np.dtype[Any], inputs: int) -> Tile:
        """The tile of a tensor in ``dtype``, loaded or converted if it is not there yet."""
        if (number, dtype) not in self.tiles:
            tile = self._new(number, dtype)
            if number < inputs:
                self.loads.append((number, tile))
            else:
                self.calls.append(_copy(tile, self.tiles[number, self.native[number]]))
        return self.tiles[number, dtype]


def _copy(to: Tile, of: Tile) -> Call:
    return partial(np.copyto, to, of, casting="unsafe")


class LoopKernel:
    """A program over the steps of a frame, whose first outputs are its last inputs a step later.

    It takes x of all steps, and of each state that has no initial value here one; it fills a tile
    with the chosen outputs of all steps, one behind the other, and those of the last step.

    Parameters
    ----------
    program : of (x, states) giving (states, other results)
    steps, streams : of a frame, which holds x of every stream for every step
    initial : for each state ints, shape (elements,), or None
    sequences, finals : numbers of the outputs that are given for every step, and after the last
    kept : whether the states live on in a :class:`Session`; a further input is then a mark, other
        than 0 where they become the initial ones before the frame
    """

    def __init__(
        self,
        program: Program,
        steps: int,
        streams: int,
        initial: tuple[Ints | None, ...],
        formats: tuple[Format, ...],
        sequences: tuple[int, ...],
        finals: tuple[int, ...],
        kept: bool = False,
    ):
        self.kept = kept
        self.program, self.steps, self.streams = program, steps, streams
        self.initial, self.sequences, self.finals = initial, sequences, finals
        inputs = [port.size for port in program.inputs]
        given = [size for size, i in zip(inputs[1:], initial, strict=True) if i is None]
        self.sizes = (steps * streams * inputs[0], *(streams * size for size in given))
        if kept:
            self.sizes = (*self.sizes, 1)
        each = [streams * program.sizes[program.outputs[n]] for n in (*sequences, *finals)]
        times = [steps] * len(sequences) + [1] * len(finals)
        ends = np.cumsum([size * count for size, count in zip(each, times, strict=True)])
        self.parts = [slice(end - s * t, end) for end, s, t in zip(ends, each, times, strict=True)]
        self.size = int(ends[-1])
        width = max(f.width for f in (*(port.format for port in program.inputs), *formats))
        wide = (dtype for dtype, bits in FLOAT_BITS.items() if width <= bits)
        self.dtype: np.dtype[Any] = next(wide, np.dtype(np.int64))

    def calls(self, out: Tile, *tiles: Tile) -> list[Call]:
        """What begins with the initial states, then takes all steps."""
        if self.kept:
            raise ValueError("LoopKernel states must be those of a Session where they are kept")
        loop, own = _Loop(self, out, tiles[0]), iter(tiles[1:])
        given = [None if first is not None else next(own)[:-1] for first in self.initial]
        return [*loop.begin(given), *loop.calls]


class _Loop:
    """The steps of a loop bound to tiles; the states stay where the program takes them from.

    Members
    -------
    calls : what takes all steps, from the states that are there
    """

    def __init__(self, kernel: LoopKernel, out: Tile, x: Tile):
        self.kernel, self.frames = kernel, out.shape[1]
        self.run = run = _Run(kernel.program, kernel.streams * self.frames)
        steps, program = kernel.steps, kernel.program
        rows = x[:-1].reshape(steps, -1, self.frames)
        results = [run.result(number) for number in program.outputs]
        states = range(len(kernel.initial))
        spare = {n: np.empty_like(results[n]) for n in states if program.outputs[n] <= len(states)}
        back = [_copy(spare[n], results[n]) for n in spare]  # an input that others overwrite
        for n in states:
            back += [_copy(tile, spare.get(n, results[n])) for tile in run.entries(n + 1)]
        sequences = list(zip(kernel.sequences, kernel.parts, strict=False))
        finals = zip(kernel.finals, kernel.parts[len(sequences) :], strict=True)
        self.calls: list[Call] = []
        for step in range(steps):
            self.calls += [
                _copy(self._of_streams(t), self._of_frames(rows[step])) for t in run.entries(0)
            ]
            self.calls += run.calls if steps == 1 else [run.act]
            for number, part in sequences:
                y = out[part].reshape(steps, -1, self.frames)
                self.calls.append(
                    _copy(self._of_frames(y[step]), self._of_streams(results[number]))
                )
            if step == steps - 1:
                for number, part in finals:
                    self.calls.append(
                        _copy(self._of_frames(out[part]), self._of_streams(results[number]))
                    )
            self.calls += back

    def begin(self, given: Sequence[Tile | None]) -> list[Call]:
        """What sets the states to the initial ones."""
        calls = []
        for n, (first, own) in enumerate(zip(self.kernel.initial, given, strict=True), 1):
            for tile in self.run.entries(n):
                if own is not None:
                    calls.append(_copy(self._of_streams(tile), self._of_frames(own)))
                else:
                    assert first is not None
                    calls.append(_copy(tile, first[:, None]))
        return calls

    def _of_frames(self, rows: Tile) -> Tile:
        """What a frame has of all streams one behind the other, shape (elements, streams, ...)."""
        return rows.reshape(self.kernel.streams, -1, self.frames).swapaxes(0, 1)

    def _of_streams(self, tile: Tile) -> Tile:
        """What the program has of all streams side by side, in the same shape."""
        return tile.reshape(-1, self.kernel.streams, self.frames)


class _Living:
    """A loop of one frame at a time, whose states are those after the frame before."""

    def __init__(self, kernel: LoopKernel):
        self.kernel, self.dtype = kernel, kernel.dtype
        self.sizes, self.size = kernel.sizes, kernel.size
        self.begin: list[Call] = []

    def calls(self, out: Tile, x: Tile, marks: Tile) -> list[Call]:
        loop = _Loop(self.kernel, out, x)
        self.begin = begin = loop.begin([None] * len(self.kernel.initial))

        def renew() -> None:
            if marks[0, 0]:
                for call in begin:
                    call()

        return [renew, *loop.calls]


class Session:
    """Successive frames through a program, in whose loops the state lives on from frame to frame.

    Parameters
    ----------
    program : whose loops have constant initial states
    """

    def __init__(self, program: Program):
        steps, loops = [], list[_Living]()
        for step in program.steps:
            if isinstance(step.kernel, LoopKernel) and step.kernel.kept:
                loops.append(_Living(step.kernel))
                step = Step(loops[-1], step.sources)
            steps.append(step)
        run = _Run(Program(program.inputs, tuple(steps), program.outputs), 1)
        self._calls, self._begin = run.calls, [call for loop in loops for call in loop.begin]
        self._entries = [
            (port, [tile[:, 0] for tile in run.entries(n)], port.format.min, port.format.max)
            for n, port in enumerate(program.inputs)
        ]
        self._results = [run.result(n)[:, 0] for n in program.outputs]
        self.reset()

    def step(self, *frames: np.ndarray) -> list[Ints]:
        """The next frame: ints of shape (size,) for each input, and as many for each output."""
        for frame, (port, tiles, least, most) in zip(frames, self._entries, strict=True):
            if frame.dtype.kind not in "iu" or not (
                least <= np.minimum.reduce(frame) and np.maximum.reduce(frame) <= most
            ):
                port.format.check(frame, port.name)
            for tile in tiles:
                np.copyto(tile, frame, casting="unsafe")
        for call in self._calls:
            call()
        return [result.astype(np.int64) for result in self._results]

    def reset(self) -> None:
        """Before the next frame all states are the initial ones."""
        for call in self._begin:
            call()
