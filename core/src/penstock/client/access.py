"""Where a client connects to and what it shows there: arguments, a client.json, or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.client.errors import NotFound, Refused
from penstock.client.tokens import TokenProvider

__all__ = ["ClientFile", "ServerAccess", "read_client_file", "resolve_access"]

CLIENT_FILE = "client.json"
_TOKEN_PATH = "/oauth/token"


@dataclass(frozen=True, slots=True)
class ClientFile:
    """What a client.json holds: `penstock up` writes one into its data folder."""

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """`url` without a slash at its end; either `token` or a client's id and secret for `token_url`."""

    url: str
    token: str | TokenProvider | None = field(default=None, repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    token_url: str = ""
    scope: str = ""


def read_client_file(path: Path) -> ClientFile:
    """A client.json, or the one in the folder `path`; `not_found`, or `bad_request` where it is something else."""
    path = path / CLIENT_FILE if path.is_dir() else path
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClientFile)
    except OSError as error:
        raise NotFound("not_found", f"no client in {path}: {error.strerror}; `penstock up` writes one") from error
    except msgspec.MsgspecError as error:
        raise Refused("bad_request", f"{path} is not a client file: {error}") from error


def resolve_access(
    url: str | None,
    *,
    client_id: str | None,
    client_secret: str | None,
    client_file: str | Path | None,
    token: str | TokenProvider | None,
    scope: str | None,
    environment: Mapping[str, str],
) -> ServerAccess:
    """Arguments count before the environment: PENSTOCK_URL, and PENSTOCK_TOKEN, or PENSTOCK_CLIENT_ID and
    PENSTOCK_CLIENT_SECRET, or PENSTOCK_CLIENT_FILE, or the client.json of PENSTOCK_DATA. `bad_request` names what
    is missing.
    """
    url = url or environment.get("PENSTOCK_URL")
    if not (token or client_id or client_file):
        token = environment.get("PENSTOCK_TOKEN")
        client_id = environment.get("PENSTOCK_CLIENT_ID")
        client_secret = environment.get("PENSTOCK_CLIENT_SECRET")
        client_file = environment.get("PENSTOCK_CLIENT_FILE") or environment.get("PENSTOCK_DATA")
    if token:
        return ServerAccess(_required(url).rstrip("/"), token=token)
    if client_id:
        if not client_secret:
            raise Refused("bad_request", "a client_id needs its client_secret")
        base = _required(url).rstrip("/")
        return ServerAccess(base, None, client_id, client_secret, base + _TOKEN_PATH, scope or "")
    if client_file:
        found = read_client_file(Path(client_file))
        base = (url or found.token_url.removesuffix(_TOKEN_PATH)).rstrip("/")
        wanted = found.scope if scope is None else scope
        return ServerAccess(base, None, found.client_id, found.client_secret, found.token_url, wanted)
    raise Refused(
        "bad_request", "no credential: give client_id and client_secret, client_file or token, or set PENSTOCK_TOKEN"
    )


def _required(url: str | None) -> str:
    if not url:
        raise Refused("bad_request", "no address: give url, or set PENSTOCK_URL")
    if not url.startswith(("http://", "https://")):
        raise Refused("bad_request", f"the address begins with http:// or https://, not '{url[:40]}'")
    return url
