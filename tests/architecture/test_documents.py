"""Documents that speak of the code are compared with the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from penstock_app.documents import PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str):
    text = (ROOT / name).read_text()
    assert text.split("\n\n", 1)[1] == PAGES[name](), "run `make docs`"


def test_every_name_in_the_path_of_an_event_exists():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    table = page.split("## The path of an event", 1)[1].split("\n## ", 1)[0]
    names = re.findall(r"`(penstock[\w.]*\.[\w.]+)`", table)
    assert len(names) >= 8
    for name in names:
        _resolve(name)


def _resolve(dotted: str) -> object:
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(f"{dotted} does not exist")


def test_documents_link_to_files_that_exist():
    missing = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            if not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)} -> {target}")
    assert missing == []
