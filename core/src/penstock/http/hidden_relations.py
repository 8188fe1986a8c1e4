"""Relations that a caller may not see, as a header: the gateway knows lifecycles, the data service reads queries.

It only takes away: who asks the data service directly gains nothing by sending it or leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

__all__ = ["HIDDEN_FIELD", "read_hidden", "write_hidden"]

#: The header's name.
HIDDEN_FIELD = "Penstock-Hidden-Relations"


def write_hidden(relations: Iterable[str]) -> str:
    """The header's value."""
    return ",".join(quote(name, safe="") for name in sorted(relations))


def read_hidden(value: str | None) -> frozenset[str]:
    """The relations of the header."""
    return frozenset(unquote(part) for part in (value or "").split(",") if part)
