"""`bindchat eval` against a real server: data sets in, numbers, reports and kept answers out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from server.cli import app
from tests.support.live_server import LiveServer, image_part, live_server, picture, reply_text
from tests.support.sounds import encoded_sound, tone

COLOURS = {"red": (200, 30, 30), "blue": (20, 40, 220)}
ASK = "What is this?"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(picture(colour, side_px=24 + number))
    return tmp_path / "photos"


def evaluate(server: LiveServer, task: str, folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["eval", task, str(folder), "--url", server.url, *options])


def said(server: LiveServer, question: str, photo: Path) -> str:
    """Return what the server says to one question, to build a data set that it answers right."""
    content = [image_part(photo.read_bytes()), {"type": "text", "text": question}]
    return reply_text(server.chat(content, max_tokens=8, ignore_eos=False))


def numbers(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_names_are_asked_judged_and_reported(server: LiveServer, photos: Path, tmp_path: Path) -> None:
    names = {"red": [said(server, ASK, photos / "red" / f"{number}.png") for number in range(2)]}
    (photos / "names.json").write_text(json.dumps(names))
    report = tmp_path / "report.html"
    options = ("--max-tokens", "8", "--json", "--html", str(report))
    found = numbers(evaluate(server, "naming", photos, *options))
    assert found["metrics"]["answers"] == 4
    assert (found["groups"]["red"]["accuracy"], found["groups"]["blue"]["accuracy"]) == (1, 0)
    assert (found["test"]["model"], found["test"]["media"]) == ("tiny", "sent")
    page = report.read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert page.count('<figure class="wrong">') == 2
    assert re.findall(r"(?:src|href)=\"http|<script", page) == []


def test_the_control_asks_without_media(server: LiveServer, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "answers.jsonl"
    options = ("--without-media", "--max-tokens", "6", "--answers", str(kept))
    assert evaluate(server, "naming", photos, *options).exit_code == 0
    answers = {json.loads(line)["answer"] for line in kept.read_text().splitlines()}
    assert answers == {reply_text(server.chat(ASK, max_tokens=6, ignore_eos=False))}


def test_a_second_run_asks_only_what_the_first_did_not(server: LiveServer, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "answers.jsonl"
    options = ("--max-tokens", "5", "--answers", str(kept), "--json")
    first = numbers(evaluate(server, "naming", photos, *options, "--limit", "2"))
    some = kept.read_text().splitlines()
    (photos / "names.json").write_text(json.dumps({"red": ["kept"], "blue": ["kept"]}))
    kept.write_text("".join(json.dumps(json.loads(line) | {"answer": "kept"}) + "\n" for line in some))
    second = numbers(evaluate(server, "naming", photos, *options))
    assert (first["metrics"]["answers"], len(kept.read_text().splitlines())) == (2, 4)
    assert second["metrics"]["accuracy"] == 0.5


def test_captions_are_scored_against_peoples(server: LiveServer, photos: Path) -> None:
    question = "Describe the picture in one sentence."
    files = sorted(photos.glob("*/*.png"))
    texts = {path: said(server, question, path) for path in files}
    rows = [{"file_name": path.relative_to(photos).as_posix(), "text": text} for path, text in texts.items()]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = numbers(evaluate(server, "captions", photos, "--max-tokens", "8", "--json"))["metrics"]
    assert found["answers"] == 4
    assert found["words"] == found["words_expected"]


def test_yes_no_and_vqa_read_one_file(server: LiveServer, photos: Path) -> None:
    files = sorted(photos.glob("*/*.png"))
    rows = [
        {"image": str(path.relative_to(photos)), "question": "Is this red?", "answer": answer, "category": "colour"}
        for path in files
        for answer in ("yes", "no")
    ]
    (photos / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    marks = numbers(evaluate(server, "yesno", photos, "--max-tokens", "4", "--json"))["metrics"]
    assert (marks["answers"], marks["pictures"], marks["accuracy_plus"]) == (8, 4, 0)
    assert marks["mme_score"] == pytest.approx(100 * marks["accuracy"])
    right = said(server, "Is this red?", files[0])
    rows = [{"image": str(files[0].relative_to(photos)), "question": "Is this red?", "answers": [right, "x"]}]
    (photos / "questions.jsonl").write_text(json.dumps(rows[0]))
    found = numbers(evaluate(server, "vqa", photos, "--suffix", "", "--max-tokens", "8", "--json"))["metrics"]
    assert found["exact_match"] == found["vqa_accuracy"] == 1
    refused = evaluate(server, "yesno", photos)
    assert (refused.exit_code, "not yes or no" in refused.output) == (2, True)


def test_retrieval_ranks_media_of_two_kinds_by_their_classes(server: LiveServer, photos: Path) -> None:
    (photos / "red" / "tone.wav").write_bytes(encoded_sound(tone(0.5, 16_000), 16_000, "wav"))
    found = numbers(evaluate(server, "retrieval", photos, "--kinds", "image,audio", "--json"))["groups"]
    assert found.keys() == {"image to audio", "audio to image"}
    assert (found["audio to image"]["queries"], found["audio to image"]["candidates"]) == (1, 4)
    assert 0 < found["audio to image"]["mean_average_precision"] <= found["audio to image"]["recall_at_5"] == 1
    refused = evaluate(server, "retrieval", photos)  # the tiny model embeds no text
    assert (refused.exit_code, "no encoder of text" in refused.output) == (2, True)


def test_a_question_that_fails_is_counted_apart(server: LiveServer, photos: Path) -> None:
    (photos / "red" / "0.png").write_bytes(picture()[:50])
    result = evaluate(server, "naming", photos, "--max-tokens", "4", "--json")
    assert result.exit_code == 1
    assert "1 of 4 questions failed" in result.output
    found = json.loads(result.stdout)
    assert found["metrics"]["answers"] == 3
    assert [row["name"] for row in found["errors"]] == ["red/0.png"]


def test_a_table_is_shown_without_json(server: LiveServer, photos: Path) -> None:
    result = evaluate(server, "naming", photos, "--max-tokens", "4")
    assert re.search(r"^\s*red\s+2\s+0", result.stdout, re.MULTILINE), result.output
    assert re.search(r"^accuracy\s+0", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("task", ["naming", "captions", "yesno", "vqa", "retrieval"])
def test_an_empty_folder_ends_with_what_was_expected(server: LiveServer, task: str, tmp_path: Path) -> None:
    result = evaluate(server, task, tmp_path)
    assert (result.exit_code, str(tmp_path) in result.output.replace("\n", "")) == (2, True)
