"""How a client says who it is at the endpoints for programs (RFC 6749, 2.3.1; RFC 7617). Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = ["ClientCredentials", "is_visible_ascii", "read_credentials"]


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """`method` as in `token_endpoint_auth_methods_supported`; nothing was said where `client_id` is empty."""

    client_id: str
    secret: str
    method: str


def read_credentials(form: Mapping[str, str], authorization: str) -> ClientCredentials:
    """Those of the form, or of the header `Authorization`; ValueError says what of them cannot be.

    A header that is not Basic, or that cannot be read as text, holds no credentials.
    """
    found = _basic(authorization)
    in_form = form.get("client_id", ""), form.get("client_secret", "")
    if found is None:
        client_id, secret = in_form
        found = ClientCredentials(client_id, secret, "client_secret_post" if secret else "none")
    elif in_form[1]:
        raise ValueError("client_secret: send it in one place, the form or the header Authorization")
    elif in_form[0] not in ("", found.client_id):
        raise ValueError("client_id: the form names another one than the header Authorization")
    for name, text in (("client_id", found.client_id), ("client_secret", found.secret)):
        if not is_visible_ascii(text):
            raise ValueError(f"{name} has characters that it cannot have (RFC 6749, appendix A)")
    return found


def is_visible_ascii(text: str) -> bool:
    """True for texts of VSCHAR alone."""
    return all(" " <= char <= "~" for char in text)


def _basic(authorization: str) -> ClientCredentials | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return None
    return ClientCredentials(unquote(client_id), unquote(secret), "client_secret_basic")
