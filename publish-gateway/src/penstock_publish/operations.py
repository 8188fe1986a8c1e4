"""The HTTP interface as a table: what `/openapi.json` and `/docs` say. One line an operation, all roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["ANY_TOKEN", "OPERATIONS", "Operation", "operations"]

#: Scope of what every token may do.
ANY_TOKEN = ""
_OF_EMBEDDED = ("/oauth/", "/session", "/.well-known/oauth-authorization-server")


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` None: no token needed; ANY_TOKEN: whatever its scopes. `query`: parameter → what it means.

    `body`: media types that are accepted.
    """

    method: str
    path: str
    role: str
    summary: str
    scope: str | None
    reply: str
    status: int = 200
    query: Mapping[str, str] = field(default_factory=dict)
    body: tuple[str, ...] = ()


_JSON = ("application/json",)
_TOPIC_QUERY = {
    "after": "A cursor, 'earliest' or 'latest' (the default). Exclusive.",
    "filter": "A SQL predicate over the columns.",
    "format": "envelope (the default) or raw: the columns alone.",
    "slow": "Live: what to do with a subscriber that cannot keep up: gap (the default), latest or close.",
    "limit": "Pages: 100 by default, 10000 at most.",
    "ticket": "Live: a one-time ticket instead of a token.",
    "credit": "WebSocket: so many events may be sent; lines with credit add to it.",
    "durable": "WebSocket: the name under which acknowledged cursors are kept.",
    "auth": "WebSocket: 'message' where the token comes in the first message.",
}

