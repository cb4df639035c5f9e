# SPDX-License-Identifier: Apache-2.0
"""Compare narrow with ap_fixed's golden casts and, exhaustively, with exact fractions.

Run: python benchmarks/narrow.py
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from golden_casts import compare_golden  # noqa: E402
from material import GOLDEN_CASTS  # noqa: E402
from narrow_oracle import compare, small_formats  # noqa: E402

WIDEST = 6


def main() -> int:
    """Print casts and differences; returns the number of differences."""
    table = Table("narrow against", "casts", "differ")
    total = 0
    if GOLDEN_CASTS.exists():
        casts, differences = compare_golden()
        total += differences
        table.add_row("ap_fixed's golden casts", f"{casts:,}", str(differences))
    else:
        table.add_row("ap_fixed's golden casts", "skipped: data absent", "")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("source formats", total=len(small_formats(WIDEST)))
        casts, differences = compare(WIDEST, advance=lambda: progress.advance(task))
    total += differences
    table.add_row(f"exact fractions, up to {WIDEST} bits", f"{casts:,}", str(differences))
    Console().print(table)
    return total


if __name__ == "__main__":
    sys.exit(int(main() > 0))
