"""Each released family end to end: converted by the command, served over HTTP, equal to the reference's forward."""

from __future__ import annotations

import importlib
import io
import json
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from benchmarks.parity_families.decoding import Reader
from benchmarks.parity_families.imagebind_llm import broadcast_refine
from benchmarks.parity_families.llama_adapter import Fixture
from benchmarks.parity_families.merged import merged_decoder, overlay
from cache_index.index import read_index
from cache_index.visual_cache import RefineSettings
from core.errors import IndexMismatch
from core.types import DecodedMedia, FloatArray, Modality
from engine.encoding.fusion import fuse
from media.containers import CONTAINERS, DecodeJob, decoder_key
from media.limits import DecodeOptions, MediaLimits
from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.adapters.llama_adapter_v2 import LlamaAdapterV2
from models.adapters.options import AdapterOptions
from models.bundle import ModelBundle
from models.clip import ClipVisualTower
from models.folder import load_folder
from models.imagebind.checkpoint import load_imagebind
from models.imagebind.vision import image_tensor
from server.cli import app
from server.settings import Settings
from server.wiring import build_service
from tests.support.live_server import LiveServer, assert_refused, image_part, live_server, picture, reply_text
from tests.support.released_files import FAMILIES, GOLDEN, TINY_ENCODER, split_fixture, write_imagebind

BASE, V2 = "imagebind_llm/base", "llama_adapter_v2_multimodal/lora_bias_newgate"
NUM_TOKENS = 10
QUESTION = "What is this?"


@dataclass(frozen=True)
class Served:
    """A running server of a converted folder, and the fixture and bundle its answers are computed from."""

    server: LiveServer
    folder: Path
    fixture: str
    bundle: ModelBundle

    def ask(self, content: Any) -> str:
        return reply_text(self.server.chat(content, model=self.bundle.name, max_tokens=NUM_TOKENS))

    def expected(self, text: str, reader: Reader) -> str:
        """Return the reply that greedy decoding under the reference's forward gives."""
        ids = torch.tensor(self.bundle.tokenizer.apply_chat_template([{"role": "user", "content": text}]))
        with torch.inference_mode():
            reply = reader.greedy(ids, NUM_TOKENS)[0]
        raw = b"".join(map(self.bundle.tokenizer.token_bytes, reply))
        return raw.decode(errors="replace").removeprefix(" ")


def convert_by_command(folder: Path, fixture: str, *more: str) -> Path:
    base, adapter = split_fixture(fixture, folder)
    sizes = {"adapter": asdict(AdapterOptions(num_visual_heads=3)), "encoder": asdict(TINY_ENCODER)}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    options = {"family": FAMILIES[fixture], "adapter": adapter, "base": base, "sizes": folder / "sizes.json"}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    target = folder / "model"
    result = CliRunner().invoke(app, ["convert", str(target), *arguments, "--dtype", "float32", *more])
    assert result.exit_code == 0, result.output
    return target


def encoder_options(folder: Path, fixture: str, *, with_points: bool = False) -> list[str]:
    if fixture.startswith("imagebind_llm"):
        return ["--encoder", str(write_imagebind(folder / "imagebind.pth", with_points=with_points))]
    if fixture != V2:
        return []
    state = load_file(GOLDEN / fixture / "weights.safetensors")
    save_file({key: value for key, value in state.items() if key.startswith("clip.")}, folder / "clip.safetensors")
    return ["--encoder", str(folder / "clip.safetensors")]


@pytest.fixture(scope="module", params=FAMILIES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    fixture, folder = request.param, tmp_path_factory.mktemp("released")
    target = convert_by_command(folder, fixture, *encoder_options(folder, fixture))
    with live_server(model=str(target)) as server:
        assert server.context.load_error is None
        yield Served(server, target, fixture, load_folder(target, torch.float32))


def reference(fixture: str, photo: bytes | None, folder: Path) -> Reader:
    """Return the decoder of the released weights under one picture, or without any."""
    if FAMILIES[fixture] in ("llama_adapter_v1", "llama_adapter_v2_chat"):
        return Fixture.read(GOLDEN / fixture).static_reader(raw_gates=fixture == "llama_adapter_v1")
    if FAMILIES[fixture] == "llama_adapter_v2":
        return v2_reference(fixture, photo)
    if photo is None:
        return bound_reader(fixture, None)
    model = load_imagebind(folder / "encoder.pth", config=TINY_ENCODER.imagebind)
    vector = model.embed("vision", image_tensor(pixels_of(photo), 28)[None])[0]
    return bound_reader(fixture, fuse([vector.numpy()], [1.0]))


def pixels_of(photo: bytes) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(photo)).convert("RGB"))


def bound_reader(fixture: str, fused: FloatArray | None) -> Reader:
    """Return ImageBind-LLM's decoder under one joint embedding `(E,)`, or without any."""
    parts = Fixture.read(GOLDEN / fixture)
    adapter = ImageBindLLMAdapter.from_reference(parts.state)
    decoder = merged_decoder(overlay(parts.state), parts.config["llama_params"], adapter)
    if fused is None:
        return Reader(decoder)
    return Reader(decoder, decoder.project_condition(adapter.prompts(torch.from_numpy(fused)[None])))


def v2_reference(fixture: str, photo: bytes | None) -> Reader:
    parts = Fixture.read(GOLDEN / fixture)
    adapter = LlamaAdapterV2.from_reference(parts.state, AdapterOptions(num_visual_heads=3, num_decoder_layers=4))
    decoder = merged_decoder(overlay(parts.state), parts.config["llama_params"], adapter)
    if photo is None:
        return Reader(decoder)
    tower = ClipVisualTower.from_reference(parts.state, num_heads=3, prefix="clip.visual.")
    return Reader(decoder, decoder.project_condition(adapter.prompts(tower(image_tensor(pixels_of(photo), 28)[None]))))


