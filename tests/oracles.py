# SPDX-License-Identifier: Apache-2.0
"""Independent statements of what every block computes; one file for each family of blocks."""

from typing import Any

import oracle_activations  # noqa: F401 - enters its statements
import oracle_basic  # noqa: F401 - enters its statements
import oracle_division  # noqa: F401
import oracle_memory  # noqa: F401 - enters its statements
import oracle_movement  # noqa: F401 - enters its statements
import oracle_nonlinearity  # noqa: F401
import oracle_recur  # noqa: F401 - enters its statements
import oracle_window  # noqa: F401
from oracle_numbers import STATEMENTS

from quant import Ints


def exact(block: Any, *frames: Ints) -> tuple[Any, ...]:
    """The outputs of a block for frames of integers, each of shape (batch, *shape)."""
    results = STATEMENTS[type(block)](block, *frames)
    return results if isinstance(results, tuple) else (results,)
