"""`POST /v1/query` over HTTP: scopes, formats, limits of replies, refusals."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from data_harness import ARRIVALS, DAILY, LOTS, Harness, inserted

from penstock.http.access import Principal
from penstock.http.authorization_details import TopicGrant
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import SystemClock
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock.testing.access import GrantedAccess
from penstock_data.service import build
from penstock_data.settings import DataSettings, SqlSettings

ROWS = [("a,b", 1.0, None, 1, None, None, None), ("", 2.0, None, 2, None, None, None)]


@pytest.fixture
async def harness(tmp_path: Path) -> Any:
    """HTTP is the same over every database: SQLite is enough here."""
    url = f"sqlite:///{tmp_path}"
    store = open_store(url, clock=SystemClock())
    yield Harness(store, url)
    await store.close()


async def started(harness: Harness, serve: Any, **limits: Any) -> Any:
    await harness.deploy(LOTS, DAILY, ARRIVALS)
    await harness.derive(LOTS, inserted(*ROWS))
    role = harness.role(SqlSettings(**limits))
    await harness.catch_up(role)
    return await serve(role)


async def test_rows_come_in_the_format_asked_for(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    sql = {"sql": "SELECT market, price, bags FROM lots ORDER BY bags"}
    reply = await client.post("/v1/query", json=sql)
    assert reply.content_type == "application/json"
    assert await reply.json() == {
        "columns": [
            {"name": "market", "type": "STRING"},
            {"name": "price", "type": "DECIMAL(10, 2)"},
            {"name": "bags", "type": "BIGINT"},
        ],
        "rows": [{"market": "a,b", "price": None, "bags": 1}, {"market": "", "price": None, "bags": 2}],
        "truncated": False,
    }
    assert reply.headers["Cache-Control"] == "private, no-store"
    reply = await client.post("/v1/query", json=sql, headers={"Accept": "application/x-ndjson"})
    lines = (await reply.text()).splitlines()
    assert [msgspec.json.decode(line) for line in lines] == (await (await client.post("/v1/query", json=sql)).json())[
        "rows"
    ]
    assert reply.headers["Penstock-Truncated"] == "false"
    reply = await client.post("/v1/query", json=sql, headers={"Accept": "text/csv"})
    assert list(csv.reader(io.StringIO(await reply.text()))) == [["market", "price", "bags"], ["a,b", "", "1"],
                                                                ["", "", "2"]]  # fmt: skip
    empty = {"sql": "SELECT market FROM lots WHERE FALSE"}
    assert (await (await client.post("/v1/query", json=empty)).json())["rows"] == []
    assert await (await client.post("/v1/query", json=empty, headers={"Accept": "text/csv"})).text() == "market\n"
    reply = await client.post("/v1/query", json=sql, headers={"Accept": "image/png"})
    assert reply.status == 406


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
async def test_a_reply_beyond_its_limits_says_that_it_is_cut(harness: Harness, serve: Any, accept: str) -> None:
    client = await started(harness, serve, rows_max=8, reply_max_bytes=1024)
    headers = {"Accept": accept}
    sixteen = "FROM lots AS a, lots AS b, lots AS c, lots AS d"

    async def ask(sql: str) -> tuple[str, str]:
        reply = await client.post("/v1/query", json={"sql": sql}, headers=headers)
        assert reply.status == 200, await reply.text()
        return reply.headers["Penstock-Truncated"], await reply.text()

    assert (await ask(f"SELECT 'x' AS mark {sixteen}"))[0] == "true"
    assert (await ask(f"SELECT 'x' AS mark {sixteen}"))[1].count("x") == 8
    assert (await ask(f"SELECT 'x' AS mark {sixteen} LIMIT 8"))[0] == "false"
    assert (await ask(f"SELECT 'x' AS mark {sixteen} LIMIT 9"))[0] == "true"
    if accept == "application/json":
        assert msgspec.json.decode((await ask(f"SELECT 'x' AS mark {sixteen}"))[1])["truncated"] is True


async def test_values_beyond_the_limit_of_bytes_are_cut_between_rows(harness: Harness, serve: Any) -> None:
    await harness.deploy(LOTS)
    await harness.derive(LOTS, inserted(*(("x" * 1000, float(i), None, i, None, None, None) for i in range(3000))))
    role = harness.role(SqlSettings(reply_max_bytes=500_000))
    await harness.catch_up(role)
    client = await serve(role)
    answer = await (await client.post("/v1/query", json={"sql": "SELECT market, bags FROM lots ORDER BY 2"})).json()
    assert answer["truncated"] is True
    assert 100 <= len(answer["rows"]) <= 500
    assert [row["bags"] for row in answer["rows"]] == list(range(len(answer["rows"])))


async def test_what_is_wrong_is_said_with_its_place_and_the_remedy(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.post("/v1/query", json={"sql": "SELECT market,\n       bagz FROM lots"})
    answer = await reply.json()
    assert (reply.status, reply.content_type) == (422, "application/problem+json")
    assert answer["errors"] == [
        {
            "line": 2, "column": 8, "code": "unknown_column", "message": "There is no column 'bagz'.",
            "remedy": "Did you mean bags?",
        }
    ]  # fmt: skip
    for sql, remedy in (
        ("SELECT * FROM raw.arrivals", "/v1/data/raw.arrivals"),
        ("SELECT * FROM arrivals", "/v1/data/raw.arrivals"),
        ("SELECT * FROM lotz", "Did you mean lots?"),
        ("DELETE FROM lots", "Send one SELECT"),
        ("SELECT pg_sleep(1) AS a", "list of functions"),
        ("SELECT HEX(market) AS a FROM lots", "docs/query.md"),
    ):
        answer = await (await client.post("/v1/query", json={"sql": sql})).json()
        assert remedy in answer["errors"][0]["remedy"], sql


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b"[" * 10_000, 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b"{}", 400, "bad_request"),
        (b'{"sql": 1}', 400, "bad_request"),
        (b'{"sql": "SELECT 1 AS a", "sql2": ""}', 400, "bad_request"),
        (b'{"sql": "SELECT 1 AS a", "params": 1}', 400, "bad_request"),
        (b'{"sql": "SELECT ? AS a", "params": [1e999]}', 400, "bad_request"),
        (b'{"sql": "SELECT ? AS a", "params": [123456789012345678901234567890123456789]}', 400, "bad_request"),
        (b'{"sql": ""}', 422, "sql_error"),
        (b'{"sql": "' + b" " * 200_000 + b'"}', 413, "too_large"),
    ],
    ids=["nothing", "cut", "deep", "array", "no-sql", "number", "member", "params", "infinite", "digits", "empty",
         "long"],
)  # fmt: skip
async def test_a_body_that_is_no_query_is_refused(
    harness: Harness, serve: Any, body: bytes, status: int, code: str
) -> None:
    client = await started(harness, serve)
    reply = await client.post("/v1/query", data=body, headers={"Content-Type": "application/json"})
    assert (reply.status, (await reply.json())["code"]) == (status, code)


async def test_other_media_types_are_refused(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.post("/v1/query", data=b"sql=SELECT 1", headers={"Content-Type": "text/plain"})
    assert reply.status == 415


async def served_to(harness: Harness, serve: Any, access: Any) -> Any:
    await harness.deploy(LOTS, DAILY, ARRIVALS)
    await harness.catch_up(harness.role())
    return await serve(build(DataSettings(), Ports(harness.log, harness.store, SystemClock(), access)))


async def test_queries_need_their_scope(harness: Harness, serve: Any) -> None:
    client = await served_to(harness, serve, GrantedAccess(frozenset({"data:read", "*:read"})))
    reply = await client.post("/v1/query", json={"sql": "SELECT 1 AS a"})
    assert (reply.status, (await reply.json())["code"]) == (403, "insufficient_scope")
    client = await served_to(harness, serve, GrantedAccess(frozenset({"data:query"})))
    assert (await client.post("/v1/query", json={"sql": "SELECT COUNT(*) AS n FROM lots"})).status == 200


class _Detailed:
    """Implements `http.access.Access`: everybody holds every scope, and these details."""

    def __init__(self, *details: TopicGrant) -> None:
        self._details = details

    async def require(self, request: Any, scope: str, *, writes: str | None = None) -> Principal:
        return Principal("p", "p", frozenset({scope, "*:read"}), 4e9, "t", self._details)


async def test_a_token_that_shows_some_rows_only_gets_no_query(harness: Harness, serve: Any) -> None:
    """Whatever else it grants, and whichever relation is read: no shape of a query could let the others out."""
    whole = TopicGrant(frozenset({"read"}), ("daily",))
    some = TopicGrant(frozenset({"read"}), ("other",), "market = 'Goa'")
    client = await served_to(harness, serve, _Detailed(whole))
    assert (await client.post("/v1/query", json={"sql": "SELECT COUNT(*) AS n FROM lots"})).status == 200
    client = await served_to(harness, serve, _Detailed(whole, some))
    for sql in ("SELECT COUNT(*) AS n FROM lots", "SELECT 1 AS a", "SELECT nonsense"):
        reply = await client.post("/v1/query", json={"sql": sql})
        answer = await reply.json()
        assert (reply.status, answer["code"]) == (403, "insufficient_scope")
        assert "/v1/data" in answer["detail"]


async def test_names_that_databases_fold_are_different_relations(harness: Harness, serve: Any) -> None:
    """As in `/v1/data`: case counts, and a name may be any text."""
    columns = LOTS.columns[:1]
    specs = [
        StreamSpec(name=name, app="markets", relation=Relation.STREAM, columns=columns, store=True)
        for name in ("orders", "Orders", "the `orders` of 2018; --")
    ]
    await harness.deploy(*specs)
    for spec in specs:
        await harness.derive(spec, inserted((spec.name,)))
    role = harness.role()
    await harness.catch_up(role)
    client = await serve(role)
    for name in ("orders", "Orders", "the `orders` of 2018; --"):
        quoted = "`" + name.replace("`", "``") + "`"
        answer = await (await client.post("/v1/query", json={"sql": f"SELECT market FROM {quoted}"})).json()
        assert answer.get("rows") == [{"market": name}], answer
