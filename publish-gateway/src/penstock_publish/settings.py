"""Settings of the publish gateway: every limit has a name, a default and a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from penstock.http.settings import IssuerSettings, TokenLimits
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.oauth.settings import ClientSecretSettings, LoginSettings
from penstock_publish.plans.settings import PlanSettings
from penstock_publish.rest.settings import Origin, RestSettings
from penstock_publish.upstreams.settings import Upstreams
from penstock_publish.webhooks.settings import WebhookSettings

__all__ = [
    "AuthSettings",
    "DoorSettings",
    "DurableSettings",
    "LifecycleSettings",
    "PublishSettings",
    "SocketSettings",
]


class AuthSettings(BaseModel, frozen=True):
    """OAuth2: the embedded authorization server, the checks of tokens, the page's session."""

    issuer: str | None = Field(
        default=None,
        description="Issuer of an external authorization server, instead of the embedded one under the public URL. "
        "Its keys and rules are those of its entry in issuers, where it has one.",
    )
    jwks_file: Path | None = Field(
        default=None,
        description="JSON Web Key Set with the ES256 keys of the external issuer; with issuer, this or jwks_url.",
    )
    jwks_url: str | None = Field(
        default=None,
        description="Where the external issuer serves its key set; fetched again now and then (services.follow). "
        "Unset, and without jwks_file: where the issuer's metadata says (RFC 8414).",
    )
    issuers: tuple[IssuerSettings, ...] = Field(
        default=(),
        description="Further issuers whose tokens are taken beside those of the first one (`issuer`, else the "
        "embedded one), each with keys, algorithms and rules of its own; see tokens.md. A JSON list, or "
        "`[[auth.issuers]]`.",
    )
    limits: TokenLimits = Field(default_factory=TokenLimits, description="What is read of tokens of these issuers.")
    audience: str = Field(default="penstock", description="What `aud` of a token must contain.", min_length=1)
    development_client: bool = Field(
        default=True,
        description="Keep one client for development, with its secret in client.json of the data folder.",
    )
    token_lifetime_s: int = Field(default=3600, description="Life of a token, in seconds.", ge=1, le=86_400)
    code_lifetime_s: float = Field(
        default=60.0, description="How long an authorization code can be traded for tokens.", gt=0, le=600
    )
    refresh_lifetime_s: float = Field(
        default=30 * 86_400.0,
        description="Longest time from a login at an application until the person must log in again.",
        gt=0,
    )
    refresh_idle_s: float = Field(
        default=7 * 86_400.0, description="How long a refresh token can be used; each use gives a new one.", gt=0
    )
    key_rotation_days: float | None = Field(
        default=90.0, description="Age at which the signing key is replaced by a new one; unset: never.", gt=0
    )
    key_publish_s: float = Field(
        default=900.0,
        description="How long a new signing key is published before it signs: longer than key sets are kept by those "
        "who check tokens.",
        ge=0,
    )
    login: LoginSettings = Field(default_factory=LoginSettings, description="People with accounts.")
    secrets: ClientSecretSettings = Field(
        default_factory=ClientSecretSettings, description="Clients at the token endpoint."
    )
    leeway_s: int = Field(
        default=5, description="How far clocks may differ when times in tokens are checked.", ge=0, le=300
    )
    revocations_poll_s: float = Field(
        default=0.4,
        description="How often a process looks for tokens and keys that replicas and commands have changed.",
        gt=0,
        le=60,
    )
    revocations_purge_s: float = Field(
        default=60.0, description="How often revoked tokens that have expired are forgotten.", gt=0, le=3_600
    )
    revocations_per_holder_max: int = Field(
        default=1_000,
        description="Revoked tokens of one client, or of one person at one client, that have not expired: beyond it "
        "429 for who revokes one more or logs in again.",
        ge=1,
    )
    revocations_max: int = Field(
        default=100_000,
        description="Revoked tokens in all, as before; who follows the list reads some 60 bytes for each.",
        ge=1,
        le=200_000,
    )
    logins_per_person_max: int = Field(
        default=100,
        description="Logins of one person at applications that hold; beyond it the oldest ends. As many sessions.",
        ge=1,
        le=10_000,
    )
    tokens_per_login_max: int = Field(
        default=100,
        description="Access tokens of one login that have not expired; beyond it 429 for a refresh.",
        ge=1,
        le=10_000,
    )
    token_cache_max: int = Field(
        default=10_000, description="Verified tokens remembered by their hash.", ge=1, le=1_000_000
    )
    form_bytes_max: int = Field(
        default=16_384, description="Largest body at the token endpoints.", ge=1_024, le=1_048_576
    )
    page_open: Literal["loopback", "always", "never"] = Field(
        default="loopback",
        description="Who gets a session of the page without a secret: callers from loopback, everybody, or nobody.",
    )
    page_scope: str = Field(
        default="*:read data:read data:query ingest:write apps:admin applications:write",
        description="Scopes of the page's session where it is opened without a secret. On a machine with several "
        "users, take scopes away here or close the page.",
    )

    @property
    def listed_issuer(self) -> bool:
        """True if `issuer` has an entry in `issuers`, which says everything else about it."""
        return self.issuer is not None and any(one.issuer == self.issuer for one in self.issuers)

    @model_validator(mode="after")
    def _keys_in_one_place(self) -> Self:
        if self.listed_issuer and (self.jwks_url is not None or self.jwks_file is not None):
            raise ValueError("this issuer has an entry in auth.issuers: give jwks_url or jwks_file there")
        return self


