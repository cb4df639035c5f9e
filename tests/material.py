# SPDX-License-Identifier: Apache-2.0
"""Material that is too large for this repository; some tests and benchmarks need it."""

from examples.networks import PUBLISHED as NETWORKS
from examples.networks import SHARED

__all__ = ["GOLDEN_CASTS", "NETWORKS", "SHARED"]

GOLDEN_CASTS = SHARED / "oracle_ap_fixed" / "golden_casts.csv.gz"
"""Casts made by AMD's own ap_fixed headers."""
