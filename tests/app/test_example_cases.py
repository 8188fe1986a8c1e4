"""The cases beside the example apps and the starter app, as a user runs them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from case_rig import try_cases
from penstock_process import PROGRAM
from typer.testing import CliRunner

from penstock_app import commands_cases
from penstock_app.starter import STARTER_FILES


@pytest.fixture
def command() -> Iterator[typer.Typer]:
    """The command in this process, without what it does to the logs of others."""
    before = structlog.get_config()
    program = typer.Typer()
    commands_cases.register(program)
    yield program
    structlog.configure(**before)


def test_the_cases_of_the_examples_pass_however_their_input_is_cut(repository: Path):
    done = subprocess.run(
        [PROGRAM, "test", "examples", "--cut"], cwd=repository, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"^ok    (examples/[a-z-]+)/app\.test\.yml:\d+  ", done.stdout, re.M)
    assert set(passed) == {"examples/produce-markets", "examples/earthquakes"}
    assert f"\n{len(passed)} cases passed in " in done.stdout


def test_the_example_of_the_guide_does_what_the_guide_prints(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: typer.Typer
):
    text = (repository / "docs/guides/test-an-app.md").read_text()
    [sql], [yaml] = re.findall(r"```sql\n(.*?)```", text, re.S), re.findall(r"```yaml\n(.*?)```", text, re.S)
    commands = re.findall(r"```sh\n(.*?)```", text, re.S)
    passing, failing = re.findall(r"```\n((?:ok|FAIL) .*?)```", text, re.S)
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders/app.sql").write_text(sql)
    (tmp_path / "orders/app.test.yml").write_text(yaml)
    env = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    for line in commands:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert _timeless(done.stdout) == _timeless(passing)
    assert (tmp_path / "results.xml").is_file()
    wrong = yaml.replace("- {id: o2, customer: ben}", "- {id: o1, customer: ben}", 1)
    (tmp_path / "orders/app.test.yml").write_text(wrong)
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(command, [])
    assert failed.exit_code == 1
    assert failed.output.startswith(failing)


@pytest.mark.parametrize(
    ("file", "arguments", "code", "said"),
    [
        ("cases.test.yml", ["-k", "large"], 0, "1 case passed in "),
        ("cases.test.yml", ["-k", "small"], 2, "no case has 'small' in its name"),
        ("cases.txt", ["."], 2, "no case files (*.test.yml) here"),
        ("cases.txt", ["cases.txt", "--seed", "x"], 2, "unable to parse string as an integer"),
        ("broken.test.yml", ["."], 2, "broken.test.yml:1:8: `cases` is a list, found a number."),
        ("broken.test.yml", ["."], 2, "1 case passed, 1 case file could not be run in "),
    ],
)
def test_the_command_says_by_its_exit_code_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: typer.Typer,
    file: str,
    arguments: list[str],
    code: int,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    Path("app.sql").write_text(STARTER_FILES["app.sql"])
    Path(file).write_text("cases: 5" if file.startswith("broken") else STARTER_FILES["app.test.yml"])
    if file.startswith("broken"):
        Path("good.test.yml").write_text(STARTER_FILES["app.test.yml"])
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == code, done.output
    assert said in re.sub(r"[│\s]+", " ", done.output)


@pytest.mark.parametrize("name", ["app.test.yml", "tests/orders.yml"])
async def test_the_starter_app_comes_with_a_case_that_passes(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "app.sql").write_text(STARTER_FILES["app.sql"])
    (tmp_path / name).write_text(STARTER_FILES["app.test.yml"])
    tried = await try_cases(tmp_path)
    assert [(result.path, result.failures) for result in tried.results] == [(tmp_path / name, ())]


def _timeless(text: str) -> str:
    return re.sub(r"in \d+\.\d s", "in some time", text)