class DoorSettings(BaseModel, frozen=True):
    """Forwarding to services that run in other processes."""

    connect_timeout_s: float = Field(default=2.0, description="Time to connect to a service.", gt=0)
    idle_timeout_s: float = Field(
        default=60.0, description="Longest silence of a service in the middle of a request or a reply.", gt=0
    )
    body_max_bytes: int = Field(
        default=16 * 1024 * 1024,
        description="Largest request body; the service has its own, lower or equal.",
        ge=1024,
    )
    body_kept_max_bytes: int = Field(
        default=1024 * 1024,
        description="Largest request body that is kept to be sent to another replica if the first refuses it.",
        ge=0,
    )
    message_max_bytes: int = Field(
        default=16 * 1024 * 1024, description="Largest WebSocket message, either way.", ge=1024
    )
    close_wait_s: float = Field(default=2.0, description="Wait for a close frame on forwarded WebSockets.", gt=0)
    heartbeat_s: float = Field(default=15.0, description="Pace of pings on forwarded WebSockets.", gt=0)
    connections_max: int = Field(default=256, description="Connections to one service.", ge=1)
    requests_max: int = Field(
        default=4_096, description="Requests and WebSockets that pass the door at once; beyond it 429.", ge=1
    )
    retry_after_s: float = Field(default=1.0, description="`Retry-After` while a service is away.", gt=0)
    watch_s: float = Field(default=1.0, description="How often a service is asked whether it is there.", gt=0)
    watch_timeout_s: float = Field(default=2.0, description="Time for it to answer that.", gt=0)
    caller_watch_s: float = Field(
        default=0.2,
        description="Pause between two looks whether the caller of a query is still there; it ends with the caller.",
        gt=0,
        le=10,
    )


class LifecycleSettings(BaseModel, frozen=True):
    """States and versions of topics."""

    poll_s: float = Field(
        default=2.0, description="How often a replica looks for what others changed in a topic's lifecycle.", gt=0
    )
    body_bytes_max: int = Field(default=16_384, description="Largest body of a change.", ge=1_024)
    version_chars_max: int = Field(default=40, description="Length of a version.", ge=1)
    description_chars_max: int = Field(default=4_000, description="Length of a topic's description.", ge=0)


