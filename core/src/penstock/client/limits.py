"""Limits of a client: every queue, wait, retry and buffer by name."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClientLimits"]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Change one with `ClientLimits(attempts_max=5)`.

    Requests
        attempts_max: tries of a request that is answered «later» (429, 503) or, where it may be repeated, not at all.
        request_timeout_s: one try of a request, from connect to the last byte of the reply.
        retry_after_max_s: longest pause that a server may ask for; beyond it the error is raised at once.
        backoff_first_s, backoff_max_s: the n-th pause is a random part of `first * 2**n`, at most `max`.
    Subscriptions
        first_connects_max: tries until a first connection has come about.
        connects_in_a_row_max: tries after a break that bring no connection, until the error is raised.
        connect_timeout_s: one handshake. close_wait_s: the wait for the other side's goodbye.
        message_bytes_max: largest message taken. frames_queued_max: messages read ahead; then the socket is not read.
        items_buffered_max: events read ahead per subscription of several topics or of the synchronous client.
        topics_max: topics of one subscription.
        ping_s: pace of pings. pong_wait_s: silence after a ping that is taken for a broken connection.
        auth_reply_s: wait for the answer to a new token on an open socket; without one it connects again.
        ack_every_s: acknowledgements and credit are sent at most this often.
    Tokens
        renew_before_s: a token is renewed so long before its end, but not before half of its life is over.
    Publishing and pages
        batch_events_max, batch_bytes_max: one request. rejections_kept_max: rejections listed in the result.
        publisher_in_flight_max: messages of a publisher's socket that wait for their reply; then `send` waits.
        publisher_message_bytes_max: one of its messages, which holds at most `batch_events_max` events.
        shapes_max: streams whose columns are remembered. page_rows: rows asked for at once.
    """

    attempts_max: int = 30
    request_timeout_s: float = 60.0
    retry_after_max_s: float = 120.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 15.0
    first_connects_max: int = 5
    connects_in_a_row_max: int = 1_000
    connect_timeout_s: float = 10.0
    close_wait_s: float = 0.2
    message_bytes_max: int = 16 * 1024 * 1024
    frames_queued_max: int = 64
    items_buffered_max: int = 1_000
    topics_max: int = 100
    ping_s: float = 20.0
    pong_wait_s: float = 20.0
    auth_reply_s: float = 5.0
    ack_every_s: float = 1.0
    renew_before_s: float = 60.0
    batch_events_max: int = 1_000
    batch_bytes_max: int = 8 * 1024 * 1024
    publisher_in_flight_max: int = 64
    publisher_message_bytes_max: int = 1024 * 1024
    rejections_kept_max: int = 100
    shapes_max: int = 1_000
    page_rows: int = 1_000
