"""How `bindchat eval` judges answers and ranks, on numbers worked out by hand or by the original tools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import InvalidRequest
from server.evaluation import captions, naming, retrieval, vqa, yes_no
from server.evaluation.captions import cider_d, tokens_of
from server.evaluation.data_sets import asked_media, captioned_media
from server.evaluation.outcome import Answer, Question, share_interval
from server.evaluation.retrieval import ranking_numbers
from server.evaluation.text_ability import compare
from server.evaluation.vqa import normalised, vqa_accuracy


def answer(text: str, *expected: str, group: str = "", path: str = "a.png") -> Answer:
    question = Question(
        name=path, path=Path(path), kind="image", text="?", expected=expected, group=group or expected[0]
    )
    return Answer(question=question, text=text)


def test_naming_counts_names_hedges_and_what_was_said_instead() -> None:
    found = naming.score(
        [
            answer("It may be a dog or a cat.", "dog", "puppy"),
            answer("These are puppies.", "dog", "puppy"),
            answer("This is a dog.", "cat"),
            answer("I cannot tell.", "cat"),
        ]
    )
    assert found.metrics["accuracy"] == 0.5
    assert found.metrics["hedged"] == 0.25
    assert found.metrics["accuracy_unhedged"] == pytest.approx(1 / 3, abs=1e-4)
    assert found.groups["dog"]["accuracy"] == 1
    wrong = {(row["expected"], row["said"]): row["count"] for row in found.confusion()}
    assert wrong == {("cat", "dog"): 1, ("cat", naming.NO_NAME): 1}


def test_a_constant_yes_earns_half_the_accuracy_and_no_accuracy_plus() -> None:
    pairs = [(f"{n}.png", expected) for n in range(3) for expected in ("yes", "no")]
    constant = yes_no.score([answer("Yes, it is.", expected, path=path) for path, expected in pairs])
    assert (constant.metrics["accuracy"], constant.metrics["accuracy_plus"]) == (0.5, 0)
    assert (constant.metrics["mme_score"], constant.metrics["said_yes"]) == (50, 1)
    right = yes_no.score([answer(expected.upper(), expected, path=path) for path, expected in pairs[:2]])
    assert (right.metrics["accuracy_plus"], right.metrics["mme_score"], right.metrics["f1"]) == (1, 200, 1)
    assert yes_no.score([answer("Perhaps. Yes", "yes")]).metrics["said_neither"] == 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [("The two dogs.", "2 dogs"), ("1,000.5 m", "1000.5 m"), ("Don't!", "dont"), ("a red-brown  fox", "red brown fox")],
)
def test_vqa_answers_are_compared_without_case_punctuation_and_articles(text: str, plain: str) -> None:
    assert normalised(text) == plain


def test_vqa_accuracy_grows_with_the_people_who_agree() -> None:
    people = ["red"] * 2 + ["blue"] * 8
    assert vqa_accuracy("Red", people) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vqa_accuracy("the blue", people) == 1
    assert vqa_accuracy("red", ["red"]) == 1
    said = vqa.score([answer("It is red.", "red"), answer("red", "red")]).metrics
    assert (said["exact_match"], said["contains_answer"]) == (0.5, 1)


def test_captions_score_as_the_coco_tools_do() -> None:
    meant = [
        ["a cat sits on a red sofa", "a small cat resting on a couch"],
        ["two dogs run on the beach", "dogs running along the sea shore", "two brown dogs at the beach"],
        ["a man rides a bicycle down the street"],
        ["a red car parked near a tall house", "the car is red"],
    ]
    said = ["a cat sits on a couch", "two dogs run on the beach", "a dog on the street", "a red red red car"]
    by_pycocoevalcap = [4.83681664, 4.23181247, 1.13066775, 1.15028836]
    scores = cider_d([tokens_of(text) for text in said], [[tokens_of(text) for text in texts] for texts in meant])
    assert scores == pytest.approx(by_pycocoevalcap, abs=1e-6)
    found = captions.score([answer(text, *texts) for text, texts in zip(said, meant, strict=True)]).metrics
    assert found["bleu_4"] == pytest.approx(55.92953, abs=1e-3)  # pycocoevalcap 1.2
    assert tokens_of("A dog's ball -- round, well-worn!") == ["a", "dog's", "ball", "round", "well-worn"]


def test_ranks_are_those_of_the_first_relevant_candidate_and_ties_earn_nothing() -> None:
    similarities = np.asarray([[0.9, 0.5, 0.1], [0.2, 0.8, 0.7], [0.5, 0.5, 0.5]], np.float32)
    relevant = np.asarray([[True, False, True], [True, False, False], [True, False, False]])
    found = ranking_numbers(similarities, relevant)
    assert (found["recall_at_1"], found["recall_at_5"], found["median_rank"]) == (pytest.approx(1 / 3, abs=1e-4), 1, 3)
    assert found["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3, abs=1e-4)
    assert found["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3 + 1 / 3) / 3, abs=1e-4)


def test_media_of_two_kinds_find_each_other_by_their_classes() -> None:
    kinds = [("image", "cat"), ("image", "dog"), ("audio", "dog"), ("text", "cat"), ("text", "dog")]
    entries = [retrieval.Entry(kind=kind, item=label, label=label) for kind, label in kinds]
    found = retrieval.score(entries, [[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]])
    assert found["audio to image"]["recall_at_1"] == 1
    assert (found["image to audio"]["queries"], found["text to image"]["candidates"]) == (1, 2)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert share_interval(8, 10) == pytest.approx([0.49016, 0.94332], abs=1e-4)
    assert share_interval(0, 0) is None


def test_captions_are_read_from_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    image, note = {"id": 7, "file_name": "a.png"}, {"image_id": 7, "caption": "a cat"}
    texts = {
        "captions.json": json.dumps({"images": [image], "annotations": [note]}),
        "captions.tsv": "url\tcaption\na.png\ta cat\n",
        "metadata.jsonl": '{"file_name": "a.png", "text": "a cat"}\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert captioned_media(tmp_path) == {tmp_path / "a.png": ["a cat"]}, name
        (tmp_path / name).write_text(text.replace("caption", "words").replace("text", "words"))
        with pytest.raises(InvalidRequest, match=name):
            captioned_media(tmp_path)
        (tmp_path / name).unlink()


def test_questions_are_read_from_every_form(tmp_path: Path) -> None:
    lines, vqa_form, mme, mme_images = (tmp_path / name for name in ("lines", "vqa", "mme", "mme_images"))
    for folder in (lines, vqa_form, mme / "count", mme_images / "count" / "images"):
        folder.mkdir(parents=True)
        (folder / "val_000007.jpg").touch()
    (lines / "questions.jsonl").write_text('{"image": "val_000007.jpg", "question": "Q?", "answer": "yes"}\n')
    asked = {"questions": [{"question_id": 1, "image_id": 7, "question": "Q?"}]}
    (vqa_form / "questions.json").write_text(json.dumps(asked))
    notes = {"annotations": [{"question_id": 1, "answers": [{"answer": "yes"}], "answer_type": "yes/no"}]}
    (vqa_form / "annotations.json").write_text(json.dumps(notes))
    (mme / "count" / "val_000007.txt").write_text("Q?\tYes\n")
    (mme_images / "count" / "questions_answers_YN").mkdir()
    (mme_images / "count" / "questions_answers_YN" / "val_000007.txt").write_text("Q?\tYes\n")
    for folder in (lines, vqa_form, mme, mme_images):
        (row,) = asked_media(folder)
        found = (row["path"].name, row["question"], row["answers"][0].lower())
        assert found == ("val_000007.jpg", "Q?", "yes"), folder


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "no JSON"), ("[]", "JSON object"), ('{"question": "Q?"}', "must hold"), ('{"image": "b.png"}', "must hold"),
     ('{"image": "b.png", "question": "Q?", "answer": "x"}', "names b.png")],
)  # fmt: skip
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "questions.jsonl").write_text(line)
    with pytest.raises(InvalidRequest, match=words):
        asked_media(tmp_path)


def test_a_model_is_harmed_when_it_is_two_standard_errors_below_its_base() -> None:
    base = {"arc": {"acc": 0.5, "acc_stderr": 0.03}, "wiki": {"word_perplexity": 20.0}}
    worse, noise = ({"arc": {"acc": value, "acc_stderr": 0.04}} for value in (0.39, 0.41))
    assert compare(worse, base)["arc acc"]["harmed"]
    assert not compare(noise, base)["arc acc"]["harmed"]
    assert compare(noise, base)["arc acc"]["standard_error"] == pytest.approx(0.05)
