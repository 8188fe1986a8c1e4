"""Commands to copy: a token, then the same topic or relation with curl, websocat, Python and JavaScript. Pure.

A test takes them from the page and runs them as they stand, so they are whole: nothing has to be filled in but
CLIENT_ID and CLIENT_SECRET in the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from penstock_publish.documents.offer import OfferedRelation, OfferedTopic, OfferedUpstream
from penstock_publish.upstreams.crossing import PREFIX

__all__ = ["Command", "relation_commands", "topic_commands", "upstream_commands"]


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is its id in the page; `note` says what it needs or does."""

    name: str
    title: str
    note: str
    text: str


def topic_commands(url: str, topic: OfferedTopic, *, issuer: str | None = None) -> Sequence[Command]:
    """How to consume a topic from a terminal or a program. `issuer`: who gives tokens where it is not this server."""
    address = f"{url}/v1/topics/{quote(topic.name, safe='')}"
    socket = address.replace("http", "ws", 1)
    return [
        _token(url, topic.scope, issuer),
        Command("page", "curl", "A page of history; `next` in it is where the following page begins.",
                _PAGE.format(address=address)),
        Command("sse", "curl, live", "Server-sent events; `id` is the cursor to resume from.",
                _SSE.format(address=address)),
        Command("websocat", "websocat", "WebSocket in a terminal, with websocat 1.14. -B: events longer than 64 KiB "
                "come whole; -n: it goes on where there is nothing to type.", _WEBSOCAT.format(socket=socket)),
        Command("python", "Python", "Needs `pip install websockets`. Reconnects and resumes by itself.",
                _PYTHON.format(socket=socket)),
        Command("javascript", "JavaScript", "Node.js 18 or newer, nothing to install.",
                _JAVASCRIPT.replace("ADDRESS", address)),
        Command("python_client", "Python client", "With `pip install penstock`: resumes, tells gaps, and more.",
                _PYTHON_CLIENT.format(url=url, name=topic.name)),
        Command("javascript_client", "JavaScript client", "Node.js 20 or newer; one file, nothing else.",
                _JAVASCRIPT_CLIENT.replace("URL", url).replace("TOPIC", topic.name)),
    ]  # fmt: skip


def relation_commands(url: str, relation: OfferedRelation, *, issuer: str | None = None) -> Sequence[Command]:
    """How to query a relation; `issuer` as above."""
    name = quote(relation.name, safe="")
    address = f"{url}/v1/data/{name}"
    commands = [
        _token(url, "data:read", issuer),
        Command("rows", "curl", "Rows; `next` in the reply is the cursor of the following page.",
                _ROWS.format(address=address)),
    ]  # fmt: skip
    if relation.time_column is not None and relation.kind != "raw":
        summary = f"{url}/v1/summaries/{name}?bucket=1d&agg=count(*)"
        commands.append(
            Command("summary", "curl, summary", "How many a day; complete up to `complete_to`.",
                    _CURL.format(address=summary))
        )  # fmt: skip
    commands += [
        Command("python", "Python", "The standard library is enough.", _PYTHON_ROWS.format(address=address)),
        Command("javascript", "JavaScript", "Node.js 18 or newer.", _JAVASCRIPT_ROWS.replace("ADDRESS", address)),
    ]
    return commands


def upstream_commands(url: str, upstream: OfferedUpstream, *, issuer: str | None = None) -> Sequence[Command]:
    """How to use an endpoint of others; `issuer` as above."""
    address = f"{url}{PREFIX}{upstream.name}"
    token = _token(url, upstream.scope, issuer)
    if upstream.kind == "websocket":
        socket = address.replace("http", "ws", 1)
        return [
            token,
            Command("websocat", "websocat", "What you type are messages.", _WEBSOCAT_LINES.format(socket=socket)),
            Command("python", "Python", "Needs `pip install websockets`.", _PYTHON_SOCKET.format(socket=socket)),
        ]
    if "GET" not in upstream.methods:
        method = upstream.methods[0]
        text = _SEND.format(address=address, method=method)
        return [token, Command("send", "curl", "What follows the name in the path is passed on.", text)]
    return [
        token,
        Command("get", "curl", "What follows the name in the path is passed on.", _CURL.format(address=address)),
        Command("python", "Python", "The standard library is enough.", _PYTHON_GET.format(address=address)),
        Command("javascript", "JavaScript", "Node.js 18 or newer.", _JAVASCRIPT_GET.replace("ADDRESS", address)),
    ]


