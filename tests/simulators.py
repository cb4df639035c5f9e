# SPDX-License-Identifier: Apache-2.0
"""Icarus Verilog is optional: what needs it skips without it."""

import pytest

from sim import has_icarus

ABSENT = "Icarus Verilog is not installed"
needs_icarus = pytest.mark.skipif(not has_icarus(), reason=ABSENT)


def icarus_needed() -> None:
    """Skip the running test without Icarus."""
    if not has_icarus():
        pytest.skip(ABSENT)
