"""Event files for `penstock send`: CSV and NDJSON become JSON lines; what cannot be read is named by its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock_app.rows_from_files import EventFile, Numbered, StreamShape, csv_rows, json_rows
from penstock_app.sending import cut_to_requests

TYPES = {"id": "STRING", "n": "BIGINT", "x": "DOUBLE", "ok": "BOOLEAN", "d": "DECIMAL(10, 2)", "ts": "TIMESTAMP(3)"}
SHAPE = StreamShape(TYPES, ["id"])


def lines(text: str) -> list[bytes]:
    return text.encode().splitlines(keepends=True)


def csv_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(row.line) for row in csv_rows(lines(text), SHAPE)]


def refusal(text: str) -> str:
    with pytest.raises(PenstockError) as refused:
        csv_events(text)
    assert refused.value.code == "bad_request"
    return refused.value.detail


def test_an_unquoted_empty_field_is_null_and_a_quoted_one_is_empty_text():
    assert csv_events('id,a,b,c\n1,,"",""\n') == [{"id": "1", "a": None, "b": "", "c": ""}]


def test_quotes_commas_and_lines_within_quotes_belong_to_the_field():
    text = 'id,a,b\r\n1,"x,"",y","say ""hi"""\r\n2,"one\r\n"",two",z\r\n'
    assert csv_events(text) == [
        {"id": "1", "a": 'x,",y', "b": 'say "hi"'},
        {"id": "2", "a": 'one\r\n",two', "b": "z"},
    ]


def test_values_have_the_declared_types():
    text = "id,n,x,ok,d,ts,other\n1,-5,1e3,TRUE,12.50,2018-01-01,7\n"
    assert csv_events(text) == [
        {"id": "1", "n": -5, "x": 1000.0, "ok": True, "d": "12.50", "ts": "2018-01-01", "other": "7"}
    ]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("n", "1_000"),
        ("n", "1.0"),
        ("n", "9223372036854775808"),
        ("x", "nan"),
        ("x", "1e999"),
        ("x", " 1"),
        ("ok", "1"),
    ],
)
def test_a_value_of_another_type_is_named_with_line_and_column(column: str, text: str):
    detail = refusal(f'{column},note\n,"two\nlines"\n{text},\n')
    assert detail == f"line 4, column {column}: '{text}' is not {TYPES[column]}"


def test_a_wrong_number_of_fields_is_named_with_its_line():
    assert refusal("id,a\n1,2\n1,2,3\n") == "line 3: 3 fields; the header has 2"
    assert refusal("id,a\n1\n") == "line 2: 1 fields; the header has 2"


def test_quotes_out_of_place_are_named_with_their_line():
    assert refusal('id,a\n1,"2"x\n1,"2"\n').startswith("line 2, field 2: a quote out of place")
    assert refusal('id,a\n1,2\n1,"never\nclosed\n') == "line 3: a quote is opened and never closed"


def test_a_header_needs_a_name_for_every_column():
    assert "line 1" in refusal("id,,a\n1,2,3\n")
    assert "line 1" in refusal("id,id\n1,2\n")


def test_a_byte_order_mark_and_empty_lines_are_passed_over():
    assert csv_events("\ufeffid,n\n\n1,2\n\n") == [{"id": "1", "n": 2}]
    rows = list(json_rows(lines('\ufeff{"id":1}\n\n  \n{"id":2}')))
    assert [(row.row, row.place, row.line) for row in rows] == [(0, 1, b'{"id":1}'), (1, 4, b'{"id":2}')]


def test_a_file_of_nothing_has_no_rows(tmp_path: Path):
    (tmp_path / "empty.csv").write_text("")
    assert read(tmp_path / "empty.csv") == []


def read(path: Path, mark: str | None = "m") -> list[bytes]:
    file = EventFile(path)
    try:
        return [row.line for row in file.rows(SHAPE, mark=mark)]
    finally:
        file.close()


def test_rows_without_an_id_get_one_and_their_text_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "events.ndjson"
    path.write_text('{"n": 1.10, "n": 2}\n{"id":"own"}\n{ }\n{"id":null,"n":3}\n[1]\nnonsense\n')
    assert read(path) == [
        b'{"id":"m-0","n": 1.10, "n": 2}',
        b'{"id":"own"}',
        b'{"id":"m-2"}',
        b'{"id":"m-3","n":3}',
        b"[1]",
        b"nonsense",
    ]
    assert read(path, mark=None)[2] == b"{ }"


def test_the_mark_follows_the_content_and_not_the_name(tmp_path: Path):
    for name, text in (("a.csv", "id\n1\n"), ("b.csv", "id\n1\n"), ("c.csv", "id\n2\n")):
        (tmp_path / name).write_text(text)
    a, b, c = (EventFile(tmp_path / f"{name}.csv") for name in "abc")
    assert a.mark() == b.mark() != c.mark()
    for file in (a, b, c):
        file.close()


def test_a_compressed_file_reads_like_a_plain_one_and_knows_how_far_it_is(tmp_path: Path):
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress(b"id,n\n1,2\n3,\n"))
    file = EventFile(path)
    assert file.fraction_read == 0.0
    assert [json.loads(row.line) for row in file.rows(SHAPE, mark=None)] == [
        {"id": "1", "n": 2},
        {"id": "3", "n": None},
    ]
    assert file.fraction_read == 1.0
    file.close()


def test_what_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path):
    with pytest.raises(PenstockError, match=r"nofile\.csv: No such file"):
        EventFile(tmp_path / "nofile.csv")
    for name, content, reason in (
        ("no.csv.gz", b"id\n1\n", "gzip"),
        ("cut.ndjson.gz", gzip.compress(b'{"id":1}\n' * 1000)[:-20], "end-of-stream"),
        ("latin.csv", b"id\n\xe4\n", "line 2: not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PenstockError, match=reason) as refused:
            read(tmp_path / name)
        assert name in refused.value.detail


def test_requests_are_cut_before_the_body_limit_and_a_long_row_goes_alone():
    rows = [Numbered(n, n + 1, b"x" * size) for n, size in enumerate((3, 3, 20, 3, 3, 3))]
    assert [[row.row for row in request] for request in cut_to_requests(rows, 8)] == [[0, 1], [2], [3, 4], [5]]
