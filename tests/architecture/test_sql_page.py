"""The SQL on the language's page is an app that passes the check."""

from __future__ import annotations

import re
from pathlib import Path

from penstock_processor.logical.plan_app import check_app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sql.md"


def test_the_examples_of_the_page_pass_the_check():
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    assert blocks
    for block in blocks:
        assert check_app("page", block) == []
