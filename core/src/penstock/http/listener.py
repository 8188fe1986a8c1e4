"""The listener: one aiohttp server for the routes of all roles of a process, with health and metrics.

A role never opens a port. `app` hands its routes here; in one process they share the listener, in four each has its
own. Loopback only, unless TLS is on or `insecure_http` says otherwise.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.hdrs import METH_ANY
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.metrics import PART_READY
from penstock.http.problem import guarded, problem
from penstock.http.worker_metrics import is_worker, metrics_page
from penstock.role import Check

__all__ = ["HttpSettings", "Listener", "health_routes"]


class HttpSettings(BaseModel, frozen=True):
    """Where and how to listen."""

    host: str = Field(
        default="127.0.0.1", description="Address to bind; others than loopback need TLS or insecure_http."
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the listener; 0 picks a free one.")
    tls_cert: Path | None = Field(default=None, description="PEM file with the certificate chain.")
    tls_key: Path | None = Field(default=None, description="PEM file with the private key.")
    insecure_http: bool = Field(default=False, description="Allow plain HTTP on an address that is not loopback.")
    body_max_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="Largest request body of any route (ingest has its own, lower or equal).",
    )
    drain_s: float = Field(default=10.0, gt=0, description="Seconds for open requests and sockets to finish at stop.")
    probe_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Networks besides loopback, as a JSON list, from which /livez, /readyz and /metrics need no "
        "token: those of an orchestrator's probes and of Prometheus.",
    )


def is_loopback(host: str) -> bool:
    """True for localhost and addresses of the loopback nets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(remote: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """True for loopback and for an address of one of the networks, IPv4 within IPv6 included."""
    if is_loopback(remote):
        return True
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


class Listener:
    """A reserved port, then a running server; `url` is where it answers."""

    def __init__(self, settings: HttpSettings, *, shared: bool = False) -> None:
        """Bind. Refuses plain HTTP beyond loopback; a port in use names `--port`.

        `shared`: other processes that say so too may listen on the same port; each gets a part of the connections.
        """
        secure = settings.tls_cert is not None and settings.tls_key is not None
        if not (is_loopback(settings.host) or secure or settings.insecure_http):
            raise PenstockError(
                "bad_request",
                f"refusing plain HTTP on {settings.host}: give --tls-cert and --tls-key, or --insecure-http behind a "
                "proxy that does TLS",
            )
        self._settings = settings
        self._socket = _bind(settings, shared=shared)
        self._runner: web.AppRunner | None = None
        self.port: int = self._socket.getsockname()[1]
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "localhost") else settings.host
        self.url = f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def serve(self, routes: Sequence[web.AbstractRouteDef]) -> None:
        """Answer requests on the reserved port; called again, with these routes instead of the ones before."""
        app = web.Application(client_max_size=self._settings.body_max_bytes)
        app.add_routes(routes)
        app.router.add_route("*", "/{path:.*}", _nothing_here)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=self._settings.drain_s,
            handle_signals=False,
            auto_decompress=False,  # ingest decodes gzip and zstd within its own limits; no other route takes them
        )
        await runner.setup()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = runner
        # A server closes the socket that it was given. Its double stays open and listening, so that callers who come
        # between two servers wait in the queue and are not refused.
        await web.SockSite(runner, self._socket.dup(), ssl_context=_tls(self._settings), backlog=1024).start()

    async def close(self) -> None:
        """Stop accepting, let open requests finish within `drain_s`."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()


def health_routes(
    ready: Callable[[], Sequence[Check]], access: Access, networks: Sequence[IPv4Network | IPv6Network] = ()
) -> list[web.RouteDef]:
    """`/livez`, `/readyz`, `/metrics`; without a token from loopback and `networks`, else with scope apps:admin."""

    async def only_near(request: web.Request) -> None:
        if not is_near(request.remote or "", networks):
            await access.require(request, "apps:admin")

    async def livez(request: web.Request) -> web.Response:
        await only_near(request)
        return web.json_response({"live": True})

    async def readyz(request: web.Request) -> web.Response:
        await only_near(request)
        checks = ready()
        ok = all(check.ok for check in checks)
        parts = {check.name: {"ok": check.ok, "detail": check.detail} for check in checks}
        return web.Response(
            status=200 if ok else 503,
            body=msgspec.json.encode({"ready": ok, "parts": parts}),
            content_type="application/json",
        )

    async def metrics(request: web.Request) -> web.Response:
        await only_near(request)
        if not is_worker():  # what is in the files of workers cannot be cleared
            PART_READY.clear()  # apps come and go
        for check in ready():
            PART_READY.labels(check.name).set(check.ok)
        return web.Response(body=metrics_page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        web.get("/livez", guarded(livez)),
        web.get("/readyz", guarded(readyz)),
        web.get("/metrics", guarded(metrics)),
    ]


async def _nothing_here(request: web.Request) -> web.Response:
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        allowed |= (await resource.resolve(request))[1]
    methods = ", ".join(sorted(allowed - {METH_ANY}))  # METH_ANY is this very handler
    if methods:
        detail = f"{request.path} takes {methods}, not {request.method[:20]}; see /docs"
        return problem(PenstockError("method_not_allowed", detail, extra={"allow": methods}))
    return problem(PenstockError("not_found", f"{request.method} {request.path}: nothing here; see /docs"))


def _bind(settings: HttpSettings, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PenstockError(
            "conflict", f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another --port"
        ) from error
    listener.setblocking(False)
    return listener


def _tls(settings: HttpSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
