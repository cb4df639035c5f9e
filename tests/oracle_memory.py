# SPDX-License-Identifier: Apache-2.0
"""An independent statement of a memory: a dictionary of words, step by step."""

import numpy as np
from oracle_numbers import statement

from blocks import Memory
from quant import Ints


@statement(Memory)
def _memory(block: Memory, to: Ints, words: Ints, of: Ints) -> Ints:
    y = []
    for frame in range(len(to)):
        table = {place: block.initial[place].tolist() for place in np.ndindex(*block.sizes)}
        for step in range(block.steps):
            for head, address in enumerate(to[frame, step].tolist()):
                if tuple(address) in table:
                    table[tuple(address)] = words[frame, step, head].tolist()
            none = [0] * block.width
            y += [table.get(tuple(address), none) for address in of[frame, step].tolist()]
    return np.array(y).reshape(len(to), block.steps, block.reads, block.width)
