# SPDX-License-Identifier: Apache-2.0
"""Long runs of the suite: in parts, and on from where they were interrupted."""

import os
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from campaign import FOLDERS, ROOT, contents, part
from refusal import refused

SUITE = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("n", range(5))
def test_alone(n):
    pass

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("n", range(4))
def test_together(n):
    pass

@pytest.fixture
def torn():
    yield
    assert Path("mended").exists()

def test_torn(torn):
    pass

def test_wrong():
    assert Path("mended").exists()

def test_skipped():
    pytest.skip("always")
"""


def run(folder: Path, *options: str) -> tuple[int, dict[str, int]]:
    """Exit status of the suite in ``folder``, and how many tests have each outcome."""
    (folder / "test_suite.py").write_text(SUITE)
    paths = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "campaign", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, "--rootdir", ".", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    last = done.stdout.strip().splitlines()[-1]
    found = re.findall("([0-9]+) (passed|failed|error|skipped)", last)
    return done.returncode, {outcome: int(count) for count, outcome in found}


def test_parts_are_the_suite_and_groups_stay_together(tmp_path):
    found = [run(tmp_path, "--part", f"{n}/2", "-k", "alone or together") for n in (1, 2)]
    # 6 units, 5 alone and the group of 4, are dealt out in turn
    assert found == [(0, {"passed": 3}), (0, {"passed": 6})]


@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadgroup")], ids=["one", "two"])
def test_what_has_passed_is_left_out_until_a_file_changes(tmp_path, processes):
    options = ("--resume", "kept", *processes)
    first = {"passed": 10, "failed": 1, "error": 1, "skipped": 1}
    assert run(tmp_path, *options) == (1, first)
    (tmp_path / "mended").touch()
    assert run(tmp_path, *options) == (0, {"passed": 2, "skipped": 1})
    assert run(tmp_path, *options) == (0, {"skipped": 1})
    (file,) = (tmp_path / "kept").iterdir()
    file.rename(file.with_name("passed_of_other_files"))
    assert run(tmp_path, *options) == (0, {"passed": 11, "skipped": 1})


def test_nothing_left_to_do_is_no_failure(tmp_path):
    options = ("--resume", "kept", "-k", "alone")
    assert run(tmp_path, *options) == (0, {"passed": 5})
    assert run(tmp_path, *options) == (0, {})


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path):
    run(tmp_path, "--resume", "kept", "-k", "alone")
    (file,) = (tmp_path / "kept").iterdir()
    lines = file.read_text()
    assert lines.splitlines() == [f"test_suite.py::test_alone[{n}]" for n in range(5)]
    file.write_text(lines[:-1])
    assert run(tmp_path, "--resume", "kept", "-k", "alone") == (0, {"passed": 1})


def test_contents_are_those_of_every_file_that_counts(tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder / "__pycache__").mkdir(parents=True)
    names = [contents(tmp_path, ["a 1"])]
    for place in ("README.md", *(f"{folder}/deep/file" for folder in FOLDERS)):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        for text in ("", "one"):
            path.write_text(text)
            names.append(contents(tmp_path, ["a 1"]))
    names.append(contents(tmp_path, ["a 2"]))
    assert len(set(names)) == len(names)
    (tmp_path / "quant" / "__pycache__" / "made").touch()
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "made").touch()
    assert contents(tmp_path, ["a 2"]) == names[-1]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2"])
def test_a_part_that_there_is_not_is_refused(text):
    with refused(ArgumentTypeError, f"must be like 1/4 to 4/4, not {text!r}"):
        part(text)
