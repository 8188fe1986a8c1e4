"""What a case does: its steps over the real admission and engine, and what it says when rows are not as expected."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from case_rig import ORDERS, try_cases, try_steps
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_app.cases.compare import matched
from penstock_app.cases.document import Finding
from penstock_app.cases.report import CaseResult, Failure, junit_xml
from penstock_app.cases.run import Cut
from penstock_app.cases.settings import CaseSettings

SENT = """
- send: orders
  rows:
    - {id: a, customer: ada, amount: 100, price: 12.50, ts: 2026-01-05T09:00:00}
    - {id: b, customer: ben, amount: 200.5, ts: 2026-01-05T09:00:01}
    - {id: c, customer: ada, amount: 5, ts: 2026-01-05T09:00:02}
"""


async def test_values_are_compared_as_the_types_of_their_columns(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        SENT
        + """
- expect: large
  rows:
    - {id: b, amount: 2.005e2, price: null}
    - {amount: 100.0, price: "12.5", ts: 2026-01-05 09:00}
""",
    )
    assert tried.said == []
    assert [result.failures for result in tried.results] == [()]


TYPES = """CREATE TABLE s (id STRING, v DOUBLE, t TIME, d DATE, b BYTES, f FLOAT, n DECIMAL(10, 3),
  z TIMESTAMP_LTZ(3), o BOOLEAN) WITH ('connector' = 'penstock');
CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT id, v, t, d, b, f, n, z, o FROM s;
"""


async def test_every_type_can_be_sent_and_expected_and_no_plain_text_becomes_another_value(tmp_path: Path):
    steps = """
- send: s
  rows:
    - {id: "1", v: 1, t: "12:00:00.5", d: 2026-01-05, b: aGk=, f: 0.1, n: 1.5, z: 2026-01-05T09:00:00+01:00, o: true}
    - {id: no, t: 12:30, v: -0.0}
- expect: copies
  rows:
    - {id: "1", v: 1.0, t: 12:00:00.500, d: 2026-01-05, b: aGk=, f: 0.1, n: "1.500", z: 2026-01-05T08:00:00Z, o: true}
    - {id: no, t: "12:30:00", v: 0, f: null}
"""
    tried = await try_steps(tmp_path, steps, sql=TYPES)
    assert (tried.wrong, tried.said, len(tried.results)) == ([], [], 1)
    off = await try_steps(tmp_path, steps.replace("v: 0, f: null", "v: 0, f: 0, o: false"), sql=TYPES)
    assert off.said[1:3] == [
        "differs   line 12: f expected 0, got null",
        "differs   line 12: o expected false, got null",
    ]


async def test_a_difference_names_missing_extra_and_differing_rows(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        SENT
        + """
- send: orders
  rows: [{id: d, customer: eve, amount: 900, ts: 2026-01-05T09:00:03}]
- expect: large
  rows:
    - {id: a, customer: ada, amount: 101}
    - {id: z, customer: zoe, amount: 1}
""",
    )
    assert tried.said == [
        "13: large is not as expected: 2 expected, 3 came",
        "differs   line 15: amount expected 101, got 100.0",
        '          of {"id":"a","customer":"ada"}',
        'missing   line 16: {"id":"z","customer":"zoe","amount":1}',
        'extra     {"id":"b","customer":"ben","amount":200.5}',
        'extra     {"id":"d","customer":"eve","amount":900.0}',
    ]


@pytest.mark.parametrize(
    ("options", "rows", "said"),
    [
        ("", "[{id: b}, {id: a}]", ""),
        ("ordered: true", "[{id: a}, {id: b}]", ""),
        ("ordered: true", "[{id: b}, {id: a}]", "order     line 12: expected "),
        ("exact: false", "[{id: b}]", ""),
        ("exact: false", "[{id: c}]", 'missing   line 12: {"id":"c"}'),
        ("tolerance: 0.5", "[{id: a, amount: 100.5}, {amount: 200}]", ""),
        ("tolerance: {amount: 0.4}", "[{id: a, amount: 100.5}, {id: b}]", "differs   line 12: amount expected 100.5"),
        ("tolerance: 0.01", "[{price: 12.51}, {price: null}]", ""),
        ("tolerance: 9", "[{id: a, price: null}, {id: b}]", "differs   line 12: price expected null, got"),
        # {amount: 100} fits one row only, so the other one is left for the row that fits both
        ("tolerance: 200", "[{customer: ada}, {amount: 100}]", ""),
        ("", "[]", "extra "),
    ],
)
async def test_options_of_an_expectation(tmp_path: Path, options: str, rows: str, said: str):
    tried = await try_steps(tmp_path, SENT + f"- expect: large\n  {options}\n  rows: {rows}")
    assert tried.wrong == []
    if said:
        assert any(line.startswith(said) for line in tried.said), tried.said
    else:
        assert tried.said == []


async def test_a_stream_shows_what_is_new_and_a_table_what_there_is(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        SENT
        + """
