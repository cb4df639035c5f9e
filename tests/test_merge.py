# SPDX-License-Identifier: Apache-2.0
"""Streams that take turns become one, to the cycle."""

import numpy as np
import pytest
from circuit_check import check_circuit

from hdl import Merge, MergeArray
from quant import Format

NUMBER = Format(5, 0)


@pytest.mark.parametrize(
    ("runs", "rounds"),
    [((1, 1), 1), ((1, 1), 4), ((3, 2), 2), ((1, 4), 3), ((2, 1, 3), 2), ((1, 1, 1, 1, 2), 2)],
)
@pytest.mark.parametrize("lanes", [1, 3])
def test_words_come_in_turns_and_every_cycle(runs, rounds, lanes):
    design, frames = Merge(runs, rounds, NUMBER, lanes), 3
    random = np.random.default_rng(len(runs))
    sent = {
        f"i_{n}": random.integers(-16, 16, (frames * rounds * run, lanes)).tolist()
        for n, run in enumerate(runs)
    }
    left, together = {name: iter(words) for name, words in sent.items()}, []
    for _ in range(frames * rounds):
        for n, run in enumerate(runs):
            together += [next(left[f"i_{n}"]) for _ in range(run)]
    cycles = check_circuit(
        lambda: MergeArray(design), sent, {"o": together}, design.events(), frames
    )
    assert cycles["o"] == list(range(1, 1 + len(together)))