class SocketSettings(BaseModel, frozen=True):
    """What a subscriber may say on a WebSocket."""

    subscriptions_per_connection_max: int = Field(default=64, description="Topics on one WebSocket.", ge=1)
    lines_per_s_max: int = Field(
        default=2_000, description="Lines of one subscriber in a second; one that sends more is read slower.", ge=1
    )
    bad_lines_max: int = Field(
        default=10, description="What is no line at all is answered so often; then the WebSocket is closed.", ge=0
    )
    credit_max: int = Field(
        default=1_000_000, description="Largest credit of a subscription, in events.", ge=1, le=999_999_999
    )
    auth_timeout_s: float = Field(
        default=10.0, description="How long a WebSocket with auth=message waits for its token.", gt=0
    )
    unauthenticated_max: int = Field(
        default=1_000, description="WebSockets that wait for their token in the first message.", ge=0
    )
    publishes_waiting_max: int = Field(
        default=64, description="Events sent on one WebSocket without a reply yet; then it is not read.", ge=1
    )


class DurableSettings(BaseModel, frozen=True):
    """Durable subscriptions: positions that subscribers have acknowledged."""

    per_client_max: int = Field(
        default=100, description="Durable subscriptions of one client; of each person at a client as many.", ge=1
    )
    name_chars_max: int = Field(default=100, description="Length of a durable subscription's name.", ge=1, le=200)
    flush_s: float = Field(
        default=0.25,
        description="How long an acknowledged cursor may wait to be written; also how soon a replica notices that "
        "a subscription was taken over or deleted elsewhere.",
        gt=0,
        le=60,
    )
    flush_max: int = Field(default=1_000, description="Acknowledged cursors written at once.", ge=1)
    patience_s: float = Field(
        default=5.0,
        description="How long the database may fail before subscribers whose acknowledgements wait for it are closed "
        "with 4503.",
        ge=0,
    )
    expire_after_s: float | None = Field(
        default=30 * 86_400.0,
        description="A durable subscription that no connection has had for so long is deleted; unset: none is.",
        ge=86_400,
    )
    expire_check_s: float = Field(
        default=3_600.0, description="How often those that have expired are looked for.", gt=0, le=43_200
    )


