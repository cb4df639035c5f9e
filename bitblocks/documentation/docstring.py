# SPDX-License-Identifier: Apache-2.0
"""What a docstring says, in parts."""

import ast
import doctest
import inspect
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import blocks
import hdl
import quant

ROOMS: tuple[ModuleType, ...] = (blocks, hdl, quant)


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring, as Markdown.

    Members
    -------
    summary : its first paragraph
    text : the paragraphs after it
    parameters : name -> what is said of it
    labels : word -> the paragraph that begins with it and a colon, such as ``Source``
    example : the source of its doctests, with the imports that it needs
    """

    summary: str
    text: tuple[str, ...]
    parameters: dict[str, str]
    labels: dict[str, str]
    example: str


def read(thing: Any, *labels: str) -> Docstring:
    """The docstring of a class or function."""
    written = inspect.getdoc(thing) or ""
    plain: list[str] = []
    found: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for paragraph in written.split("\n\n"):
        label, _, rest = paragraph.partition(": ")
        section = re.match(r"(\w+)\n-+\n", paragraph)
        if label in labels:
            found[label] = _markdown(rest)
        elif section and section[1] == "Parameters":
            parameters = _parameters(paragraph[section.end() :])
        elif not section and not paragraph.startswith(">>>"):
            plain.append(_markdown(paragraph))
    summary, *text = plain
    return Docstring(summary, tuple(text), parameters, found, _example(written))


def _markdown(text: str) -> str:
    """One line, with code in single back quotes."""
    text = re.sub(r":\w+:`([\w.]+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def _parameters(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?! )", body):
        names, _, about = entry.partition(" : ")
        found |= dict.fromkeys(names.split(", "), _markdown(about))
    return found


def _example(written: str) -> str:
    """The lines of the doctests behind the imports of what they use."""
    code = "".join(example.source for example in doctest.DocTestParser().get_examples(written))
    if not code:
        return ""
    code = re.sub(rf"(?m)^from ({'|'.join(room.__name__ for room in ROOMS)}) import .*\n", "", code)
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    imports = ["import numpy as np\n"] if "np" in used else []
    imports += ["\n"] if imports else []
    for room in ROOMS:
        names = sorted(used & {*room.__all__})
        imports += [f"from {room.__name__} import {', '.join(names)}\n"] if names else []
        used -= {*names}
    return "".join([*imports, "\n", code])
