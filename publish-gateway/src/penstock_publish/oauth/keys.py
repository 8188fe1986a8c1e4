"""Keys as files and JSON Web Key Sets (RFC 7517), and where signing keys are kept: `signing-keys.json`, mode 600.

Several replicas share a database instead: `oauth.shared_keys`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from joserfc.jwk import ECKey, KeySet

from penstock.errors import PenstockError
from penstock.http.followed_issuer import FollowSettings
from penstock.http.signatures import VerifyingKey, verifying_keys
from penstock_publish.oauth.key_schedule import SigningKey

__all__ = ["KEYS_FILE", "FileKeys", "KeyStore", "key_record", "make_key", "read_public_keys", "signing_key_of",
           "signing_keys_in", "write_private"]  # fmt: skip

KEYS_FILE = "signing-keys.json"
_FROM = "signs_from_s"  # beside the members of a JWK

Change = Callable[[list[SigningKey]], Sequence[SigningKey]]


class KeyStore(Protocol):
    """Where signing keys are kept. Blocking. Errors: `internal` for damaged keys, `store_unavailable`."""

    def load(self, now_s: float) -> list[SigningKey]:
        """The keys; the first one is made, or taken from the data folder, where there is none."""
        ...

    def change(self, now_s: float, change: Change) -> list[SigningKey]:
        """Read, let `change` decide, write; one at a time among processes."""
        ...


class FileKeys:
    """Implements `KeyStore` in a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / KEYS_FILE
        self._read: tuple[tuple[int, int], list[SigningKey]] | None = None  # what the file was, and its keys

    def load(self, now_s: float) -> list[SigningKey]:
        """Read the file if it has changed. A file that was deleted counts at the next start."""
        with _reached(self._path):
            try:
                status = self._path.stat()
            except FileNotFoundError:
                return self._read[1] if self._read is not None else self.change(now_s, lambda keys: keys)
            if self._read is None or self._read[0] != _version(status):
                self._read = (_version(status), signing_keys_in(self._data_dir))
            return self._read[1]

    def change(self, now_s: float, change: Change) -> list[SigningKey]:
        """As `KeyStore.change`; the file is written whole or not at all."""
        with _reached(self._path), _held(self._data_dir):
            before = signing_keys_in(self._data_dir)
            after = list(change(before or [make_key(now_s)]))
            if [key.kid for key in after] != [key.kid for key in before]:
                write_private(self._path, json.dumps({"keys": [key_record(key) for key in after]}))
            self._read = (_version(self._path.stat()), after)
        return after


def make_key(signs_from_s: float) -> SigningKey:
    """A new P-256 key; `kid` is its thumbprint (RFC 7638)."""
    key = ECKey.generate_key("P-256", private=True)
    return SigningKey(key.thumbprint(), key, signs_from_s)


def key_record(key: SigningKey) -> dict[str, Any]:
    """How a signing key is kept: its private JWK, and when it begins to sign."""
    return {**key.key.as_dict(private=True), "kid": key.kid, _FROM: key.signs_from_s}


def signing_key_of(record: Mapping[str, Any], place: str, *, signs_from_s: float) -> SigningKey:
    """The key of a record. `signs_from_s` counts where it does not say; `place` is named in the error."""
    jwk = {name: value for name, value in record.items() if name != _FROM}
    [key] = _read_key_set({"keys": [jwk]}, place)
    begins_s = record.get(_FROM, signs_from_s)
    if not isinstance(begins_s, int | float) or not math.isfinite(begins_s):
        raise PenstockError("internal", f"{place}: {_FROM} of a key is no number of seconds")
    return SigningKey(_kid(key), key, float(begins_s))


def signing_keys_in(data_dir: Path) -> list[SigningKey]:
    """The signing keys of a data folder; none without the file. Blocking.

    In files of earlier versions the first key signs; it has done so since the file was written.
    """
    path = data_dir / KEYS_FILE
    if not path.exists():
        return []
    written_at_s = path.stat().st_mtime
    records = _loaded(path).get("keys", [])
    if not isinstance(records, list) or not records or not all(isinstance(one, dict) for one in records):
        raise PenstockError("internal", f"{path} has no P-256 key (ES256); put one in")
    return [
        signing_key_of(record, str(path), signs_from_s=written_at_s - place) for place, record in enumerate(records)
    ]


def read_public_keys(path: Path) -> dict[str, VerifyingKey]:
    """The keys of an external issuer by `kid`: those that may verify ES256 and nothing else. Blocking."""
    try:
        return verifying_keys(_loaded(path), algorithms=("ES256",), keys_max=FollowSettings().keys_max)
    except ValueError as error:
        raise PenstockError("internal", f"{path}: {error}; put the issuer's key set there") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all. Blocking."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ino


@contextmanager
def _reached(path: Path) -> Iterator[None]:
    """Errors of the file system as `store_unavailable`: whoever follows keys goes on and tries again."""
    try:
        yield
    except OSError as error:
        detail = f"{path}: {error.strerror}; is there room on the disk, and may we read and write there?"
        raise PenstockError("store_unavailable", detail) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Wait for another process that changes keys: the service and a command."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_key_set(key_set: Mapping[str, Any], place: str) -> list[ECKey]:
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


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PenstockError("internal", f"{path} is not a JSON Web Key Set: {error}") from None
    if not isinstance(found, dict):
        raise PenstockError("internal", f"{path} is not a JSON Web Key Set: it is no object")
    return found


def _kid(key: ECKey) -> str:
    return key.kid or key.thumbprint()
