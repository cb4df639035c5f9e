# SPDX-License-Identifier: Apache-2.0
"""The constants in a TensorFlow Lite file."""

from pathlib import Path

import numpy as np
import tflite
from numpy.typing import NDArray


def constants(path: Path) -> dict[str, NDArray[np.float64]]:
    """Every constant of float32 in a file, by name."""
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    found = {}
    for subgraph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(subgraph.Tensors, range(subgraph.TensorsLength())):
            data = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if tensor.Type() == tflite.TensorType.FLOAT32 and not isinstance(data, int):
                shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
                values = np.frombuffer(data.tobytes(), "<f4").reshape(shape)
                found[tensor.Name().decode()] = values.astype(np.float64)
    return found
