# SPDX-License-Identifier: Apache-2.0
"""The page about ONNX, written from what the operators declare."""

import textwrap
from collections.abc import Iterator

from bitblocks.documentation.markdown import table
from bitblocks.onnx_model import BYTES_LIMIT, ELEMENTS_LIMIT, NEWEST_OPSET, OLDEST_OPSET
from bitblocks.operators import OPERATORS, Operator
from bitblocks.operators.evaluation import FOLDED, FOLDED_INTEGERS

OPSETS = range(OLDEST_OPSET, NEWEST_OPSET + 1)


def page() -> str:
    """docs/onnx.md."""
    header = ("operator", "attribute", "operator sets", "state")
    rows = [row for _, operator in sorted(OPERATORS.items()) for row in _rows(operator)]
    return PAGE.format(
        oldest=OLDEST_OPSET,
        newest=NEWEST_OPSET,
        mebibytes=BYTES_LIMIT >> 20,
        elements=ELEMENTS_LIMIT,
        table=table(header, rows),
        folded=textwrap.fill(", ".join(sorted(FOLDED)), 100),
        integers=", ".join(sorted(FOLDED_INTEGERS)),
    )


PAGE = """# ONNX

Written by `python -m bitblocks.documentation` from what each operator declares; a test compares.

An attribute is honoured or refused by name, and none is ignored. An operator, or an attribute, that
is not in this table is refused too; the message names the node and the tensor before which
`--cut` can end the network.

* Operator sets {oldest} to {newest}; a file of at most {mebibytes} MiB, and as much external data,
  which must lie in its folder; frames of at most {elements} numbers.
* Axis 0 of every input is the batch, whatever length the file gives it. Inside, a transpose may
  move it. An operator that would mix frames is refused.
* With `--no-batch` there is none: a frame is all of an input, every length must be fixed, and
  operators that know of a batch are refused, but for `Flatten` and `Gemm`.
* Every other length must be fixed. Arithmetic on lengths is done when the file is read, for two
  lengths of the batch: what differs by more than the batch itself depends on it and is refused.
* Channels come first in ONNX and last on the streams. The order of an input's axes on its stream is
  the one that takes the fewest transposes; an order before a matrix is absorbed by its columns.

## Operators on frames

{table}

## Operators on constants

Where all inputs are constant, these are evaluated once by ONNX's own reference evaluator, with all
their attributes: each moves numbers or treats them one by one, so that every machine finds the
same. On integers also {integers}.

{folded}
"""


def _rows(operator: Operator) -> Iterator[tuple[str, str, str, str]]:
    schemas = [(opset, operator.schema_in(opset)) for opset in OPSETS]
    there = {opset: schema.attributes for opset, schema in schemas if schema is not None}
    yield operator.name, "", _ranges([*there]), ""
    for name in sorted({name for attributes in there.values() for name in attributes}):
        opsets = [opset for opset, attributes in there.items() if name in attributes]
        yield "", name, _ranges(opsets), operator.state(name)


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers with runs written as ranges, such as ``7-8, 14-28``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
