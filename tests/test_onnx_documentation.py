# SPDX-License-Identifier: Apache-2.0
"""What operators declare: that the page says it, and that it is true of files."""

from pathlib import Path

import pytest
from onnx import helper
from onnx_models import model_of, refusal, seeded

from bitblocks.onnx_model import NEWEST_OPSET, OLDEST_OPSET
from bitblocks.operators import OPERATORS
from bitblocks.operators.documentation import page
from bitblocks.operators.registry import REQUIRED

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"


def test_page_is_what_the_operators_declare():
    """If not: python -m bitblocks.documentation docs/onnx.md"""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=lambda operator: operator.name)
def test_declared_attributes_are_those_of_some_operator_set(operator):
    known: set[str] = set()
    for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1):
        schema = operator.schema_in(opset)
        known |= set(schema.attributes) if schema else set()
    declared = [*operator.honours, *operator.only, *operator.idle]
    assert known.issuperset(declared)
    assert len(set(declared)) == len(declared)


VALUES = {"kernel_shape": [2, 2], "blocksize": 2, "axis": 1, "pads": [0] * 8, "axes": [1], "k": 1}
VALUES |= {"num_groups": 1, "starts": [0], "ends": [1], "scales": [1.0] * 4}
SAMPLES = {"INT": 3, "FLOAT": 0.5, "STRING": "a", "INTS": [1], "FLOATS": [0.5], "STRINGS": ["a"]}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=lambda operator: operator.name)
def test_attributes_that_are_not_honoured_are_refused_by_name(tmp_path, operator):
    """In every operator set: those that the standard knows there, and those that it does not."""
    names = {"no_such_attribute": "INT"}
    for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1):
        schema = operator.schema_in(opset)
        names |= {n: a.kind for n, a in schema.attributes.items()} if schema else {}
    for opset in (OLDEST_OPSET, 13, NEWEST_OPSET):
        schema = operator.schema_in(opset)
        if schema is None or not schema.least:
            continue
        for name, kind in names.items():
            known = name in schema.attributes
            if kind not in SAMPLES or (known and operator.state(name) not in ("refused",)):
                continue
            inputs = ["x", *"wwwwwww"[: schema.least - 1]]
            required = {n: VALUES[n] for n, a in schema.attributes.items() if a.default is REQUIRED}
            attributes = required | {name: SAMPLES[kind]}
            what = helper.make_node(operator.name, inputs, ["y"], **attributes)
            model = model_of([what], {"x": (2, 4, 4)}, ["y"], {"w": seeded(2)}, opset=opset)
            expected = f"{operator.name} node that gives 'y' attribute '{name}' is not supported"
            assert refusal(model, tmp_path) == expected
