# SPDX-License-Identifier: Apache-2.0
"""Material that is too large for this repository; some tests and benchmarks need it."""

from pathlib import Path

_ABOVE = Path(__file__).parents[2:4]
"""Beside this checkout, or beside the folder that holds it and other work trees."""
SHARED = next(
    (path for path in (folder / "shared" / "data" for folder in _ABOVE) if path.is_dir()),
    _ABOVE[0] / "shared" / "data",
)
NETWORKS = SHARED / "hls4ml_example_models" / "onnx"
"""Published networks."""
GOLDEN_CASTS = SHARED / "oracle_ap_fixed" / "golden_casts.csv.gz"
"""Casts made by AMD's own ap_fixed headers."""
