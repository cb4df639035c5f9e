# SPDX-License-Identifier: Apache-2.0
"""Yosys in a child process: an error inside its library ends the process that loaded it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# The commands come as arguments; -P keeps the working folder's files from being imported.
_CHILD = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.argv[1:]:
    design.run_pass(command)
"""


class YosysError(RuntimeError):
    """A Yosys command failed; the message ends with Yosys' last words."""


def run(commands: Sequence[str], directory: Path) -> str:
    """Run Yosys ``commands`` one after another in ``directory`` and return what Yosys printed.

    Files are named relative to ``directory``, so that nothing depends on where it lies.

    Raises
    ------
    YosysError : a command failed or the process died
    """
    process = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD, *commands],
        cwd=directory,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if process.returncode:
        words = (process.stdout + process.stderr).strip()
        raise YosysError(f"Yosys must end with status 0, not {process.returncode}: {words[-2000:]}")
    return process.stdout
