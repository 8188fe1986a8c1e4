"""What a visitor is shown: the topics and relations in force that it may read, each with its lifecycle; endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import Kind
from penstock.ports.log import Log
from penstock_publish.authority import Authority
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import Lifecycle, sees
from penstock_publish.oauth.page_session import is_loopback_request
from penstock_publish.topics.routes import scope_of
from penstock_publish.topics.rows import key_columns
from penstock_publish.upstreams.settings import Upstream

__all__ = ["Offer", "OfferedRelation", "OfferedTopic", "OfferedUpstream", "Offers", "Visitor"]

_DATA_SCOPE = "data:read"
_RAW = "raw."


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `local`: from this machine, and so shown what there is, but no event without a token."""

    principal: Principal | None
    local: bool

    def may(self, scope: str) -> bool:
        """True if its token has the scope."""
        return self.principal is not None and self.principal.allows(scope)

    def sees_all(self, scope: str) -> bool:
        """True if it may read every row of what has the scope: its token demands no filter."""
        return self.principal is not None and self.may(scope) and not self.principal.row_filters(scope)


@dataclass(frozen=True, slots=True)
class OfferedTopic:
    """A topic as documents describe it."""

    spec: StreamSpec
    lifecycle: Lifecycle

    @property
    def name(self) -> str:
        """Its name, unique among topics."""
        return self.spec.name

    @property
    def scope(self) -> str:
        """What a subscriber needs."""
        return scope_of(self.spec)

    @property
    def kind(self) -> str:
        """source, stream or table."""
        return self.spec.relation.value

    @property
    def key(self) -> Sequence[str]:
        """Columns of the envelope's `k`."""
        return key_columns(self.spec)

    @property
    def numbers(self) -> Sequence[str]:
        """Columns that can be drawn."""
        return [c.name for c in self.spec.columns if c.type.is_integer or c.type.kind in (Kind.FLOAT, Kind.DOUBLE)]


@dataclass(frozen=True, slots=True)
class OfferedRelation:
    """A relation of `/v1/data` and `/v1/summaries`: a stored stream or table, or `raw.<stream>`."""

    name: str
    spec: StreamSpec

    @property
    def kind(self) -> str:
        """raw, stream or table."""
        return "raw" if self.name.startswith(_RAW) else self.spec.relation.value

    @property
    def columns(self) -> Sequence[Column]:
        """Those that were declared; raw relations have some of their own beside."""
        return self.spec.columns

    @property
    def time_column(self) -> str | None:
        """What summaries are over where nothing else is named; None: they have to be told."""
        of_key = [name for name in self.spec.primary_key if self.spec.column(name).type.is_timestamp]
        return of_key[0] if of_key else self.spec.time_column


@dataclass(frozen=True, slots=True)
class OfferedUpstream:
    """An endpoint of others behind `/v1/upstreams/<name>`: nothing of where it is, or of how the gateway gets in."""

    name: str
    kind: str
    scope: str
    methods: Sequence[str]
    description: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Everything that one visitor is shown, by name."""

    visitor: Visitor
    topics: Sequence[OfferedTopic]
    relations: Sequence[OfferedRelation]
    upstreams: Sequence[OfferedUpstream] = ()

    def topic(self, name: str) -> OfferedTopic:
        """A topic; `unknown_topic`."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise PenstockError("unknown_topic", f"there is no topic '{name[:100]}' that you may read; sign in, or /docs")

    def relation(self, name: str) -> OfferedRelation:
        """A relation; `unknown_relation`."""
        for relation in self.relations:
            if relation.name == name:
                return relation
        raise PenstockError(
            "unknown_relation", f"there is no relation '{name[:100]}' that you may read; sign in, or /docs"
        )

    def upstream(self, name: str) -> OfferedUpstream:
        """An endpoint of others; `not_found`."""
        for upstream in self.upstreams:
            if upstream.name == name:
                return upstream
        raise PenstockError("not_found", f"there is no endpoint '{name[:100]}' that you may use; sign in, or /docs")


class Offers:
    """Makes the offer of a request."""

    def __init__(
        self, authority: Authority, log: Log, lifecycles: Lifecycles, upstreams: Sequence[Upstream] = ()
    ) -> None:
        self._authority = authority
        self._upstreams = [
            OfferedUpstream(
                name=one.name,
                kind=one.kind,
                scope=one.scope,
                methods=one.methods if one.kind == "rest" else ("GET",),
                description=one.description,
            )
            for one in sorted(upstreams, key=lambda one: one.name)
        ]
        self._log = log
        self._lifecycles = lifecycles

    @property
    def issuer(self) -> str | None:
        """Who gives tokens where it is not this server."""
        return None if self._authority.embedded is not None else self._authority.settings.issuer

    async def of(self, request: web.Request, *, principal: Principal | None = None) -> Offer:
        """All of it for callers from loopback (drafts need a token even there), else what the token allows.

        `principal`: who it is where the request does not say so yet, since its session was opened just now.
        """
        visitor = Visitor(principal or await self._principal(request), is_loopback_request(request))
        streams = sorted((await self._log.catalog()).streams.items())
        await self._lifecycles.load()
        topics = [
            OfferedTopic(spec, self._lifecycles.of(name))
            for name, spec in streams
            if spec.publish
            and sees(self._lifecycles.of(name), visitor.principal)
            and (visitor.local or visitor.may(scope_of(spec)))
        ]
        relations = []
        if visitor.local or visitor.may(_DATA_SCOPE):
            shown = [(name, spec) for name, spec in streams if sees(self._lifecycles.of(name), visitor.principal)]
            stored = [OfferedRelation(name, spec) for name, spec in shown if spec.store]
            sources = [spec for _, spec in shown if spec.relation is Relation.SOURCE and not spec.internal]
            relations = stored + [OfferedRelation(_RAW + spec.name, spec) for spec in sources]
        upstreams = [one for one in self._upstreams if visitor.local or visitor.may(one.scope)]
        return Offer(visitor, topics, relations, upstreams)

    async def _principal(self, request: web.Request) -> Principal | None:
        with suppress(PenstockError):
            return await self._authority.access.authenticated(request)
        return None