- expect: large
  rows: [{id: a}, {id: b}]
- expect: large
  rows: []
- expect: per_minute
  rows: [{customer: ada, orders: 2, $complete: false}, {customer: ben, orders: 1}]
- send: orders
  rows: [{id: d, customer: eve, amount: 900, ts: 2026-01-05T09:01:00}]
- expect: large
  rows: [{id: d}]
- complete: orders
  through: 2026-01-05T09:00:59.999
- expect: per_minute
  rows: [{customer: ada, $complete: true}, {customer: ben, $complete: true}, {customer: eve, $complete: false}]
""",
    )
    assert (tried.wrong, tried.said) == ([], [])


async def test_changes_of_a_table_are_rows_with_their_operation(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        SENT
        + """
- expect: per_minute
  changes: true
  rows: [{$op: +I, customer: ada, orders: 2, $complete: false}, {$op: +I, customer: ben}]
- send: orders
  rows: [{id: d, customer: ada, amount: 1, ts: 2026-01-05T09:00:03}]
- complete: orders
  through: 2026-01-05T09:59:59
- expect: per_minute
  rows: [{customer: ada, orders: 3}, {customer: ben, orders: 1}]
- expect: per_minute
  changes: true
  ordered: true
  rows: [{$op: +U, orders: 3, $complete: false}, {$op: +U, orders: 3, $complete: true}, {$op: +U, customer: ben}]
- send: orders
  rows: [{id: e, customer: eve, amount: 1, ts: 2026-01-05T11:00:00}]
""",
    )
    assert tried.wrong == []
    assert tried.said == [
        "20: per_minute: changes came after the last expectation",
        'extra     {"customer":"eve","minute_start":"2026-01-05T11:00:00.000","orders":1,"amount":1.0,'
        '"$complete":false,"$op":"+I"}',
    ]


async def test_a_restart_keeps_state_dedupe_and_watermarks(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        SENT
        + """
- restart
- send: orders
  rows:
    - {id: a, customer: ada, amount: 100, ts: 2026-01-05T09:00:00}
    - {id: d, customer: ada, amount: 1, ts: 2026-01-05T09:00:30}
- complete
- restart
- expect: per_minute
  rows: [{customer: ada, orders: 3, amount: 106, $complete: true}, {customer: ben, orders: 1}]
- send: orders
  rows: [{id: e, customer: ada, amount: 1, ts: 2026-01-05T09:00:31}]
- expect_rejected:
    - {code: late, stream: orders, statement: per_minute, event: {id: e}}
