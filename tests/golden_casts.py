# SPDX-License-Identifier: Apache-2.0
"""Casts made by AMD's own ap_fixed headers."""

import csv
import gzip
from collections import defaultdict

import numpy as np
from material import GOLDEN_CASTS

from quant import Format, narrow


def compare_golden() -> tuple[int, int]:
    """Repeat every golden cast with narrow: (casts, differences)."""
    groups = defaultdict(list)
    with gzip.open(GOLDEN_CASTS, "rt") as file:
        _, *rows = csv.reader(file)
    for rounding, overflow, *numbers in rows:
        source_width, width, integer_bits, raw, wanted = map(int, numbers)
        source, target = (
            Format(source_width, source_width - 10),
            Format(width, width - integer_bits),
        )
        modes = rounding.removeprefix("AP_"), overflow.removeprefix("AP_")
        groups[source, target, *modes].append((raw, wanted))
    differences = 0
    for key, pairs in groups.items():
        raws, wanted = np.array(pairs).T
        differences += int(np.count_nonzero(narrow(raws, *key) != wanted))
    return len(rows), differences
