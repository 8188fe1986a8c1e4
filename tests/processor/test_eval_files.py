"""`penstock eval` as a function: files in, rows out, compared with what the csv module and plain Python compute."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PenstockError, SqlErrors
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import INT
from penstock_processor.eval import run_eval
from penstock_processor.evaluation.rows import pieces_of
from penstock_processor.runtime.decode import RowDecoder

ARRIVALS = """CREATE TABLE arrivals (
  `date` TIMESTAMP(3), state STRING, market STRING, commodity STRING, variety STRING,
  arrivals_tonnes DOUBLE, min_price DOUBLE, max_price DOUBLE, modal_price DOUBLE,
  WATERMARK FOR `date` AS `date` - INTERVAL '1' DAY
) WITH ('connector' = 'penstock', 'key' = 'market');
CREATE TABLE cheap_lots WITH ('connector' = 'penstock')
AS SELECT market, commodity, modal_price, `date` FROM arrivals WHERE modal_price < 500;
CREATE TABLE daily (
  state STRING, commodity STRING, day_start TIMESTAMP(3), tonnes DOUBLE, lots BIGINT,
  PRIMARY KEY (state, commodity, day_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO daily SELECT state, commodity, window_start, SUM(arrivals_tonnes), COUNT(*)
FROM TABLE(TUMBLE(TABLE arrivals, DESCRIPTOR(`date`), INTERVAL '1' DAY))
GROUP BY state, commodity, window_start, window_end;
"""
SAMPLE_ROWS = 30_000


class Ran:
    """What a run gave back."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.rows = [json.loads(line) for line in out.splitlines()]
        self.err = err

    @property
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        return found


def run(folder: Path, sql: str, *inputs: str, **options: Any) -> Ran:
    app = folder / "app.sql"
    app.write_text(sql)
    outputs: list[str] = options.pop("outputs", [])
    flags = {"final": False, "strict": False, "stats": True, **options}
    out, err = io.BytesIO(), io.StringIO()
    code = run_eval(app, list(inputs), outputs, **flags, stdout=out, stderr=err)
    return Ran(code, out.getvalue().decode(), err.getvalue())


@pytest.fixture(scope="module")
def sample(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The first rows of the year as a CSV file, and as the csv module reads them."""
    path = tmp_path_factory.mktemp("sample") / "arrivals.csv"
    with gzip.open(shared_data / "mandi_arrivals_2018.csv.gz", "rt", newline="") as whole:
        lines = [line for _, line in zip(range(SAMPLE_ROWS + 1), whole, strict=False)]
    path.write_text("".join(lines))
    return path, list(csv.DictReader(lines))


def expected_daily(rows: list[dict[str, str]]) -> dict[tuple[str, str, str], tuple[float | None, int]]:
    tonnes: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    lots: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        key = (row["state"], row["commodity"], row["date"])
        lots[key] += 1
        if row["arrivals_tonnes"]:
            tonnes[key].append(float(row["arrivals_tonnes"]))
    return {key: (math.fsum(tonnes[key]) if tonnes[key] else None, lots[key]) for key in lots}


def as_events(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    numbers = ("arrivals_tonnes", "min_price", "max_price", "modal_price")
    return [
        {name: (float(value) if value else None) if name in numbers else value for name, value in row.items()}
        for row in rows
    ]


def assert_daily(found: list[dict[str, Any]], rows: list[dict[str, str]]) -> None:
    wanted = expected_daily(rows)
    assert len(found) == len(wanted)
    for row in found:
        tonnes, lots = wanted[row["state"], row["commodity"], row["day_start"][:10]]
        assert row["lots"] == lots
        assert row["tonnes"] == tonnes or math.isclose(row["tonnes"], tonnes or 0.0, rel_tol=1e-12)


def test_a_year_of_markets_equals_plain_python(sample: tuple[Path, list[dict[str, str]]], tmp_path: Path) -> None:
    path, rows = sample
    ran = run(tmp_path, ARRIVALS, f"arrivals={path}", outputs=["daily=-", f"cheap_lots={tmp_path}/cheap"], final=True)
    assert ran.code == 0
    assert (ran.stats["events"], ran.stats["rejected"], ran.stats["late"]) == (len(rows), 0, 0)
    assert_daily(ran.rows, rows)
    assert list(ran.rows[0]) == ["state", "commodity", "day_start", "tonnes", "lots"]
    cheap = [json.loads(line) for line in (tmp_path / "cheap").read_text().splitlines()]
    wanted = [
        {"market": r["market"], "commodity": r["commodity"], "modal_price": float(r["modal_price"]),
         "date": f"{r['date']}T00:00:00.000"}
        for r in rows if r["modal_price"] and float(r["modal_price"]) < 500
    ]  # fmt: skip
    assert cheap == wanted


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz", "csv.gz", "parquet"])
def test_every_file_format_gives_the_same_rows(
    sample: tuple[Path, list[dict[str, str]]], tmp_path: Path, form: str
) -> None:
    path, rows = sample
    events = as_events(rows)
    file = tmp_path / f"arrivals.{form}"
    if form == "parquet":
        frame = pl.DataFrame(events, infer_schema_length=None)
        frame.with_columns(pl.col("date").str.to_datetime("%Y-%m-%d", time_unit="ms")).write_parquet(file)
    elif form == "csv.gz":
        file.write_bytes(gzip.compress(path.read_bytes()))
    else:
        text = "\n".join(json.dumps(event) for event in events).encode() + b"\n"
        file.write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    ran = run(tmp_path, ARRIVALS, f"arrivals={file}", outputs=["daily=-"], final=True)
    assert ran.stats["events"] == len(rows)
    assert_daily(ran.rows, rows)


SMALL = """CREATE TABLE readings (
  id STRING NOT NULL, code STRING, n INT, ok BOOLEAN, `day` DATE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts
) WITH ('connector' = 'penstock');
CREATE TABLE numbers WITH ('connector' = 'penstock') AS SELECT id, CAST(code AS INT) AS n FROM readings;
CREATE TABLE latest (id STRING, n INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO latest SELECT id, n FROM readings;
"""
READINGS = [
    '{"id":"a","code":"1","n":1,"ok":true,"day":"2018-01-01","ts":"2018-01-01T00:00:00"}',
    '{"id":"b","code":"x","n":2,"ts":1514764801000}',
    '{"id":"c","code":7,"n":3,"ts":1514764802000}',
    "",
    '{"id":"d","code":"4","n":4}',
    '{"code":"5","n":5,"ts":1514764804000}',
    "not json",
    '{"id":"e","code":"6","n":6,"ts":"2999-01-01"}',
    '{"id":"f","code":"7","n":7,"ts":"0001-01-01"}',
    '{"id":"a","code":"8","n":8,"ts":"2018-01-01T00:00:07.000Z","unknown":{"id":"z"}}',
]


def test_bad_rows_are_counted_as_the_edge_would_reject_them_and_the_run_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "readings.ndjson"
    file.write_text("\n".join(READINGS))
    ran = run(tmp_path, SMALL, f"readings={file}", outputs=["numbers=-"])
    assert ran.rows == [{"id": "a", "n": 1}, {"id": "a", "n": 8}]
    assert (ran.stats["events"], ran.stats["rejected"], ran.stats["late"]) == (9, 7, 0)
    assert set(ran.stats) == {"events", "seconds", "events_per_s", "rejected", "late"}
    plain = run(tmp_path, SMALL, f"readings={file}", outputs=["numbers=-"], stats=False, strict=True)
    assert plain.code == 1
    for code in ("wrong_type", "no_event_time", "missing_column", "bad_json", "time_out_of_range"):
        assert code in plain.err, plain.err
    assert plain.err.splitlines()[-1] == "7 rows rejected, 0 late"


def test_without_outputs_every_sink_is_marked_on_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "readings.ndjson"
    file.write_text(READINGS[0])
    ran = run(tmp_path, SMALL, f"readings={file}")
    latest, numbers = sorted(ran.rows, key=lambda row: str(row["$table"]))
    assert list(latest) == ["$table", "id", "n", "$op"]
    assert latest["$op"] in ("+I", "+U"), "an upsert: whether the row was there is not this statement's to know"
    assert (latest["$table"], latest["id"], latest["n"]) == ("latest", "a", 1)
    assert numbers == {"$table": "numbers", "id": "a", "n": 1}


def test_the_end_state_of_a_table_is_its_last_rows_in_order_of_the_key(tmp_path: Path) -> None:
    file = tmp_path / "readings.ndjson"
    file.write_text("\n".join([READINGS[1].replace('"x"', '"2"'), READINGS[0], READINGS[-1]]))
    ran = run(tmp_path, SMALL, f"readings={file}", outputs=["latest=-"], final=True)
    assert ran.rows == [{"id": "a", "n": 8}, {"id": "b", "n": 2}]


def test_rows_without_a_dedupe_key_are_taken_as_nothing_is_deduplicated(tmp_path: Path) -> None:
    file = tmp_path / "readings.ndjson"
    file.write_text('{"code":"1","ts":1514764800000}\n' * 2)
    ran = run(tmp_path, SMALL.replace("id STRING NOT NULL", "id STRING"), f"readings={file}", outputs=["numbers=-"])
    assert ran.rows == [{"id": None, "n": 1}] * 2


def test_csv_fields_are_read_as_their_types_and_quotes_are_heeded(tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(
        'id,ts,code,n,ok,extra\n'
        'a,2018-01-01 00:00:00,1,10,true,x\n'
        '"b, ""the"" second",2018-01-01T00:00:01Z,2,,FALSE,"two\nlines"\n'
        'c,2018-01-01T05:30:02+05:30,3,twelve,,\n'
        'd,,4,1,,\n'
        ',2018-01-01,4,1,,\n'
        '"",2018-01-01T00:00:05,5,6,,\n'
    )  # fmt: skip
    ran = run(tmp_path, SMALL, f"readings={file}", outputs=["latest=-"], final=True)
    assert ran.rows == [{"id": "", "n": 6}, {"id": "a", "n": 10}, {"id": 'b, "the" second', "n": None}]
    assert (ran.stats["events"], ran.stats["rejected"]) == (6, 3)


def test_empty_lines_of_a_csv_file_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    for end in ("\n", "\r\n"):
        lines = ["id,ts,code", "a,2018-01-01,1", "", '"b', "", 'c",2018-01-01,2', "", "", '"d",,', ""]
        file.write_bytes(end.join(lines).encode())
        ran = run(tmp_path, SMALL, f"readings={file}", outputs=["numbers=-"])
        assert [row["id"] for row in ran.rows] == ["a", f"b{end}{end}c"]
        assert (ran.stats["events"], ran.stats["rejected"]) == (3, 1)  # the last one has no time


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_record_with_a_comma_too_many_is_told_with_its_line(tmp_path: Path, ending: str) -> None:
    text = b'id,ts,code\n"a\nb",2018-01-01,1\nc,2018-01-01,1,5\n'
    file = tmp_path / f"readings.csv{ending}"
    file.write_bytes(gzip.compress(text) if ending else text)
    with pytest.raises(PenstockError, match=f"csv{ending}:4: 4 fields, the first line names 3"):
        run(tmp_path, SMALL, f"readings={file}", outputs=["numbers=-"])


@pytest.mark.parametrize(
    "text", ["a,2018-01-01,1\r\nb,2018-01-01", '"a\n",2018-01-01,1\nb', "a,2018-01-01,1\nb,1\nc,,"]
)
def test_a_record_that_is_cut_short_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "readings.csv"
    file.write_bytes(f"id,ts,code\n{text}".encode())
    with pytest.raises(PenstockError, match=r"csv:[34]: [12] fields, the first line names 3"):
        run(tmp_path, SMALL, f"readings={file}", outputs=["numbers=-"])


JOIN = """CREATE TABLE reports (id STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE assigned (report STRING, driver STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock');
CREATE TABLE pickups WITH ('connector' = 'penstock') AS
SELECT r.id, a.driver, a.ts AS at_time FROM reports AS r JOIN assigned AS a
ON r.id = a.report AND a.ts BETWEEN r.ts AND r.ts + INTERVAL '10' SECOND;
"""


def test_several_inputs_are_merged_by_event_time(tmp_path: Path) -> None:
    reports = [{"id": f"r{i}", "ts": 1_514_764_800_000 + i * 1000} for i in range(5000)]
    assigned = [
        {"report": f"r{i}", "driver": f"d{i % 3}", "ts": 1_514_764_800_000 + i * 1000 + (i % 20) * 1000}
        for i in range(0, 5000, 2)
    ]
    assigned.sort(key=lambda row: row["ts"])  # type: ignore[arg-type,return-value]  # integers
    for name, rows in (("reports", reports), ("assigned", assigned)):
        (tmp_path / f"{name}.ndjson").write_text("\n".join(json.dumps(row) for row in rows))
    inputs = [f"assigned={tmp_path}/assigned.ndjson", f"reports={tmp_path}/reports.ndjson"]
    ran = run(tmp_path, JOIN, *inputs, outputs=["pickups=-"])
    wanted = {(row["report"], row["driver"]) for row in assigned if int(str(row["report"])[1:]) % 20 <= 10}
    assert {(row["id"], row["driver"]) for row in ran.rows} == wanted
    assert (ran.stats["events"], ran.stats["rejected"], ran.stats["late"]) == (7500, 0, 0)


def test_an_input_that_nobody_gives_is_empty_and_holds_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "reports.ndjson").write_text('{"id":"r1","ts":1514764800000}')
    ran = run(tmp_path, JOIN, f"reports={tmp_path}/reports.ndjson")
    assert (ran.rows, ran.stats["events"]) == ([], 1)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(["readings"], []), (["nothing=x"], []), (["numbers=x"], []), (["readings=x", "readings=y"], []),
     (["readings=missing.ndjson"], []), ([], ["readings=-"]), ([], ["numbers=/nowhere/at/all"])],
)  # fmt: skip
def test_wrong_names_and_missing_files_are_named(tmp_path: Path, inputs: list[str], outputs: list[str]) -> None:
    with pytest.raises(PenstockError) as caught:
        run(tmp_path, SMALL, *inputs, outputs=outputs)
    assert caught.value.code == "bad_request"
    assert (inputs + outputs)[-1].split("=")[-1] in caught.value.detail


def test_an_app_that_cannot_run_says_where(tmp_path: Path) -> None:
    with pytest.raises(SqlErrors) as caught:
        run(tmp_path, SMALL.replace("CAST(code AS INT)", "CAST(coda AS INT)"))
    assert caught.value.errors[0].line == 4


def test_rows_cut_anywhere_by_the_pieces_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.dumps({"id": f"é{i}", "code": str(i), "n": i, "ts": 1_514_764_800_000 + i}) for i in range(100)]
    (tmp_path / "readings.ndjson").write_text("\r\n".join(rows) + "\r\n\r\n")
    with (tmp_path / "readings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "code", "n", "ts"])
        writer.writerows([f'a"{i}\nb', str(i), i, "2018-01-01T00:00:00"] for i in range(100))
    from penstock_processor.evaluation import rows as module

    whole = [
        run(tmp_path, SMALL, f"readings={tmp_path}/readings.{f}", outputs=["numbers=-"]) for f in ("ndjson", "csv")
    ]
    assert [len(ran.rows) for ran in whole] == [100, 100]
    for size in (7, 1000):
        monkeypatch.setattr(module.pieces_of, "__kwdefaults__", {"piece_bytes": size})
        for before, form in zip(whole, ("ndjson", "csv"), strict=True):
            again = run(tmp_path, SMALL, f"readings={tmp_path}/readings.{form}", outputs=["numbers=-"])
            assert again.rows == before.rows
            assert again.stats["rejected"] == 0


def test_rows_for_the_null_device_are_counted_and_not_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "readings.ndjson"
    file.write_text('{"id":"a","n":1,"ts":"2026-01-05T00:00:00"}\n')
    monkeypatch.setattr("penstock_processor.evaluation.sinks.json_frame", None)
    ran = run(tmp_path, SMALL, f"readings={file}", outputs=[f"latest={os.devnull}"])
    assert (ran.rows, ran.stats["events"]) == ([], 1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b'{"a":1}', b'{"a": 2, "b": "x y"}', b"", b" ", b"\t", b" {}", b"{}\t", b"\r", b"nope"])
    ),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n\t"]),
    st.integers(1, 40),
)
def test_lines_are_those_that_are_not_blank_however_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, piece_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.ndjson"
    path.write_bytes(end.join(lines))
    spec = StreamSpec("s", "app", Relation.SOURCE, (Column("a", INT),))
    wanted = [line.strip() for line in path.read_bytes().replace(b"\r", b"\n").split(b"\n") if line.strip()]
    whole = RowDecoder(spec.columns, small_bytes=0).decode(b"\n".join(wanted))
    pieces = list(pieces_of(path, spec, now_ms=0, piece_bytes=piece_bytes))
    found = [row for piece in pieces for row in piece.frame.rows()]
    bad = [(b.row, b.code) for piece in pieces for b in piece.bad]
    assert (found, bad) == (whole.frame.rows(), [(b.row, b.code) for b in whole.bad])
