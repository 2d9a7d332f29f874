"""What every expert of the table promises, whatever it reads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import numpy as np
import pytest
import torch

from cache_index.embedding_memo import EncodedMedium
from core.errors import AppError, ConfigError
from core.types import DecodedMedia, Embedding, MediaBlob, Modality
from engine.encoding.medium import MediumEncoding
from engine.experts import EXPERTS, Expert, ExpertContext, ExpertMedium, ExpertOptions
from models.tiny import load_tiny

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("name", EXPERTS.names())]

ARRAYS = {
    Modality.IMAGE: np.full((48, 64, 3), 255, dtype=np.uint8),
    Modality.VIDEO: np.full((3, 48, 64, 3), 255, dtype=np.uint8),
    Modality.AUDIO: np.zeros((2, 4_000), dtype=np.float32),
    Modality.POINT_CLOUD: np.zeros((8, 3), dtype=np.float32),
}


async def describe(medium: ExpertMedium) -> str:
    return f"a {medium.blob.modality}"


def context(**options: object) -> ExpertContext:
    chosen = ExpertOptions(num_threads=1, **options)  # type: ignore[arg-type]
    return ExpertContext(bundle=load_tiny(torch.float32), options=chosen, describe=describe)


async def encode() -> MediumEncoding:
    embedding = Embedding(vector=np.ones(2, dtype=np.float32), encoder_id="another")
    return MediumEncoding(medium=EncodedMedium(embedding=embedding), stages_ms={})


def blank_medium(modality: Modality) -> ExpertMedium:
    async def decode() -> DecodedMedia:
        return DecodedMedia(container="png", array=ARRAYS[modality], sample_rate_hz=8_000.0)

    blob = MediaBlob(modality=modality, container="png", data=b"", sha256="0")
    return ExpertMedium(blob=blob, tenant="", decode=decode, encode=encode)


@asynccontextmanager
async def running(name: str) -> AsyncIterator[Expert]:
    expert = EXPERTS.load(name)(context())
    try:
        yield expert
    finally:
        await expert.stop()


async def test_it_says_who_it_is_what_it_reads_and_how_its_text_is_introduced(name: str) -> None:
    async with running(name) as expert:
        assert expert.expert_id.startswith(name)
        assert expert.modalities
        assert "{medium}" in expert.heading
        assert expert.heading.format(medium="picture").strip().endswith(":")
        assert "\n" not in expert.heading + expert.instruction


async def test_a_blank_medium_of_each_modality_gives_a_text(name: str) -> None:
    async with running(name) as expert:
        for modality in expert.modalities:
            assert isinstance((await expert.read(blank_medium(modality))).text, str)


async def test_one_that_was_stopped_leaves_no_thread_behind(name: str) -> None:
    async with running(name) as expert:
        await expert.read(blank_medium(next(iter(expert.modalities))))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("expert-")] == []


async def test_the_error_of_decoding_reaches_the_caller(name: str) -> None:
    async def undecodable() -> DecodedMedia:
        raise AppError("the file is damaged")

    async with running(name) as expert:
        blob = blank_medium(next(iter(expert.modalities))).blob
        medium = ExpertMedium(blob=blob, tenant="", decode=undecodable, encode=encode)
        if name == "caption":  # it asks the model, which decodes for itself
            assert (await expert.read(medium)).text
            return
        with pytest.raises(AppError, match="damaged"):
            await expert.read(medium)


async def test_a_missing_package_is_named_in_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(EXPERTS.load(name).__module__)
    if not hasattr(module, "find_spec"):  # it needs nothing beyond what BindChat itself does
        await EXPERTS.load(name)(context()).stop()
        return
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"expert {name} .*make setup-experts"):
        EXPERTS.load(name)(context())
