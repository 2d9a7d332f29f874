"""Remote fetch against servers on the loopback: the resolver and the address rule come through the constructor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core.errors import MediaFetchError, MediaTooLarge
from media.fetch import FetchPolicy, RemoteFetcher, is_public_address

pytestmark = pytest.mark.anyio


class Site:
    """A tiny HTTP server: path -> raw response; it keeps the request heads it saw."""

    def __init__(self, responses: dict[str, bytes]) -> None:
        self.responses = responses
        self.heads: list[str] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        response = self.responses.get(head.split()[1])
        if response is None:  # silence: wait until the client leaves
            await reader.read()
        else:
            writer.write(response)
        writer.close()


@asynccontextmanager
async def site(responses: dict[str, bytes]) -> AsyncIterator[Site]:
    running = Site(responses)
    server = await asyncio.start_server(running.answer, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    async with server:
        yield running


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


class Names:
    """A resolver over a table; it counts how often it was asked."""

    def __init__(self, **table: str) -> None:
        self.table = {name.replace("_", "."): address for name, address in table.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.table:
            raise OSError("no such host")
        return [self.table[host]]


def fetcher(port: int, names: Names, **policy: Any) -> RemoteFetcher:
    rules = FetchPolicy(**{"enabled": True, "allowed_ports": (port,), "max_bytes": 1000, **policy})
    return RemoteFetcher(rules, resolver=names, is_allowed_address=lambda address: address == "127.0.0.1")


async def test_fetch_is_closed_by_default() -> None:
    with pytest.raises(MediaFetchError, match="fetches no remote media"):
        await RemoteFetcher(FetchPolicy()).fetch("http://example.org/cat.png")


async def test_an_allowed_host_is_fetched_from_the_address_that_was_checked() -> None:
    names = Names(cats_example="127.0.0.1")
    async with site({"/cat.png": ok(b"meow")}) as server:
        body = await fetcher(server.port, names).fetch(f"http://cats.example:{server.port}/cat.png#tail")
    assert body == b"meow"
    assert names.asked == ["cats.example"]
    assert f"host: cats.example:{server.port}" in server.heads[0].lower()
    assert "accept-encoding: identity" in server.heads[0].lower()


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with site({"/": ok(b"direct")}) as server:
        assert await fetcher(server.port, Names(a="127.0.0.1")).fetch(f"http://a:{server.port}/") == b"direct"


async def test_a_redirect_is_followed_and_checked_again() -> None:
    async with site({"/new": ok(b"here")}) as server:
        server.responses["/old"] = redirect("/new")
        server.responses["/trap"] = redirect(f"http://inside.example:{server.port}/new")
        names = Names(a_example="127.0.0.1", inside_example="10.0.0.7")
        fetch = fetcher(server.port, names).fetch
        assert await fetch(f"http://a.example:{server.port}/old") == b"here"
        with pytest.raises(MediaFetchError, match=r"'inside\.example' is not on the public internet"):
            await fetch(f"http://a.example:{server.port}/trap")
    assert names.asked == ["a.example", "a.example", "a.example", "inside.example"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a.example/x", "http://other.example/x", ""])
async def test_a_redirect_out_of_the_rules_is_refused(location: str) -> None:
    async with site({"/": redirect(location)}) as server:
        with pytest.raises(MediaFetchError):
            await fetcher(server.port, Names(a_example="127.0.0.1"), allowed_domains=("a.example",)).fetch(
                f"http://a.example:{server.port}/"
            )


async def test_redirects_are_counted() -> None:
    async with site({"/": redirect("/")}) as server:
        with pytest.raises(MediaFetchError, match="more than 2 redirects"):
            await fetcher(server.port, Names(a="127.0.0.1"), max_redirects=2).fetch(f"http://a:{server.port}/")
    assert len(server.heads) == 3


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("gopher://a.example/", "only http and https"),
        ("http://user:secret@a.example/", "user name or password"),
        ("http://a.example:22/", "port 22 is not allowed"),
        ("http://evil.example/", "not allowed; allowed: a.example"),
        ("http://nota.example/", "not allowed"),
        ("http://[::1/", "malformed"),
        ("http://gone.a.example/", "does not resolve"),
    ],
)
async def test_a_url_outside_the_policy_is_refused_before_any_connection(url: str, sentence: str) -> None:
    rules = FetchPolicy(enabled=True, allowed_domains=("a.example",))
    with pytest.raises(MediaFetchError, match=sentence):
        await RemoteFetcher(rules, resolver=Names()).fetch(url)


async def test_a_subdomain_of_an_allowed_domain_is_allowed() -> None:
    async with site({"/": ok(b"x")}) as server:
        names = Names(img_a_example="127.0.0.1")
        rules = fetcher(server.port, names, allowed_domains=("A.example",))
        assert await rules.fetch(f"http://img.a.example:{server.port}/") == b"x"


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"])
async def test_literal_addresses_that_are_not_public_are_refused_by_the_real_resolver(host: str) -> None:
    with pytest.raises(MediaFetchError, match=r"not on the public internet|does not resolve|malformed"):
        await RemoteFetcher(FetchPolicy(enabled=True)).fetch(f"http://{host}/latest/meta-data")


async def test_one_private_address_among_public_ones_refuses_the_host() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", "192.168.0.1"]

    with pytest.raises(MediaFetchError, match="not on the public internet"):
        await RemoteFetcher(FetchPolicy(enabled=True), resolver=resolver).fetch("http://rebind.example/")


@pytest.mark.parametrize(
    "response",
    [
        ok(bytes(1001)),
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + bytes(10),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + (b"200\r\n" + bytes(512) + b"\r\n") * 3,
    ],
    ids=["true length", "declared length", "chunked"],
)
async def test_a_body_over_the_limit_is_refused(response: bytes) -> None:
    async with site({"/": response}) as server:
        with pytest.raises(MediaTooLarge, match="over 1000 bytes"):
            await fetcher(server.port, Names(a="127.0.0.1")).fetch(f"http://a:{server.port}/")


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered 404"),
        (ok(b"x", "content-encoding: gzip"), "compresses although"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort", "fetching failed"),
        (b"not http at all\r\n\r\n", "fetching failed"),
    ],
)
async def test_a_server_that_misbehaves_is_a_fetch_error(response: bytes, sentence: str) -> None:
    async with site({"/": response}) as server:
        with pytest.raises(MediaFetchError, match=sentence):
            await fetcher(server.port, Names(a="127.0.0.1")).fetch(f"http://a:{server.port}/")


async def test_a_silent_server_runs_into_the_time_limit() -> None:
    async with site({}) as server:
        with pytest.raises(MediaFetchError, match=r"longer than 0\.2 s|Timeout"):
            await fetcher(server.port, Names(a="127.0.0.1"), timeout_s=0.2).fetch(f"http://a:{server.port}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1",
        "2002:7f00:1::", "2001:0:4136:e378::", "2001:db8::1", "::7f00:1", "not an address", "",
    ],
)  # fmt: skip
def test_every_other_address_is_not_public(address: str) -> None:
    assert not is_public_address(address)
