"""The SQL on the language's page is an app that passes the check and runs."""

from __future__ import annotations

import re
from pathlib import Path

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import check_app, plan_app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sql.md"


def test_the_examples_of_the_page_pass_the_check():
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    assert blocks
    for block in blocks:
        assert check_app("page", block) == []


def test_the_examples_of_the_page_run_to_the_end_of_an_empty_input():
    for block in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S):
        engine = build_engine(plan_app("page", block))
        assert engine.step([], now_ms=1_514_764_800_000).problems == []
        assert engine.finish().problems == []
