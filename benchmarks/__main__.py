# SPDX-License-Identifier: Apache-2.0
"""Run every benchmark, one after the other; the status is 1 where a figure is not met.

Each is a module of this folder with a ``main`` that prints a table and returns its status.
"""

import subprocess
import sys
import time
from pathlib import Path

LEFT_OUT = ("__main__", "calibrate")
"""Modules that measure nothing that the project promises."""


def main() -> int:
    """Run them in processes of their own, so that none slows the next one."""
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in LEFT_OUT)
    failed = []
    for name in (name for name in names if not name.startswith("_")):
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if subprocess.run(command, cwd=folder.parent, check=False).returncode:
            failed.append(name)
        print(f"{time.perf_counter() - began:.1f} s", flush=True)
    print(f"\nNot met: {', '.join(failed)}" if failed else "\nEvery figure is met.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
