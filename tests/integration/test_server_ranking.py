"""`/v1/classify` and `/v1/rerank`: any medium against labels and documents, in the joint space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.illama.folder import load_classifier
from tests.support.listening import Listening, build_listening
from tests.support.live_server import LiveServer, assert_refused, image_part, live_server, picture

CAT = Path("docs/samples/cat.jpg")
LABELS = ["red", "green", "blue sky"]
PICTURE = image_part(picture())


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(build_listening(Listening())) as running:
        yield running


def post(server: LiveServer, path: str, **body: Any) -> Any:
    with server.client() as client:
        return client.post(f"/v1/{path}", json=body)


def vectors(server: LiveServer, *inputs: Any) -> Any:
    return np.array([row["embedding"] for row in post(server, "embeddings", input=list(inputs)).json()["data"]])


def test_probabilities_are_the_softmax_of_cosines_over_the_temperature(server: LiveServer) -> None:
    answer = post(server, "classify", input=[PICTURE, "red"], labels=LABELS, temperature=0.5).json()
    query, label_rows = vectors(server, PICTURE, "red"), vectors(server, *LABELS)
    raised = np.exp(query @ label_rows.T / 0.5)
    expected = raised / raised.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row["probs"] for row in answer["data"]], expected, atol=1e-5)
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["data"][1]["label"] == "red"
    assert answer["data"][1]["scores"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert answer["usage"]["total_tokens"] > 0


def test_a_label_template_is_filled_in(server: LiveServer) -> None:
    written = post(server, "classify", input="x", labels=["a red cat", "a blue cat"]).json()["data"][0]["probs"]
    filled = post(server, "classify", input="x", labels=["red", "blue"], label_template="a {} cat").json()
    assert filled["data"][0]["probs"] == written
    assert filled["data"][0]["label"] in {"red", "blue"}


def test_documents_come_back_closest_first(server: LiveServer) -> None:
    documents: list[Any] = ["green", {"text": "red"}, PICTURE, [PICTURE, {"type": "text", "text": "x"}]]
    answer = post(server, "rerank", query="red", documents=documents).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["results"][0] == {
        "index": 1,
        "relevance_score": pytest.approx(1, abs=1e-5),
        "document": {"text": "red"},
    }
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2, 3]
    (best,) = post(server, "rerank", query=PICTURE, documents=documents, top_n=1, return_documents=False).json()[
        "results"
    ]
    assert best == {"index": 2, "relevance_score": pytest.approx(1, abs=1e-5)}


@pytest.mark.parametrize(
    ("path", "body", "words", "param"),
    [
        ("classify", {"input": "x"}, ("labels are required",), "labels"),
        ("classify", {"input": "x", "labels": ["a"]}, ("at least 2",), "labels"),
        ("classify", {"input": "x", "labels": ["a", "a"]}, ("differ",), "labels"),
        ("classify", {"input": "x", "labels": ["a", "b"], "temperature": 0}, ("temperature",), "temperature"),
        ("classify", {"input": "", "labels": ["a", "b"]}, ("input[0] is an empty text",), "input[0]"),
        ("rerank", {"query": "x", "documents": []}, ("documents",), "documents"),
        ("rerank", {"query": "x", "documents": ["a"], "top_n": 0}, ("top_n",), "top_n"),
        ("rerank", {"query": "x", "documents": ["a"] * 64}, ("at most 64",), "input"),
        ("rerank", {"query": "x", "documents": ["a"], "rank_fields": ["t"]}, ("rank_fields",), "rank_fields"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    server: LiveServer, path: str, body: Any, words: tuple[str, ...], param: str
) -> None:
    assert_refused(post(server, path, **body), 400, *words, param=param)


def test_the_default_model_knows_a_cat_from_a_car() -> None:
    photo = image_part(CAT.read_bytes())
    with live_server(model="mini") as server:
        answer = post(server, "classify", input=photo, labels=["cat", "car", "pizza"]).json()["data"][0]
        ranked = post(server, "rerank", query=photo, documents=["a red car", "a cat on a sofa"], top_n=1).json()
    assert answer["label"] == "cat"
    assert ranked["results"][0]["index"] == 1


def test_a_classifier_names_pictures_by_its_own_classes(server: LiveServer) -> None:
    cat = image_part(CAT.read_bytes())
    answer = post(server, "classify", input=[cat, PICTURE], model="illama-mini").json()
    assert answer["model"] == "illama-mini"
    row, _ = answer["data"]
    (expected,) = load_classifier("illama-mini").classify([np.asarray(Image.open(CAT).convert("RGB"))], top_k=97)
    assert [score["label"] for score in row["scores"]][:3] == [name for name, _ in expected][:3]
    assert row["probs"] == pytest.approx([probability for _, probability in expected], abs=1e-4)
    assert row["label"] == expected[0][0]
    assert sum(row["probs"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({"input": PICTURE, "labels": LABELS}, ("classes of its own", "labels"), "labels"),
        ({"input": PICTURE, "temperature": 0.5}, ("classes of its own",), "temperature"),
        ({"input": "a red cat"}, ("one image part",), "input[0]"),
        ({"input": [[PICTURE, PICTURE]]}, ("one image part",), "input[0]"),
        ({"input": [PICTURE] * 65}, ("at most 64",), "input"),
    ],
)
def test_a_classifier_refuses_what_is_no_picture(
    server: LiveServer, body: Any, words: tuple[str, ...], param: str
) -> None:
    assert_refused(post(server, "classify", model="illama-mini", **body), 400, *words, param=param)
