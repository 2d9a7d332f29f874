"""Well-formed HTTP with hostile content: addresses, bombs, code, names, and errors that quote too much."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import MediaFetchError
from media.fetch import FetchPolicy, RemoteFetcher
from tests.support.films import film_bytes
from tests.support.live_server import (
    CHAT,
    LiveServer,
    chat_body,
    data_uri,
    image_file,
    live_server,
    picture,
    reply_text,
)

MAX_ERROR_BYTES = 4096
SPELLINGS = """127.0.0.1 127.1 127.0.1 127.00.00.01 2130706433 0x7f000001 0x7f.0.0.1 0177.0.0.1 017700000001 0 0.0.0.0
127.0.0.1.
localhost LOCALHOST localhost. 127。0。0。1 127%2e0%2e0%2e1 ⑫7.⓪.⓪.① ⓛocalhost [::1] [::] [0:0:0:0:0:0:0:1]
[::ffff:127.0.0.1] [::ffff:7f00:1] [::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b:1::7f00:1]
[2002:7f00:1::] [2001:0:7f00:1::] [fec0::1] [fe80::1%25lo] [fc00::1] 169.254.169.254 [::ffff:a9fe:a9fe] 2852039166
0xa9fea9fe 10.0.0.1 192.168.0.1 100.64.0.1 224.0.0.1 255.255.255.255 a@127.0.0.1 8.8.8.8@127.0.0.1
127.0.0.1%00.example"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("files")
    with live_server(
        allow_remote_media=True, files_dir=folder, max_pixels=1_000_000, max_seconds=2, max_points=1000, num_threads=1
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _server_survives(server: LiveServer) -> Iterator[None]:
    yield
    assert server.get("/ready").json()["requests_in_flight"] == 0


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error whose body is bounded and whole."""
    assert len(answer.content) <= MAX_ERROR_BYTES
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


def ask_with_url(server: LiveServer, url: str, kind: str = "image_url") -> tuple[int, str]:
    return refusal(server.chat([{"type": kind, kind: {"url": url}}]))


@pytest.mark.anyio
@pytest.mark.parametrize("host", SPELLINGS.split())
async def test_no_spelling_of_an_inner_address_is_connected_to(host: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as canary:
        port = canary.getsockname()[1]
        fetcher = RemoteFetcher(FetchPolicy(enabled=True, allowed_ports=(port,), timeout_s=5))
        with pytest.raises(MediaFetchError):
            await fetcher.fetch(f"http://{host}:{port}/secret")
        canary.setblocking(False)
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.anyio
async def test_a_name_that_changes_its_address_is_asked_once_and_reached_where_it_was_checked() -> None:
    answers = iter(["127.0.0.1", "10.0.0.7"])

    async def rebinding(host: str, port: int) -> list[str]:
        return [next(answers)]

    with closing(socket.create_server(("127.0.0.1", 0))) as site:
        port = site.getsockname()[1]
        policy = FetchPolicy(enabled=True, allowed_ports=(port,), timeout_s=0.2)
        fetcher = RemoteFetcher(policy, resolver=rebinding, is_allowed_address=lambda address: address == "127.0.0.1")
        with pytest.raises(MediaFetchError, match=r"longer than|Timeout"):  # connected, and the site keeps silent
            await fetcher.fetch(f"http://rebind.example:{port}/")
        with closing(site.accept()[0]) as connection:
            assert b"rebind.example" in connection.recv(4096)
    assert list(answers) == ["10.0.0.7"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        " file:///etc/passwd",
        "gopher://127.0.0.1/",
        "dict://127.0.0.1:11211/",
        "ftp://127.0.0.1/x",
        "jar:http://127.0.0.1!/",
        "//127.0.0.1/x",
        "/etc/passwd",
        "http:\\\\127.0.0.1\\",
        "http://",
        "http://127.0.0.1:22/",
        "http://user:pass@example.org/",
        "javascript:alert(1)",
        "http://[::1",
        "http://a..b/",
    ],
)
def test_other_schemes_ports_and_credentials_are_refused(server: LiveServer, url: str) -> None:
    status, code = ask_with_url(server, url)
    assert (status, code) in {(422, "media_fetch_failed"), (400, "invalid_request")}


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wav_of(num_seconds: float, declared_bytes: int | None = None) -> bytes:
    samples = bytes(int(16_000 * num_seconds) * 2)
    declared = len(samples) if declared_bytes is None else declared_bytes
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + declared,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        16_000,
        32_000,
        2,
        16,
        b"data",
        declared,
    )
    return head + samples


def glb_of(num_points: int, num_bytes: int = 36) -> bytes:
    scene = {
        "asset": {"version": "2.0"},
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": num_points, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": num_points * 12}],
        "buffers": [{"byteLength": num_points * 12}],
    }
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", num_bytes, b"BIN\0") + bytes(num_bytes)
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def gif_of(width: int, height: int) -> bytes:
    """Return a moving GIF whose screen is much larger than its two pixels."""
    file = io.BytesIO()
    frames = [Image.new("P", (2, 1), colour) for colour in (0, 1)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    content = bytearray(file.getvalue())
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


BOMBS = {
    "film seconds": ("video", film_bytes(num_frames=15)),  # at 6 a second, over the 2 s of this server
    "film pixels": ("video", gif_of(60_000, 60_000)),
    "film cut short": ("video", film_bytes()[:700]),
    "pixels": ("image", png_of(60_000, 60_000, zlib.compress(bytes(10_000)))),
    "seconds": ("audio", wav_of(3)),
    "seconds that lie": ("audio", wav_of(3, 0xFFFFFF00)),
    "glb count": ("point_cloud", glb_of(1_000_000_000)),
    "npy shape": ("point_cloud", npy_header((2_000_000_000, 3))),
    "ply count": (
        "point_cloud",
        b"ply\nformat ascii 1.0\nelement vertex 4000000000\nproperty float x\nend_header\n",
    ),
    "points": ("point_cloud", npy_header((5000, 3)) + bytes(60_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_one_refusal(server: LiveServer, name: str) -> None:
    field, content = BOMBS[name]
    answer = server.upload({"prompt": "?", "model": "tiny", "max_tokens": "1"}, (field, ("x", content, "")))
    status, code = refusal(answer) if answer.status_code != 200 else (200, "")
    assert (status, code) in {(413, "media_too_large"), (422, "media_undecodable"), (400, "invalid_request")}


def test_pixels_that_inflate_past_their_picture_are_left_alone(server: LiveServer) -> None:
    content = png_of(900, 900, zlib.compress(bytes(900 * 2701) + bytes(50_000_000), 9))
    assert reply_text(server.upload({"prompt": "?", "model": "tiny", "max_tokens": "1"}, image_file(content)))


def object_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    return file.getvalue()


class Canary:
    """Would create a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (str(self._path),)


@pytest.mark.parametrize("field", ["image", "audio", "point_cloud", "depth", "file"])
def test_nothing_a_client_sends_is_unpickled(server: LiveServer, tmp_path: Path, field: str) -> None:
    canary = tmp_path / "unpickled"
    for content in (pickle.dumps(Canary(canary)), object_array(), torch_file(), b"PK\x03\x04" + bytes(100)):
        answer = server.upload({"prompt": "?", "model": "tiny"}, (field, ("x.pt", content, "")))
        assert refusal(answer)[0] in (413, 415, 422)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "malformed_json"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "json_too_deep"),
        (b'{"messages": [' + b"[]," * 1_000_000 + b"1]}", "json_too_large"),
        (b'{"messages": "' + b"\\ud800" * 1000 + b'"}', None),
        (b'{"a": 1e999999}', None),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", None),
        (b"\xff\xfe{\x00}\x00", "malformed_json"),
    ],
    ids=["deep list", "deep object", "many lists", "lone surrogates", "endless number", "long number", "utf-16"],
)
def test_hostile_json_is_refused_before_it_unfolds(server: LiveServer, body: bytes, code: str | None) -> None:
    status, found = refusal(server.post(content=body, headers={"Content-Type": "application/json"}))
    assert status in (400, 413)
    assert code in (None, found)


