"""Whatever the text, planning ends with a plan or with findings that have a place; nothing else is ever raised."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock_processor.logical.plan_app import check_app

HERE = Path(__file__).parent / "sql"
PRELUDE = (HERE / "prelude.sql").read_text()
GOOD = [p.read_text() for p in sorted((HERE / "queries").glob("*.sql"))]
WORDS = (HERE / "words.txt").read_text().split()
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def ends_well(text: str) -> None:
    lines = text.count("\n") + 1
    for error in check_app("app", text):
        assert 1 <= error.line <= lines
        assert error.column >= 1
        assert error.code and error.message and error.remedy


@QUIET
@given(st.text(max_size=200))
def test_any_text_gives_a_plan_or_findings(text: str) -> None:
    ends_well(text)


@QUIET
@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_sequence_of_words_gives_a_plan_or_findings(words: list[str]) -> None:
    ends_well(" ".join(words))
    ends_well("CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT " + " ".join(words) + ";" + PRELUDE)


@QUIET
@given(st.sampled_from(GOOD), st.data())
def test_a_good_app_with_pieces_moved_gives_a_plan_or_findings(good: str, data: st.DataObject) -> None:
    pieces = good.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        match data.draw(st.sampled_from(["remove", "double", "exchange", "word"])):
            case "remove" if len(pieces) > 1:
                del pieces[at]
            case "double":
                pieces.insert(at, pieces[at])
            case "exchange":
                other = data.draw(st.integers(0, len(pieces) - 1))
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case _:
                pieces[at] = data.draw(st.sampled_from(WORDS))
    ends_well(" ".join(pieces) + "\n" + PRELUDE)


@QUIET
@given(st.sampled_from(GOOD), st.data())
def test_a_good_app_cut_anywhere_gives_a_plan_or_findings(good: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(good)))
    ends_well(good[:first])
    ends_well(good[first:] + PRELUDE)


@pytest.mark.parametrize("opening", ["(", "CASE WHEN ", "NOT ", "- ", "SELECT * FROM (", "CAST("])
@pytest.mark.parametrize("times", [20, 5_000])
def test_deep_nesting_is_refused_and_never_exhausts_the_stack(opening: str, times: int) -> None:
    ends_well("CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT " + opening * times + "price FROM trades;")


def test_a_long_chain_of_operators_is_refused_and_never_exhausts_the_stack() -> None:
    for chain in (" + price" * 20_000, " AND ok" * 20_000, " || note" * 20_000, " IS NULL" * 5_000):
        ends_well(
            "CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT price" + chain + " AS x FROM trades;" + PRELUDE
        )