class PublishSettings(BaseModel, frozen=True):
    """Topics: connections, rings, pages."""

    workers: int = Field(
        default=1,
        description="Processes on the port, for a process of the role publish alone over PostgreSQL; limits are of "
        "each.",
        ge=1,
        le=64,
    )
    connections_max: int = Field(default=20_000, description="Open WebSockets and event streams.", ge=1)
    subscribers_per_topic_max: int = Field(default=10_000, description="Open connections of one topic.", ge=1)
    filters_per_topic_max: int = Field(default=64, description="Distinct filters in use on one topic.", ge=0)
    filter_chars_max: int = Field(default=2_000, description="Length of a filter.", ge=1)
    ring_bytes_max: int = Field(
        default=8 * 1024 * 1024, description="Recent events kept in memory per topic, filter and encoding.", ge=1024
    )
    send_buffer_bytes: int = Field(
        default=256 * 1024, description="Unsent bytes of one connection above which it counts as slow.", ge=1024
    )
    send_buffer_total_bytes_max: int = Field(
        default=512 * 1024 * 1024,
        description="Unsent bytes of all connections; beyond it those with the most are closed with 4409.",
        ge=1024 * 1024,
    )
    connects_per_s_max: int = Field(
        default=2_000,
        description="New connections a second; beyond it 503 with Retry-After: a rush is worked off in order.",
        ge=1,
    )
    connection_lifetime_s: float = Field(
        default=0.0,
        description="A connection is closed with 1001 and a hint when to come back after this to twice this time; "
        "0: it may stay as long as its token. Subscribers then move to new processes bit by bit.",
        ge=0,
    )
    flush_bytes_max: int = Field(
        default=64 * 1024, description="Bytes handed to a lagging connection at once.", ge=1024
    )
    merge_ms: float = Field(
        default=2.0, description="While events keep coming, they are sent at most once in this time.", ge=0, le=1000
    )
    lag_poll_ms: float = Field(default=5.0, description="How often a slow connection is tried again.", ge=1, le=1000)
    rows_held_s: float = Field(
        default=5.0,
        description="How long the current rows of a table wait in memory for a subscriber that does not take them; "
        "they are read again, as they are then, when it does.",
        gt=0,
    )
    read_bytes_max: int = Field(default=1024 * 1024, description="Bytes read from the log at once.", ge=1024)
    inline_bytes_max: int = Field(
        default=32 * 1024, description="Batches above this size are encoded in a thread.", ge=0
    )
    inbound_bytes_max: int = Field(
        default=64 * 1024, description="Largest message accepted from a subscriber, also when it is inflated.", ge=1
    )
    inbound_messages_max: int = Field(
        default=16,
        description="Messages of one subscriber that wait to be looked at; then it is not read, nor where they are "
        "together as long as the largest.",
        ge=1,
    )
    compression: bool = Field(
        default=True,
        description="Whether WebSockets that offer permessage-deflate get longer events compressed, once for all.",
    )
    ping_s: float = Field(default=15.0, description="Pace of pings and of comments in event streams.", gt=0)
    pings_missed_max: int = Field(default=2, description="Unanswered pings after which a connection is closed.", ge=1)
    expiring_s: float = Field(default=60.0, description="Notice given before a token expires.", ge=0)
    close_wait_s: float = Field(default=2.0, description="Wait for the other side's close frame.", gt=0)
    drain_retry_ms: int = Field(
        default=1_000, description="Hint when to come back after a drain: each gets this to twice this.", ge=0
    )
    page_limit: int = Field(default=100, description="Events of a history page where no limit is asked for.", ge=1)
    page_limit_max: int = Field(default=10_000, description="Largest limit of a history page.", ge=1)
    page_scan_bytes_max: int = Field(
        default=16 * 1024 * 1024, description="Log bytes searched for one page; a filter may leave it short.", ge=1024
    )
    page_wait_max_s: float = Field(default=60.0, description="Longest wait of a long-poll.", ge=0)
    body_bytes_max: int = Field(default=16_384, description="Largest body of a ticket request.", ge=256)
    ticket_lifetime_s: int = Field(default=30, description="How long a one-time ticket can be used.", ge=1, le=300)
    tickets_max: int = Field(default=10_000, description="Tickets waiting to be used.", ge=1, le=1_000_000)
    tickets_per_caller_max: int = Field(
        default=1_000, description="Those of one client, or of one person at one client.", ge=1, le=1_000_000
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        max_length=1_000,
        description="Origins of other pages whose scripts may use topics, data, summaries and streams with a token "
        "of their own, as browsers write them (`https://shop.example`); no `*`. A JSON list.",
    )
    upstreams: Upstreams = Field(
        default=(),
        max_length=256,
        description="Endpoints of others behind the gateway (docs/rest.md). A JSON list, or `[[publish.upstreams]]`.",
    )
    rest: RestSettings = Field(default_factory=RestSettings, description="Replies over plain HTTP.")
    plans: PlanSettings = Field(default_factory=PlanSettings, description="Plans of applications.")
    socket: SocketSettings = Field(
        default_factory=SocketSettings, description="What a subscriber may say on a WebSocket."
    )
    durable: DurableSettings = Field(default_factory=DurableSettings, description="Durable subscriptions.")
    applications: ApplicationSettings = Field(
        default_factory=ApplicationSettings, description="The registry of applications."
    )
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings, description="Webhooks of clients.")
    email: EmailSettings = Field(default_factory=EmailSettings, description="E-mail alerts.")
    door: DoorSettings = Field(default_factory=DoorSettings, description="Services in other processes.")
    lifecycle: LifecycleSettings = Field(
        default_factory=LifecycleSettings, description="States and versions of topics."
    )