def test_a_compressed_body_is_not_inflated(server: LiveServer) -> None:
    body = gzip.compress(b'{"messages": "' + b"a" * 50_000_000 + b'"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert refusal(server.post(content=body, headers=headers))[0] in (400, 415)


def test_ten_thousand_parts_are_refused_at_the_first_too_many(server: LiveServer) -> None:
    assert refusal(server.upload({f"field{i}": "x" for i in range(10_000)}))[0] == 413
    files = [image_file(picture()) for _ in range(100)]
    assert refusal(server.upload({"prompt": "?"}, *files))[0] == 413


def test_a_part_whose_headers_never_end_is_refused(server: LiveServer) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="' + b"a" * 5_000_000
    answer = server.post(content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert refusal(answer) == (400, "malformed_multipart")


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "..\\evil", "a\0b", "a\r\nX-Evil: 1", "." * 300, "%2e%2e%2f"]
)
def test_a_file_name_is_never_a_path(server: LiveServer, name: str, tmp_path: Path) -> None:
    with server.client() as client:
        answer = client.post("/v1/files", files={"file": (name, picture(), "image/png")}, data={"purpose": "vision"})
        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            described = client.get(f"/v1/files/{answer.json()['id']}/content")
            assert "evil" not in described.headers["content-disposition"]
    assert list((tmp_path / "..").resolve().rglob("*evil*")) == []


@pytest.mark.parametrize("file_id", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "file-%00", "a" * 5000, "files.sqlite3"])
def test_a_file_id_is_never_a_path(server: LiveServer, file_id: str) -> None:
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        assert refusal(server.get(path))[0] == 404


LONG = "\x01é漢" * 30_000


@pytest.mark.parametrize(
    "fields",
    [
        {"model": LONG},
        {LONG: 1},
        {"stop": [LONG] * 9},
        {"tool_choice": LONG},
        {"response_format": {"type": LONG}},
        {"messages": [{"role": LONG, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"http://{LONG}/"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"x{LONG}:"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": LONG}}]}]},
    ],
)
def test_an_error_never_echoes_more_than_four_kilobytes(server: LiveServer, fields: dict[str, Any]) -> None:
    assert refusal(server.post(json={**chat_body(), **fields}))[0] in (400, 404, 413, 415, 422)


def test_errors_outside_the_endpoints_are_bounded_too(server: LiveServer) -> None:
    assert refusal(server.get("/" + "a" * 30_000))[0] == 404
    with server.client() as client:
        assert refusal(client.request("PUT", "/v1/nothing/" + "b" * 30_000))[0] == 404
        assert refusal(client.post(CHAT, headers={"Content-Type": "a" * 30_000}))[0] == 415
        assert refusal(client.get("/health", headers={"X-Request-ID": "c" * 30_000}))[0] == 400
        assert refusal(client.get(f"/v1/files?limit={'d' * 30_000}"))[0] == 400
    assert refusal(server.upload({"e" * 6000: "x", "prompt": "?"}))[0] in (400, 413)


def test_after_all_this_an_honest_request_is_answered(server: LiveServer) -> None:
    part = {"type": "image_url", "image_url": {"url": data_uri(picture())}}
    assert reply_text(server.chat([{"type": "text", "text": "?"}, part]))
