"""`pull` against a hub on loopback: licences, pins, resumption, digests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import CheckpointError, ConfigError, UnknownName
from models.pull import CATALOGUE, Licence, Offer, PullRequest, RemoteFile, pull, pull_offer
from tests.support.hub_server import COMMITS, Hub, running_hub

OPEN = Licence(name="MIT", text="do what you like", is_open=True)
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with running_hub() as served:
        served.files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "LICENSE": b"terms", "notes.md": b"no"}
        yield served


def request(hub: Hub, target: Path, **changes: object) -> PullRequest:
    return PullRequest(**{"name": "owner/llama", "target": target, "endpoint": hub.endpoint, **changes})


def bodies(hub: Hub, name: str) -> list[str | None]:
    return [asked for command, path, asked in hub.requests if command == "GET" and path.endswith(f"/{name}")]


def test_a_repository_of_the_mirror_is_fetched_verified_and_pinned(hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    pulled = pull(request(hub, tmp_path, revision="v1"), said.append)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert {file.name for file in pulled} == {"config.json", "model.safetensors", "LICENSE"}
    assert {file.commit for file in pulled} == {COMMITS["v1"]}
    assert said[0].startswith("owner/llama: apache-2.0")
    receipt = json.loads((tmp_path / "pulled.json").read_text())
    assert receipt["model.safetensors"]["sha256"] == hub.digest(WEIGHTS)


def test_a_second_pull_keeps_the_commit_and_fetches_no_weights_again(hub: Hub, tmp_path: Path) -> None:
    pull(request(hub, tmp_path, revision="v1"), lambda line: None)
    hub.requests.clear()
    again = pull(request(hub, tmp_path), lambda line: None)
    assert {file.commit for file in again} == {COMMITS["v1"]}
    assert bodies(hub, "model.safetensors") == []


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)  # 10 MB: more than the whole file here
    hub.files = {"model.safetensors": WEIGHTS}
    part = len(WEIGHTS) // 4

    def cut_the_weights(line: str) -> None:
        hub.cut_after = part if line == "model.safetensors: fetching" else None

    pull(request(hub, tmp_path), cut_the_weights)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert bodies(hub, "model.safetensors")[-1] == f"bytes={part}-"


def test_a_licence_that_is_not_open_must_be_accepted_before_a_byte_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.licence = "cc-by-nc-4.0"
    said: list[str] = []
    with pytest.raises(ConfigError, match="--accept-licence"):
        pull(request(hub, tmp_path), said.append)
    assert "cc-by-nc-4.0" in said[0]
    assert bodies(hub, "model.safetensors") == []
    assert pull(request(hub, tmp_path, accept_licence=True), said.append)


def test_a_file_with_another_digest_is_removed_and_refused(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_digest = True
    with pytest.raises(CheckpointError, match=r"has sha256 .* expected 0000"):
        pull(request(hub, tmp_path), lambda line: None)
    assert not (tmp_path / "LICENSE").exists()


@pytest.mark.parametrize("name", ["owner/absent", "no-such-model"])
def test_an_unknown_name_is_refused(name: str, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=name):
        pull(request(hub, tmp_path, name=name), lambda line: None)


def test_a_repository_without_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}"}
    with pytest.raises(UnknownName, match="neither"):
        pull(request(hub, tmp_path), lambda line: None)


def test_a_server_that_does_not_answer_is_named(hub: Hub, tmp_path: Path) -> None:
    offer = Offer(files=(RemoteFile(name="w.pth", url=f"{hub.endpoint}/plain/absent"),), licence=OPEN)
    with pytest.raises(ConfigError, match="/plain/absent answers 404"):
        pull_offer(request(hub, tmp_path), offer, lambda line: None)


def test_a_plain_address_resumes_after_a_cut_and_is_verified(hub: Hub, tmp_path: Path) -> None:
    file = RemoteFile(name="w.pth", url=f"{hub.endpoint}/plain/model.safetensors", sha256=hub.digest(WEIGHTS))
    offer = Offer(files=(file,), licence=OPEN)
    hub.cut_after = 1000
    with pytest.raises(ConfigError, match="stopped after 1000 of 102400 bytes"):
        pull_offer(request(hub, tmp_path), offer, lambda line: None)
    pull_offer(request(hub, tmp_path), offer, lambda line: None)
    assert (tmp_path / "w.pth").read_bytes() == WEIGHTS
    assert bodies(hub, "model.safetensors") == [None, "bytes=1000-"]
    pull_offer(request(hub, tmp_path), offer, lambda line: None)
    assert len(bodies(hub, "model.safetensors")) == 2


def test_the_meter_is_told_how_far_each_file_is(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []

    def meter(*news: object) -> None:
        told.append(news)

    pull(request(hub, tmp_path, meter=meter), lambda line: None)
    assert ("model.safetensors", len(WEIGHTS), len(WEIGHTS)) in told
    told.clear()
    file = RemoteFile(name="w.pth", url=f"{hub.endpoint}/plain/model.safetensors")
    pull_offer(request(hub, tmp_path, meter=meter), Offer(files=(file,), licence=OPEN), lambda line: None)
    assert told[-1] == ("w.pth", len(WEIGHTS), len(WEIGHTS))


def test_a_file_without_a_known_digest_is_not_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    offer = Offer(files=(RemoteFile(name="w.pth", url=f"{hub.endpoint}/plain/model.safetensors"),), licence=OPEN)
    for _ in range(2):
        pull_offer(request(hub, tmp_path), offer, lambda line: None)
    assert len(bodies(hub, "model.safetensors")) == 1


def test_a_whole_side_file_is_taken_as_it_is(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "w.pth.incomplete").write_bytes(WEIGHTS)
    file = RemoteFile(name="w.pth", url=f"{hub.endpoint}/plain/model.safetensors")
    pull_offer(request(hub, tmp_path), Offer(files=(file,), licence=OPEN), lambda line: None)
    assert (tmp_path / "w.pth").read_bytes() == WEIGHTS


def test_a_catalogued_file_comes_from_its_repository_at_one_commit(hub: Hub, tmp_path: Path) -> None:
    offer = Offer(files=(RemoteFile(name="model.safetensors", repository="owner/llama"),), licence=OPEN)
    (pulled,) = pull_offer(request(hub, tmp_path), offer, lambda line: None)
    assert pulled.commit == COMMITS["main"]
    missing = Offer(files=(RemoteFile(name="absent.bin", repository="owner/llama"),), licence=OPEN)
    with pytest.raises(UnknownName, match=r"no file absent\.bin"):
        pull_offer(request(hub, tmp_path), missing, lambda line: None)


def test_every_research_model_asks_for_consent() -> None:
    assert [name for name, offer in CATALOGUE.items() if offer.licence.is_open] == ["clip-vit-l14"]
    assert len(CATALOGUE["llama-adapter-v2-7b"].files) == 3
