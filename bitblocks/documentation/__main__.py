# SPDX-License-Identifier: Apache-2.0
"""Writes the pages that are made from what the code declares: all, or those named.

python -m bitblocks.documentation [docs/blocks.md ...]
"""

import sys
from pathlib import Path

from bitblocks.documentation import blocks, functions
from bitblocks.operators import documentation as onnx

PAGES = {
    "README.md": blocks.readme,  # its table of blocks alone
    "docs/blocks.md": blocks.page,
    "docs/functions.md": functions.page,
    "docs/onnx.md": onnx.page,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        Path(name).write_text(PAGES[name](), encoding="utf-8", newline="\n")
