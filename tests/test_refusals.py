# SPDX-License-Identifier: Apache-2.0
"""What is refused: by every block in its own name, and every sentence of the libraries."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from refusal import refused
from sentences import HOLE, says, sentences, strings

from blocks import Tensor
from blocks.catalogue import CATALOGUE
from quant import Format

ROOT = Path(__file__).parents[1]
KINDS = [
    name
    for name, entry in CATALOGUE.items()
    if isinstance(entry.kind, type) and name not in ("Network", "Recur")  # composed by the user
]
PORTS = {"i": "input", "i_a": "input_a", "i_b": "input_b"}
PLANS = {
    "Convolution": "Folded, Columns or Unrolled",
    "TransposedConvolution": "Folded, Columns or Unrolled",
    "Linear": "Folded or Unrolled",
    "Neuron": "Folded or Unrolled",
}
Refusal = tuple[type[Exception], str, Callable[[], object]]


def refusals(name: str) -> Iterator[Refusal]:
    """Question 6, as far as all blocks share it: tensors, formats, modes, integers, plans."""
    configuration = CATALOGUE[name].configuration(3)
    block, plan = configuration.block, configuration.plan
    for field in fields(block):
        what, value = f"{name} {field.name}", getattr(block, field.name)
        given = partial(_replaced, block, field.name)
        if isinstance(value, Tensor):
            yield TypeError, f"{what} must be a Tensor, not 3", given(3)
        elif isinstance(value, Format):
            yield TypeError, f"{what} must be a Format, not 3", given(3)
        elif isinstance(value, Enum):
            known = ", ".join(str(mode) for mode in type(value))
            yield ValueError, f"{what} must be one of {known}, not 'up'", given("up")
        elif isinstance(value, np.ndarray):
            yield TypeError, f"{what} must be integers, not float64", given(value + 0.5)
            number = getattr(block, f"{field.name}_format", None)
            if number is not None:
                large = np.full_like(value, number.max + 1)
                yield ValueError, _out_of_range(what, number), given(large)
    frames = [np.zeros(tensor.shape, int) for tensor in block.inputs.values()]
    for n, (port, tensor) in enumerate(block.inputs.items()):
        other = f"input {n if name == 'Concat' else port}"
        what = f"{name} {PORTS.get(port, other)}"
        shape = ", ".join(map(str, tensor.shape))
        for error, message, frame in (
            (TypeError, f"{what} must be integers, not float64", frames[n] + 0.5),
            (ValueError, _out_of_range(what, tensor.format), frames[n] + tensor.format.max + 1),
            (ValueError, f"{what} must have shape (..., {shape}), not (97,)", np.zeros(97, int)),
        ):
            yield error, message, partial(block.reference, *frames[:n], frame, *frames[n + 1 :])
    known = PLANS.get(name, type(plan).__name__)
    for view in (block.lanes, block.rtl, block.timing):
        yield TypeError, f"{name} plan must be {known}, not None", partial(view, None)


def _replaced(block: object, field: str, value: object) -> Callable[[], object]:
    return partial(replace, block, **{field: value})


def _out_of_range(what: str, number: Format) -> str:
    span = f"[{number.max + 1}, {number.max + 1}]"
    return f"{what} must be in [{number.min}, {number.max}] for format {number}, not span {span}"


@pytest.mark.parametrize("name", KINDS)
def test_bad_arguments_of_every_block_are_refused_in_its_name(name):
    for error, message, action in refusals(name):
        with refused(error, message):
            action()


def test_every_sentence_of_the_libraries_is_tested():
    """By its whole text in some test, or by those above; with what is filled in."""
    stated = {message for name in KINDS for _, message, _ in refusals(name)}
    texts = [
        text
        for text in stated | strings(str(ROOT / "tests"))
        if " " in text and len(text) < 400 and text.strip(HOLE + " ")
    ]
    rooms = [str(ROOT / room) for room in ("quant", "hdl", "blocks")]
    unstated = [
        sentence
        for sentence in sentences(rooms)
        if not any(says(text, sentence.text) for text in texts)
    ]
    assert unstated == []
