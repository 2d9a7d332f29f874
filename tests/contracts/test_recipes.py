"""What CONTRIBUTING.md promises: one new file and one line in a table add an encoder, adapter, backend, expert or
endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from core.registry import Registry
from engine.backends import BACKENDS
from engine.experts import EXPERTS
from models.registry import MODELS
from server.routes import ROUTERS
from tests.support.live_server import image_part, live_server, picture, reply_text


def add_line(monkeypatch: pytest.MonkeyPatch, table: Registry[Any], attribute: str) -> None:
    """Add the one line to a table, for the length of a test."""
    monkeypatch.setitem(table._entries, "toy", f"tests.support.toys:{attribute}")


def test_an_endpoint_is_a_router_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(monkeypatch, ROUTERS, "router")
    with live_server() as server:
        assert server.get("/v1/toy").json() == {"object": "toy"}


def test_a_backend_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(monkeypatch, BACKENDS, "build_toy")
    with live_server(backend="toy") as server:
        assert reply_text(server.chat("hello")) == "toy"


def test_an_expert_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(monkeypatch, EXPERTS, "build_toy_expert")
    with live_server(backend="echo") as server:
        asked = {"bind": {"experts": ["toy"]}, "max_tokens": 300, "ignore_eos": False}
        answer = server.chat([image_part(picture()), {"type": "text", "text": "Well?"}], **asked)
        assert 'About the picture:\n"""\na toy says toy' in reply_text(answer)


def test_an_encoder_and_an_adapter_are_classes_in_a_model_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(monkeypatch, MODELS, "load_toy")
    with live_server(model="toy") as server:
        (model,) = server.get("/v1/models").json()["data"]
        assert model["input_modalities"] == ["image", "text"]
        answer = server.chat([image_part(picture())], model="toy", bind={"trace": True})
        assert reply_text(answer)
        assert answer.json()["bind"]["media"][0]["confidence"] == 0.75
        red, blue = (
            reply_text(server.chat([image_part(picture(colour))], model="toy", max_tokens=24))
            for colour in ((255, 0, 0), (0, 0, 255))
        )
        assert red != reply_text(server.chat("hello", model="toy", max_tokens=24))
        assert red == blue  # the toy adapter sees the sum of a unit vector with one colour
