"""The portal without a browser: what its pages say, to whom, and the documents beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from publish.conftest import ORDERS, TOTALS, orders_batch
from token_issuer import TokenMaker
from yarl import URL

from penstock.errors import STATUS, PenstockError
from penstock.model.position import Cursor
from penstock_publish.documents.asyncapi import asyncapi
from penstock_publish.documents.offer import OfferedTopic
from penstock_publish.documents.openapi import openapi
from penstock_publish.documents.samples import made_event
from penstock_publish.documents.schemas import envelope_schema
from penstock_publish.documents.socket_lines import CLIENT_LINES, CLOSE_CODES, NOTICES, REPLY
from penstock_publish.lifecycle.states import Lifecycle, State, deprecated_notice
from penstock_publish.portal.commands import topic_commands
from penstock_publish.topics import framing
from penstock_publish.topics.lines import read_line, refusal, reply

ADMIN = "apps:admin *:read data:read"
PAGES = ("/docs", "/docs/topics/totals", "/docs/relations/totals", "/docs/applications", "/docs/reference")
FOREIGN = {"Host": "events.example"}  # not this machine's name, so no session is opened unasked


async def text_of(gateway, http, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    async with http.get(f"{gateway.url}{path}", headers=headers or {}) as reply:
        return reply.status, await reply.text()


def references(document: object) -> Iterator[str]:
    """Every `$ref` in it."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


def resolved(document: dict[str, object], reference: str) -> object:
    """What a reference within the document points to; KeyError if nothing is there."""
    found: object = document
    for part in reference.removeprefix("#/").split("/"):
        assert isinstance(found, dict)
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_has_nothing_inline_and_nothing_from_elsewhere(gateway, http, path):
    async with http.get(f"{gateway.url}{path}") as reply:
        assert reply.status == 200
        text = await reply.text()
        policy = reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", text)
    assert not re.findall(r"<script(?![^>]*\ssrc=)[^>]*>", text)
    assert all(link.startswith(("/", "#")) for link in re.findall(r'(?:src|href)="([^"]*)"', text))
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    for name in re.findall(r'(?:aria-labelledby|aria-controls)="([^"]*)"', text):
        assert name in ids, name
    for name in re.findall(r'src="/static/([^"]+)"', text):
        assert (await text_of(gateway, http, f"/static/{name}"))[0] == 200


async def test_every_module_that_a_script_imports_is_served(gateway, http):
    _, first = await text_of(gateway, http, "/static/portal.js")
    todo, seen = re.findall(r'from "\./([^"]+)"', first), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            status, text = await text_of(gateway, http, f"/static/{name}")
            assert status == 200, name
            todo += re.findall(r'from "\./([^"]+)"', text)
    assert {"try-it.js", "live-topic.js", "applications.js"} <= seen


async def test_the_catalogue_lists_topics_and_relations_with_scopes(gateway, http):
    _, text = await text_of(gateway, http, "/docs")
    for name in ("orders", "alerts", "clicks", "totals"):
        assert f'href="/docs/topics/{name}"' in text
        assert f"{name}:read" in text
    assert "hidden" not in re.findall(r'href="/docs/topics/([^"]+)"', text)
    assert re.findall(r'href="/docs/relations/([^"]+)"', text) == ["totals", "raw.clicks"]


async def test_a_stranger_sees_how_to_sign_in_and_no_topic(gateway, http):
    status, text = await text_of(gateway, http, "/docs", FOREIGN)
    assert (status, 'id="signin"' in text) == (200, True)
    assert "orders" not in text
    status, problem = await text_of(gateway, http, "/docs/topics/orders", FOREIGN)
    assert (status, '"unknown_topic"' in problem) == (404, True)
    _, text = await text_of(gateway, http, "/docs", {**FOREIGN, **gateway.headers("orders:read")})
    assert re.findall(r'href="/docs/topics/([^"]+)"', text) == ["orders"]
    assert "/docs/relations/" not in text


