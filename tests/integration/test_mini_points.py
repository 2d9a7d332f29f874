"""Shapes through the shipped model: real files of every format over real multipart, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

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


def test_a_shape_without_a_surface_or_points_is_refused_with_a_reason(server: LiveServer) -> None:
    empty = (
        b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    for name, content in (("one.xyz", b"1 2 3\n"), ("empty.ply", empty), ("same.xyz", b"1 2 3\n" * 50)):
        reply = ask(server, name, content)
        assert reply.status_code in (400, 422), (name, reply.text)
        assert "points" in reply.json()["error"]["message"]
