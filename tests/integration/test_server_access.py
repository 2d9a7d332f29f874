"""Who may reach what: keys, open paths, admin rights, hosts, origins, and the headers that browsers obey."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from fastapi import Request
from typer.testing import CliRunner

from core.errors import ConfigError
from server.api_keys import ApiKey, add_key
from server.app import create_app
from server.cli import app as command
from server.guards import require_admin
from server.settings import Settings
from server.wiring import build_service
from tests.support.live_server import LiveServer, assert_refused, live_server, raw_connection

ROOT = Path(__file__).resolve().parents[2]
USER, ADMIN = "first-key", "boss-key"


@pytest.fixture(scope="module")
def closed() -> Iterator[LiveServer]:
    with live_server(api_keys=USER, admin_keys=ADMIN) as running:
        yield running


def status(server: LiveServer, path: str, method: str = "GET", **headers: str) -> int:
    with server.client() as client:
        return client.request(method, path, headers=headers).status_code


def raw_status(server: LiveServer, target: str, *headers: str, method: str = "GET") -> int:
    """Send a request line as it is written, which httpx would tidy up."""
    head = "".join(f"{header}\r\n" for header in headers)
    with raw_connection(
        server, f"{method} {target} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode()
    ) as connection:
        answer = connection.recv(4096)
    return int(answer.split()[1])


def test_everything_but_the_probes_needs_a_key(closed: LiveServer) -> None:
    described = httpx.get(f"{closed.url}/openapi.json", headers={"x-api-key": USER}).json()
    paths = [re.sub(r"\{\w+\}", "x", path) for path in described["paths"]]
    assert len(paths) > 10
    open_paths = {path for path in paths if status(closed, path) != 401}
    assert open_paths == {"/health", "/ready"}
    assert status(closed, "/openapi.json") == status(closed, "/nowhere") == 401


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": f"Bearer {USER}"}, 200),
        ({"Authorization": f"bearer   {USER}"}, 200),
        ({"x-api-key": USER}, 200),
        ({"Authorization": "Basic eDp5", "x-api-key": USER}, 200),
        ({"Authorization": "Bearer wrong", "x-api-key": USER}, 401),
        ({"Authorization": USER}, 401),
        ({"Authorization": f"Basic {USER}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"x-api-key": ""}, 401),
        ({}, 401),
    ],
)
def test_a_key_comes_as_a_bearer_token_or_in_its_own_header(
    closed: LiveServer, headers: dict[str, str], expected: int
) -> None:
    assert status(closed, "/v1/models", **headers) == expected


@pytest.mark.parametrize(
    "target",
    [
        "/%68ealth",
        "/health/",
        "//health",
        "/health/../v1/models",
        "/health%2f..%2fv1/models",
        "/v1/models?x=/health",
        "/v1/models#/health",
        "/HEALTH",
        "/health;/v1/models",
        "/health%00",
        "http://localhost/v1/models",
    ],
)
def test_no_spelling_of_an_open_path_opens_another(closed: LiveServer, target: str) -> None:
    assert raw_status(closed, target, "Host: localhost") in (400, 401)


def test_an_open_path_is_open_for_reading_only(closed: LiveServer) -> None:
    assert status(closed, "/health", "HEAD") != 401
    assert status(closed, "/health", "POST") == 401


def test_a_refusal_says_how_to_send_a_key(closed: LiveServer) -> None:
    answer = closed.chat()
    assert_refused(answer, 401, "Bearer", "x-api-key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_log_names_the_key_and_never_shows_it(closed: LiveServer) -> None:
    status(closed, "/v1/models", **{"x-api-key": USER, "x-request-id": "named-1"})
    line = closed.events.wait_for("request_finished", request_id="named-1")
    assert line["key"].startswith("key-")
    assert [text for text in closed.events.lines if USER in text] == []


def test_what_all_clients_share_needs_an_admin_key() -> None:
    application = create_app(Settings(port=0, api_keys=USER, admin_keys=ADMIN), build_service)

    @application.get("/shared")
    async def shared(request: Request) -> str:
        return require_admin(request).name

    async def call(key: str) -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/shared", headers={"x-api-key": key})

    assert_refused(anyio.run(call, USER), 403, "admin key")
    assert anyio.run(call, ADMIN).status_code == 200
    assert anyio.run(call, "wrong").status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_server_without_keys_refuses_to_listen_to_a_network(host: str) -> None:
    with pytest.raises(ConfigError, match="--allow-unauthenticated"):
        create_app(Settings(host=host), build_service)
    assert create_app(Settings(host=host, allow_unauthenticated=True), build_service)
    assert create_app(Settings(host=host, api_keys=USER), build_service)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_server_without_keys_may_listen_on_its_own_machine(host: str) -> None:
    assert create_app(Settings(host=host), build_service)


def test_a_foreign_name_or_page_does_not_reach_a_server_without_keys() -> None:
    with live_server(cors_origins="https://friend.example") as server:
        own = server.url.removeprefix("http://")
        for host in ("localhost", "127.0.0.1:80", "[::1]:8000", own):
            assert raw_status(server, "/v1/models", f"Host: {host}") == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.", "localhost:1@evil.example", ""):
            assert raw_status(server, "/v1/models", f"Host: {host}") == 403, host
        assert raw_status(server, "/v1/models", "Host: localhost", "Host: evil.example") == 400
        assert raw_status(server, "/health", "Host: evil.example") == 200
        origins = dict.fromkeys((server.url, "https://friend.example"), 200)
        origins |= dict.fromkeys(("https://evil.example", "null", f"http://{own}.evil.example"), 403)
        for origin, expected in origins.items():
            assert status(server, "/v1/models", Origin=origin) == expected, origin


def test_named_hosts_are_the_only_ones_taken() -> None:
    with live_server(api_keys=USER, allowed_hosts="api.example, *.inner.example") as server:
        key = f"x-api-key: {USER}"
        for host in ("api.example", "API.example:443", "a.inner.example"):
            assert raw_status(server, "/v1/models", f"Host: {host}", key) == 200, host
        for host in ("inner.example", "evilinner.example", "127.0.0.1", "api.example.evil.example"):
            assert raw_status(server, "/v1/models", f"Host: {host}", key) == 403, host


def test_a_server_with_keys_takes_any_host(closed: LiveServer) -> None:
    assert raw_status(closed, "/v1/models", "Host: anything.example", f"x-api-key: {USER}") == 200


def test_every_answer_tells_browsers_to_keep_out(closed: LiveServer) -> None:
    for path in ("/health", "/v1/models", "/nowhere"):
        headers = httpx.get(closed.url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_a_preflight_of_a_named_page_needs_no_key() -> None:
    with live_server(api_keys=USER, cors_origins="https://page.example") as server:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        assert status(server, "/v1/chat/completions", "OPTIONS", **asked) == 200
        assert status(server, "/v1/chat/completions", "OPTIONS", **{**asked, "Origin": "https://evil.example"}) == 400


def test_keys_are_made_listed_and_removed_by_commands(tmp_path: Path) -> None:
    file = ["--file", str(tmp_path / "keys")]
    made = CliRunner().invoke(command, ["keys", "add", "ann", "--admin", "--max-concurrent", "2", *file])
    secret = made.stdout.strip()
    assert re.fullmatch(r"bc-[\w-]{43}", secret)
    listed = CliRunner().invoke(command, ["keys", "list", *file]).stdout
    assert listed.split() == ["ann", "admin=True", "max_concurrent=2"]
    with live_server(api_key_file=tmp_path / "keys") as server:
        assert status(server, "/v1/models", Authorization=f"Bearer {secret}") == 200
        assert status(server, "/v1/models") == 401
    assert CliRunner().invoke(command, ["keys", "remove", "ann", *file]).exit_code == 0
    assert CliRunner().invoke(command, ["keys", "list", *file]).stdout == ""
    again = CliRunner().invoke(command, ["keys", "remove", "ann", *file])
    assert (again.exit_code, "no key ann" in again.output) == (2, True)


def test_a_running_server_takes_new_keys_at_sighup(tmp_path: Path) -> None:
    path, log = tmp_path / "keys", tmp_path / "logs"
    first = add_key(path, ApiKey(name="first"))
    arguments = ["serve", "--port", "0", "--model", "tiny", "--set", "dtype=float32", "--set", "num_threads=1"]
    arguments += ["--api-key-file", str(path), "--log-dir", str(log), "--set", "drain_timeout_s=0"]
    with subprocess.Popen(
        [sys.executable, "-m", "server.cli", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[3]
            while "is ready" not in process.stdout.readline():
                continue
            second = add_key(path, ApiKey(name="second"))
            assert httpx.get(f"{address}/v1/models", headers={"x-api-key": second}).status_code == 401
            os.kill(process.pid, signal.SIGHUP)
            while "keys_reloaded" not in (log / "server.jsonl").read_text():
                continue
            for key in (first, second):
                assert httpx.get(f"{address}/v1/models", headers={"x-api-key": key}).status_code == 200
        finally:
            process.terminate()
        assert process.wait(20) == 0
