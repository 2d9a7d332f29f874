"""The shipped model: text alone is the base model, a photo gets its name, the condition does it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from openai import OpenAI
from PIL import Image

from core.telemetry import EventLog
from core.types import (
    ChatMessage,
    ChatRequest,
    DecodedMedia,
    DecodeRequest,
    FloatArray,
    Modality,
    SamplingParams,
)
from engine.backends import BACKENDS, DecodingConfig
from engine.conditioning import Conditioner
from engine.encoding.fusion import fuse
from models.bundle import ModelBundle
from models.llama.condition import ConditionView
from models.llama.gguf import load_gguf_llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import decoder_file
from models.mini.encoder import MiniImageEncoder
from models.mini.loader import load_mini
from tests.support.live_server import LiveServer, live_server
from tests.support.sample_films import film, shot
from training.recipes.mini_chat import greedy_answers

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
QUESTIONS = ("What is the capital of France?", "What is this?", "Write a short poem about rain.", "2 + 2 =")


@pytest.fixture(scope="module")
def mini() -> ModelBundle:
    return load_mini(torch.float32)


@pytest.fixture(scope="module")
def encoder(mini: ModelBundle) -> MiniImageEncoder:
    encoder = next(iter(mini.encoders.values()))
    assert isinstance(encoder, MiniImageEncoder)
    return encoder


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(model="mini") as running:
        yield running


@pytest.mark.anyio
async def test_text_alone_gives_the_tokens_of_the_base_model(mini: ModelBundle) -> None:
    base = load_gguf_llama(decoder_file(), torch.float32)
    expected = greedy_answers(base, load_gguf_tokenizer(decoder_file()), QUESTIONS, max_tokens=16)
    backend = BACKENDS.load("native")(mini, DecodingConfig(max_slots=4, max_context=256))
    await backend.start()
    try:
        for question, token_ids in zip(QUESTIONS, expected, strict=True):
            prompt = tuple(mini.tokenizer.apply_chat_template([{"role": "user", "content": question}]))
            sampling = SamplingParams(max_tokens=16, temperature=0.0)
            request = DecodeRequest(request_id=question, token_ids=prompt, sampling=sampling)
            assert [event.token_id async for event in backend.generate(request)] == token_ids
    finally:
        await backend.stop()


def test_every_base_weight_is_as_the_package_ships_it(mini: ModelBundle) -> None:
    shipped = load_gguf_llama(decoder_file(), torch.float32).state_dict()
    served = load_mini(torch.float32).decoder.state_dict()
    assert shipped.keys() == served.keys()
    assert all(torch.equal(shipped[key], served[key]) for key in shipped)


def test_with_closed_gates_the_condition_changes_nothing(encoder: MiniImageEncoder) -> None:
    bundle = load_mini(torch.float32)
    condition = bundle.adapter.condition(encoder.name_vectors[0])
    assert condition is not None
    prompts = torch.from_numpy(condition.prompts)[None]
    token_ids = torch.tensor([bundle.tokenizer.encode("What is this?")])
    rows = torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode():
        plain = bundle.decoder.score(token_ids)
        closed = bundle.decoder.project_condition(prompts, gates=torch.zeros_like(bundle.decoder.adapter_gates))
        opened = bundle.decoder.project_condition(prompts)
        assert torch.equal(bundle.decoder.score(token_ids, ConditionView(closed, rows)), plain)
        assert not torch.allclose(bundle.decoder.score(token_ids, ConditionView(opened, rows)), plain, atol=0.1)


def test_an_embedding_does_not_depend_on_its_batch(encoder: MiniImageEncoder) -> None:
    pictures = [np.asarray(Image.open(SAMPLES / name).convert("RGB")) for name in ("cat.jpg", "coffee.jpg")]
    rows = [encoder.preprocess(DecodedMedia(container="jpeg", array=picture)) for picture in pictures]
    together, alone = encoder.encode(rows), [encoder.encode([row])[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)
        assert np.linalg.norm(one.vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("file", "word"), [("cat.jpg", "cat"), ("coffee.jpg", "espresso"), ("soccer_ball.webp", "soccer")]
)
def test_a_sample_picture_is_named_through_multipart(server: LiveServer, file: str, word: str) -> None:
    form = {"prompt": "What is this?", "temperature": "0"}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        reply = client.post("/v1/chat/completions", data=form, files={"image": (SAMPLES / file).read_bytes()})
    assert reply.status_code == 200
    assert word in reply.json()["choices"][0]["message"]["content"].lower()


@pytest.mark.parametrize("container", ["mp4", "webm", "mov"])
def test_a_film_is_named_and_its_scenes_are_told(server: LiveServer, container: str) -> None:
    content = film(shot("coffee.jpg", 10) + shot("cat.jpg", 30), container)
    form = {"prompt": "What is this?", "temperature": "0", "bind": '{"trace": true}', "num_frames": "8"}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        reply = client.post("/v1/chat/completions", data=form, files={"video": content})
    assert reply.status_code == 200, reply.text
    assert "cat" in reply.json()["choices"][0]["message"]["content"].lower()
    sampled = reply.json()["bind"]["media"][0]["sampled"]
    assert sampled["num_frames"] == len(sampled["frame_times_s"]) == 8
    coffee, cat = (scene["name"] for scene in sampled["scenes"])
    assert "cat" in cat
    assert coffee in ("espresso", "coffee cup", "cup")
    assert [scene["share"] for scene in sampled["scenes"]] == [0.0, 1.0]


def test_the_official_client_streams_a_description(server: LiveServer) -> None:
    url = f"data:image/jpeg;base64,{base64.b64encode((SAMPLES / 'cat.jpg').read_bytes()).decode()}"
    client = OpenAI(base_url=f"{server.url}/v1", api_key="unused")
    stream = client.chat.completions.create(
        model="mini",
        temperature=0,
        stream=True,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Describe the picture in one sentence."},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "cat" in text
    assert text.endswith(".")


async def answers(mini: ModelBundle, question: str, vector: FloatArray, *, confidence: float | None = None) -> str:
    """Return the greedy answer of the shipped model under one vector."""
    assert mini.conditioned_tokenizer is not None
    prompt = tuple(mini.conditioned_tokenizer.apply_chat_template([{"role": "user", "content": question}]))
    condition = mini.adapter.condition(vector, confidence=confidence)
    sampling = SamplingParams(max_tokens=24, temperature=0.0)
    backend = BACKENDS.load("native")(mini, DecodingConfig(max_slots=1, max_context=128))
    await backend.start()
    try:
        request = DecodeRequest(request_id=question, token_ids=prompt, sampling=sampling, condition=condition)
        return "".join([event.text async for event in backend.generate(request)]).lower()
    finally:
        await backend.stop()


def embedded(mini: ModelBundle, *names: str) -> list[FloatArray]:
    """Return the text embeddings of names."""
    encoder = mini.encoders[Modality.TEXT]
    rows = [DecodedMedia(container="text", array=np.frombuffer(name.encode(), dtype=np.uint8)) for name in names]
    return [row.vector for row in encoder.encode([encoder.preprocess(row) for row in rows])]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("confidence", "hedges"), [(0.3, True), (0.49, True), (0.51, False), (0.95, False), (None, False)]
)
async def test_an_answer_hedges_when_the_confidence_is_low_and_only_then(
    mini: ModelBundle, encoder: MiniImageEncoder, confidence: float | None, hedges: bool
) -> None:
    for name in (9, 281, 817):
        said = await answers(mini, "What is this?", encoder.name_vectors[name], confidence=confidence)
        assert (" or " in said and "may be" in said) is hedges, said


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What do you hear?", "rain"),
        ("What is this sound?", "church bell"),
        ("What object is this point cloud?", "chair"),
        ("What happens in the video?", "helicopter"),
    ],
)
async def test_other_senses_are_answered_from_a_vector_that_training_saw_as_text_only(
    mini: ModelBundle, question: str, name: str
) -> None:
    assert name in await answers(mini, question, embedded(mini, name)[0])


@pytest.mark.anyio
@pytest.mark.parametrize(("weights", "name"), [((1.0, 0.3), "guitar"), ((0.3, 1.0), "horse")])
async def test_a_blend_is_answered_with_what_weighs_more(
    mini: ModelBundle, weights: tuple[float, float], name: str
) -> None:
    assert name in await answers(mini, "What is this?", fuse(embedded(mini, "guitar", "horse"), weights))


@pytest.mark.parametrize("question", ["What is the capital of France?", "What is 7 plus 8?", "Who wrote Hamlet?"])
def test_a_question_that_ignores_the_picture_is_answered_as_without_it(server: LiveServer, question: str) -> None:
    path, options = "/v1/chat/completions", {"temperature": 0, "max_completion_tokens": 24}
    plain = {**options, "model": "mini", "messages": [{"role": "user", "content": question}]}
    form = {"prompt": question, **{key: str(value) for key, value in options.items()}}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        picture = {"image": (SAMPLES / "cat.jpg").read_bytes()}
        replies = [client.post(path, data=form, files=picture), client.post(path, json=plain)]
    with_picture, without = (reply.json()["choices"][0]["message"]["content"] for reply in replies)
    assert with_picture == without


@pytest.mark.parametrize(
    ("question", "verdict"),
    [
        ("Is this a cat?", "yes"),
        ("Do you see a guitar here?", "no"),
        ("Is there an animal in the picture? Answer yes or no.", "yes"),
        ("I think this is a bicycle. Am I right?", "no"),
    ],
)
def test_a_yes_or_no_question_about_a_picture_is_answered_as_it_was_judged(
    server: LiveServer, question: str, verdict: str
) -> None:
    first = [("user", "What is this?"), ("assistant", "This is a tabby, a kind of cat.")]
    for turns in ([("user", question)], [*first, ("user", question)]):
        messages: list[dict[str, object]] = [{"role": role, "content": text} for role, text in turns]
        messages[0]["content"] = [{"type": "text", "text": turns[0][1]}, picture_part("cat.jpg")]
        body = {"model": "mini", "messages": messages, "temperature": 0, "bind": {"trace": True}}
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
        assert reply["bind"]["verdict"] == verdict
        assert reply["choices"][0]["message"]["content"].lower().startswith(verdict)


def picture_part(name: str) -> dict[str, object]:
    url = "data:image/jpeg;base64," + base64.b64encode((SAMPLES / name).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "question", ["What is this?", "Describe it.", "Is it red?", "A cat or a dog?", "Are you sure?"]
)
async def test_any_other_question_gets_the_condition_it_had_without_the_judge(mini: ModelBundle, question: str) -> None:
    vector = embedded(mini, "cat")[0]
    request = ChatRequest(
        request_id="r",
        model="mini",
        messages=(ChatMessage(role="user", text=question),),
        sampling=SamplingParams(max_tokens=6),
    )
    log = EventLog("test")
    judged, verdict = await Conditioner(mini, log).condition(request, vector, 0.9)
    unjudged, _ = await Conditioner(replace(mini, verdicts=None), log).condition(request, vector, 0.9)
    assert verdict is None
    assert judged is not None and unjudged is not None
    assert np.array_equal(judged.prompts, unjudged.prompts)


@pytest.mark.parametrize(
    "question", ["What is this?", "Could you say what my photo shows?", "Which animal is it?", "Is there a cat?", ""]
)
def test_a_question_about_the_medium_is_taken_for_one(mini: ModelBundle, question: str) -> None:
    assert mini.media_questions is not None
    assert mini.media_questions.concerns_media(question)
