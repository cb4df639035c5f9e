# SPDX-License-Identifier: Apache-2.0
"""What `make setup` says where something is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALL = "python3-venv libpython3-dev g++ make"


def prerequisites(python, **environment):
    """Exit status and output of the check for one interpreter."""
    told = subprocess.run(
        [shutil.which("sh"), ".ci/prerequisites", python],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stdout


def test_nothing_is_missing_where_the_suite_runs():
    assert prerequisites(sys.executable) == (0, "")


def test_everything_that_is_missing_is_named_by_its_package(tmp_path):
    assert prerequisites("python9", PATH=str(tmp_path)) == (1, f"{ALL}\n")
    assert prerequisites(sys.executable, CXX="no-compiler") == (1, "g++\n")


@pytest.mark.parametrize("old", [True, False])
def test_an_interpreter_that_is_too_old_or_lacks_modules_is_refused(tmp_path, old):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncase $2 in *version_info*) exit {int(old)};; esac\nexit 1\n")
    fake.chmod(0o755)
    expected = (2, "") if old else (1, "python3-venv libpython3-dev\n")
    assert prerequisites(str(fake)) == expected


def test_the_range_of_python_is_everywhere_the_same():
    shown = {"pyproject.toml": '">=3.11,<3.15"', "README.md": "Python 3.11 to 3.14:"}
    shown[".ci/prerequisites"] = "(3, 11) <= sys.version_info < (3, 15)"
    for file, words in shown.items():
        assert words in (ROOT / file).read_text(encoding="utf-8"), file
    assert (3, 11) <= sys.version_info < (3, 15)


def test_make_prints_the_one_command_that_installs_them(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    told = subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"],
        cwd=tmp_path,
        env={**os.environ, "CXX": "no-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.splitlines()[0] == f"Missing: g++. To install it: sudo apt-get install {ALL}"
    assert not (tmp_path / ".venv").exists()
