# SPDX-License-Identifier: Apache-2.0
"""Independent statement of the loop over a cell, step by step and stream by stream."""

from dataclasses import replace

import numpy as np
from oracle_numbers import STATEMENTS, statement

from blocks import Network, Recur
from quant import Ints


@statement(Recur)
def _recur(block: Recur, *frames: Ints) -> tuple[Ints, ...]:
    if block.kept:  # a frame goes on where the one before ended, unless it has a mark
        (x, marks), results = frames, []
        each = (block.streams,) if block.streams > 1 else ()
        ends = [f"{name}_last" for name in block.cell.input_names[1:]]
        names = [*block.sequences, *(f"{name}_last" for name in block.finals)]
        one = replace(block, kept=False, initial=(None,) * len(block.initial))
        one = replace(one, finals=block.cell.output_names)
        initial = [np.broadcast_to(first, (1, *each, *first.shape)) for first in block.initial]
        state = initial
        given = (*one.sequences, *(f"{name}_last" for name in one.finals))
        for frame, (mark,) in zip(x, marks.tolist(), strict=True):
            state = initial if mark else state
            y = dict(zip(given, _recur(one, frame[None], *state), strict=True))
            state = [y[end] for end in ends]
            results.append([y[name] for name in names])
        return tuple(np.concatenate(found) for found in zip(*results, strict=True))
    x, given = frames[0], list(frames[1:])
    if block.streams == 1:
        x, given = x[:, :, None], [values[:, None] for values in given]
    names = block.cell.input_names[1:]
    y: dict[str, list] = {}
    for stream in range(block.streams):
        state = []
        own = iter(given)
        for initial in block.initial:
            if initial is None:
                state.append(next(own)[:, stream])
            else:
                state.append(np.array([initial.tolist()] * len(x)))
        of_steps = []
        for step in range(block.steps):
            results = STATEMENTS[Network](block.cell, x[:, step, stream], *state)
            named = dict(zip(block.cell.output_names, results, strict=True))
            state = [named[name] for name in names]
            of_steps.append(named)
        for name in block.sequences:
            sequence = np.stack([named[name] for named in of_steps], axis=1)
            y.setdefault(name, []).append(sequence)
        for name in block.finals:
            y.setdefault(f"{name}_last", []).append(of_steps[-1][name])
    result = []
    for name, streams in y.items():
        if block.streams == 1:
            result.append(streams[0])
        else:
            result.append(np.stack(streams, axis=1 if name.endswith("_last") else 2))
    return tuple(result)
