"""Fetch a remote medium when the operator allows it: public addresses only, resolved once and pinned."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import httpx

from core.errors import MediaFetchError, MediaTooLarge
from core.telemetry import Measurements

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
_CARRIERS_OF_IPV4 = tuple(
    ipaddress.IPv6Network(block)
    for block in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; site-local fec0::/10 is not in it
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be fetched. Closed unless `enabled`; an empty `allowed_domains` then means every public host.

    A domain allows itself and its subdomains. `max_bytes` bounds the body while it streams.
    """

    enabled: bool = False
    allowed_domains: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    max_bytes: int = 32 * 1024 * 1024
    timeout_s: float = 10.0
    max_redirects: int = 3


def is_public_address(address: str) -> bool:
    """Return whether an IP address is one of the public internet; IPv6 forms that carry an IPv4 address are not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    is_v6 = isinstance(parsed, ipaddress.IPv6Address)
    if is_v6 and (parsed not in _GLOBAL_UNICAST or any(parsed in block for block in _CARRIERS_OF_IPV4)):
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


class SystemResolver:
    """Every address of a host by the system's resolver, in threads of its own.

    A name server that keeps silent holds a thread for longer than any timeout here; it must not be one of those that
    decode JSON.
    """

    def __init__(self, num_threads: int = 4) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses. Raises `OSError` when there is none."""
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(entry[4][0]) for entry in found]


class RemoteFetcher:
    """Fetch by HTTP(S) under one policy; `resolver` and `is_allowed_address` are the network's front door."""

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolver: Resolver | None = None,
        is_allowed_address: Callable[[str], bool] = is_public_address,
        measurements: Measurements | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or SystemResolver()
        self._is_allowed_address = is_allowed_address
        self._measurements = measurements or Measurements()

    async def fetch(self, url: str) -> bytes:
        """Return the body behind a URL.

        Raises `MediaFetchError` when the policy refuses the URL, an address or a redirect, or the server fails, and
        `MediaTooLarge` when the body is over `max_bytes`.
        """
        policy = self._policy
        if not policy.enabled:
            raise MediaFetchError("this server fetches no remote media; send the file itself or a data: URI")
        # Proxies of the environment would resolve the name again, and a kept connection would skip the checks.
        client = httpx.AsyncClient(trust_env=False, timeout=policy.timeout_s, limits=httpx.Limits(max_connections=1))
        try:
            with self._measurements.timed("media_fetch"):
                async with asyncio.timeout(policy.timeout_s), client:
                    return await self._follow(client, url)
        except TimeoutError:
            raise MediaFetchError(f"fetching took longer than {policy.timeout_s:g} s; send the file itself") from None
        except httpx.HTTPError as error:
            raise MediaFetchError(f"fetching failed ({type(error).__name__}); check the URL") from error

    async def _follow(self, client: httpx.AsyncClient, url: str) -> bytes:
        target = self._check_url(url)
        for _ in range(self._policy.max_redirects + 1):
            request = await self._pinned_request(client, target)
            response = await client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    return await self._read_body(response)
                source, target = target, self._check_url(response.headers.get("location", ""), base=target)
            finally:
                await response.aclose()
            if source.scheme == "https" and target.scheme == "http":
                raise MediaFetchError("the server redirects from https to http; send the file itself")
        raise MediaFetchError(f"more than {self._policy.max_redirects} redirects; send the last URL")

    def _check_url(self, url: str, *, base: httpx.URL | None = None) -> httpx.URL:
        try:
            parsed = httpx.URL(url) if base is None else base.join(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise MediaFetchError(f"the URL is malformed: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise MediaFetchError(f"only http and https URLs are fetched, got the scheme {parsed.scheme!r}")
        if parsed.userinfo:
            raise MediaFetchError("a URL with a user name or password is not fetched")
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        if port not in self._policy.allowed_ports:
            allowed_ports = ", ".join(map(str, self._policy.allowed_ports))
            raise MediaFetchError(f"port {port} is not allowed; allowed: {allowed_ports}")
        host = parsed.raw_host.decode().lower().rstrip(".")
        domains = [domain.lower().strip(".") for domain in self._policy.allowed_domains]
        if domains and not any(host == domain or host.endswith(f".{domain}") for domain in domains):
            raise MediaFetchError(f"the host {host!r} is not allowed; allowed: {', '.join(domains)}")
        return parsed

    async def _pinned_request(self, client: httpx.AsyncClient, url: httpx.URL) -> httpx.Request:
        """Build a request to the address that was checked, with the Host and the TLS name of the URL."""
        host = url.raw_host.decode()
        try:
            addresses = await self._resolver(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:
            raise MediaFetchError(f"the host {host!r} does not resolve") from error
        if not addresses or not all(self._is_allowed_address(address) for address in addresses):
            raise MediaFetchError(f"the host {host!r} is not on the public internet, so it is not fetched")
        return client.build_request(
            "GET",
            url.copy_with(host=addresses[0], fragment=None),
            headers={"host": url.netloc.decode(), "accept-encoding": "identity", "user-agent": "bindchat"},
            extensions={"sni_hostname": host},
        )

    async def _read_body(self, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise MediaFetchError(f"the remote server answered {response.status_code} instead of 200")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise MediaFetchError("the remote server compresses although it was asked not to; send the file itself")
        limit = self._policy.max_bytes
        declared = response.headers.get("content-length", "")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit or (declared.isdecimal() and int(declared) > limit):
                raise MediaTooLarge(f"the remote medium is over {limit} bytes; send a smaller file")
        return bytes(body)
