# SPDX-License-Identifier: Apache-2.0
"""Models without a batch: a frame is all of an input, and operators may mix what lies on axis 0."""

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import model_of, outputs_of, saved, seeded
from refusal import refused

from bitblocks import InputError, build, import_onnx
from quant import Format

node = helper.make_node
W, C = seeded(3, 5, seed=1), seeded(4, 5, seed=2)
MODELS = {
    "Gemm of a transposed matrix, and a matrix added": (
        [node("Gemm", ["x", "w", "c"], ["y"], transA=1, alpha=0.5, beta=2.0)],
        {"w": W, "c": C},
    ),
    "Flatten from axis 0": ([node("Flatten", ["x"], ["y"], axis=0)], {}),
    "Flatten behind all axes": ([node("Flatten", ["x"], ["y"], axis=2)], {}),
    "Flatten after a transpose": (
        [node("Transpose", ["x"], ["t"]), node("Flatten", ["t"], ["y"], axis=0)],
        {},
    ),
    "a matrix added between": (
        [node("Relu", ["x"], ["r"]), node("Add", ["r", "k"], ["y"])],
        {"k": seeded(3, 4, seed=3)},
    ),
}


def whole_model(nodes, constants):
    """Of one input of shape (3, 4)."""
    return model_of(nodes, {"x": (4,)}, ["y"], constants, batch=3)


@pytest.mark.parametrize("case", MODELS)
def test_a_frame_is_all_of_an_input(tmp_path, case):
    model, x = whole_model(*MODELS[case]), seeded(6, 3, 4)
    graph = import_onnx(saved(model, tmp_path), batch=False)
    evaluator = ReferenceEvaluator(model)
    want = np.stack([evaluator.run(None, {"x": frame})[0] for frame in x])
    assert graph.outputs[0].shape == want.shape[1:]
    np.testing.assert_allclose(outputs_of(graph, {"x": x})["y"], want, rtol=1e-5, atol=1e-6)


def test_the_whole_is_built(tmp_path):
    nodes, constants = MODELS["Gemm of a transposed matrix, and a matrix added"]
    x = seeded(20, 3, 4)
    path = saved(whole_model(nodes, constants), tmp_path)
    formats = {"input_format": Format(16, 12), "weight_bits": 16, "activation_bits": 16}
    project = build(path, tmp_path / "built", calibration=x, batch=False, **formats).project
    have = project.run(x)
    want = 0.5 * x.transpose(0, 2, 1) @ W + 2 * C
    assert have.shape == want.shape
    assert np.abs(have - want).max() < 0.01


SENTENCES = {
    "an operator that knows the batch": (
        [node("GlobalAveragePool", ["x"], ["y"])],
        3,
        "GlobalAveragePool node that gives 'y' is not supported without a batch",
    ),
    "an open length": (
        [node("Relu", ["x"], ["y"])],
        "N",
        "input 'x' must have fixed lengths without a batch, not [?, 4]",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_needs_a_batch_is_refused(tmp_path, case):
    nodes, batch, sentence = SENTENCES[case]
    path = saved(model_of(nodes, {"x": (4,)}, ["y"], batch=batch), tmp_path)
    with refused(InputError, sentence):
        import_onnx(path, batch=False)
