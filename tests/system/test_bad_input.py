"""Bad input: each a clear error that names the place and the remedy, with nothing lost and the process alive."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from penstock_process import PROGRAM, PenstockProcess, eventually

APP = """
CREATE TABLE readings (id STRING, ts TIMESTAMP(3), device STRING, celsius DOUBLE, n BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'penstock', 'key' = 'device');
CREATE TABLE hot WITH ('connector' = 'penstock') AS SELECT id, device, celsius FROM readings WHERE celsius > 30;
"""
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
PATH = "/v1/streams/readings/events"


@pytest.fixture(scope="module")
def penstock(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "readings.sql").write_text(APP)
    with PenstockProcess(folder / "data", folder / "readings.sql") as running:
        yield running
        assert running.call("GET", "/livez").status == 200


def good(event_id: str) -> dict[str, object]:
    return {"id": event_id, "ts": "2026-01-05T09:00:00", "device": "d1", "celsius": 31.5, "n": 1}


def problem(reply, status: int, code: str) -> dict:
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith("application/problem+json")
    answer = reply.json()
    assert (answer["code"], answer["type"], answer["status"]) == (code, f"/errors/{code}", status)
    assert len(answer["detail"]) > 10
    return answer


@pytest.mark.parametrize("body", [b'{"id":"t1","ts"', b"[1, 2", b'{"id": nul}'])
def test_truncated_json_is_refused_whole(penstock, body):
    problem(penstock.call("POST", PATH, body, headers=JSON), 400, "bad_json")


def test_a_bad_line_is_rejected_with_its_index_and_the_others_are_stored(penstock):
    body = b"\n".join([json.dumps(good("l0")).encode(), b'{"id":"l1","ts', json.dumps(good("l2")).encode()])
    reply = penstock.call("POST", PATH, body, headers=NDJSON)
    answer = reply.json()
    assert (reply.status, answer["accepted"], answer["rejected"]) == (207, 2, 1)
    assert (answer["errors"][0]["index"], answer["errors"][0]["code"]) == (1, "bad_json")
    assert {"l0", "l2"} <= {row["_id"] for row in penstock.rows("raw.readings", select="_id")}
    listed = penstock.get("/v1/rejected?stream=readings&code=bad_json")["events"]
    assert any(event["raw"] == '{"id":"l1","ts' for event in listed)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"celsius": "12.5"}, "wrong_type"),
        ({"celsius": True}, "wrong_type"),
        ({"n": 1.5}, "wrong_type"),
        ({"device": 7}, "wrong_type"),
        ({"ts": "yesterday"}, "wrong_type"),
        ({"ts": None}, "no_event_time"),
        ({"ts": "2099-01-01T00:00:00"}, "time_out_of_range"),
    ],
)
def test_a_bad_value_is_rejected_with_its_column(penstock, change, code):
    event = good(f"v-{code}-{next(iter(change))}") | change
    reply = penstock.call("POST", PATH, json.dumps(event).encode(), headers=JSON)
    answer = reply.json()
    assert (reply.status, answer["rejected"]) == (422, 1)
    assert answer["errors"][0]["code"] == code
    assert next(iter(change)) in answer["errors"][0]["detail"]
    listed = penstock.get(f"/v1/rejected?stream=readings&code={code}")["events"]
    assert any(json.loads(one["raw"])["id"] == event["id"] for one in listed)


def test_a_missing_event_time_is_named(penstock):
    event = good("no-time")
    del event["ts"]
    answer = penstock.call("POST", PATH, json.dumps(event).encode(), headers=JSON).json()
    assert answer["errors"][0]["code"] == "no_event_time"


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_no_json_are_refused(penstock, text):
    body = b'{"id":"nan","ts":"2026-01-05T09:00:00","celsius":' + text + b"}"
    reply = penstock.call("POST", PATH, body, headers=JSON)
    assert reply.status in (400, 422), reply.body


def test_invalid_utf8_is_refused_and_its_place_named(penstock):
    body = b'{"id":"\xff\xfe","ts":"2026-01-05T09:00:00"}'
    reply = penstock.call("POST", PATH, body, headers=JSON)
    assert reply.status in (400, 422)
    assert b"utf-8" in reply.body.lower() or b"utf8" in reply.body.lower()


def test_a_huge_body_is_refused(penstock):
    reply = penstock.call("POST", PATH, b" " * (17 * 1024 * 1024), headers=NDJSON)
    problem(reply, 413, "too_large")


def test_an_unknown_stream_is_named(penstock):
    answer = problem(penstock.call("POST", "/v1/streams/nowhere/events", b"{}", headers=JSON), 404, "unknown_stream")
    assert "nowhere" in answer["detail"]


def test_a_derived_stream_takes_no_events(penstock):
    problem(penstock.call("POST", "/v1/streams/hot/events", b"{}", headers=JSON), 404, "unknown_stream")


def test_nothing_is_given_without_a_token(penstock):
    for method, path in (
        ("POST", PATH),
        ("GET", "/v1/topics/hot"),
        ("GET", "/v1/data/hot"),
        ("GET", "/v1/apps/readings"),
        ("GET", "/v1/rejected"),
    ):
        reply = penstock.call(method, path, b"{}" if method == "POST" else None, authorize=False)
        assert reply.status == 401, path
        assert "resource_metadata=" in reply.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("find", "replace", "code_part", "line"),
    [
        ("celsius > 30", "celsius >", "syntax", 4),
        ("celsius > 30", "fahrenheit > 30", "unknown_column", 4),
        ("FROM readings", "FROM reading", "unknown", 4),
        ("DOUBLE", "DUBLE", "", 2),
    ],
)
def test_a_bad_edit_is_refused_with_its_place_while_the_old_app_runs(penstock, find, replace, code_part, line):
    reply = penstock.call(
        "PUT", "/v1/apps/readings", APP.replace(find, replace).encode(), headers={"Content-Type": "application/sql"}
    )
    errors = problem(reply, 422, "sql_error")["errors"]
    assert errors[0]["line"] == line, errors
    assert code_part in errors[0]["code"]
    assert errors[0]["column"] >= 1
    assert errors[0]["message"]
    assert errors[0]["remedy"]
    event = good(f"still-{find}-{replace}")
    assert penstock.call("POST", PATH, json.dumps(event).encode(), headers=JSON).status == 200
    eventually(lambda: any(e["d"]["id"] == event["id"] for e in penstock.history("hot")[0]))


def test_unknown_columns_and_bad_cursors_are_named(penstock):
    answer = problem(penstock.call("GET", "/v1/data/hot?celcius=gt.3"), 400, "unknown_column")
    assert "celsius" in answer["detail"], "a close match is suggested"
    problem(penstock.call("GET", "/v1/topics/hot?after=garbage"), 400, "bad_cursor")
    problem(penstock.call("GET", "/v1/topics/hot?filter=celsius%20%3E"), 400, "bad_filter")


def test_a_port_in_use_ends_with_1_and_names_the_flag(penstock, tmp_path: Path):
    done = subprocess.run(
        [PROGRAM, "up", "--data", str(tmp_path / "other"), "--port", str(penstock.port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_instance_on_the_same_folder_is_refused(penstock):
    done = subprocess.run(
        [PROGRAM, "up", "--data", str(penstock.data), "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert str(penstock.data) in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_http_beyond_loopback_is_refused(tmp_path: Path):
    done = subprocess.run(
        [PROGRAM, "up", "--data", str(tmp_path / "d"), "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "--insecure-http" in done.stderr


def test_wrong_usage_ends_with_2():
    assert subprocess.run([PROGRAM, "up", "--no-such-flag"], capture_output=True, timeout=60).returncode == 2
