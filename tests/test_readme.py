# SPDX-License-Identifier: Apache-2.0
"""What README and the pages of docs show is what happens."""

import re
from pathlib import Path

import pytest

import bitblocks.commands

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile("```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    examples = EXAMPLE.findall(text)
    assert len(examples) == text.count("```python")
    for code, printed in examples:
        capsys.readouterr()
        exec(compile(code, str(page), "exec"), {})
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_commands_shown_exist():
    shown = re.findall("^    bitblocks ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = [c.name or c.callback.__name__ for c in bitblocks.commands.app.registered_commands]
    assert shown == names
