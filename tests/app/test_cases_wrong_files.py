"""Case files that are wrong: each finding has its line, its column, what it is, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from case_rig import ORDERS, try_cases, try_steps
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock_app.cases.discover import find_case_files
from penstock_app.cases.read import read_cases
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.shape import Wrongs

GOOD = """now: 2026-01-05T10:00:00
cases:
  - name: one
    steps:
      - send: orders
        rows:
          - {id: a, amount: 1, ts: 2026-01-05T09:00:00}
      - expect: large
        rows: []
"""

#: (text of GOOD, what it becomes, where, what is said, what to do)
WRONG = [
    ("now: 2026-01-05T10:00:00\n", "", "2:5", "Neither the case nor the file says `now`", "Write `now: 2026-01-05"),
    ("now: 2026-01-05T10", "now: 2026-13-05T10", "1:6", "`now`: '2026-13-05T10:00:00' is not a timestamp", "in UTC"),
    ("  - name: one", "  - nam: one", "3:5", "A case has no key 'nam'", "Did you mean 'name'?"),
    ("  - name: one\n    steps:", "  - steps:", "3:5", "A case needs the key `name`", "The keys are `name`"),
    ("      - send: orders", "      - sned: orders", "5:9", "This is no step", "A step has one of `send`"),
    ("send: orders", "send: order", "5:15", "'order' is no source of the app", "Did you mean 'orders'?"),
    (
        "send: orders",
        "send: large",
        "5:15",
        "'large' is written by the app: events go to its sources",
        "There are orders, customers",
    ),
    ("amount: 1", "ammount: 1", "7:21", "'ammount' is no column of orders", "Did you mean 'amount'?"),
    ("amount: 1", "doubled: 1", "7:21", "'doubled' of orders is computed", "Leave it out"),
    ("amount: 1", "amount: 1, amount: 2", "7:32", "'amount' is given twice, first in line 7", "Keep one"),
    (
        "expect: large",
        "expect: orders",
        "8:17",
        "'orders' is a source: what comes out of the app",
        "There are large, ",
    ),
    ("expect: large", "expect: larger", "8:17", "'larger' is no stream or table", "Did you mean 'large'?"),
    ("rows: []", "rows:\n          - {amount: many}", "10:22", "'amount' is DOUBLE: ", "as an event would have it"),
    ("rows: []", "rows:\n          - {price: 1.234}", "10:21", "'price' is DECIMAL(8, 2): ", "as an event"),
    ("rows: []", "rows:\n          - {ts: soon}", "10:18", "is not a timestamp", "as an event would have it"),
    ("rows: []", "rows:\n          - {$complete: true}", "10:14", "'$complete' is no column of large", "Its columns"),
    ("rows: []", "rows:\n          - {}", "10:13", "A row is a mapping with at least one column", "- {id: o1"),
    ("rows: []", "rows: |\n          {id: a}", "10:1", "The row is no JSON object", "one JSON object a line"),
    ("rows: []", "ordered: perhaps\n        rows: []", "9:18", "`ordered` is a boolean", "true or false"),
    ("rows: []", "tolerance: {id: 1}\n        rows: []", "9:21", "'id' is no column of large with numbers", "amount"),
    ("rows: []", "changes: true\n        rows: []", "8:17", "'large' is a stream, it has no changes", "Leave out"),
    (
        "large\n        rows: []",
        "per_minute\n        changes: true\n        rows:\n          - {$op: +U, orders: x}",
        "11:31",
        "'orders' is BIGINT",
        "as an event",
    ),
    (
        "large\n        rows: []",
        "per_minute\n        changes: true\n        rows:\n          - {$op: -U}",
        "11:19",
        "'$op' is one of +I, +U, -D",
        "inserted, updated or deleted",
    ),
    ("rows: []", "tolerance: -1\n        rows: []", "9:20", "`tolerance` is a number from 0", "tolerance: 0.01"),
    ("        rows: []\n", "", "8:17", "`expect` has no rows", "`rows: []` where nothing may come"),
    ("- expect: large\n        rows: []", "- advance: 5", "8:18", "`advance` is a span of time", "`90 s`"),
    ("- expect: large\n        rows: []", "- complete: customers", "8:19", "has no event time", "WATERMARK"),
    (
        "- expect: large\n        rows: []",
        "- expect_rejected:\n          - {cod: late}",
        "9:14",
        "no key 'cod'",
        "'code'",
    ),
    ("- expect: large", "- expect: large\n        send: orders", "8:9", "does two things: expect and send", "`- `"),
    ("      - expect: large", "     - expect: large", "8:6", "This is not YAML", "indentation"),
    ("{id: a,", "!!python/object:os.system {id: a,", "7:13", "The tag tag:yaml.org,2002:python", "without it"),
    ("{id: a,", "{id: \x07,", "7:18", "is not allowed in YAML", "quoted text"),
    ("cases:", "cases: &c", "", "", ""),
    ("  - name: one", "  - &c [*c]\n  - name: one", "3:5", "nested more than 32 deep", "flatter"),
    ("  - name: one", "  - name: one\n    app: other.sql", "3:5", "no app at ", "write `app:` with the path"),
    (GOOD, "", "1:1", "The file is empty", "Begin with `cases:`"),
    (GOOD, "cases: []", "1:8", "There are no cases", "Begin the first"),
    (GOOD, "- one", "1:1", "A case file is a mapping, found a list", "Write keys of `app`"),
    (GOOD, "[" * 1_500, "1:1", "nested more than 32 deep", "flatter"),
]


@pytest.mark.parametrize(("text", "instead", "place", "said", "remedy"), WRONG, ids=range(len(WRONG)))
async def test_a_wrong_file_is_told_where_and_what_to_write(
    tmp_path: Path, text: str, instead: str, place: str, said: str, remedy: str
):
    assert GOOD.count(text) == 1
    (tmp_path / "app.sql").write_text(ORDERS)
    (tmp_path / "app.test.yml").write_text(GOOD.replace(text, instead))
    tried = await try_cases(tmp_path)
    if not place:
        assert tried.wrong == []
        assert [result.failures for result in tried.results] == [()]
        return
    assert tried.results == [], "nothing of a wrong file runs"
    at_place = [line for line in tried.wrong if line.startswith(f"{place}: ")]
    assert at_place, tried.wrong
    message, what_to_write = at_place[0].split(" | ")
    assert said in message
    assert remedy in what_to_write


_WORDS = ("cases", "name", "steps", "send", "expect", "rows", "restart", "now", "orders", "2026-01-05", "1", "null",
          "|", ":", "{", "}", "[", "]", ",", "&a", "*a", "'", '"', "#", "!!int", "<<")  # fmt: skip
_PIECES = st.sampled_from([*_WORDS, ": ", "- ", "\n", "\n  ", "\t", "\x85", "\U0001f34c"])


@settings(max_examples=80, deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_told_what_is_wrong_with_it(text: str):
    wrongs = Wrongs()
    with wrongs.collecting():
        cases = read_cases(Path("a.test.yml"), text, app=Path("app.sql"), limits=CaseSettings(), wrongs=wrongs).cases
        assert all(case.name for case in cases)
    lines = 2 + sum(text.count(end) for end in "\n\r\x85\u2028\u2029")
    for finding in wrongs.findings:
        assert 1 <= finding.line <= lines
        assert finding.column >= 1
        assert finding.message
        assert finding.remedy


async def test_every_finding_is_told_not_just_the_first(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        """
- send: order
  rows: [{id: a}]
