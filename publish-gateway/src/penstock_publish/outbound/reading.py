"""A standing subscription as a reader of its topic: what it may read now, from its cursor on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import JwtAccess
from penstock.model.stream import StreamSpec
from penstock.ports.log import Log
from penstock_publish.outbound.standing import Standing
from penstock_publish.topics.framing import Form, envelopes
from penstock_publish.topics.history import parse_after
from penstock_publish.topics.request import TopicRequest
from penstock_publish.topics.session import Slow
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["PAUSING", "Batch", "Beginning", "Gathered", "Granted", "TopicReader", "principal_of"]

#: What a client and the subject that it acts for have now, each a set of scopes; None: one of them is gone.
Granted = Callable[[str, str], Awaitable[Sequence[frozenset[str]] | None]]
#: Codes of errors after which trying again is no use before somebody has changed something.
PAUSING = frozenset(
    {"unknown_topic", "topic_retired", "insufficient_scope", "bad_filter", "bad_cursor", "bad_request"}
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes to be sent, perhaps none, and the cursor after them."""

    envelopes: list[bytes]
    cursor: str
    gap: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """What goes out as one: the first envelopes, how many there were in all, the cursor after them."""

    envelopes: Sequence[bytes]
    events: int
    cursor: str
    gap: dict[str, object] | None

    @property
    def empty(self) -> bool:
        """True if there is nothing to say."""
        return not self.events and self.gap is None


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a new subscription begins, in the topic's words."""

    spec: StreamSpec
    filter: str
    cursor: str


class TopicReader:
    """Reads for all standing subscriptions of a process.

    `granted` None: tokens are of issuers that cannot be asked what a client has now.
    """

    def __init__(
        self,
        log: Log,
        subscriber: Subscriber,
        *,
        granted: Granted | None,
        batch_events_max: int,
        batch_bytes_max: int,
    ) -> None:
        self._log = log
        self._subscriber = subscriber
        self._granted = granted
        self._events_max = batch_events_max
        self._bytes_max = batch_bytes_max

    async def begin(
        self, principal: Principal, access: JwtAccess, *, topic: str, filter_text: str, after: str, kind: str
    ) -> Beginning:
        """Judge a new subscription; `kind` names it in errors: `unknown_topic`, `insufficient_scope`, `bad_request`,
        `bad_cursor`, `bad_filter`.
        """
        spec = (await self._log.catalog()).streams.get(topic)
        if spec is None or not spec.publish:
            raise PenstockError("unknown_topic", f"there is no topic '{topic[:100]}'; GET /v1/topics lists them")
        if not principal.allows(spec.read_scope):
            raise access.scope_error(spec.read_scope)
        if principal.confined(spec.read_scope):
            raise PenstockError("insufficient_scope", f"{kind} of {spec.name} needs the scope {spec.read_scope}")
        if self._granted is not None and await self._granted(principal.client_id, principal.subject) is None:
            # Its rights could not be looked up later, when the token is not here.
            raise PenstockError("bad_request", f"make {kind} with the token of an application")
        wanted = TopicRequest(parse_after(spec, after), filter_text.strip(), Form.ENVELOPE, Slow.GAP, 1, 0.0)
        found = await self._subscriber.look_up(spec, wanted, principal)
        return Beginning(spec, wanted.filter_text, found.start.resume)

    async def check(self, standing: Standing) -> None:
        """What its owner has now suffices, or `insufficient_scope`; `unknown_topic`. Asked right before sending."""
        spec = await self._spec_of(standing)
        has: Sequence[frozenset[str]] | None = ()
        if self._granted is not None:
            has = await self._granted(standing.client_id, standing.subject)
        principal = principal_of(standing)
        each = () if has is None else (principal, *(replace(principal, scopes=scopes) for scopes in has))
        if not each or not all(one.allows(spec.read_scope) for one in each):
            raise PenstockError("insufficient_scope", f"{standing.client_id} may not read {spec.name} any more")

    async def gather(self, standing: Standing, at: str, *, events_max: int, kept_max: int) -> Gathered:
        """What there is after the cursor `at`, up to about `events_max` events or a gap; `kept_max` are kept."""
        kept: list[bytes] = []
        events = 0
        while True:
            batch = await self.read(standing, at)
            at = batch.cursor
            kept += batch.envelopes[: kept_max - len(kept)]
            events += len(batch.envelopes)
            if not batch.envelopes or batch.gap is not None or events >= events_max:
                return Gathered(kept, events, at, batch.gap)

    async def read(self, standing: Standing, at: str) -> Batch:
        """What comes after the cursor `at`, up to the limits, by what the token had; else an error of `PAUSING`.

        What it has now is asked when something is to be sent: `check`.
        """
        spec = await self._spec_of(standing)
        principal = principal_of(standing)
        after = parse_after(spec, at)
        wanted = TopicRequest(after, standing.filter, Form.ENVELOPE, Slow.GAP, self._events_max, 0.0)
        found = await self._subscriber.look_up(spec, wanted, principal)
        batch = Batch([], found.start.resume, found.start.notice)
        size_bytes = 0
        async for piece in found.history.pieces(found.start):
            lines = envelopes(spec.name, piece.rows, piece.cursors, form=Form.ENVELOPE)
            if piece.notice is not None:
                if batch.envelopes:
                    break  # a gap goes before the events that follow it
                batch = replace(batch, gap=piece.notice)
            for line, cursor in zip(lines, piece.cursors, strict=True):
                size_bytes += len(line)
                full = len(batch.envelopes) >= wanted.limit or size_bytes > self._bytes_max
                if batch.envelopes and full:
                    return batch
                batch.envelopes.append(line)
                batch = replace(batch, cursor=cursor.decode())
            batch = replace(batch, cursor=piece.resume)
        return batch

    async def _spec_of(self, standing: Standing) -> StreamSpec:
        spec = (await self._log.catalog()).streams.get(standing.topic)
        if spec is None or not spec.publish:
            raise PenstockError("unknown_topic", f"there is no topic '{standing.topic}' any more")
        return spec


def principal_of(standing: Standing) -> Principal:
    """Its owner as a reader, with what the token had that made it."""
    scopes = frozenset(standing.scope.split())
    return Principal(standing.subject, standing.client_id, scopes, float("inf"), f"outbound:{standing.id}")
