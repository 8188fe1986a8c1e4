"""`authorization_details` of a token (RFC 9396): which topics may be read or written, and which rows of them.

    [{"type": "penstock", "actions": ["read"], "topics": ["orders", "vehicle.*"], "filter": "region = 'EU'"}]

Entries of other types are for other resources and are passed over. One of ours that is not understood to its last
member refuses the token: what is not understood could be a restriction. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.http.settings import TokenLimits

__all__ = ["DETAILS_TYPE", "TopicGrant", "matches_topic", "read_authorization_details"]

DETAILS_TYPE = "penstock"

_ACTIONS = frozenset({"read", "write"})
_MEMBERS = frozenset({"type", "actions", "topics", "filter"})


@dataclass(frozen=True, slots=True)
class TopicGrant:
    """What one entry grants. `topics` are names, or patterns in which `*` stands for any characters.

    `filter`: SQL predicate of the rows that may be read; None: all of them.
    """

    actions: frozenset[str]
    topics: tuple[str, ...]
    filter: str | None = None

    def covers(self, action: str, topic: str) -> bool:
        """True if it speaks of `action` (`read` or `write`) on the topic. Rows cannot be filtered on writing."""
        if action not in self.actions or (action == "write" and self.filter is not None):
            return False
        return any(matches_topic(pattern, topic) for pattern in self.topics)


def read_authorization_details(value: object, limits: TokenLimits) -> tuple[TopicGrant, ...]:
    """The entries of type `penstock`; ValueError names what is wrong with the claim."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("'authorization_details' must be a list")
    if len(value) > limits.details_max:
        raise ValueError(f"'authorization_details' has more than {limits.details_max} entries")
    grants = []
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise ValueError("an entry of 'authorization_details' must be an object with a 'type'")
        if entry["type"] == DETAILS_TYPE:
            grants.append(_grant(entry, limits))
    return tuple(grants)


def matches_topic(pattern: str, topic: str) -> bool:
    """True if `topic` is what `pattern` names; `*` stands for any characters, none included. Linear, no regex."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == topic
    last = rest.pop()
    if not (topic.startswith(first) and topic.endswith(last) and len(topic) >= len(first) + len(last)):
        return False
    at, end = len(first), len(topic) - len(last)
    for part in rest:
        found = topic.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _grant(entry: dict[str, object], limits: TokenLimits) -> TopicGrant:
    unknown = sorted(entry.keys() - _MEMBERS)
    if unknown:
        raise ValueError(f"'authorization_details' has a member that is not known here: '{unknown[0][:40]}'")
    actions = _texts(entry, "actions", at_most=len(_ACTIONS))
    if not _ACTIONS.issuperset(actions):
        raise ValueError("'actions' of 'authorization_details' are 'read' and 'write'")
    topics = _texts(entry, "topics", at_most=limits.detail_topics_max)
    filter_ = entry.get("filter")
    if filter_ is not None and (not isinstance(filter_, str) or not filter_.strip()):
        raise ValueError("'filter' of 'authorization_details' must be a predicate")
    if filter_ is not None and len(filter_) > limits.detail_filter_chars_max:
        raise ValueError(f"'filter' of 'authorization_details' exceeds {limits.detail_filter_chars_max} characters")
    return TopicGrant(frozenset(actions), topics, filter_)


def _texts(entry: dict[str, object], name: str, *, at_most: int) -> tuple[str, ...]:
    value = entry.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"'{name}' of 'authorization_details' must be a list of texts")
    if len(value) > at_most:
        raise ValueError(f"'{name}' of 'authorization_details' has more than {at_most} entries")
    return tuple(value)