OPERATIONS: tuple[Operation, ...] = (
    Operation("post", "/v1/streams/{stream}/events", "ingest", "Send events; the reply comes when they are durable.",
              "ingest:write", "Counts, errors by index, positions; 207 if some were rejected, 422 if all were.",
              body=("application/json", "application/x-ndjson")),
    Operation("get", "/v1/streams/{stream}/connect", "ingest",
              "Send events over a WebSocket: one message a batch, one reply a message, in order.", "ingest:write",
              "Switches to a WebSocket; see /asyncapi.json.", status=101,
              query={"auth": "'message' where the token comes in the first message."}),
    Operation("get", "/v1/streams", "ingest", "The streams that take events.", "ingest:write", "Schemas."),
    Operation("get", "/v1/streams/{stream}", "ingest", "The stream's schema.", "ingest:write", "Columns."),
    Operation("post", "/v1/streams/{stream}/watermark", "ingest", "Say that a source is complete up to a time.",
              "ingest:write", "The watermark.", body=_JSON),
    Operation("get", "/v1/topics", "publish", "The topics that the token may read.", ANY_TOKEN,
              "Topics with columns, key and scope."),
    Operation("get", "/v1/topics/{topic}", "publish",
              "Events: live over a WebSocket or text/event-stream, a page of history as JSON or NDJSON.",
              "<topic>:read", "Envelopes; `next` of a page is where to resume.", query=_TOPIC_QUERY),
    Operation("get", "/v1/topics/{topic}/lifecycle", "publish", "State and version of a topic.", "apps:admin",
              "State, version, description, successor, sunset."),
    Operation("put", "/v1/topics/{topic}/lifecycle", "publish",
              "Make a topic a draft, published, deprecated (with successor and sunset) or retired.", "apps:admin",
              "The lifecycle.", body=_JSON),
    Operation("get", "/v1/subscriptions", "publish", "The client's durable subscriptions.", ANY_TOKEN,
              "Their cursors."),
    Operation("delete", "/v1/subscriptions/{name}", "publish", "Forget a durable subscription; who has it is closed.",
              ANY_TOKEN, "Done.", status=204, query={"topic": "Of this topic only; else of all."}),
    Operation("post", "/v1/tickets", "publish", "A one-time ticket for a browser's WebSocket or EventSource.",
              "<topic>:read", "The ticket and its life in seconds.", body=_JSON),
    Operation("post", "/oauth/token", "publish",
              "A token: by client credentials, authorization code (with PKCE) or refresh token (RFC 6749).", None,
              "The token; with a person behind it a refresh token too.", body=("application/x-www-form-urlencoded",)),
    Operation("get", "/oauth/authorize", "publish",
              "Ask a person for consent, with PKCE (RFC 6749, RFC 7636): a page for a browser.", None,
              "The page; its answer leads to redirect_uri with `code`, `state` and `iss`.",
              query={"client_id": "Who asks.", "redirect_uri": "Exactly as registered.", "response_type": "code",
                     "code_challenge": "Base64url of the SHA-256 of the verifier.", "code_challenge_method": "S256",
                     "scope": "Scopes, separated by spaces.", "state": "Comes back unchanged.",
                     "resource": "The public URL of this gateway, or nothing (RFC 8707)."}),
    Operation("get", "/oauth/login", "publish", "Sign in with an account: a page for a browser.", None, "The page."),
    Operation("post", "/oauth/revoke", "publish",
              "Revoke a token (RFC 7009); with a refresh token all that was made from the same login.", None, "Done.",
              body=("application/x-www-form-urlencoded",)),
    Operation("post", "/oauth/introspect", "publish",
              "Whether a token is active, and what it says (RFC 7662); for clients with a secret.", None,
              "`active`, and if so `sub`, `client_id`, `scope`, `exp`.", body=("application/x-www-form-urlencoded",)),
    Operation("get", "/oauth/jwks.json", "publish", "The public keys (RFC 7517).", None, "A key set."),
    Operation("get", "/oauth/revocations", "publish", "Ids of revoked tokens, for the other services.",
              None, "`jti` and `exp` of each; ETag."),
    Operation("get", "/.well-known/oauth-authorization-server", "publish", "Metadata (RFC 8414).", None, "Metadata."),
    Operation("get", "/.well-known/oauth-protected-resource", "publish",
              "Metadata (RFC 9728), of the server or of the path behind it: /v1/topics/orders.", None, "Metadata."),
    Operation("post", "/session", "publish", "Open the page's session with a client's secret.", None,
              "A cookie that scripts cannot read.", body=_JSON),
    Operation("delete", "/session", "publish", "End the page's session.", None, "Done.", status=204),
    Operation("get", "/v1/plans", "publish", "The plans that applications can have.", ANY_TOKEN,
              "Limits; null: none. `self_service`: owners can choose it."),
    Operation("get", "/v1/applications", "publish", "Your applications; with apps:admin all.", "applications:write",
              "Applications; `next` for more of them, null on the last page.",
              query={"limit": "100 by default, 1000 at most.", "cursor": "`next` of the page before."}),
    Operation("post", "/v1/applications", "publish", "Register an application.", "applications:write",
              "The application and its secret, shown once.", status=201, body=_JSON),
    Operation("get", "/v1/applications/{application}", "publish", "An application.", "applications:write",
              "The application."),
    Operation("put", "/v1/applications/{application}", "publish", "Change an application: what is left out stays.",
              "applications:write", "The application.", body=_JSON),
    Operation("delete", "/v1/applications/{application}", "publish", "Delete an application and end its tokens.",
              "applications:write", "Done.", status=204),
    Operation("post", "/v1/applications/{application}/secret", "publish", "Give an application another secret.",
              "applications:write", "The secret, shown once."),
    Operation("get", "/v1/applications/{application}/usage", "publish", "What an application used, by UTC day.",
              "applications:write", "Messages, bytes, connections, queries and refusals.",
              query={"days": "7, today included."}),
    Operation("get", "/v1/data", "data", "The relations that can be read.", "data:read", "Columns and keys."),
    Operation("post", "/v1/data/{relation}/rebuild", "data", "Make a stored relation again from the log.",
              "apps:admin", "How far it is; 202 while it goes on.", status=202),
    Operation("get", "/v1/data/{relation}/rebuild", "data", "How far a rebuild is.", "apps:admin",
              "State and events."),
    Operation("get", "/v1/data/{relation}", "data", "Rows of a stored table or of raw.<stream>.", "data:read",
              "Rows and the cursor of the next page.",
              query={"select": "Columns.", "order": "Columns, `.desc`: descending.", "limit": "100, at most 10000.",
                     "cursor": "From the page before."}),
    Operation("get", "/v1/summaries/{relation}", "data", "Aggregates over time.", "data:read",
              "Buckets, and up to when they are complete.",
              query={"from": "Inclusive.", "to": "Exclusive.", "bucket": "Such as 1h.", "group": "Columns.",
                     "agg": "Such as sum(tonnes),count(*).", "time": "The time column."}),
    Operation("post", "/v1/query", "data",
              "One SELECT over stored relations, with parameters: {\"sql\": ..., \"params\": [...]}.", "data:query",
              "Columns with their types, rows, and whether there are more; NDJSON and CSV by Accept.", body=_JSON),
    Operation("get", "/v1/apps", "processor", "The apps.", "apps:admin", "Apps and their versions."),
    Operation("get", "/v1/apps/{app}", "processor", "An app's SQL.", "apps:admin", "The app; ETag is its version."),
    Operation("put", "/v1/apps/{app}", "processor", "Deploy or replace an app while it runs.", "apps:admin",
              "The app.", body=("application/sql",)),
    Operation("delete", "/v1/apps/{app}", "processor", "Remove an app.", "apps:admin", "Done.", status=204),
    Operation("post", "/v1/apps/{app}/validate", "processor", "Check an app without deploying it.", "apps:admin",
              "Findings with line, column and remedy.", body=("application/sql",)),
    Operation("get", "/v1/apps/{app}/explain", "processor", "The plan.", "apps:admin", "Every stage."),
    Operation("get", "/v1/apps/{app}/statistics", "processor", "Rates and lags.", "apps:admin", "Figures."),
    Operation("get", "/v1/rules", "processor", "The rules.", "apps:admin", "Rules with their hits.",
              query={"source": "Only those over this stream or table."}),
    Operation("post", "/v1/rules", "processor", "Put many rules, or none if one is wrong.", "apps:admin",
              "The rules.", body=_JSON),
    Operation("get", "/v1/rules/{rule}", "processor", "A rule.", "apps:admin", "The rule; ETag is its version."),
    Operation("put", "/v1/rules/{rule}", "processor", "Add a rule or change it, on and off too.", "apps:admin",
              "The rule.", body=_JSON),
    Operation("delete", "/v1/rules/{rule}", "processor", "Remove a rule.", "apps:admin", "Done.", status=204),
    Operation("post", "/v1/rules/{rule}/dry-run", "processor",
              "Try a rule on stored events: that of the body, or the one in force.", "apps:admin",
              "Hits, and the newest rows that hit.", body=_JSON,
              query={"events": "How many of the newest events.", "rows": "How many rows to show."}),
    Operation("get", "/v1/rejected", "processor", "Rejected events, newest first.", "apps:admin", "Events."),
    Operation("post", "/v1/rejected/replay", "processor", "Correct and replay rejected events.", "apps:admin",
              "What became of each.", body=_JSON),
    Operation("post", "/v1/webhooks", "publish", "Have events of a topic sent to an address, signed.",
              "<topic>:read", "The webhook with its secret, which is shown this once.", status=201, body=_JSON),
    Operation("get", "/v1/webhooks", "publish", "One's own webhooks.", ANY_TOKEN, "Webhooks."),
    Operation("get", "/v1/webhooks/{webhook}", "publish", "A webhook.", ANY_TOKEN,
              "The webhook, and why it is paused."),
    Operation("delete", "/v1/webhooks/{webhook}", "publish", "End a webhook.", ANY_TOKEN, "Done.", status=204),
    Operation("get", "/v1/webhooks/{webhook}/failed", "publish", "Requests that its receiver did not take.",
              ANY_TOKEN, "Failed requests, oldest first."),
    Operation("delete", "/v1/webhooks/{webhook}/failed/{failed}", "publish", "Give a failed request up.", ANY_TOKEN,
              "Done.", status=204),
    Operation("post", "/v1/webhooks/{webhook}/secret", "publish",
              "Give a webhook another secret; the one of before signs beside it for a while.", ANY_TOKEN,
              "The secret, shown once."),
    Operation("post", "/v1/webhooks/{webhook}/redeliver", "publish", "Send what failed again; a paused one goes on.",
              ANY_TOKEN, "How many were delivered and are left."),
    Operation("post", "/v1/emails", "publish", "Have events of a topic sent by e-mail.", "<topic>:read",
              "The subscription.", status=201, body=_JSON),
    Operation("get", "/v1/emails", "publish", "One's own e-mail subscriptions.", ANY_TOKEN, "Subscriptions."),
    Operation("get", "/v1/emails/{email}", "publish", "An e-mail subscription.", ANY_TOKEN,
              "The subscription, and why it is paused."),
    Operation("delete", "/v1/emails/{email}", "publish", "End an e-mail subscription.", ANY_TOKEN, "Done.",
              status=204),
    Operation("get", "/v1/emails/{email}/failed", "publish", "Mails that the server did not take.", ANY_TOKEN,
              "Failed mails, oldest first."),
    Operation("delete", "/v1/emails/{email}/failed/{failed}", "publish", "Give a failed mail up.", ANY_TOKEN, "Done.",
              status=204),
    Operation("post", "/v1/emails/{email}/redeliver", "publish", "Send failed mails again; a paused one goes on.",
              ANY_TOKEN, "How many were sent and are left."),
    Operation("get", "/client.js", "publish", "The JavaScript client, an ES module for browsers and Node.", None,
              "The module; ETag."),
    Operation("get", "/livez", "all", "Does the process live?", None, "Yes."),
    Operation("get", "/readyz", "all", "Can it be used?", None, "Its parts; 503 if one is not ready."),
    Operation("get", "/metrics", "all", "Metrics for Prometheus.", None, "Text."),
)  # fmt: skip


def operations(*, embedded: bool) -> Sequence[Operation]:
    """Those that are there; `embedded`: the authorization server is part of this one."""
    return [one for one in OPERATIONS if embedded or not one.path.startswith(_OF_EMBEDDED)]
