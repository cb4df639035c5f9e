# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests of single nodes: each is right in integers, or refused by name.

Every way to put a case (``onnx_cases``) that is imported must give the published result: the float
network exactly, the integers within what ``onnx_bounds`` derives.
"""

import itertools
import json
import tempfile
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx_bounds import bounds, is_coarse
from onnx_cases import FLOATS, RECURRENT, operators_of, published, ways
from onnx_models import model_layout, outputs_of, saved

from bitblocks import InputError, evaluate, import_onnx, layers, quantise
from bitblocks.layers.activation import KINDS
from bitblocks.operators import OPERATORS
from bitblocks.operators.activation import PLAIN
from bitblocks.operators.evaluation import FOLDED
from bitblocks.quantisation import frac_for
from quant import Format, from_float, to_float

KNOWN = {f"{domain}.{name}" if domain else name for domain, name in OPERATORS}
TABLE = Path(__file__).parent / "onnx_refused.json"
"""Case -> the sentence with which it is refused; may only shrink."""
BITS = 16
FEW_BITS = 8
"""Of functions of one variable, whose search at 16 bits takes seconds each."""
SHARE = 0.85
EXCEPTIONS = {"Attention": (47, 93)}
"""Operators of which fewer cases pass: the rest has keys of former frames."""
COMPOSED = (layers.Attention,)
"""Layers whose integers are held against the float network in tests of their own."""


@cache
def attempts(name):
    """What becomes of every way to put a case: (way, graph, frames, published) or its refusal."""
    case, found = published()[name], []
    for way, model, frames, want in ways(case):
        ports = list(model.graph.input)
        try:
            graph = graph_of(model, way, FOLDER[0])
        except InputError as error:
            found.append((way, None, str(error).replace(str(FOLDER[0]), "FOLDER"), None))
            continue
        assert all(port.type.tensor_type.elem_type in FLOATS for port in ports)
        x = {port.name: frames[port.name].astype(float) for port in graph.inputs}
        found.append((way, graph, x, want))
    return found


def graph_of(model, way, folder):
    """The float graph of a way to put a case."""
    return import_onnx(saved(model, folder), used_outputs(model), not way.startswith("whole"))


FOLDER: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory):
    FOLDER[:] = [tmp_path_factory.mktemp("cases")]


def used_outputs(model):
    """All that the operator gives to streams."""
    (last,) = {node.op_type for node in model.graph.node[-1:]}
    most = OPERATORS["", last].outputs if ("", last) in OPERATORS else 1
    return [port.name for port in model.graph.output][:most]


def plain_cases():
    """The cases of operators that are known."""
    return [n for n, c in published().items() if "expanded" not in n and operators_of(c) <= KNOWN]


def tolerance(want):
    """What the published type leaves open, and sums of it."""
    return {"float16": 1e-3, "bfloat16": 2e-2}.get(str(want.dtype), 5e-4)


def assert_floats(name, way, graph, x, want):
    have = outputs_of(graph, x)
    for port, y in zip(graph.outputs, want, strict=False):
        assert have[port.name].shape == np.shape(y), (name, way)
        wanted = np.asarray(y).astype(float)
        np.testing.assert_allclose(
            have[port.name], wanted, rtol=tolerance(y), atol=1e-5, err_msg=f"{name} {way}"
        )


def is_table(graph):
    kinds = layers.Activation | layers.Softmax | layers.Recurrent
    return any(isinstance(layer, kinds) for layer in graph.nodes)


@cache
def integers(name, number):
    """What the integers of a way to put a case give, bounds of each number and of all together."""
    _, graph, x, _ = attempts(name)[number]
    bits = FEW_BITS if is_table(graph) else BITS
    fixed = {layer.name: {"pole": 0.0} for layer in graph.nodes if "pole" in layer.decides}
    for layer in filter(is_coarse, graph.nodes):
        peak = float(np.abs(evaluate(graph, x)[layer.name]).max())
        fixed[layer.name] = {"output_format": Format(bits, frac_for(peak, bits, True))}
    network, report = quantise(graph, x, bits, bits, precision=fixed)
    formats = {port.name: report.precision[port.name].output_format for port in graph.inputs}
    codes = [from_float(v, formats[name]) for name, v in graph.frames(x).items()]
    values = network.reference(*codes)
    values = values if isinstance(values, tuple) else (values,)
    limits, norms = bounds(graph, x, formats, bits, report.precision)
    given = zip(graph.outputs, network.outputs.values(), values, strict=True)
    return [
        (
            model_layout(port, to_float(y, tensor.format)),
            (model_layout(port, limits[port.source]), norms.get(port.source, np.inf)),
        )
        for port, tensor, y in given
    ]


def is_near(have, want, limits):
    """Whether numbers are as near to published ones as they must be."""
    (limit, norm), wanted = limits, np.asarray(want).astype(float)
    if have.shape != wanted.shape:
        return False
    wrong, open_ = np.abs(have - wanted), tolerance(want) * np.abs(wanted) + 1e-5
    together = np.linalg.norm(wrong) <= norm + np.linalg.norm(open_)
    return bool((wrong <= limit + open_).all() and together)


def test_published_results_are_given_by_the_float_network():
    for name in plain_cases():
        for way, graph, x, want in attempts(name):
            if graph is not None:
                assert_floats(name, way, graph, x, want)


def test_expanded_functions_that_are_imported_are_right():
    """What a function is made of, where all of it is known."""
    seen = set()
    for name, case in published().items():
        if "expanded" in name and operators_of(case) <= KNOWN | FOLDED:
            for way, graph, x, want in attempts(name):
                if graph is not None:
                    assert_floats(name, way, graph, x, want)
                    seen.add(name)
    assert len(seen) >= 8


def imported():
    """(case, number of the way, graph, frames, published) of all that is imported."""
    for name in plain_cases():
        for number, (_, graph, x, want) in enumerate(attempts(name)):
            if graph is not None:
                yield name, number, graph, x, want


def is_composed(graph):
    return any(isinstance(layer, COMPOSED) for layer in graph.nodes)


def test_published_results_are_given_by_integers():
    for name, number, graph, _, want in imported():
        if is_composed(graph):
            continue
        again = is_table(graph) or attempts(name)[number][0].startswith("whole")
        if again and any(graph for _, graph, _, _ in attempts(name)[:number]):
            continue
        for (have, limit), y in zip(integers(name, number), want, strict=False):
            assert is_near(have, y, limit), (name, attempts(name)[number][0], have, y, limit)


def test_what_is_refused_is_what_the_table_says():
    """If less of it is: python tests/test_onnx_conformance.py"""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert refused_cases() == table


def refused_cases():
    """The sentence of the first way that tells for every case that no way puts right."""
    found = {}
    for name in plain_cases():
        sentences = [sentence for _, graph, sentence, _ in attempts(name) if graph is None]
        if len(sentences) == len(attempts(name)):
            telling = [text for text in sentences if not text.endswith(CONSTANT)]
            found[name] = (telling or sentences)[0]
    return found


CONSTANT = "of a constant is not supported"
"""What is said of a way that freezes too much."""


def test_most_cases_of_each_operator_are_right():
    """Of cases on floats that do not train."""
    refused = refused_cases()
    shares = defaultdict(list)
    for name in plain_cases():
        case = published()[name]
        sentence = refused.get(name, "")
        if "must be a tensor of floats" in sentence or "training_mode" in sentence:
            continue
        if not is_float(case.model.graph.input[:1]):
            continue
        for operator in operators_of(case):
            shares[operator].append(not sentence)
    assert set(shares) >= KNOWN - {"Constant", "Where"}  # they begin with no float
    few = {
        operator: (sum(right), len(right))
        for operator, right in shares.items()
        if sum(right) < SHARE * len(right)
    }
    assert few == EXCEPTIONS


def is_float(ports):
    return all(port.type.tensor_type.elem_type in FLOATS for port in ports)


TEXTS = {
    "auto_pad": ("SAME_UPPER", "SAME_LOWER", "VALID"),
    "mode": ("DCR", "CRD", "edge", "reflect", "nearest", "linear", "cubic"),
    "approximate": ("none", "tanh"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
}


def changed(model):
    """(attribute, model with another value of it) for every attribute of the node."""
    for place, attribute in enumerate(model.graph.node[0].attribute):
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            others = [text for text in TEXTS.get(attribute.name, ()) if text != value.decode()]
        elif isinstance(value, float):
            others = [1.1 * value + 0.1]
        elif isinstance(value, int):
            others = [value + 1, value - 1]
        elif isinstance(value, list) and isinstance(value[0], int):
            others = [
                value[::-1],
                [*value[:1], *value[:0:-1]],
                [value[0] + 1, *value[1:]],
                [*value[:-1], value[-1] - 1],
            ]
        else:
            continue
        for other in others:
            copy = ModelProto.FromString(model.SerializeToString())
            copy.graph.node[0].attribute[place].CopyFrom(
                helper.make_attribute(attribute.name, other)
            )
            del copy.graph.output[0].type.tensor_type.shape.dim[:]
            copy.graph.output[0].type.tensor_type.ClearField("shape")
            yield attribute.name, copy


TRIES = 24
UNSEEN = {
    ("Conv", "kernel_shape"),
    ("ConvTranspose", "kernel_shape"),
    ("Gemm", "transB"),
    ("Split", "num_outputs"),
    ("Upsample", "mode"),  # any other value of these is refused
    ("Dropout", "ratio"),
    ("Dropout", "seed"),
    ("TopK", "sorted"),  # play no part
    ("ReduceSum", "noop_with_empty_axes"),  # beside axes
    *((kind, name) for kind in RECURRENT for name in ("hidden_size", "layout")),  # is refused
    ("Gelu", "approximate"),  # by a thousandth
    ("Shrink", "lambd"),  # between two numbers of the case
}
"""Attributes of which no case shows a value that matters."""
SAME = {("celu", "absolute"), ("celu", "relu")}
"""Functions and others that equal them on all of their cases, which have no number below 0."""


def test_bounds_are_too_tight_for_another_attribute(tmp_path):
    """Another value of each attribute that is honoured gives something beyond the bounds."""
    seen, tried = set(), Counter()
    for name, number, _, x, want in imported():
        models = [model for _, model, _, _ in itertools.islice(ways(published()[name]), number + 1)]
        operator = models[-1].graph.node[0].op_type
        if number > 1 or len(models[-1].graph.node) > 1 or is_composed(attempts(name)[number][1]):
            continue
        for attribute, other in changed(models[-1]):
            what = operator, attribute
            if what in seen or tried[what] == TRIES:
                continue
            tried[what] += 1
            try:
                wrong = graph_of(other, attempts(name)[number][0], tmp_path)
                y = outputs_of(wrong, {port.name: x[port.name] for port in wrong.inputs})
            except InputError:
                continue
            if not is_near(y[wrong.outputs[0].name], want[0], integers(name, number)[0][1]):
                seen.add(what)
    assert set(tried) - seen == UNSEEN


def test_bounds_are_too_tight_for_another_function():
    """Any two functions of one variable are told apart by a case of either."""
    ways_of, others = defaultdict(list), {"relu": lambda x: np.maximum(x, 0.0)}
    others |= {name: KINDS[name].real for name, attributes in PLAIN.values() if not attributes}
    for name, number, graph, x, want in imported():
        if number:
            continue
        layer = graph.nodes[0]
        if len(graph.nodes) == 1 and isinstance(layer, layers.Activation) and len(want) == 1:
            (data,) = x.values()
            limit = integers(name, number)[0][1]
            ways_of[layer.function].append((data, want[0], limit))
    assert len(ways_of) > 30
    same = set()
    for function, cases in ways_of.items():
        for other, real in others.items():
            with np.errstate(all="ignore"):
                near = [is_near(real(x), want, limit) for x, want, limit in cases]
            if all(near) and other != function:
                same.add((function, other))
    assert same == SAME


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FOLDER[:] = [Path(folder)]
        text = json.dumps(dict(sorted(refused_cases().items())), indent=1)
        TABLE.write_text(f"{text}\n", encoding="utf-8")
