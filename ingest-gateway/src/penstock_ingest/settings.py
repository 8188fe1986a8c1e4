"""Settings and limits of the ingest gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

__all__ = ["DedupeSettings", "FeedSettings", "IngestSettings", "IngestSocketSettings", "InletSettings"]


class DedupeSettings(BaseModel, frozen=True):
    """How long and how many ids are remembered per stream; whichever is reached first."""

    window_s: float = Field(
        default=86_400.0, gt=0, description="Seconds for which a repeated dedupe key is a duplicate."
    )
    max_ids: int = Field(
        default=1_000_000,
        ge=1,
        description="Dedupe keys remembered per stream (about 120 bytes each); reaching it shortens the window, "
        "which penstock_ingest_dedupe_window_seconds shows.",
    )
    news_poll_s: float = Field(
        default=0.5,
        gt=0,
        description="Where several gateways share a log: how often each learns what the others have appended, so "
        "that appends need not.",
    )
    outrun_attempts_max: int = Field(
        default=10,
        ge=1,
        description="Attempts of a request whose ids other gateways append at the same time; beyond it 503.",
    )
    outrun_pause_s: float = Field(
        default=0.005, ge=0, description="Longest pause before such an attempt; it grows with each and is drawn."
    )


class InletSettings(BaseModel, frozen=True):
    """Events that other producers or other gateways leave in the log's inlet; and who of several gateways admits.

    Bytes fetched ahead: log.kafka.inlet_queue_max_kib.
    """

    records_max: int = Field(default=2000, ge=1, description="Records admitted in one append.")
    poll_s: float = Field(default=0.2, gt=0, description="How long to wait for records before looking around.")
    retry_s: float = Field(default=0.3, gt=0, description="Pause after records could not be admitted.")
    beat_s: float = Field(default=0.5, gt=0, description="How often a gateway says that it is alive.")
    ttl_s: float = Field(
        default=2.0, gt=0, description="Without such a word for this long a gateway is taken for gone by the others."
    )
    decide_max_s: float = Field(
        default=10.0, gt=0, description="How long a request waits at start for who admits; then 503."
    )


class FeedSettings(BaseModel, frozen=True):
    """Events that are fetched from others, for sources with such a connector."""

    piece_max_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="About how many bytes of events are fetched and appended at once."
    )
    retry_min_s: float = Field(default=0.5, gt=0, description="First wait before a place is asked again.")
    retry_max_s: float = Field(default=30.0, gt=0, description="Longest wait before a place is asked again.")
    look_s: float = Field(
        default=0.5, gt=0, description="How often apps are looked at for sources that are fetched, and who fetches."
    )
    ttl_s: float = Field(
        default=3.0, gt=0, description="Silence after which another of several gateways fetches instead."
    )
    secrets_folder: Path | None = Field(
        default=None, description="Folder of the files that `${NAME}` in options of these sources stands for."
    )


class IngestSocketSettings(BaseModel, frozen=True):
    """WebSockets into streams. Bytes of all edges at once: ingest.in_flight_max_bytes."""

    connections_max: int = Field(default=1_000, ge=1, description="Open WebSockets; beyond it 429.")
    unauthenticated_max: int = Field(
        default=100, ge=0, description="WebSockets that wait for their token in the first message."
    )
    auth_timeout_s: float = Field(
        default=10.0, gt=0, description="How long a WebSocket with auth=message waits for its token."
    )
    message_max_bytes: int = Field(
        default=1024 * 1024,
        ge=1024,
        description="Largest message; one of up to twice as much is refused by a line, beyond it the WebSocket is "
        "closed with 1009.",
    )
    auth_message_max_bytes: int = Field(
        default=64 * 1024,
        ge=10 * 1024,
        description="The same for WebSockets with auth=message, which anybody can open.",
    )
    in_flight_max: int = Field(
        default=256, ge=1, description="Messages of one WebSocket without a reply yet; then it is not read."
    )
    in_flight_max_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Their bytes; then it is not read."
    )
    ping_s: float = Field(default=15.0, gt=0, description="Pace of pings.")
    pings_missed_max: int = Field(default=2, ge=1, description="Unanswered pings after which a WebSocket is closed.")
    expiring_s: float = Field(default=60.0, ge=0, description="Notice given before a token expires.")
    check_s: float = Field(
        default=0.25, gt=0, description="How often it is looked whether the tokens of open WebSockets still count."
    )
    answer_wait_s: float = Field(
        default=5.0,
        gt=0,
        description="How long what was read is still stored and answered when a WebSocket ends; at a drain as long "
        "as the process has.",
    )
    close_wait_s: float = Field(default=2.0, gt=0, description="Wait for the other side's close frame.")
    drain_retry_ms: int = Field(
        default=1_000, ge=0, description="Hint when to come back after a drain: each gets this to twice this."
    )


class IngestSettings(BaseModel, frozen=True):
    """Limits of the HTTP edge; beyond them a request is refused, never cut."""

    body_max_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, description="Largest body, after decompression.")
    event_max_bytes: int = Field(default=1024 * 1024, ge=64, description="Largest event, in bytes of JSON text.")
    events_max: int = Field(default=100_000, ge=1, description="Most events (or NDJSON lines) in one request.")
    errors_max: int = Field(
        default=1000, ge=1, description="Most errors listed in one reply; all are counted and kept."
    )
    in_flight_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Bytes of bodies being read or appended at once; beyond it requests get 429 with Retry-After.",
    )
    retry_after_s: float = Field(default=1.0, gt=0, description="Retry-After of a 429 by this gateway.")
    thread_min_bytes: int = Field(
        default=64 * 1024,
        ge=0,
        description="Bodies from this size are admitted in a thread, so that others are not held up.",
    )
    gather_event_max_bytes: int = Field(
        default=1024,
        ge=0,
        description="Single events up to this size that arrive during an append share the next one; 0: none do.",
    )
    gather_group_max: int = Field(default=200, ge=1, description="Single events in one shared append.")
    gather_waiting_max: int = Field(
        default=10_000, ge=1, description="Single events of a stream that wait for an append; beyond it 429."
    )
    socket: IngestSocketSettings = Field(default=IngestSocketSettings(), description="WebSockets into streams.")
    dedupe: DedupeSettings = Field(default=DedupeSettings(), description="What counts as a duplicate.")
    feeds: FeedSettings = Field(default=FeedSettings(), description="Sources that are fetched from others.")
    inlet: InletSettings = Field(default=InletSettings(), description="Events from the log's inlet.")
