# SPDX-License-Identifier: Apache-2.0
"""Every layer of the float graph: its mathematics, and how it becomes integers."""

from .dense import Linear
from .elementwise import Add, Identity, Relu, Scale
from .movement import Reshape, Transpose

__all__ = ["Add", "Identity", "Linear", "Relu", "Reshape", "Scale", "Transpose"]