- advance: soon
- expect: large
  rows: [{idd: a}, {amount: x}]
""",
    )
    assert [line.split(": ")[0] for line in tried.wrong] == ["5:15", "7:18", "9:17", "9:35"]


async def test_a_wrong_file_keeps_the_others_from_nothing(tmp_path: Path):
    (tmp_path / "app.sql").write_text(ORDERS)
    (tmp_path / "app.test.yml").write_text(GOOD)
    (tmp_path / "broken.test.yml").write_text("cases: 5\n")
    tried = await try_cases(tmp_path)
    assert tried.wrong == [
        "1:8: `cases` is a list, found a number. | Begin each item on a line of its own with `- `."
    ]
    assert [result.path.name for result in tried.results] == ["app.test.yml"]


@pytest.mark.parametrize(
    ("limits", "place", "said"),
    [
        ({"file_max_bytes": 50}, "1:1", "raise test.file_max_bytes"),
        ({"values_max": 10}, "5:9", "raise test.values_max"),
        ({"steps_max": 1}, "5:7", "raise test.steps_max"),
        ({"depth_max": 3}, "3:5", "flatter"),
    ],
)
async def test_limits_are_named_where_they_are_reached(tmp_path: Path, limits: dict[str, int], place: str, said: str):
    (tmp_path / "app.sql").write_text(ORDERS)
    (tmp_path / "app.test.yml").write_text(GOOD)
    tried = await try_cases(tmp_path, limits=CaseSettings.model_validate(limits))
    assert tried.results == []
    assert said in tried.wrong[0]
    assert tried.wrong[0].startswith(f"{place}: ")


async def test_a_file_of_other_text_is_refused(tmp_path: Path):
    (tmp_path / "app.sql").write_text(ORDERS)
    (tmp_path / "app.test.yml").write_bytes(b"now: 2026-01-05\n# caf\xe9\n")
    tried = await try_cases(tmp_path)
    assert tried.wrong == ["2:1: The file is not UTF-8. | Save it as UTF-8."]


def test_case_files_are_found_beside_their_apps(tmp_path: Path):
    for name in ("a/app.sql", "a/orders.sql", "b/app.sql", "b/tests/x.yml", "b/tests/deep/y.yml", "c/tests/z.yml",
                 "a/app.test.yml", "a/orders.test.yml", "a/other.test.yaml", ".hidden/app.test.yml"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_case_files([tmp_path, tmp_path / "a"], CaseSettings())
    tested = [(str(f.path.relative_to(tmp_path)), str(f.app.relative_to(tmp_path))) for f in found]
    assert tested == [
        ("a/app.test.yml", "a/app.sql"),
        ("a/orders.test.yml", "a/orders.sql"),
        ("a/other.test.yaml", "a/app.sql"),
        ("b/tests/x.yml", "b/app.sql"),
    ]
    assert [f.path.name for f in find_case_files([tmp_path / "a/orders.sql"], CaseSettings())] == ["orders.test.yml"]
    with pytest.raises(PenstockError, match=r"there is no .*nowhere"):
        find_case_files([tmp_path / "nowhere"], CaseSettings())
    with pytest.raises(PenstockError, match=r"raise test\.files_max"):
        find_case_files([tmp_path], CaseSettings(files_max=2))