def _token(url: str, scope: str, issuer: str | None) -> Command:
    if issuer is not None:
        note = f"From {issuer}, for this server as audience, with the scope {scope}."
        return Command("token", "Token", note, "export TOKEN='...'")
    return Command(
        "token",
        "Token",
        "With CLIENT_ID and CLIENT_SECRET of your application in the environment; it needs the scope "
        f"{scope}. Good for an hour.",
        _TOKEN.format(url=url, scope=quote(scope, safe=":")),  # a scope may hold what a shell would run
    )


_TOKEN = """\
export TOKEN=$(curl -s -u "$CLIENT_ID:$CLIENT_SECRET" \\
  -d grant_type=client_credentials -d scope={scope} {url}/oauth/token \\
  | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')"""
_CURL = """\
curl -s -H "Authorization: Bearer $TOKEN" \\
  "{address}\""""
_PAGE = """\
curl -s -H "Authorization: Bearer $TOKEN" \\
  "{address}?after=earliest&limit=10\""""
_SSE = """\
curl -sN -H "Authorization: Bearer $TOKEN" -H "Accept: text/event-stream" \\
  "{address}?after=earliest\""""
_WEBSOCAT = """\
websocat -n -B 2097152 -H="Authorization: Bearer $TOKEN" \\
  "{socket}?after=earliest\""""
_PYTHON = """\
python3 - <<'EOF'
import json, os, time
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

after = "earliest"  # or "latest", or a cursor that you kept
headers = {{"Authorization": "Bearer " + os.environ["TOKEN"]}}
while True:
    try:
        with connect("{socket}?after=" + after, additional_headers=headers) as socket:
            for line in socket:
                event = json.loads(line)
                after = event.get("c", after)
                print(event, flush=True)
    except (ConnectionClosed, OSError):
        time.sleep(1)  # goes on where it was
EOF"""
_JAVASCRIPT = """\
node --input-type=module - <<'EOF'
const reply = await fetch("ADDRESS?after=earliest", {
  headers: { Authorization: `Bearer ${process.env.TOKEN}`, Accept: "text/event-stream" },
});
if (!reply.ok) throw new Error(await reply.text());
let rest = "";
for await (const text of reply.body.pipeThrough(new TextDecoderStream())) {
  const blocks = (rest + text).split("\\n\\n");
  rest = blocks.pop();
  for (const block of blocks) {
    const data = block.split("\\n").find((line) => line.startsWith("data: "));
    if (data) console.log(JSON.parse(data.slice(6)));
  }
}
EOF"""
_PYTHON_CLIENT = """\
python3 - <<'EOF'
import os
from penstock.client import Client

with Client("{url}", token=os.environ["TOKEN"]) as penstock:
    for event in penstock.subscribe("{name}", after="earliest"):
        print(event, flush=True)
EOF"""
_JAVASCRIPT_CLIENT = """\
curl -s URL/client.js -o penstock-client.mjs
node --input-type=module - <<'EOF'
import { connect } from "./penstock-client.mjs";
const penstock = connect("URL", { token: process.env.TOKEN });
for await (const event of penstock.subscribe("TOPIC", { after: "earliest" })) {
  console.log(event);
}
EOF"""
_ROWS = """\
curl -s -H "Authorization: Bearer $TOKEN" \\
  "{address}?limit=5\""""
_PYTHON_ROWS = """\
python3 - <<'EOF'
import json, os
from urllib.request import Request, urlopen

request = Request("{address}?limit=5", headers={{"Authorization": "Bearer " + os.environ["TOKEN"]}})
for row in json.load(urlopen(request))["rows"]:
    print(row)
EOF"""
_JAVASCRIPT_ROWS = """\
node --input-type=module - <<'EOF'
const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const reply = await fetch("ADDRESS?limit=5", { headers });
const { rows } = await reply.json();
for (const row of rows) console.log(row);
EOF"""
_SEND = """\
curl -s -X {method} -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{}}' "{address}\""""
_PYTHON_GET = """\
python3 - <<'EOF'
import os
from urllib.request import Request, urlopen

request = Request("{address}", headers={{"Authorization": "Bearer " + os.environ["TOKEN"]}})
print(urlopen(request).read().decode())
EOF"""
_JAVASCRIPT_GET = """\
node --input-type=module - <<'EOF'
const reply = await fetch("ADDRESS", { headers: { Authorization: `Bearer ${process.env.TOKEN}` } });
console.log(reply.status, await reply.text());
EOF"""
_WEBSOCAT_LINES = """\
websocat -B 2097152 -H="Authorization: Bearer $TOKEN" \\
  "{socket}\""""
_PYTHON_SOCKET = """\
python3 - <<'EOF'
import os
from websockets.sync.client import connect

with connect("{socket}", additional_headers={{"Authorization": "Bearer " + os.environ["TOKEN"]}}) as socket:
    for message in socket:
        print(message, flush=True)
EOF"""
