"""`bind.cache`: one request's use of the visual cache, by the reference's formula, with the neighbours told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_index.visual_cache import normalize, softmax
from core.errors import IndexMismatch
from core.types import FloatArray
from server.settings import Settings
from server.wiring import build_service
from tests.support.live_server import LiveServer, assert_refused, image_part, live_server, picture, reply_text
from tests.support.tiny_gallery import gallery_rows, write_gallery

PHOTO = picture((10, 220, 60))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("indexes")
    indexes = {"things": write_gallery(folder / "a"), "others": write_gallery(folder / "b", 3, seed=6)}
    with live_server(cache_indexes=indexes) as running:
        yield running


def embedding(server: LiveServer, **fields: Any) -> FloatArray:
    with server.client() as client:
        answer = client.post("/v1/embeddings", json={"input": [image_part(PHOTO)], **fields})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["data"][0]["embedding"], np.float32)


def refined_by_hand(query: FloatArray, stored: FloatArray, k: int, temperature: float, blend: float) -> FloatArray:
    similarities = stored @ query
    nearest = np.argsort(-similarities)[:k]
    prototype = normalize(softmax(temperature * similarities[nearest][None]) @ stored[nearest])[0]
    return normalize((1 - blend) * query + blend * prototype)


@pytest.mark.parametrize(("k", "temperature", "blend"), [(10, 20.0, 0.5), (3, 5.0, 0.9), (1000, 0.0, 1.0)])
def test_the_refined_embedding_is_the_formula(server: LiveServer, k: int, temperature: float, blend: float) -> None:
    cache = {"k": k, "inverse_temperature": temperature, "blend": blend, "index": "things"}
    expected = refined_by_hand(embedding(server), gallery_rows(), min(k, 40), temperature, blend)
    np.testing.assert_allclose(embedding(server, bind={"cache": cache}), expected, atol=1e-5)


def test_embeddings_are_not_refined_unasked(server: LiveServer) -> None:
    plain = embedding(server)
    np.testing.assert_array_equal(plain, embedding(server, bind={"cache": {"enabled": False}}))
    assert not np.allclose(plain, embedding(server, bind={"cache": {}}), atol=1e-3)


def test_a_chat_tells_its_neighbours_best_first(server: LiveServer) -> None:
    bind = {"trace": True, "cache": {"k": 4, "index": "things", "blend": 0.25}}
    cache = server.chat([image_part(PHOTO)], bind=bind).json()["bind"]["cache"]
    assert (cache["index"], cache["k"], cache["inverse_temperature"], cache["blend"]) == ("things", 4, 20.0, 0.25)
    similarities = gallery_rows() @ embedding(server)
    nearest = np.argsort(-similarities)[:4].tolist()
    assert [row["id"] for row in cache["neighbours"]] == nearest
    assert [row["label"] for row in cache["neighbours"]] == [f"thing-{row}" for row in nearest]
    assert cache["neighbours"][0]["metadata"] == {"shelf": nearest[0]}
    assert cache["neighbours"][0]["score"] == pytest.approx(float(similarities.max()), abs=1e-5)


def test_an_operators_index_does_nothing_unless_a_request_asks(server: LiveServer) -> None:
    answers = [
        server.chat([image_part(PHOTO)], max_tokens=24, bind={"trace": True, **bind})
        for bind in ({}, {"cache": {"enabled": False}}, {"cache": {"blend": 1.0}})
    ]
    plain, off, on = map(reply_text, answers)
    assert plain == off
    assert plain != on
    caches = [answer.json()["bind"]["cache"] for answer in answers]
    assert (caches[0], caches[1], caches[2]["index"]) == (None, None, "things")


def test_names_choose_between_indexes(server: LiveServer) -> None:
    bind = {"trace": True, "cache": {"index": "others"}}
    cache = server.chat([image_part(PHOTO)], bind=bind).json()["bind"]["cache"]
    assert (cache["index"], len(cache["neighbours"])) == ("others", 3)
    refused = server.chat([image_part(PHOTO)], bind={"cache": {"index": "nobody"}})
    assert_refused(refused, 404, "unknown index 'nobody'; known: things, others")


@pytest.mark.parametrize(
    ("cache", "param"),
    [
        ({"k": 0}, "bind.cache.k"),
        ({"k": 5000}, "bind.cache.k"),
        ({"blend": 1.5}, "bind.cache.blend"),
        ({"inverse_temperature": -1}, "bind.cache.inverse_temperature"),
        ({"inverse_temperature": 1e300}, "bind.cache.inverse_temperature"),
        ({"name": "things"}, "bind.cache.name"),
        ({"enabled": "yes"}, "bind.cache.enabled"),
    ],
)
def test_a_value_that_cannot_be_is_named(server: LiveServer, cache: dict[str, Any], param: str) -> None:
    assert_refused(server.chat([image_part(PHOTO)], bind={"cache": cache}), 400, param=param)


def test_a_model_without_a_cache_refuses_to_use_one() -> None:
    with live_server() as server:
        assert_refused(server.chat([image_part(PHOTO)], bind={"cache": {}}), 400, "no visual cache", param="bind.cache")
        assert server.chat([image_part(PHOTO)], bind={"cache": {"enabled": False}}).status_code == 200


def test_a_foreign_or_damaged_index_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    foreign = write_gallery(tmp_path / "foreign", space="another")
    with pytest.raises(IndexMismatch, match=r"foreign: the index holds embeddings of encoder 'another'.*'tiny'"):
        build_service(Settings(model="tiny", cache_indexes={"things": foreign}))
    with live_server(cache_indexes={"things": tmp_path / "nothing"}) as server:
        assert "no index at" in str(server.context.load_error)
