"""Who may reach an endpoint: the address a browser used, the page it came from, and the API key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import AppError, ConfigError, Forbidden, InvalidRequest, Unauthorized
from server.api_keys import NOBODY, ApiKey, KeyRing
from server.error_handlers import error_response
from server.settings import Settings
from server.trace import trace_of

OPEN_PATHS = frozenset({"/", "/health", "/ready"})
"""Answered without a key: two probes, and the web page, whose calls of the API then send one."""

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
PAGE_FILES = "/web/"  # the page's scripts and styles, looked up in a table and never on the disk
PROBE_PATHS = frozenset({"/health", "/ready"})
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class SecurityHeadersMiddleware:
    """Add what keeps a browser from showing, framing or storing an answer; an endpoint's own header wins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class OriginMiddleware:
    """Keep a page in somebody's browser from talking to this server in their name.

    `allowed_hosts` are the Host headers taken, `*.name` with its subdomains. Without them a server that asks for a key
    takes any, and one that asks for none only addresses and localhost: a name that a foreign page has rebound to this
    machine is then refused, and so is a request that a foreign page sends here directly (its Origin).
    """

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: Sequence[str], trusted_origins: Sequence[str], keys: KeyRing
    ) -> None:
        self._app = app
        self._allowed_hosts = tuple(host.lower() for host in allowed_hosts)
        self._trusted_origins = frozenset(trusted_origins)
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except AppError as error:
            await _refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            raise InvalidRequest("the request has more than one Host header; send one", param="Host")
        if scope["path"] in PROBE_PATHS:
            return  # probes come by whatever address the orchestrator knows
        host = hosts[0] if hosts else ""
        if not self._takes(_host_name(host)):
            raise Forbidden(
                f"the Host header {host[:80]!r} is not one of this server's; its operator sets allowed_hosts",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if self._keys.asks or origin is None or origin in self._trusted_origins or urlsplit(origin).netloc == host:
            return
        raise Forbidden(
            f"pages of {origin[:80]!r} may not use this server; its operator sets cors_origins",
            code="origin_not_allowed",
        )

    def _takes(self, host: str) -> bool:
        if not self._allowed_hosts:
            return self._keys.asks or host == "localhost" or _is_address(host)
        return any(
            rule in ("*", host) or (rule.startswith("*.") and host.endswith(rule[1:])) for rule in self._allowed_hosts
        )


class ApiKeyMiddleware:
    """Ask for a key everywhere but on `OPEN_PATHS`, so that a new endpoint is closed until somebody opens it.

    The decision is made on the path as it was sent: a spelling that only decodes to an open path is closed.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._keys.asks:
            key = self._keys.find(_offered_key(Headers(scope=scope)))
            scope["state"]["trace"].key = key or NOBODY
            if key is None and not _is_open(scope):
                refusal = Unauthorized("the API key is missing or wrong; send Authorization: Bearer KEY or x-api-key")
                await _refuse(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)


def require_admin(request: Request) -> ApiKey:
    """Return the client's key when it is an admin's. Raises `Forbidden`; for what changes things all clients share."""
    key = trace_of(request).key
    if not key.is_admin:
        raise Forbidden("this needs an admin key; the operator makes one with bindchat keys add NAME --admin")
    return key


def check_exposure(settings: Settings, keys: KeyRing) -> None:
    """Raise `ConfigError` when anybody on the network could use the server without meaning to let them."""
    is_local = settings.host == "localhost" or (
        _is_address(settings.host) and ipaddress.ip_address(settings.host).is_loopback
    )
    if not (is_local or keys.asks or settings.allow_unauthenticated):
        raise ConfigError(
            f"listening on {settings.host} without an API key would let the whole network in; set api_key_file "
            "(bindchat keys add NAME makes a key) or api_keys, or say --allow-unauthenticated",
            param="host",
        )


async def _refuse(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["trace"].error_code = error.code
    await error_response(error)(scope, receive, send)


def _offered_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"]
    is_open = path in OPEN_PATHS or path.startswith(PAGE_FILES)
    return is_open and scope.get("raw_path", b"") == path.encode() and scope["method"] in ("GET", "HEAD")


def _host_name(host: str) -> str:
    """Return the name or address of a Host header, without its port; empty when it is none."""
    matched = _HOST.fullmatch(host)
    return "" if matched is None else (matched["address"] or matched["name"]).lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
