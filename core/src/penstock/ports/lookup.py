"""The lookup port: a system of others that is asked for rows by key, many keys at once, each time anew.

A lookup never decides what happens to who asks: it answers, or says why it cannot. Retries, waits, caches and limits
belong to the caller (`penstock_processor.runtime.lookups`). Adapters: one file each in `penstock.lookups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock.errors import PenstockError

__all__ = ["Answers", "Key", "Lookup", "LookupFailed"]

#: Values of the key columns, in their order; none is NULL.
Key = tuple[Any, ...]
#: Per key that was asked for its rows (none: there is no such row), each a mapping from column to a value as JSON has
#: it, or a date, time or Decimal.
Answers = Mapping[Key, Sequence[Mapping[str, Any]]]


class LookupFailed(PenstockError):
    """No answer, or none that can be read; `detail` names the place and what to do, never a key or a secret."""

    def __init__(self, detail: str) -> None:
        super().__init__("lookup_failed", detail)


class Lookup(Protocol):
    """A place that rows are looked up in. Used by one event loop; several `find` may be under way."""

    async def find(self, keys: Sequence[Key]) -> Answers:
        """Rows of these keys, each of which is in the reply. Raises LookupFailed: nothing is known of any of them."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
