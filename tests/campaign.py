# SPDX-License-Identifier: Apache-2.0
"""A long run of the suite in parts, and on from where it was interrupted: a plugin of pytest.

What has passed is written down, test by test, in a file that is named after the contents of all
files that could have decided it. Tests of one xdist_group stay in one part.
"""

import argparse
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("quant", "hdl", "blocks", "sim", "bitblocks", "tests", "examples", "docs")
"""Whose files decide what the suite finds, together with those beside them."""


def part(text: str) -> tuple[int, int]:
    """(number, count) of a part ``number/count``."""
    found = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"must be like 1/4 to 4/4, not {text!r}")
    return int(found[1]), int(found[2])


def contents(root: Path, packages: Iterable[str] | None = None) -> str:
    """A name for every file below ``root`` that counts, and for Python and its packages."""
    if packages is None:
        found = importlib.metadata.distributions()
        packages = {f"{package.name} {package.version}" for package in found}
    files = [path for path in root.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [
            path
            for path in (root / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    state = hashlib.sha256(platform.python_version().encode())
    for package in sorted(packages):
        state.update(f"{package}\n".encode())
    for path in sorted(files):
        name, data = str(path.relative_to(root)), path.read_bytes()
        state.update(f"{name} {len(data)}\n".encode() + data)
    return state.hexdigest()[:16]


def _name(nodeid: str) -> str:
    """Of a test, without the group that xdist puts behind it."""
    return re.sub(r"@[^@\]]*$", "", nodeid)


class Record:
    """The tests that have passed, in a file that grows by a line each."""

    def __init__(self, path: Path):
        self.path, self.called = path, set[str]()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.passed = set(path.read_text().split("\n")[:-1]) if path.exists() else set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has passed once it is torn down."""
        if report.when == "call" and report.passed:
            self.called.add(report.nodeid)
        if report.when == "teardown" and report.passed and report.nodeid in self.called:
            with self.path.open("a") as file:
                file.write(f"{_name(report.nodeid)}\n")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """All is well where nothing is left to do."""
        if self.passed and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        told = f"{len(self.passed)} tests had passed before, by {self.path}"
        terminalreporter.write_line(told)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node) -> None:
        """All processes of xdist leave out the same tests."""
        node.workerinput["passed"] = sorted(self.passed)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", type=part, default=(1, 1), metavar="I/N", help="only part I of N")
    told = "leave out what has passed with the same files before, as written down in FOLDER"
    parser.addoption("--resume", type=Path, metavar="FOLDER", help=told)


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("resume")
    if folder is not None and not hasattr(config, "workerinput"):
        record = Record(folder / f"passed_{contents(ROOT)}")
        config.pluginmanager.register(record, "record")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only the wanted part, without what has passed."""
    number, count = config.getoption("part")
    record = config.pluginmanager.get_plugin("record")
    passed = set(getattr(config, "workerinput", {}).get("passed", ()))
    if record is not None:
        passed = record.passed
    places: dict[str, int] = {}
    kept, left_out = [], []
    for item in items:
        group = item.get_closest_marker("xdist_group")
        unit = f"group {group.args[0]}" if group else item.nodeid
        place = places.setdefault(unit, len(places))
        wanted = place % count == number - 1 and _name(item.nodeid) not in passed
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
