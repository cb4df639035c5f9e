# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of docs that are made from what the code declares.

python -m bitblocks.documentation [page ...]
"""

import sys
from pathlib import Path

from bitblocks.documentation import functions
from bitblocks.operators import documentation as onnx

PAGES = {"functions.md": functions.page, "onnx.md": onnx.page}

if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        Path("docs", name).write_text(PAGES[name](), encoding="utf-8", newline="\n")
