# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models, and what the importer makes of them against onnx's reference evaluator."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bitblocks import InputError, evaluate, import_onnx


def seeded(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_of(nodes, inputs, outputs, constants=None, opset=17, batch="N"):
    """A model; ``inputs`` maps names to frame shapes, ``outputs`` lists tensor names."""
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(model, folder, name="model.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def model_layout(port, frames):
    """Frames in the order of the stream, in the model's own layout."""
    back = np.argsort([0, *(axis + 1 for axis in port.axes)]) if port.axes else (0, 1)
    return frames.transpose(back).reshape(len(frames), *port.shape)


def outputs_of(graph, x):
    """Outputs in the model's own layout, by name."""
    tensors = evaluate(graph, x)
    results = {}
    for port in graph.outputs:
        results[port.name] = model_layout(port, tensors[port.source])
    return results


def assert_equals_onnx(model, folder, inputs, frames=3):
    """The graph gives what onnx's reference evaluator gives; returns the graph."""
    graph = import_onnx(saved(model, folder))
    x = {
        name: seeded(frames, *shape, seed=index)
        for index, (name, shape) in enumerate(inputs.items())
    }
    expected = ReferenceEvaluator(model).run(None, x)
    for port, want in zip(graph.outputs, expected, strict=True):
        have = outputs_of(graph, x)[port.name]
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
    return graph


def refusal(model, folder, cut=None):
    path = model if isinstance(model, Path) else saved(model, folder)
    with pytest.raises(InputError) as caught:
        import_onnx(path, cut)
    return str(caught.value).replace(str(folder), "FOLDER")


def norm(source, target, channels, seed=0, **attributes):
    """A batch normalisation node and its constants."""
    names = [f"{target}.{part}" for part in ("scale", "offset", "mean", "variance")]
    values = [seeded(channels, seed=seed + index) for index in range(4)]
    values[3] = values[3] ** 2 + np.float32(0.1)
    node = helper.make_node("BatchNormalization", [source, *names], [target], **attributes)
    return node, dict(zip(names, values, strict=True))