def checkered(seed: int) -> bytes:
    """Return a picture whose patches all differ."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@torch.inference_mode()
def test_pictures_and_text_in_one_batch_are_answered_as_the_reference_answers_them(served: Served) -> None:
    photos = [None, checkered(1), None, checkered(2)] if served.bundle.encoders else [None, None]
    texts = [QUESTION, QUESTION, "Tell me more", "Tell me more"]
    expected = [
        served.expected(text, reference(served.fixture, photo, served.folder))
        for text, photo in zip(texts, photos, strict=False)
    ]

    def ask(text: str, photo: bytes | None) -> str:
        return served.ask(text if photo is None else [{"type": "text", "text": text}, image_part(photo)])

    with ThreadPoolExecutor(len(photos)) as pool:
        assert list(pool.map(ask, texts, photos)) == expected
    assert len(set(expected)) == 4 or not served.bundle.encoders, "the pictures change the replies"


def test_a_family_takes_the_media_it_was_trained_with_and_refuses_the_rest(served: Served) -> None:
    def post(*parts: Any) -> Any:
        return served.server.chat([{"type": "text", "text": QUESTION}, *parts], model="model")

    first = image_part(picture())
    if not served.bundle.encoders:
        assert_refused(post(first), 415, "image")
    elif served.bundle.takes_image_tokens:
        assert_refused(post(first, first), 400, "one image of weight 1")
    else:
        assert reply_text(post(first, first)) == reply_text(post(first))


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """ImageBind-LLM with point clouds and its visual cache."""
    folder = tmp_path_factory.mktemp("bound")
    index = ["--knn-index", str(GOLDEN / BASE / "knn.index")]
    target = convert_by_command(folder, BASE, *encoder_options(folder, BASE, with_points=True), *index)
    with live_server(model=str(target)) as server:
        assert server.context.load_error is None
        yield Served(server, target, BASE, load_folder(target, torch.float32))


def media_file(modality: Modality) -> tuple[str, bytes]:
    """Return the container and the bytes of a small medium."""
    rng, file = np.random.default_rng(3), io.BytesIO()
    if modality is Modality.IMAGE:
        return "png", checkered(4)
    if modality is Modality.VIDEO:
        frames = [Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)) for _ in range(8)]
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=250)
        return "gif", file.getvalue()
    if modality is Modality.AUDIO:
        with wave.open(file, "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", ""))
            sound.writeframes(rng.integers(-9000, 9000, 32000, dtype=np.int16).tobytes())
        return "wav", file.getvalue()
    shapes = {Modality.POINT_CLOUD: (300, 3), Modality.IMU: (6, 2000)}
    np.save(file, rng.random(shapes.get(modality, (28, 28)), dtype=np.float32))
    return "npy", file.getvalue()


def decoded(container: str, content: bytes, modality: Modality) -> DecodedMedia:
    key = decoder_key(CONTAINERS, container, modality)
    assert key is not None
    module, _, name = CONTAINERS[key].partition(":")
    job = DecodeJob(container=container, modality=modality, limits=MediaLimits(), options=DecodeOptions())
    media: DecodedMedia = getattr(importlib.import_module(module), name)(content, job)
    return media


SENT = [modality for modality in Modality if modality is not Modality.TEXT]


@pytest.mark.parametrize("modality", SENT)
def test_every_modality_reaches_the_decoder_through_the_visual_cache(modality: Modality, bound: Served) -> None:
    container, content = media_file(modality)
    encoder = bound.bundle.encoders[modality]
    row = encoder.encode([encoder.preprocess(decoded(container, content, modality))])[0].vector
    fused = fuse([row], [1.0])
    index = read_index(GOLDEN / BASE / "knn.index")
    refined = broadcast_refine(fused[None], index, RefineSettings(top_k=10, inverse_temperature=20, weight=0.5))[0, 0]
    fields = {"prompt": QUESTION, "model": "model", "max_tokens": str(NUM_TOKENS), "temperature": "0"}
    part = (modality.value, (f"medium.{container}", content, "application/octet-stream"))
    reply = reply_text(bound.server.upload({**fields, "ignore_eos": "true"}, part))
    assert reply == bound.expected(QUESTION, bound_reader(BASE, refined))
    assert not np.allclose(refined, fused, atol=1e-3)


def test_a_sentence_lies_in_the_same_joint_space(bound: Served) -> None:
    encoder = bound.bundle.encoders[Modality.TEXT]
    words = (np.frombuffer(text.encode(), np.uint8) for text in ("a cat", "a dog"))
    cat, dog = encoder.encode([encoder.preprocess(DecodedMedia(container="text", array=array)) for array in words])
    assert cat.vector.shape == (40,)
    assert cat.encoder_id == bound.bundle.encoders[Modality.IMAGE].encoder_id
    assert not np.allclose(cat.vector, dog.vector)


def test_the_served_model_names_what_it_reads(bound: Served) -> None:
    (model,) = bound.server.get("/v1/models").json()["data"]
    assert model["id"] == "model"
    assert bound.bundle.cache_index == bound.folder / "knn.index"
    assert set(bound.bundle.encoders) == set(Modality)


def test_an_index_of_another_width_stops_the_start(bound: Served, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in bound.folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "knn.index").unlink()
    faiss.write_index(faiss.IndexFlatIP(41), str(folder / "knn.index"))
    with pytest.raises(IndexMismatch, match=r"knn\.index: the index holds embeddings of width 41.*width 40"):
        build_service(Settings(model=str(folder), dtype="float32"))
