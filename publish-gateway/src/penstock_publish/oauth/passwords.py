"""Passwords as scrypt hashes (RFC 7914). Pure but for the salt that is passed in; blocking by intent.

Kept as `scrypt$log2_n$r$p$salt$hash`, so that an old hash is checked with its own cost and renewed with today's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata

from penstock.errors import PenstockError
from penstock_publish.oauth.settings import LoginSettings

__all__ = ["SALT_BYTES", "check_password", "hash_password", "is_password", "needs_renewal"]

SALT_BYTES = 16
_HASH_BYTES = 32
_SPARE_BYTES = 1024 * 1024


def check_password(password: str, settings: LoginSettings) -> None:
    """`bad_request` for a password that is too short or too long (NIST SP 800-63B: length is what counts)."""
    if not settings.password_chars_min <= len(password) <= settings.password_chars_max:
        raise PenstockError(
            "bad_request",
            f"a password needs {settings.password_chars_min} to {settings.password_chars_max} characters; take a few "
            "words, or what a password manager makes",
        )


def hash_password(password: str, settings: LoginSettings, *, salt: bytes) -> str:
    """How a password is kept."""
    cost = (settings.scrypt_log2_n, settings.scrypt_r, settings.scrypt_p)
    return "$".join(["scrypt", *map(str, cost), _text(salt), _text(_scrypt(password, salt, cost))])


def is_password(password: str, kept: str) -> bool:
    """True if it is the one; compared in constant time."""
    cost, salt, digest = _parts(kept)
    return hmac.compare_digest(_scrypt(password, salt, cost), digest)


def needs_renewal(kept: str, settings: LoginSettings) -> bool:
    """True if it was hashed at another cost than the settings ask for."""
    return _parts(kept)[0] != (settings.scrypt_log2_n, settings.scrypt_r, settings.scrypt_p)


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    log2_n, r, p = cost
    # NFKC: the same characters, however a keyboard makes them.
    text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    memory = 128 * r * (2**log2_n + p) + _SPARE_BYTES
    return hashlib.scrypt(text, salt=salt, n=2**log2_n, r=r, p=p, maxmem=memory, dklen=_HASH_BYTES)


def _parts(kept: str) -> tuple[tuple[int, int, int], bytes, bytes]:
    _, log2_n, r, p, salt, digest = kept.split("$")
    return (int(log2_n), int(r), int(p)), base64.b64decode(salt), base64.b64decode(digest)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
