# SPDX-License-Identifier: Apache-2.0
"""Expecting a refusal by its whole text."""

import re
from typing import Any

import pytest


def refused(error: type[Exception], message: str) -> Any:
    """Context in which exactly this error, with exactly this message, must be raised."""
    return pytest.raises(error, match=f"^{re.escape(message)}$")
