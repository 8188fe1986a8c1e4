"""Errors of a client: what the server said (`code`, `detail`), and whether the same call may do later (`retry`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from penstock.errors import STATUS, PenstockError

__all__ = [
    "ClientError",
    "Forbidden",
    "NotFound",
    "Refused",
    "Unauthorized",
    "Unavailable",
    "nothing_done",
    "problem_of",
    "retry_after_s",
]  # fmt: skip

#: Replies that say «later», of the server or of a proxy before it.
LATER = frozenset({429, 502, 503, 504})


class ClientError(PenstockError):
    """`code` is one of docs/errors.md (a newer server may have more), `detail` is for people.

    `status` is the HTTP status, or what the code stands for; `retry_after_s` what the server asked to wait (None:
    nothing), `errors` the findings of the reply, where it lists some.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry: bool = False,
        retry_after_s: float | None = None,
        errors: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(
            code, detail, retry_after_s=retry_after_s, extra={"errors": list(errors)} if errors else None
        )
        self.retry = retry
        self.errors = errors
        self._status = STATUS.get(code, (500,))[0] if status is None else status

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._status

    @property
    def retryable(self) -> bool:
        """As `retry`."""
        return self.retry


class Unauthorized(ClientError):
    """No token, or none that is taken; or the token endpoint refuses the client."""


class Forbidden(ClientError):
    """The token lacks a scope, or its use is not allowed here."""


class NotFound(ClientError):
    """No such stream, topic or relation."""


class Refused(ClientError):
    """The request will never do as it is: a wrong filter, cursor, column, size."""


class Unavailable(ClientError):
    """Not now: overloaded, draining, over a quota, or nobody answers."""


def nothing_done(error: ClientError) -> bool:
    """Whether the reply says that the request had no effect. A log that cannot be used may have taken the events."""
    return error.status in (429, 503) and error.code != "log_unavailable"


def problem_of(status: int, headers: Mapping[str, str], answer: Any, *, now_ms: int) -> ClientError:
    """The error of a reply of 400 and above: problem details (RFC 9457), or whatever else somebody answered."""
    if not isinstance(answer, dict):
        answer = {"detail": f"HTTP {status}: {str(answer)[:500]}"}
    listed = answer.get("errors")
    errors = tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()
    return _kind_of(status)(
        str(answer.get("code", "internal")),
        str(answer.get("detail", f"HTTP {status}")),
        status=status,
        retry=status in LATER,
        retry_after_s=retry_after_s(headers.get("Retry-After", ""), now_ms=now_ms),
        errors=errors,
    )


def retry_after_s(text: str, *, now_ms: int) -> float | None:
    """`Retry-After` (RFC 9110, 10.2.3): seconds or a date; None where there is none that can be read."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds())


def _kind_of(status: int) -> type[ClientError]:
    kinds: dict[int, type[ClientError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound}
    if status in kinds:
        return kinds[status]
    return Unavailable if status in LATER or status >= 500 else Refused
