"""Parts of a URL as java.net.URL finds them, which Flink's PARSE_URL asks."""

from __future__ import annotations

import re

__all__ = ["url_part"]

_PROTOCOLS = ("http", "https", "ftp", "file", "mailto", "jar")
_BARE = ("mailto", "jar")  # all that follows the colon is a path
_URL = re.compile(r"(?:url:)?([a-z][a-z0-9.+-]*):(.*)", re.IGNORECASE | re.DOTALL)


def url_part(url: str, part: str, key: str | None = None) -> str | None:
    """HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, FILE or USERINFO (upper case) of a URL, or a key's value in its
    QUERY. None for other parts, where there is no such part, and for texts that are no URL.
    """
    if key is not None:
        return _query_value(url_part(url, part), key) if part == "QUERY" else None
    found = _parts(url)
    return None if found is None else found.get(part)


def _parts(url: str) -> dict[str, str | None] | None:
    match = _URL.fullmatch(url.strip("".join(map(chr, range(33)))))
    if match is None or match[1].lower() not in _PROTOCOLS:
        return None
    protocol, rest = match[1].lower(), match[2]
    rest, hash_sign, ref = rest.partition("#")
    authority: str | None = None
    query: str | None = None
    path = rest
    if protocol not in _BARE:
        path, question, after = rest.partition("?")
        query = after if question else None
        if path.startswith("//"):
            authority, slash, behind = path[2:].partition("/")
            path = slash + behind
    host, user = _host(authority)
    if host is None:
        return None
    return {
        "PROTOCOL": protocol,
        "AUTHORITY": authority,
        "HOST": host,
        "USERINFO": user,
        "PATH": path,
        "QUERY": query,
        "FILE": path if query is None else f"{path}?{query}",
        "REF": ref if hash_sign else None,
    }


def _host(authority: str | None) -> tuple[str | None, str | None]:
    """(host, user information) of an authority; the host is None for one that Java refuses."""
    if authority is None:
        return "", None
    if authority.count("@") > 1:
        return "", None
    user, at, host = authority.rpartition("@")
    if host.startswith("["):
        bracket = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\])(?::([0-9]*))?", host)
        return (bracket[1] if bracket else None), (user if at else None)
    name, colon, port = host.partition(":")
    if colon and port and not re.fullmatch(r"[0-9]{1,9}", port):
        return None, None
    return name, (user if at else None)


def _query_value(query: str | None, key: str) -> str | None:
    if query is None:
        return None
    match = re.search(rf"(?:&|^){re.escape(key)}=([^&]*)", query)
    return match[1] if match else None
