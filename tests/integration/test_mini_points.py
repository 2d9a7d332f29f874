"""Shapes through the shipped model: real files of every format over real multipart, and what is refused."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from core.types import FloatArray
from tests.support.live_server import LiveServer, live_server
from training.shapes.catalogue import NAMES, build
from training.shapes.clouds import sample
from training.shapes.writers import WRITERS

CHAIR_WORDS = ("chair", "seat", "stool", "throne")


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(model="mini") as running:
        yield running


def chair(suffix: str) -> bytes:
    random = np.random.default_rng(880_004)
    triangles = build(NAMES.index("chair"), random)
    return WRITERS[suffix](triangles, sample(triangles, 5000, random)[0])


def ask(server: LiveServer, name: str, content: bytes) -> httpx.Response:
    form = {"prompt": "What is this?", "temperature": "0"}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return client.post("/v1/chat/completions", data=form, files={"point_cloud": (name, content)})


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "off", "glb", "npy"])
def test_a_chair_is_named_in_every_format(server: LiveServer, suffix: str) -> None:
    reply = ask(server, f"chair.{suffix}", chair(suffix))
    assert reply.status_code == 200, reply.text
    text = reply.json()["choices"][0]["message"]["content"].lower()
    assert any(word in text for word in CHAIR_WORDS), text


def test_a_shape_joins_the_space_of_names(server: LiveServer) -> None:
    data = base64.b64encode(chair("ply")).decode()
    shape = {"type": "input_point_cloud", "input_point_cloud": {"data": data, "format": "ply"}}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        rows = []
        for given in ([shape], "chair", "banana"):
            reply = client.post("/v1/embeddings", json={"model": "mini", "input": given})
            assert reply.status_code == 200, reply.text
            rows.append(np.array(reply.json()["data"][0]["embedding"]))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def npy(points: FloatArray) -> bytes:
    file = io.BytesIO()
    np.save(file, points.astype(np.float32))
    return file.getvalue()


def glb(text: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chair.glb", content)
    return file.getvalue()


EMPTY_PLY = (
    b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
)
WIDE_SCENE = (
    b'{"asset":{"version":"2.0"},"scenes":[{"nodes":[0]}],"nodes":[{"children":[' + b"0," * 3_000_000 + b"0]}]}"
)
SQUEEZED = b'{"asset":{"version":"2.0"},"extensionsRequired":["EXT_meshopt_compression"]}'
REFUSED = {
    "one point": ("one.xyz", b"1 2 3\n", 422, "at least 3 are needed"),
    "one point many times": ("same.xyz", b"1 2 3\n" * 50, 400, "every point of the cloud is the same"),
    "no points": ("empty.ply", EMPTY_PLY, 422, "at least 3 are needed"),
    "nothing but NaN": ("nan.npy", npy(np.full((400, 3), np.nan)), 422, "0 usable points"),
    "infinite": ("inf.npy", npy(np.full((400, 3), np.inf)), 422, "0 usable points"),
    "too many points": ("many.npy", npy(np.zeros((2_000_001, 3))), 413, "at most 2000000 are allowed"),
    "glb of endless nodes": ("wide.glb", glb(WIDE_SCENE), 413, "more than 10000 nodes"),
    "glb with squeezed buffers": ("squeezed.glb", glb(SQUEEZED), 415, "export it without compression"),
    "glb in a zip": ("zipped.glb", zipped(bytes(30_000_000)), 415, "ZIP archive"),
    "face of no vertex": ("lie.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 900\n", 422, "a vertex that is not there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_shape_that_cannot_be_used_is_refused_with_a_reason(server: LiveServer, name: str) -> None:
    file_name, content, status, sentence = REFUSED[name]
    reply = ask(server, file_name, content)
    assert (reply.status_code, sentence in reply.json()["error"]["message"]) == (status, True), reply.text


@pytest.mark.parametrize("damage", ["a million points", "holes of NaN", "no faces"])
def test_a_shape_that_is_unusual_is_still_named(server: LiveServer, damage: str) -> None:
    random = np.random.default_rng(880_004)
    triangles = build(NAMES.index("chair"), random)
    points = sample(triangles, 1_000_000 if damage == "a million points" else 6000, random)[0]
    points[:: 3 if damage == "holes of NaN" else len(points) + 1] = (np.nan, np.inf, 0)
    rows = "".join(f"v {x} {y} {z}\n" for x, y, z in points) if damage == "no faces" else ""
    reply = ask(server, "chair.obj" if rows else "chair.npy", rows.encode() or npy(points))
    assert reply.status_code == 200, reply.text
    text = reply.json()["choices"][0]["message"]["content"].lower()
    assert any(word in text for word in CHAIR_WORDS), text