""",
    )
    assert (tried.wrong, tried.said) == ([], [])


async def test_nothing_may_come_that_nobody_expected(tmp_path: Path):
    tried = await try_steps(
        tmp_path,
        "- expect: large\n  rows: []" + SENT + "- send: orders\n  rows: |\n    {broken\n    {}",
    )
    assert tried.said == [
        "5: large: rows came after the last expectation",
        'extra     {"id":"a","customer":"ada","amount":100.0,"price":"12.50","ts":"2026-01-05T09:00:00.000"}',
        'extra     {"id":"b","customer":"ben","amount":200.5,"price":null,"ts":"2026-01-05T09:00:01.000"}',
        "0: events were rejected",
        "rejected  bad_json by admission of orders: JSON is malformed: object keys must be strings (byte 1)",
        "          {broken",
        "rejected  missing_column by admission of orders: 'id' is missing; it is STRING and needed",
        "          {}",
    ]


async def test_rejected_events_are_told_apart_by_what_is_said_of_them(tmp_path: Path):
    steps = """
- send: orders
  rows: |
    {"id":"a","amount":"1","ts":"2026-01-05T09:00:00"}
    {"id":"b","amount":0,"ts":"2026-01-05T09:00:00"}
    {"id":"c","amount":1}
- expect_rejected:
    - {code: %s, field: amount, event: {id: a}}
    - {code: division_by_zero, statement: shares, event: {id: b, amount: 0}}
    - {field: ts}
