# SPDX-License-Identifier: Apache-2.0
"""The sentences with which code refuses what is wrong, read from its text.

In a sentence HOLE stands for what is filled in when it is said. Where it begins with what a
function is told to call its argument, as in ``check_tensor(x, "Linear input")``, each such call is
a sentence of its own.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HOLE = "\0"


class Sentence(NamedTuple):
    """Text, and the line that raises it or calls the function that does."""

    text: str
    place: str


class _Checker(NamedTuple):
    """What a function says of an argument that it is told the name of."""

    path: Path
    function: str
    parameters: tuple[str, ...]
    name: str
    rest: str


def sentences(folders: Iterable[str]) -> list[Sentence]:
    """Of all Python files in folders; each once for every line."""
    functions = [
        (path, node, node in tree.body)
        for folder in folders
        for path in sorted(Path(folder).rglob("*.py"))
        for tree in [ast.parse(path.read_text(encoding="utf-8"))]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    calls = [
        (path, node, top, call) for path, node, top in functions for call in _own(node, ast.Call)
    ]
    said = {
        _said(raised.exc.args[0], "", node, top, path, raised.lineno)
        for path, node, top in functions
        for raised in _own(node, ast.Raise)
        if isinstance(raised.exc, ast.Call) and raised.exc.args
    }
    known = said
    while new := [checker for checker in said if isinstance(checker, _Checker)]:
        said = {
            _said(given[checker.name], checker.rest, node, top, path, call.lineno)
            for path, node, top, call in calls
            for checker in new
            if checker.function == _called(call)
            and (checker.path == path or not checker.function.startswith("_"))
            and checker.name in (given := _arguments(call, checker.parameters))
        } - known
        known = known | said
    return sorted(sentence for sentence in known if isinstance(sentence, Sentence))


def _said(
    words: ast.expr, rest: str, function: ast.FunctionDef, top: bool, path: Path, line: int
) -> Sentence | _Checker:
    """A sentence of a function; one of a checker if it begins with a parameter.

    Not of methods: others may have the same name.
    """
    first, text = *_parts(words)[:1], text_of(words) + rest
    parameters = tuple(a.arg for a in (*function.args.args, *function.args.kwonlyargs))
    if top and isinstance(first, ast.Name) and first.id in parameters:
        return _Checker(path, function.name, parameters, first.id, text[1:])
    return Sentence(text, f"{path.name}:{line}")


def text_of(words: ast.expr) -> str:
    """A string or f-string, HOLE for what is filled in."""
    return "".join(p if isinstance(p, str) else HOLE for p in _parts(words))


def _parts(words: ast.expr) -> list[str | ast.expr]:
    if isinstance(words, ast.Constant):
        return [str(words.value)]
    if isinstance(words, ast.JoinedStr):
        inner = (v for v in words.values if isinstance(v, ast.Constant | ast.FormattedValue))
        return [str(v.value) if isinstance(v, ast.Constant) else v.value for v in inner]
    return [words]


def _own(function: ast.FunctionDef, kind: type) -> Iterator:
    """Nodes of a function, not of those inside it."""
    waiting = [*ast.iter_child_nodes(function)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, kind):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _arguments(call: ast.Call, parameters: tuple[str, ...]) -> dict[str, ast.expr]:
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return dict(zip(parameters, call.args, strict=False)) | named


def strings(folder: str) -> set[str]:
    """Every string and f-string of the Python files of a folder, HOLE for what is filled in."""
    return {
        text_of(node)
        for path in sorted(Path(folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }


def says(text: str, sentence: str) -> bool:
    """Whether two texts can be the same once every HOLE is filled in: thing, must, rule.

    What has only a HOLE for its thing says nothing.
    """
    if HOLE not in (text[0], sentence[0]) and text[0] != sentence[0]:
        return False  # most of them
    parts = text.partition(" must ")
    pairs = zip(parts, sentence.partition(" must "), strict=True)
    return parts[0] != HOLE and all(_meet(*pair) for pair in pairs)


def _meet(a: str, b: str) -> bool:
    waiting, seen = [(0, 0)], set()
    while waiting:
        i, j = place = waiting.pop()
        if place == (len(a), len(b)):
            return True
        if place in seen or i == len(a) or j == len(b):
            continue
        seen.add(place)
        if HOLE in (a[i], b[j]) or a[i] == b[j]:
            waiting.append((i + 1, j + 1))
        waiting += [(i, j + 1)] * (a[i] == HOLE) + [(i + 1, j)] * (b[j] == HOLE)
    return False
