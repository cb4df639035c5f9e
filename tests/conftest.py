# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: long runs go on, and on a build server what is skipped has failed."""

import os

import pytest
from campaign import pytest_addoption, pytest_collection_modifyitems, pytest_configure
from material import SHARED

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_configure"]

ABSENT = ("shared", "absent", "beside this checkout")
"""Words of their reasons to skip without it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI set nothing may skip but for want of the shared material, where it is absent."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if SHARED.exists() or not any(word in reason for word in ABSENT):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} must not be skipped here: {reason}"
    return report
