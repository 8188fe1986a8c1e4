"""What all standing subscriptions have, whatever they send by. Nothing here does anything."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Standing"]


class Standing(Protocol):
    """`cursor`: everything up to it was sent or is among the failed. `paused`: why nothing is sent; None: it is.

    `subject`, `client_id` and `scope` are of the token that made it: with them it reads the topic.
    """

    @property
    def id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def cursor(self) -> str: ...
    @property
    def paused(self) -> str | None: ...

    def as_json(self) -> dict[str, object]:
        """As its owner sees it."""
        ...