@pytest.mark.parametrize("path", ["/docs/topics/orders", "/docs/topics/a%2Fb", "/docs/relations/totals"])
async def test_a_stranger_with_a_browser_is_led_to_the_login_and_back(gateway, http, path):
    browser = {**FOREIGN, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    url = URL(f"{gateway.url}{path}", encoded=True)
    async with http.get(url, headers=browser, allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (303, f"/oauth/login?then={quote(path, safe='')}")
        login = reply.headers["Location"]
    async with http.get(URL(f"{gateway.url}{login}", encoded=True), headers=browser) as reply:
        assert f'name="then" value="{path}"' in await reply.text()
    async with http.get(url, headers={**browser, **gateway.headers("alerts:read")}) as reply:
        assert (reply.status, reply.content_type) == (404, "text/html")  # signed in: going round would not help
        assert "that you may read" in await reply.text()
    async with http.get(url, headers=FOREIGN) as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")


async def test_the_sample_is_the_newest_event_for_who_may_read_it_else_made(gateway, http):
    await gateway.commit(orders_batch([("a", 1, "north"), ("b", 77, "south")]))
    _, text = await text_of(gateway, http, "/docs/topics/orders")
    assert "The newest one." in text
    assert re.search(r"&#34;n&#34;: 77", text)
    assert 'id="tryit"' in text
    _, text = await text_of(gateway, http, "/docs/topics/alerts")
    assert "Made from the columns." in text
    assert re.search(r"&#34;n&#34;: 42", text)


async def test_whose_token_demands_a_filter_is_shown_no_row_of_others(gateway, http, clock):
    maker = TokenMaker("https://id.example", clock)
    gateway.authority.access.trust([maker.trusted()])
    await gateway.commit(orders_batch([("a", 1, "north"), ("b", 7_070_707, "south")]))
    grant = {"type": "penstock", "actions": ["read"], "topics": ["orders"], "filter": "region = 'north'"}
    token = maker.token(scope="", authorization_details=[grant])
    status, text = await text_of(gateway, http, "/docs/topics/orders", {"Authorization": f"Bearer {token}"})
    assert (status, "7070707" in text, "Made from the columns." in text) == (200, False, True)
    assert 'id="tryit"' in text  # a live socket shows what the filter lets through


async def test_a_secret_is_never_part_of_an_address_even_where_no_script_runs(gateway, http):
    _, text = await text_of(gateway, http, "/docs", FOREIGN)
    [form] = re.findall(r'<form id="signin"[^>]*>', text)
    assert 'method="post"' in form
    async with http.post(f"{gateway.url}/session", data={"client_id": "a", "client_secret": "b"}) as reply:
        assert reply.status == 415


def test_a_command_holds_nothing_of_a_scope_that_a_shell_would_run():
    spec = replace(ORDERS, scope="o:read&x=$(reboot);`reboot`")
    for command in topic_commands("https://events.example", OfferedTopic(spec, Lifecycle())):
        assert "$(reboot)" not in command.text
        assert "`reboot`" not in command.text
    plain = topic_commands("https://events.example", OfferedTopic(ORDERS, Lifecycle()))[0]
    assert "-d scope=orders:read https://" in plain.text


async def test_a_made_event_has_what_its_schema_requires():
    for spec in (ORDERS, TOTALS):
        event, schema = made_event(spec), envelope_schema(spec)
        assert set(schema["required"]) == set(event)
        assert set(schema["properties"]["d"]["properties"]) == set(event["d"])


async def test_lifecycle_is_told_on_pages_and_in_documents(gateway, http):
    change = {"state": "deprecated", "version": "1.4", "description": "Old <orders>.", "successor": "alerts"}
    url = f"{gateway.url}/v1/topics/orders/lifecycle"
    async with http.put(url, json=change, headers=gateway.headers(ADMIN)) as reply:
        assert reply.status == 200
    _, text = await text_of(gateway, http, "/docs/topics/orders")
    assert "Old &lt;orders&gt;." in text
    assert 'href="/docs/topics/alerts">alerts</a> instead' in text
    async with http.get(f"{gateway.url}/asyncapi.json?topic=orders") as reply:
        document = await reply.json()
    assert document["info"]["version"] == "1.4"
    assert document["channels"]["orders"]["x-penstock-lifecycle"]["successor"] == "alerts"
    async with http.get(f"{gateway.url}/openapi.json?topic=orders") as reply:
        assert (await reply.json())["paths"]["/v1/topics/orders"]["get"]["deprecated"] is True


@pytest.mark.parametrize("query", ["", "?topic=totals", "?topic=orders"])
async def test_asyncapi_is_whole(gateway, http, query):
    async with http.get(f"{gateway.url}/asyncapi.json{query}") as reply:
        document = await reply.json()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    assert set(document["servers"]["gateway"]) == {"host", "protocol", "security"}
    for reference in references(document):
        resolved(document, reference)
    lines = {line.name for line in (*NOTICES, *CLIENT_LINES, REPLY)}
    assert len(lines) == len(NOTICES) + len(CLIENT_LINES) + 1
    several = document["channels"].pop("/v1/topics", None)
    into = document["channels"].pop("/v1/streams", None)
    assert (several is None) == (into is None) == bool(query)
    if into is not None:
        assert into["address"] == "/v1/streams/{stream}/connect"
        assert set(into["messages"]) == {
            "batch", "batch_reply", "batch_problem", "notice_expiring", "notice_auth", "line_auth"
        }  # fmt: skip
        actions = {name: document["operations"][f"{name}.streams"]["action"] for name in ("send", "reply")}
        assert actions == {"send": "receive", "reply": "send"}
    if several is not None:
        assert several["address"] == "/v1/topics"
        assert set(several["messages"]) == {*(f"event.{name}" for name in document["channels"]), *lines}
        assert {document["operations"][name]["action"] for name in ("subscribe", "control")} == {"send", "receive"}
    for name, channel in document["channels"].items():
        assert channel["address"] == f"/v1/topics/{name}"
        assert set(channel["messages"]) == {"event", *lines}
        assert set(channel["bindings"]["ws"]) == {"method", "query", "bindingVersion"}
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    for name in document["channels"]:
        assert (actions[f"subscribe.{name}"], actions[f"control.{name}"]) == ("send", "receive")
        for operation in (f"subscribe.{name}", f"control.{name}"):
            used = document["operations"][operation]["messages"]
            assert all(one["$ref"].startswith(f"#/channels/{name}/messages/") for one in used)


def test_a_topic_with_an_odd_name_is_still_pointed_to():
    odd = OfferedTopic(replace(ORDERS, name="a/b~c"), Lifecycle(State.PUBLISHED))
    document = asyncapi("http://127.0.0.1:1", [odd], whole=True)
    for reference in references(document):
        resolved(document, reference)


@pytest.mark.parametrize("query", ["", "?topic=totals", "?relation=totals", "?relation=raw.clicks"])
async def test_openapi_is_whole(gateway, http, query):
    async with http.get(f"{gateway.url}/openapi.json{query}") as reply:
        document = await reply.json()
    for reference in references(document):
        resolved(document, reference)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert operation["responses"]
            for one in operation.get("security", []):
                assert set(one) <= set(document["components"]["securitySchemes"])


async def test_documents_come_as_files_and_unknown_names_are_404(gateway, http):
    async with http.get(f"{gateway.url}/asyncapi.json?topic=orders&download") as reply:
        assert reply.headers["Content-Disposition"] == 'attachment; filename="orders.asyncapi.json"'
    for path in ("/openapi.json?relation=nothing", "/asyncapi.json?topic=hidden", "/docs/topics/nothing"):
        assert (await text_of(gateway, http, path))[0] == 404


async def test_the_reference_has_every_error_code_close_code_and_operation(gateway, http):
    _, text = await text_of(gateway, http, "/docs/reference")
    for code in STATUS:
        assert f'id="error-{code}"' in text
    for code in CLOSE_CODES:
        assert f"<code>{code}</code>" in text
    assert "/v1/topics/{topic}/lifecycle" in text


def test_the_lines_of_the_documents_are_those_of_the_code():
    place = Cursor("orders", 1, (1,))
    made = [
        framing.open_notice("orders", "c"),
        framing.gap_notice(place, place, events=1),
        framing.hb_notice(place),
        framing.end_notice("orders", "topic_retired", after="c", retry_ms=None),
        framing.expiring_notice(60),
        framing.auth_notice(60),
        framing.quota_notice("messages_per_s", 1.0),
        deprecated_notice("orders", Lifecycle(State.DEPRECATED)),
    ]
    described = {line.example["sys"]: set(line.example) for line in NOTICES}
    assert described == {notice["sys"]: set(notice) for notice in made}
    for line in CLIENT_LINES:
        assert set(line.required) <= set(line.example) <= set(line.properties)
        read = read_line(json.dumps(line.example))
        assert set(line.properties) == set(read.__struct_fields__)
    refused = refusal(PenstockError("draining", "stops", retry_after_s=1), 1)
    assert {*refused, *reply(1)} <= set(REPLY.properties)


async def test_documents_ask_for_a_token_where_the_gateway_does(gateway, http):
    async with http.get(f"{gateway.url}/openapi.json") as reply:
        document = await reply.json()
    served = {(route.method, route.path) for route in gateway.routes if "/oauth/" not in route.path}
    asked = 0
    for path, operations_of in document["paths"].items():
        for method, operation in operations_of.items():
            if (method.upper(), path) not in served:
                continue  # of other roles
            url = f"{gateway.url}{re.sub('{[^}]+}', 'orders', path)}"
            async with http.request(method, url) as reply:
                assert (reply.status == 401) == ("security" in operation or (method, path) == ("delete", "/session"))
                asked += 1
    assert asked > 20


def test_documents_lead_to_the_issuer_where_tokens_come_from_it():
    topics = [OfferedTopic(ORDERS, Lifecycle())]
    there = asyncapi("https://e.example", topics, issuer="https://id.example")
    for document in (there, openapi("https://e.example", topics, issuer="https://id.example/")):
        scheme = document["components"]["securitySchemes"]["oauth2"]
        assert scheme["openIdConnectUrl"] == "https://id.example/.well-known/openid-configuration"
        assert "e.example/oauth" not in json.dumps(document)
        assert '"/oauth/token"' not in json.dumps(document)
