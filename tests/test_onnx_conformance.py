# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests of single nodes: each gives the published result, or is refused by name."""

import itertools
import warnings

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_models import outputs_of, saved

from bitblocks import InputError, import_onnx
from bitblocks.operators import OPERATORS

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
COMPLETE = (
    "Add AveragePool BatchNormalization Conv ConvTranspose DepthToSpace Flatten GlobalAveragePool "
    "GlobalMaxPool Identity MaxPool Relu SpaceToDepth Transpose"
).split()
"""Operators whose every case passes, but for those in REFUSED."""
REFUSED = {
    "test_batchnorm_epsilon_training_mode",
    "test_batchnorm_example_training_mode",
    "test_flatten_axis0",
    "test_flatten_axis2",
    "test_flatten_axis3",
    "test_flatten_negative_axis1",
    "test_flatten_negative_axis2",
    "test_flatten_negative_axis4",
    "test_maxpool_with_argmax_2d_precomputed_pads",
    "test_maxpool_with_argmax_2d_precomputed_strides",
    "test_transpose_all_permutations_2",
    "test_transpose_all_permutations_3",
    "test_transpose_all_permutations_4",
    "test_transpose_all_permutations_5",
    "test_transpose_default",
}
"""Cases of them that are refused: they train, mix frames, or give what no stream carries."""


def as_network(case, all_frames):
    """The case with its first input, or with all, as frames, the rest as constants."""
    model = ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    frames = {}
    for port, value in zip(model.graph.input, inputs, strict=True):
        if all_frames or not frames:
            frames[port.name] = value
        elif isinstance(value, np.ndarray | np.generic):
            array = numpy_helper.from_array(np.asarray(value), port.name)
            model.graph.initializer.append(array)
    return model, frames, outputs[0]


@pytest.fixture(scope="module")
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [
            case
            for case in collect_testcases(None)
            if case.data_sets and case.model.graph.input and "expanded" not in case.name
        ]


@pytest.mark.slow
def test_published_cases_are_exact_or_refused(cases, tmp_path):
    passed, refused = set(), {}
    for case, all_frames in itertools.product(cases, (False, True)):
        model, frames, want = as_network(case, all_frames)
        types = {port.type.tensor_type.elem_type for port in model.graph.input[: len(frames)]}
        try:
            graph = import_onnx(saved(model, tmp_path))
        except InputError as error:
            refused[case.name] = str(error)
            continue
        assert types.issubset(FLOATS)
        frames = {port.name: frames[port.name].astype(float) for port in graph.inputs}
        (have,) = list(outputs_of(graph, frames).values())[:1]
        assert have.shape == want.shape, case.name
        rtol, atol = (1e-2, 1e-3) if TensorProto.BFLOAT16 in types else (1e-3, 1e-5)
        np.testing.assert_allclose(have, want.astype(float), rtol, atol, err_msg=case.name)
        passed.add(case.name)
    names = {
        case.name
        for case in cases
        if {node.op_type for node in case.model.graph.node}.issubset(COMPLETE)
        and case.model.graph.input[0].type.tensor_type.elem_type in FLOATS
    }
    assert all(len(message) < 500 for message in refused.values())
    assert names - passed == REFUSED
    through = [case for case in cases if case.name in passed]
    reached = {node.op_type for case in through for node in case.model.graph.node}
    known = {name for domain, name in OPERATORS if not domain}
    no_frames, no_batch = (
        {"Constant", "Shape", "Size"},
        {"Expand", "Max", "Min", "Mish", "Sum", "Tile"},
    )
    more_outputs = {"LayerNormalization"}  # every case wants the mean and the deviation as well
    assert known - reached == no_frames | no_batch | more_outputs
