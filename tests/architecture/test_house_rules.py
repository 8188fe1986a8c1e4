"""The house rules that a machine can check: imports, names, sizes, time, what the repository may not say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in ROOT.glob("*/src/**/*.py"))
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 75
AVOIDED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "shared", "tools"}
#: Files that may ask the operating system for the time: the clock, and measuring for a person's eyes.
TIME_ALLOWED = {"clock.py"}
TIME_CALLS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
}


def test_layers_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_or_folder_has_a_junk_drawer_name():
    named = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert named & AVOIDED_NAMES == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_stay_small_and_say_what_they_are_for(path: Path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what belongs in it"
    assert text.count("\n") <= FILE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{node.name} at line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_time_comes_from_the_clock_port(path: Path):
    if path.name in TIME_ALLOWED:
        return
    called = {
        (node.func.value.id, node.func.attr)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }
    assert called & TIME_CALLS == set()


def test_the_lock_covers_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run_in = (ROOT / "requirements" / "run.in").read_text().splitlines()
    assert [line for line in run_in if line and not line.startswith("#")] == [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for name in ("run.txt", "dev.txt"):
        pinned = set(re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements" / name).read_text(), re.M))
        assert {re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]} <= pinned


def test_the_repository_names_no_package_index_and_no_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forbidden = re.compile(r"index-url|find-links|extra-index|(?<![\w.])/(root|home|work)/")
    here = Path(__file__).relative_to(ROOT)
    found = []
    for name in tracked.splitlines():
        path = ROOT / name
        if Path(name) == here or path.suffix in {".csv", ".ndjson", ".png", ".gz"} or not path.is_file():
            continue
        found += [f"{name}: {match.group()}" for match in forbidden.finditer(path.read_text(errors="ignore"))]
    assert found == []
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), f"{lock.name} holds an address"
