"""What CONTRIBUTING.md promises: one new file and one line in a table add one thing. A toy of each kind proves it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, Field

import server.configuration
import server.reference
from core.registry import Registry
from engine.backends import BACKENDS
from engine.experts import EXPERTS
from media import sniff
from media.containers import CONTAINERS
from models import convert
from models.registry import ADAPTERS, CLASSIFIERS, MODELS
from server.configuration import configure, flags_of
from server.reference import configuration_page
from server.routes import ROUTERS
from server.settings import GROUPS, Settings
from tests.architecture.source_tree import ROOT
from tests.support.live_server import data_uri, image_part, live_server, picture, reply_text
from tests.support.released_files import plan_for
from tests.support.toy_container import MAGIC, SIDE, toy_file


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


def converted_toy(folder: Path, scale: float) -> Path:
    """Convert a released file of the toy family, whose one tensor is a V1 prompt by another name."""
    plan = plan_for("llama_adapter_v1", folder, family="toy")
    state = torch.load(plan.adapter, weights_only=True)
    state["toy.prompt"] = scale * state.pop("adapter_query.weight")
    torch.save(state, plan.adapter)
    return convert.convert(plan)


def test_an_adapter_family_is_a_class_a_line_and_the_layout_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_line(monkeypatch, ADAPTERS, "ToyFamily")
    monkeypatch.setitem(convert.FAMILIES, "toy", convert.FamilyFile("", ("toy.",)))
    replies = set()
    for scale in (-40.0, 40.0):
        folder = converted_toy(tmp_path / str(scale), scale)
        with live_server(model=str(folder)) as running:
            replies.add(reply_text(running.chat("hello", model="golden", max_tokens=24)))
    assert len(replies) == 2


def test_a_classifier_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(monkeypatch, CLASSIFIERS, "ToyClassifier")
    with live_server(backend="echo", expert_classifier="toy") as running:
        asked = {"bind": {"experts": ["classify"]}, "max_tokens": 300, "ignore_eos": False}
        answer = running.chat([image_part(picture()), {"type": "text", "text": "Well?"}], **asked)
        assert "red toy 75%, blue toy 25%" in reply_text(answer)


def test_a_container_is_a_decoder_a_line_and_its_magic_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTAINERS, "toy", "tests.support.toy_container:decode_toy")
    monkeypatch.setitem(sniff.KNOWN, "toy", sniff.Container((sniff.Modality.IMAGE,), ("image/x-toy",)))
    monkeypatch.setattr(sniff, "MAGIC", ((0, MAGIC, "toy"), *sniff.MAGIC))
    colour = (10, 200, 90)

    def ask(content: bytes, media_type: str) -> Any:
        part = {"type": "image_url", "image_url": {"url": data_uri(content, media_type)}}
        return running.chat([part], max_tokens=24)

    with live_server() as running:
        as_png = ask(picture(colour, side_px=SIDE), "image/png")
        assert reply_text(ask(toy_file(colour), "image/x-toy")) == reply_text(as_png)
        damaged = ask(toy_file(colour)[:-1], "image/x-toy")
        assert damaged.status_code == 422
        assert "a toy has 3 bytes of colour, got 2" in damaged.json()["error"]["message"]


class ToyGroup(BaseModel):
    """Toys"""

    toy_patience_s: float = Field(default=3, gt=0, description="how long a toy waits")


class ToySettings(ToyGroup, Settings):
    """Every setting and that of the toy."""


def test_a_setting_is_a_field(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server.configuration, "Settings", ToySettings)
    for module in (server.configuration, server.reference):
        monkeypatch.setattr(module, "GROUPS", (*GROUPS, ToyGroup))
    (tmp_path / "bindchat.toml").write_text("toy_patience_s = 1.5\n")
    given = {
        "default": configure({}, environ={}),
        f"file {tmp_path / 'bindchat.toml'}": configure({}, file=tmp_path / "bindchat.toml", environ={}),
        "environment BINDCHAT_TOY_PATIENCE_S": configure({}, environ={"BINDCHAT_TOY_PATIENCE_S": "2"}),
        "command line": configure(flags_of(["--toy-patience-s", "4"]), environ={}),
    }
    assert list(given) == [found.rows[-1].source for found in given.values()]
    assert [float(found.rows[-1].value) for found in given.values()] == [3, 1.5, 2, 4]
    assert "| `toy_patience_s` | number > 0 | `3` | how long a toy waits |" in configuration_page()


def test_a_dependency_is_a_name_in_a_list_that_make_lock_pins(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    with (folder / "media.in").open("a") as wanted:
        wanted.write("# Toys are described in it.\npip-licenses\n")
    subprocess.run([sys.executable, folder / "lock.py"], check=True)
    assert f"pip-licenses=={version('pip-licenses')}" in (folder / "media.txt").read_text().splitlines()
    assert (folder / "runtime.txt").read_text() == (ROOT / "requirements" / "runtime.txt").read_text()
