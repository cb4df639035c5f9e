# SPDX-License-Identifier: Apache-2.0
"""The sentences with which code refuses what is wrong, read from its text.

In a sentence HOLE stands for what is filled in when it is said. Where it begins with what a
function is told to call its argument, as in ``check_tensor(x, "Linear input")``, each such call is
a sentence of its own; so is each rule that ``refuse`` is told, which names the node before it.
"""

import ast
import re
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
        _said(words, "", node, top, path, call.lineno)
        for path, node, top, call in calls
        if (words := _words(call)) is not None
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
    return sorted(s for s in known if isinstance(s, Sentence) and s.text.strip(HOLE + " "))


def _words(call: ast.Call) -> ast.expr | None:
    """What a call that makes an error says, or one that has a node refused; else None."""
    if not call.args:
        return None
    if _called(call) == "refuse":
        return call.args[-1]
    return call.args[0] if _called(call).endswith(("Error", "MissingTool")) else None


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
    """Every string and f-string of the Python files of a folder, HOLE for what is filled in.

    One that starts with ^ is a pattern, and stands for the text that it matches.
    """
    found = {
        text_of(node)
        for path in sorted(Path(folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    return {
        re.sub(r"\\(.)", r"\1", text[1:].removesuffix("$")) if text.startswith("^") else text
        for text in found
    }


def says(sentence: str, texts: Iterable[str]) -> bool:
    """Whether one of ``texts`` is the sentence, every HOLE filled in, or ends in it.

    All that the sentence says itself must be there, word for word.
    """
    words = "(?:.* )?" + ".*".join(map(re.escape, sentence.split(HOLE)))
    whole = re.compile(words, re.DOTALL)
    return any(map(whole.fullmatch, texts))
