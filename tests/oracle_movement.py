# SPDX-License-Identifier: Apache-2.0
"""Independent statements of the blocks that only move numbers."""

import itertools

import numpy as np
from oracle_numbers import statement

from blocks import Concat, Deinterleave, Embedding, Rearrange
from quant import Ints


@statement(Rearrange)
def _rearrange(block: Rearrange, x: Ints) -> Ints:
    y = np.empty((len(x), *block.index.shape), np.int64)
    for frame, values in enumerate(x):
        numbers = values.ravel().tolist()
        for place in itertools.product(*map(range, block.index.shape)):
            source = int(block.index[place])
            y[(frame, *place)] = numbers[source] if source >= 0 else block.fill
    return y


@statement(Concat)
def _concat(block: Concat, *frames: Ints) -> Ints:
    y = np.empty((len(frames[0]), *block.outputs["o"].shape), np.int64)
    for frame in range(len(y)):
        start = 0
        for values in frames:
            shape = values.shape[1:]
            for place in itertools.product(*map(range, shape)):
                target = [n + start if a == block.axis else n for a, n in enumerate(place)]
                y[(frame, *target)] = values[(frame, *place)]
            start += shape[block.axis]
    return y


@statement(Embedding)
def _embedding(block: Embedding, x: Ints) -> Ints:
    rows = [block.table[code].tolist() for code in x.ravel().tolist()]
    return np.array(rows).reshape(*x.shape, -1)


@statement(Deinterleave)
def _deinterleave(block: Deinterleave, x: Ints) -> tuple[Ints, ...]:
    rows = x.reshape(-1, x.shape[-1]).tolist()
    parts: list[list[int]] = [[] for _ in range(block.parts)]
    for row in rows:
        for place, value in enumerate(row):
            parts[place % block.parts].append(value)
    return tuple(np.array(part).reshape(*x.shape[:-1], -1) for part in parts)
