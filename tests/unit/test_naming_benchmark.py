"""The judge of `benchmarks.naming`: what counts as the right name and as a hedge."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.naming import Answer, judge, list_photos, score
from core.naming import contains_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("This is a Dalmatian.", "dalmatian"),
        ("These are airplanes in the sky.", "airplanes"),
        ("An airplane.", "airplanes"),
        ("Two butterflies on a leaf", "butterfly"),
        ("It is a grand-piano.", "grand_piano"),
        ("A pair of wolves", "wolf"),
        ("The leopard's tail.", "Leopards"),
        ("Glasses on a table", "glass"),
    ],
)
def test_a_name_is_found_in_any_case_and_number(text: str, name: str) -> None:
    assert contains_name(text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("This is a catfish.", "cat"),
        ("A piano that is grand.", "grand_piano"),
        ("This is a grand piece.", "grand_piano"),
        ("", "cat"),
        ("This is a car.", "cart"),
    ],
)
def test_part_of_a_word_or_words_apart_are_not_the_name(text: str, name: str) -> None:
    assert not contains_name(text, name)


@given(st.text(alphabet="abcdefgiou ", min_size=1).filter(str.strip))
def test_every_answer_contains_itself(text: str) -> None:
    assert contains_name(f"This is a {text}.", text)


@pytest.mark.parametrize(("text", "is_hedged"), [("It may be a cat or a dog.", True), ("This is a cat.", False)])
def test_a_hedge_is_heard(text: str, is_hedged: bool) -> None:
    assert judge("cat/1.jpg", "cat", text, []).is_hedged == is_hedged


def test_a_synonym_counts_as_the_name() -> None:
    assert judge("car_side/1.jpg", "car_side", "This is a car.", ["car", "automobile"]).is_right


def test_the_accuracy_of_unhedged_answers_leaves_hedges_out() -> None:
    right = Answer(photo="a/1", class_name="a", text="", is_right=True, is_hedged=False)
    hedged = Answer(photo="a/2", class_name="a", text="", is_right=False, is_hedged=True)
    result = score([right, hedged])
    assert (result.accuracy, result.hedge_share, result.unhedged_accuracy) == (0.5, 0.5, 1.0)
    assert score([hedged]).unhedged_accuracy is None


def test_a_limited_draw_is_the_same_each_time_and_skips_other_files(tmp_path: Path) -> None:
    for class_name in ("cat", "dog"):
        (tmp_path / class_name).mkdir()
        for number in range(5):
            (tmp_path / class_name / f"{number}.jpg").touch()
        (tmp_path / class_name / "notes.txt").touch()
    drawn = list_photos(tmp_path, 4, seed=1)
    assert drawn == list_photos(tmp_path, 4, seed=1)
    assert len(drawn) == 4
    assert len(list_photos(tmp_path, None, seed=1)) == 10
