"""A mail made of events (RFC 5322). Pure. Values of events become text of it, never structure.

Header fields are written here and not by `email`, which decodes encoded words (RFC 2047) in what it is given: a value
such as `=?us-ascii?q?=0ABcc:...?=` would become a field of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import partial

import msgspec

from penstock_publish.emails.addresses import domain_of
from penstock_publish.emails.model import Email
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.emails.template import fill, value_text
from penstock_publish.outbound.reading import Gathered

__all__ = ["compose", "field_text", "message_id", "wait_s"]

_HOUR_MS = 3_600_000
_WORD_BYTES = 45  # so that an encoded word has at most 75 characters
_GAP = "Some events before these are missing: the log no longer had them."


def message_id(email_id: str, cursor: str, from_address: str) -> str:
    """The same for every try of the same events: what a receiver tells repeats by."""
    return f"<{hashlib.sha256(f'{email_id}.{cursor}'.encode()).hexdigest()[:32]}@{domain_of(from_address)}>"


def wait_s(sent_at_ms: int, now_ms: int, *, mails_per_hour_max: int) -> float:
    """How long the next mail must wait; never longer than between two mails, even if the clock went back."""
    apart_ms = _HOUR_MS / mails_per_hour_max
    return max(0.0, min(apart_ms, sent_at_ms + apart_ms - now_ms)) / 1000 if sent_at_ms else 0.0


def compose(email: Email, gathered: Gathered, *, now_ms: int, settings: EmailSettings) -> bytes:
    """The mail as it goes to the server: ASCII, CRLF."""
    assert settings.from_address is not None  # settings see to it
    fields = {
        "From": settings.from_address,
        "To": ",\r\n ".join(email.to),
        "Subject": field_text(_subject(email, gathered, settings)),
        "Date": formatdate(now_ms / 1000),
        "Message-ID": message_id(email.id, gathered.cursor, settings.from_address),
        "Auto-Submitted": "auto-generated",  # RFC 3834: no automatic answers, please
    }
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    content = EmailMessage(policy=SMTP)
    content.set_content(_text(email, gathered, settings), cte="quoted-printable")
    return head.encode("ascii") + content.as_bytes()


def field_text(text: str) -> str:
    """A line of text as the value of a header field; as encoded words where it is not plain, or looks like some."""
    if text.isascii() and "=?" not in text:
        return text
    words, word = list[str](), b""
    for char in text:
        octets = char.encode()
        if len(word) + len(octets) > _WORD_BYTES:
            words.append(_encoded_word(word))
            word = b""
        word += octets
    return "\r\n ".join([*words, _encoded_word(word)])


def _subject(email: Email, gathered: Gathered, settings: EmailSettings) -> str:
    if not email.title or not gathered.envelopes:
        events = "1 event" if gathered.events == 1 else f"{gathered.events} events"
        return f"{email.topic}: {events}"
    shown = partial(value_text, chars_max=settings.value_chars_max)
    more = f" (+{gathered.events - 1})" if gathered.events > 1 else ""
    line = " ".join(fill(email.title, _row(gathered.envelopes[0])[1], shown=shown).split())
    return line[: settings.subject_chars_max - len(more)] + more


def _text(email: Email, gathered: Gathered, settings: EmailSettings) -> str:
    parts = [] if gathered.gap is None else [_GAP]
    size, events = 0, 0
    for envelope in gathered.envelopes:
        op, row = _row(envelope)
        text = _event(email.body, op, row, settings)
        size += len(text)
        if events and size > settings.mail_chars_max:
            break
        parts.append(text[: settings.mail_chars_max])
        events += 1
    if gathered.events > events:
        parts.append(f"And {gathered.events - events} more events of {email.topic}.")
    return "\n\n".join(parts) + "\n"


def _event(template: str, op: str | None, row: Mapping[str, object], settings: EmailSettings) -> str:
    shown = partial(value_text, chars_max=settings.value_chars_max)
    if template:
        return fill(template, row, shown=shown)
    change = [] if op is None else [f"({op})"]
    return "\n".join(
        [*change, *(f"{value_text(name, chars_max=200)}: {shown(value)}" for name, value in row.items())]
    )


class _Envelope(msgspec.Struct):
    d: dict[str, object]
    op: str | None = None


def _row(envelope: bytes) -> tuple[str | None, dict[str, object]]:
    found = msgspec.json.decode(envelope, type=_Envelope)
    return found.op, found.d


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(octets).decode()}?="
