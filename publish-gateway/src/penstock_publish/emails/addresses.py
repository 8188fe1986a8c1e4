"""Which addresses mails may go to. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["domain_of", "is_address", "may_go_to"]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: RFC 5321 without quoted names, address literals and comments: nothing that a header or a command could mistake.
_ADDRESS = re.compile(
    rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@(?:{_LABEL}\.)*{_LABEL}"
)
_LOCAL_CHARS = 64
_CHARS = 254


def is_address(text: str) -> bool:
    """True for a plain address in ASCII."""
    if len(text) > _CHARS or _ADDRESS.fullmatch(text) is None or "=?" in text:  # who shows it would decode that
        return False
    return text.index("@") <= _LOCAL_CHARS


def domain_of(address: str) -> str:
    """In small letters."""
    return address.rpartition("@")[2].lower()


def may_go_to(address: str, domains: Sequence[str]) -> bool:
    """True if its domain is one of `domains`, which are not those below them; `*` stands for any."""
    return any(domain == "*" or domain.lower() == domain_of(address) for domain in domains)
