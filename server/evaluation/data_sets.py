"""Data sets as people keep them: folders of classes, caption files, question files.

Every reader takes a folder and raises `InvalidRequest` with what was expected there.
"""

from __future__ import annotations

import csv
import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest

POINT_SUFFIXES = {".ply", ".pcd", ".xyz", ".pts", ".txt", ".npy", ".obj", ".off", ".stl", ".glb"}
KIND_NAMES = ("image", "audio", "video", "point_cloud")
CAPTION_FILES = "captions.json (COCO), captions.tsv (url, caption) or metadata.jsonl (file_name, text)"
QUESTION_FILES = 'questions.jsonl with {"image", "question", "answer" or "answers", "category"} per line'
TEXT_SUFFIXES = {".txt", ".npy"}  # may be points, but are as often something else


def kind_of(path: Path, *, strictly: bool = False) -> str | None:
    """Return image, audio, video or point_cloud by the file's name, None for none of them.

    `strictly` leaves out suffixes that point clouds share with texts and arrays.
    """
    suffix = path.suffix.lower()
    if suffix in POINT_SUFFIXES and not (strictly and suffix in TEXT_SUFFIXES):
        return "point_cloud"
    kind = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0]
    return kind if kind in KIND_NAMES else None


def labelled_media(folder: Path) -> list[tuple[Path, str, str]]:
    """Return `(path, kind, class)` of a `class/file` tree; underscores of a class's name become spaces."""
    _check_folder(folder)
    found = [
        (path, kind, path.parent.name.replace("_", " "))
        for path in sorted(folder.glob("*/*"))
        if path.is_file() and (kind := kind_of(path)) and not path.name.startswith(".")
    ]
    if not found:
        raise InvalidRequest(f"{folder} holds no media as class/file, for example {folder}/dog/1.jpg")
    return found


def further_names(folder: Path) -> dict[str, list[str]]:
    """Return names.json of a `class/file` tree, from a class to a list of more right names; empty without it."""
    path = folder / "names.json"
    if not path.is_file():
        return {}
    read = _json(path)
    if not isinstance(read, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in read.values()
    ):
        raise InvalidRequest(f'{path} must map a class to a list of names, as {{"sofa": ["couch"]}}')
    return {key.replace("_", " "): names for key, names in read.items()}


def captioned_media(folder: Path) -> dict[Path, list[str]]:
    """Return the captions of each medium, from the caption file in a folder."""
    _check_folder(folder)
    readers = {"captions.json": _coco_captions, "captions.tsv": _table_captions, "metadata.jsonl": _line_captions}
    for name, read in readers.items():
        if (folder / name).is_file():
            captions: dict[Path, list[str]] = {}
            for file, caption in read(folder / name):
                captions.setdefault(_inside(folder, file, folder / name), []).append(caption)
            if captions:
                return captions
    raise InvalidRequest(f"{folder} holds no captions; expected one of {CAPTION_FILES}")


def _coco_captions(path: Path) -> Iterator[tuple[str, str]]:
    read = _json(path)
    with _shaped(path, '{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}'):
        files = {image["id"]: image["file_name"] for image in read["images"]}
        yield from [(files[entry["image_id"]], entry["caption"]) for entry in read["annotations"]]


def _table_captions(path: Path) -> Iterator[tuple[str, str]]:
    with _shaped(path, "columns named url and caption, separated by tabs"), path.open(encoding="utf-8") as file:
        yield from [(row["url"], row["caption"]) for row in csv.DictReader(file, delimiter="\t")]


def _line_captions(path: Path) -> Iterator[tuple[str, str]]:
    with _shaped(path, '{"file_name", "text"} on each line'):
        yield from [(row["file_name"], row["text"]) for row in read_lines(path)]


class _shaped:  # noqa: N801 (a context manager that reads as a word)
    """Turn a missing field into a sentence that says what a file should hold."""

    def __init__(self, path: Path, form: str) -> None:
        self._path, self._form = path, form

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LookupError | TypeError | AttributeError | csv.Error | UnicodeDecodeError):
            raise InvalidRequest(f"{self._path} must hold {self._form}; {error!r} shows that it does not") from None