"""
    assert (await try_steps(tmp_path, steps % "wrong_type")).said == []
    assert (await try_steps(tmp_path, steps % "late")).said == [
        "10: rejected events are not as expected: 3 expected, 3 came",
        'missing   line 11: code late, field amount, event {"id":"a"}',
        "rejected  wrong_type by admission of orders: 'amount' is DOUBLE, found string; nothing is converted "
        "(Expected `float`, got `str`)",
        '          {"id":"a","amount":"1","ts":"2026-01-05T09:00:00"}',
    ]


IDLE = """CREATE TABLE s (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'key' = 'k', 'partitions' = '4', 'scan.watermark.idle-timeout' = '1 min');
CREATE TABLE n (w TIMESTAMP(3), n BIGINT, PRIMARY KEY (w) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO n SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
"""


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_time_passes_for_idle_partitions_when_the_case_says_so(tmp_path: Path, parallelism: int):
    sql = f"SET 'parallelism.default' = '{parallelism}';\n{IDLE}"
    steps = """
- send: s
  rows: [{k: a, ts: 2026-01-05T09:00:00}]
- advance: 59 s
- send: s
  rows: [{k: a, ts: 2026-01-05T09:01:00}]
- expect: n
  rows: []
- advance: 1 s
- expect: n
  rows: [{w: 2026-01-05T09:00:00, n: 1}]
- advance: 1 h
- complete
- expect: n
  rows: [{n: 1}, {w: 2026-01-05T09:01:00, n: 1}]
"""
    tried = await try_steps(tmp_path, steps, sql=sql)
    assert (tried.wrong, tried.said) == ([], [])


async def test_the_clock_judges_how_far_ahead_an_event_may_be(tmp_path: Path):
    ahead = "- send: orders\n  rows: [{id: a, ts: 2026-01-07T09:00:00, amount: 1}]\n"
    early = await try_steps(tmp_path, ahead)
    assert "time_out_of_range" in early.said[1]
    assert (await try_steps(tmp_path, "- advance: 1 d\n" + ahead)).said == []
    assert (await try_steps(tmp_path, ahead, case="    now: 2026-01-06T10:00:00\n")).said == []


async def test_a_case_whose_rows_depend_on_the_cut_fails_under_some_seed(tmp_path: Path):
    times = [f"09:0{minute}:00" for minute in (0, 1, 2) * 3]
    rows = "".join(f"    - {{id: i{n}, customer: ada, amount: 1, ts: 2026-01-05T{t}}}\n" for n, t in enumerate(times))
    expected = "- expect: per_minute\n  rows: [{orders: 3}, {orders: 3}, {orders: 3}]"
    steps = f"- send: orders\n  rows:\n{rows}- complete\n{expected}"
    assert (await try_steps(tmp_path, steps)).said == []
    cut = await try_steps(tmp_path, steps, seed=1)
    assert cut.said[0].endswith(
        "with its inputs cut at random (--cut --seed 1): per_minute is not as expected: 3 expected, 3 came"
    )
    assert (await try_steps(tmp_path, steps, seed=1)).said == cut.said, "a seed cuts at the same places"
    assert (await try_steps(tmp_path, steps, seed=1, case="    cut: false\n")).said == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=2), min_size=1, max_size=20), st.integers())
def test_pieces_are_the_input_in_order(lines: list[bytes], seed: int):
    pieces = Cut(seed).pieces(lines, random.Random(seed))
    assert all(pieces)
    assert [line for piece in pieces for line in piece] == lines


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 5)), max_size=6))
def test_as_many_rows_find_a_partner_as_can(candidates: list[set[int]]):
    partners = matched(candidates)
    found = [partner for partner in partners if partner is not None]
    assert len(set(found)) == len(found)
    assert all(partner is None or partner in fits for partner, fits in zip(partners, candidates, strict=True))
    assert len(found) == _most(candidates)


def _most(candidates: list[set[int]], taken: frozenset[int] = frozenset()) -> int:
    """The size of the largest matching, by trying everything."""
    if not candidates:
        return 0
    first, *rest = candidates
    return max([_most(rest, taken), *(1 + _most(rest, taken | {one}) for one in first - taken)])


async def test_a_broken_app_fails_its_cases_with_the_places_in_it(tmp_path: Path):
    tried = await try_steps(tmp_path, "- send: orders\n  rows: [{id: a}]", sql=ORDERS + "SELEKT;\n")
    assert tried.wrong == []
    title, place, remedy = tried.said
    assert title == "0: the app cannot run"
    assert place.startswith(f"{tmp_path}/app.sql:{ORDERS.count(chr(10)) + 1}:1: ")
    assert remedy.strip()


async def test_cases_are_chosen_by_name_and_limits_end_them(tmp_path: Path):
    (tmp_path / "app.sql").write_text(ORDERS)
    cases = "".join(
        f"  - name: {name}\n    steps:\n      - expect: large\n        rows: []\n" for name in ("One", "two")
    )
    (tmp_path / "app.test.yml").write_text(f"now: 2026-01-05\ncases:\n{cases}")
    assert [result.name for result in (await try_cases(tmp_path, keyword="one")).results] == ["One"]
    sent = [f"- send: orders\n  rows: [{{id: a{n}, amount: 100, ts: 2026-01-05}}]\n" for n in range(3)]
    more = "".join(sent) + "- expect: large\n  rows: []"
    limited = await try_steps(tmp_path, more, limits=CaseSettings(rows_max=2))
    assert limited.said == [
        "11: large has 3 rows, 2 can be compared; look at them more often, or raise test.rows_max (too_large)"
    ]


def test_junit_counts_and_holds_any_text(tmp_path: Path):
    bad = Failure(7, "got \x00 & <that>", ("a\x1b", "b"))
    results = [
        CaseResult(Path("a.yml"), "good", 3, 0.25),
        CaseResult(Path("a.yml"), "bad", 6, 0.5, (bad, Failure(0, "more"))),
        CaseResult(Path("b.yml"), "good", 3, 0.25),
    ]
    wrong = [(Path("c.yml"), Finding(2, 5, "No.", "Yes.")), (Path("c.yml"), Finding(3, 1, "No?", "Yes!"))]
    root = ElementTree.fromstring(junit_xml(results, wrong))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "time")} == {
        "tests": "4", "failures": "1", "errors": "1", "time": "1.000",
    }  # fmt: skip
    assert [
        (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root
    ] == [
        ("c.yml", "1", "0", "1"),
        ("a.yml", "2", "1", "0"),
        ("b.yml", "1", "0", "0"),
    ]
    errors = [(error.get("message"), error.text) for error in root.iter("error")]
    assert errors == [("c.yml:2:5: No.", "Yes."), ("c.yml:3:1: No?", "Yes!")]
    said = [(failure.get("message"), failure.text) for failure in root.iter("failure")]
    assert said == [("a.yml:7: got \ufffd & <that>", "a\ufffd\nb"), ("a.yml:6: more", None)]
