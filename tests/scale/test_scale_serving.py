"""One model over several replicas: the same answers, one memo, one place for a conversation, growth, and refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from core.errors import ConfigError
from tests.scale.cluster import MAX_SLOTS, SETTINGS, Cluster
from tests.support.live_server import (
    CHAT,
    LONG,
    assert_refused,
    chat_body,
    image_part,
    live_server,
    picture,
    reply_text,
)

pytestmark = pytest.mark.anyio


def ask(text: str, colour: tuple[int, int, int] | None = None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    return parts if colour is None else [*parts, image_part(picture(colour))]


def test_replies_are_those_of_one_process(cluster: Cluster) -> None:
    questions = [ask("hello"), ask("what is this?", (200, 30, 30)), ask("what is this?", (10, 30, 250))]
    with live_server(max_slots=MAX_SLOTS) as alone:
        wanted = [reply_text(alone.chat(question, max_tokens=12)) for question in questions]
    assert [reply_text(cluster.chat(question, max_tokens=12)) for question in questions] == wanted
    assert len(set(wanted)) == 3


def test_a_medium_is_known_to_every_ingress_replica(cluster: Cluster) -> None:
    question = ask("which colour?", (1, 2, 3))
    used = [cluster.chat(question).headers["x-bindchat-memo"] for _ in range(8)]
    assert used == ["miss"] + ["hit"] * 7


def test_a_broken_medium_is_refused_as_ever(cluster: Cluster) -> None:
    broken = [{"type": "text", "text": "hm"}, image_part(picture()[:60])]
    assert_refused(cluster.chat(broken), 422, "png picture is damaged")


def test_a_conversation_finds_its_keys_and_values_again(cluster: Cluster) -> None:
    for number in range(6):
        turns = [{"role": "user", "content": ask(f"conversation {number}", (9 * number, 0, 0))}]
        first = cluster.chat(messages=turns, max_tokens=6, ignore_eos=False, temperature=0.5, seed=number)
        turns += [{"role": "assistant", "content": reply_text(first)}, {"role": "user", "content": "and then?"}]
        second = cluster.chat(messages=turns)
        opening = first.json()["usage"]["prompt_tokens"]
        assert second.json()["usage"]["prompt_tokens_details"]["cached_tokens"] >= opening - 1


async def test_a_disconnect_frees_the_slot_of_the_replica(cluster: Cluster) -> None:
    num_failed = len(cluster.events("request_failed"))
    async with cluster.async_client() as client:
        body = chat_body("never mind", max_tokens=LONG, stream=True)
        async with client.stream("POST", CHAT, json=body) as answer:
            await anext(answer.aiter_lines())
    health = cluster.wait_for(lambda health: health.get("slots_in_use") == 0 and health["queue_length"] == 0, 60)
    assert health["requests_in_flight"] == 0
    assert len(cluster.events("request_failed")) == num_failed


async def test_more_work_brings_a_third_decoder_and_too_much_is_refused(cluster: Cluster) -> None:
    refused: list[httpx.Response] = []

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        while True:
            answer = await client.post(CHAT, json=chat_body(f"load {number}", max_tokens=LONG))
            assert answer.status_code in {200, 429}
            refused.extend([answer] if answer.status_code == 429 else [])

    async with cluster.async_client() as client:
        loads = [asyncio.create_task(keep_asking(client, number)) for number in range(8 * MAX_SLOTS)]
        growth = asyncio.to_thread(cluster.wait_for, lambda health: health.get("slots_total") == 3 * MAX_SLOTS)
        done, _ = await asyncio.wait([asyncio.ensure_future(growth), *loads], return_when=asyncio.FIRST_COMPLETED)
        for load in loads:
            load.cancel()
        await asyncio.wait(loads)
    assert next(task.result() for task in done)["slots_total"] == 3 * MAX_SLOTS
    assert all(answer.headers["retry-after"] for answer in refused)
    assert refused


def test_replies_are_given_but_not_kept(cluster: Cluster) -> None:
    assert_refused(cluster.chat(store=True), 400, "keeps no replies", param="store")
    with cluster.client() as client:
        kept = client.post("/v1/responses", json={"model": "tiny", "input": "hello"})
        assert_refused(kept, 400, "keeps no replies", "store: false", param="store")
        answered = client.post("/v1/responses", json={"model": "tiny", "input": "hello", "store": False})
    assert answered.json()["status"] in {"completed", "incomplete"}


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"backend": "ray"}, "what the decoder replicas run"),
        ({"files_dir": "files"}, "keeps files, responses and batches for one process"),
        ({"max_slotz": 3}, "did you mean max_slots"),
    ],
)
def test_settings_that_an_application_cannot_honour_are_refused(chosen: dict[str, Any], sentence: str) -> None:
    from server.ray_app import build

    with pytest.raises(ConfigError, match=sentence):
        build({**SETTINGS, **chosen})


def test_a_replica_of_vllm_has_as_many_gpus_as_it_splits_its_model_over() -> None:
    from server.ray_app import check_gpus
    from server.settings import Settings

    split = Settings(backend="vllm", vllm_tensor_parallel_size=2, vllm_pipeline_parallel_size=2)
    check_gpus(split, 4)
    with pytest.raises(ConfigError, match="set num_gpus of Decoders to 4"):
        check_gpus(split, 1)


def test_the_backend_ray_says_where_it_runs() -> None:
    from engine.backends import BACKENDS, DecodingConfig
    from tests.support.tiny_engine import tiny_bundle

    with pytest.raises(ConfigError, match=r"serve run docker/ray/serve\.yaml"):
        BACKENDS.load("ray")(tiny_bundle(), DecodingConfig())