def asked_media(folder: Path) -> list[dict[str, Any]]:
    """Return `{path, question, answers, category}` of every question about a medium.

    From questions.jsonl; from VQA's questions.json and annotations.json; or from MME's folders, where each picture has
    a text file of its own name with `question<TAB>answer` lines.
    """
    _check_folder(folder)
    if (folder / "questions.jsonl").is_file():
        found = list(_line_questions(folder))
    elif (folder / "questions.json").is_file():
        found = list(_vqa_questions(folder))
    else:
        found = list(_mme_questions(folder))
    if not found:
        raise InvalidRequest(
            f"{folder} holds no questions; expected {QUESTION_FILES}, VQA's questions.json with annotations.json, or "
            "MME's folders: category/1.jpg beside category/1.txt of question<TAB>answer lines"
        )
    return found


def _line_questions(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "questions.jsonl"
    with _shaped(path, QUESTION_FILES.partition(" with ")[2]):
        for row in read_lines(path):
            answers = row["answers"] if "answers" in row else [row["answer"]]
            if not isinstance(answers, list) or not answers:
                raise TypeError(f"answers is {answers!r}")
            yield {
                "path": _inside(folder, row["image"], path),
                "question": str(row["question"]),
                "answers": [str(answer) for answer in answers],
                "category": str(row.get("category", "")),
            }


def _vqa_questions(folder: Path) -> Iterator[dict[str, Any]]:
    asked, noted = folder / "questions.json", folder / "annotations.json"
    if not noted.is_file():
        raise InvalidRequest(f"{asked} has no annotations.json beside it, which holds the right answers")
    pictures = {
        int(number[0]): path
        for path in sorted(folder.rglob("*"))
        if kind_of(path) == "image" and (number := re.findall(r"\d+$", path.stem))
    }
    form = '"questions": [{"question_id", "image_id", "question"}] and "annotations": [{"question_id", "answers"}]'
    with _shaped(asked, form):
        notes = {entry["question_id"]: entry for entry in _json(noted)["annotations"]}
        for entry in _json(asked)["questions"]:
            if int(entry["image_id"]) not in pictures:
                raise InvalidRequest(f"{folder} holds no picture whose name ends in {entry['image_id']}")
            note = notes[entry["question_id"]]
            yield {
                "path": pictures[int(entry["image_id"])],
                "question": entry["question"],
                "answers": [given["answer"] for given in note["answers"]],
                "category": str(note.get("answer_type", "")),
            }


def _mme_questions(folder: Path) -> Iterator[dict[str, Any]]:
    """Read both of MME's layouts: pictures beside their texts, and `images` beside `questions_answers_YN`."""
    for path in sorted(folder.glob("*/**/*")):
        if not path.is_file() or kind_of(path, strictly=True) is None:
            continue
        text = path.with_suffix(".txt")
        if path.parent.name == "images":
            text = path.parent.parent / "questions_answers_YN" / text.name
        if not text.is_file():
            continue
        for number, line in enumerate(text.read_text(encoding="utf-8").splitlines(), start=1):
            question, tab, answer = line.strip().rpartition("\t")
            if line.strip() and not tab:
                raise InvalidRequest(f"line {number} of {text} must be a question, a tab and an answer, got {line!r}")
            if tab:
                category = path.relative_to(folder).parts[0]
                yield {"path": path, "question": question, "answers": [answer], "category": category}


def read_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON object of each line that is not empty."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"line {number} of {path} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRequest(f"line {number} of {path} must be a JSON object, got {type(row).__name__}")
        yield row


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} is no JSON: {error}") from None


def _inside(folder: Path, file: str, named_in: Path) -> Path:
    """Return a file named by a data set. Raises `InvalidRequest` when it is not there."""
    path = folder / file
    if not path.is_file():
        raise InvalidRequest(f"{named_in} names {file}, which {folder} does not hold")
    return path


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder; unpack the data set and name the folder that holds it")
