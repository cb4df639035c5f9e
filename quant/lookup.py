# SPDX-License-Identifier: Apache-2.0
"""Looking up numbers in a table, compiled: six times as fast as indexing by an array.

Apart from :mod:`quant.kernels`, which imports it at the first look-up, because importing a compiler
takes its time.
"""

from .compiled import compiled


@compiled
def look_up(out, table, x, least):
    """``out = table[x - least]``, of two-dimensional arrays."""
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            out[row, column] = table[int(x[row, column]) - least]
