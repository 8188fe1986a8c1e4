"""Fixtures that every part's tests share, and the rule for what a machine may lack.

A test that needs something outside the repository asks `need(...)`. Where it is missing the test is skipped with the
reason, unless PENSTOCK_TEST_REQUIRE (a comma list: data, chromium, postgres, strace, ...) names it: then it fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Need Docker, or a Keycloak, and minutes: `make test-compose` and `make test-keycloak` ask for them.
collect_ignore = [
    folder
    for folder, variable in (("container", "PENSTOCK_TEST_COMPOSE"), ("keycloak", "PENSTOCK_TEST_KEYCLOAK"))
    if not os.environ.get(variable)
]

#: Fixtures that live beside their server.
pytest_plugins = ["kafka_broker", "postgres_server"]

#: How a set of several words looks inside the name of a test.
_SET_IN_NAME = re.compile(r"\{'[^']*'(?:, '[^']*')+\}")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a set in a test's name: its order differs between processes, which stops a run over several workers."""
    if _SET_IN_NAME.search(item.name):
        raise pytest.UsageError(f"{item.nodeid}: a set in a test's name; give the case an id or a sorted list")


Need = Callable[[str, bool, str], None]


@pytest.fixture(scope="session")
def need() -> Need:
    """`need(name, present, remedy)`: go on, skip, or fail where the run requires `name`."""
    required = set(filter(None, os.environ.get("PENSTOCK_TEST_REQUIRE", "").split(",")))

    def check(name: str, present: bool, remedy: str) -> None:
        if present:
            return
        if name in required:
            pytest.fail(f"{name} is required by PENSTOCK_TEST_REQUIRE and missing: {remedy}")
        pytest.skip(f"{name} is missing: {remedy}")

    return check


@pytest.fixture(scope="session")
def shared_data(need: Need) -> Path:
    """The folder of whole data files (not part of the repository): PENSTOCK_SHARED/data or ../shared/data."""
    folder = Path(os.environ.get("PENSTOCK_SHARED", ROOT.parent / "shared")) / "data"
    need("data", folder.is_dir(), "set PENSTOCK_SHARED to the folder that holds data/mandi_arrivals_2018.csv.gz")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT
