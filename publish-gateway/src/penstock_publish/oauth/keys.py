"""Signing keys: one ES256 key in the data folder, readable by its owner only (mode 600)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, KeySet

from penstock.errors import PenstockError

__all__ = ["KEYS_FILE", "SigningKeys", "new_key_set", "open_signing_keys", "read_key_set", "read_public_keys",
           "signing_keys_in", "write_private"]  # fmt: skip

KEYS_FILE = "signing-keys.json"


class SigningKeys:
    """The key set of the embedded issuer: the first key signs, all verify (put a new one in front to rotate)."""

    def __init__(self, keys: list[ECKey]) -> None:
        self.signing = keys[0]
        self.verifying: Mapping[str, ECKey] = {_kid(key): key for key in keys}

    @property
    def signing_kid(self) -> str:
        """`kid` of the key that signs: its thumbprint (RFC 7638) where the file gives no other."""
        return _kid(self.signing)

    def public_jwks(self) -> dict[str, Any]:
        """The public half, as `/oauth/jwks.json` shows it (RFC 7517)."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}
                for kid, key in self.verifying.items()
            ]
        }


def open_signing_keys(data_dir: Path) -> SigningKeys:
    """Read the keys of a data folder, or make the first one. Blocking."""
    path = data_dir / KEYS_FILE
    if path.exists():
        return SigningKeys(_read(path))
    made = new_key_set()
    write_private(path, json.dumps(made))
    return SigningKeys(read_key_set(made, str(path)))


def new_key_set() -> dict[str, Any]:
    """A key set (RFC 7517) with one new private key."""
    key = ECKey.generate_key("P-256", private=True)
    return {"keys": [{**key.as_dict(private=True), "kid": _kid(key)}]}


def signing_keys_in(data_dir: Path) -> dict[str, Any] | None:
    """The private key set of a data folder; None without one. Blocking."""
    path = data_dir / KEYS_FILE
    if not path.exists():
        return None
    return {"keys": [{**key.as_dict(private=True), "kid": _kid(key)} for key in _read(path)]}


def read_public_keys(path: Path) -> dict[str, ECKey]:
    """The keys of an external issuer by `kid`. Blocking."""
    return {_kid(key): key for key in _read(path)}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all. Blocking."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_key_set(key_set: Mapping[str, Any], place: str) -> list[ECKey]:
    """The P-256 keys of a key set; `place` is named in the error."""
    try:
        keys = [
            key
            for key in KeySet.import_key_set({"keys": list(key_set["keys"])}).keys
            if isinstance(key, ECKey) and key.curve_name == "P-256"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise PenstockError("internal", f"{place} is not a JSON Web Key Set: {error}") from None
    if not keys:
        raise PenstockError("internal", f"{place} has no P-256 key (ES256); put one in")
    return keys


def _read(path: Path) -> list[ECKey]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PenstockError("internal", f"{path} is not a JSON Web Key Set: {error}") from None
    return read_key_set(found, str(path))


def _kid(key: ECKey) -> str:
    return key.kid or key.thumbprint()
