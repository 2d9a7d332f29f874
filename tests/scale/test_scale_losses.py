"""A replica that dies under load takes only what it was running, and of that only what had begun to be streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.scale.cluster import MAX_SLOTS, Cluster
from tests.support.live_server import CHAT, LONG, chat_body, image_part, picture, reply_text

pytestmark = pytest.mark.anyio


async def streamed(client: httpx.AsyncClient, text: str, begun: asyncio.Event) -> list[dict[str, Any]]:
    """Return the frames of a long streamed reply; `begun` is set with its first text."""
    frames = []
    async with client.stream("POST", CHAT, json=chat_body(text, max_tokens=LONG, stream=True)) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            frames += [json.loads(line.removeprefix("data: "))] if line.startswith("data: {") else []
            if len(frames) > 1:
                begun.set()
    return frames


async def whole(client: httpx.AsyncClient, number: int) -> str:
    return reply_text(await client.post(CHAT, json=chat_body(f"whole {number}", max_tokens=LONG)))


async def test_a_decoder_that_dies_ends_its_own_streams_and_nothing_else(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.wait_for_replicas, "Decoders", 2)
    begun = [asyncio.Event() for _ in range(MAX_SLOTS)]
    async with cluster.async_client() as client:  # as many of each as fill the slots of two replicas
        running = [asyncio.create_task(whole(client, number)) for number in range(MAX_SLOTS)]
        streams = [asyncio.create_task(streamed(client, f"stream {i}", event)) for i, event in enumerate(begun)]
        await asyncio.gather(*(event.wait() for event in begun))
        cluster.kill("Decoders")
        replies = await asyncio.gather(*running)
        ended = [frames[-1] for frames in await asyncio.gather(*streams)]
        assert replies == await asyncio.gather(*(whole(client, number) for number in range(MAX_SLOTS)))
    lost = [frame["error"]["code"] for frame in ended if "error" in frame]
    assert lost == ["engine_fault"] * len(lost)
    assert 0 < len(lost) < MAX_SLOTS
    finished = [frame["choices"][0]["finish_reason"] for frame in ended if "error" not in frame]
    assert finished == ["length"] * len(finished)
    assert cluster.events("replica_lost", method="complete", attempt=1)  # whole replies were begun again
    await asyncio.to_thread(cluster.wait_for_replicas, "Decoders", 2)


async def test_an_encoder_that_dies_costs_no_request(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.wait_for_replicas, "Encoders", 2)
    bodies = [chat_body([image_part(picture((number, 7, 7), side_px=900))], max_tokens=2) for number in range(12)]
    async with cluster.async_client() as client:
        asked = [asyncio.create_task(client.post(CHAT, json=body)) for body in bodies]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        cluster.kill("Encoders")
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * len(bodies)


async def test_an_ingress_that_dies_leaves_nothing_running(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.wait_for_replicas, "Ingress", 2)
    begun = [asyncio.Event() for _ in range(MAX_SLOTS)]
    async with cluster.async_client() as client:
        streams = [asyncio.create_task(streamed(client, f"stream {i}", event)) for i, event in enumerate(begun)]
        await asyncio.gather(*(event.wait() for event in begun))
        cluster.kill("Ingress")
        ended = await asyncio.gather(*streams, return_exceptions=True)
        lost = [end for end in ended if isinstance(end, httpx.TransportError)]
        whole_ends = [end[-1]["choices"][0]["finish_reason"] for end in ended if isinstance(end, list)]
        assert len(lost) + len(whole_ends) == MAX_SLOTS
        assert whole_ends == ["length"] * len(whole_ends)
        assert reply_text(await client.post(CHAT, json=chat_body("still there?")))
    await asyncio.to_thread(cluster.wait_for, lambda health: health.get("slots_in_use") == 0)


def test_the_application_heals_to_its_old_size(cluster: Cluster) -> None:
    for deployment in ("Ingress", "Encoders", "Decoders"):
        cluster.wait_for_replicas(deployment, 2)
        assert reply_text(cluster.chat("still there?"))
