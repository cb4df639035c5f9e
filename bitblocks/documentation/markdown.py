# SPDX-License-Identifier: Apache-2.0
"""Tables of pages, readable as text too."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], aligned: bool = True) -> str:
    """Rows of cells; ``aligned``: every column as wide as its widest cell."""
    lines = [header, ["---"] * len(header), *rows]
    widths = [max(map(len, column)) * aligned for column in zip(*lines, strict=True)]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )
