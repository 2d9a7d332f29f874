"""What is of which kind, which questions ask for one, and the sentences that answer them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import CheckpointError
from models.mini.assets import KINDS
from models.mini.kinds import Kinds, kind_sentence, load_kinds, plural
from models.mini.loader import read_weights


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    return load_kinds(KINDS)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Which animals are there?", "animal"),
        ("What animals do you see?", "animal"),
        ("OK, please list all the animals in the pictures.", "animal"),
        ("Hello. Which animals can you hear? Be brief.", "animal"),
        ("What kinds of fruit are in the pictures?", "fruit"),
        ("What animal is this?", "animal"),
        ("What pieces of furniture are shown?", "piece of furniture"),
        ("Name the musical instruments you see.", "musical instrument"),
        ("Which people are there?", "person"),
        ("What wolves are there?", "wolf"),
        *((text, "") for text in (
            "What is this?", "What do you see?", "Which things are there?", "What colour is the dog?",
            "Is there an animal?", "Describe the animals.", "Tell me a joke about animals.",
            "Which animal is the fastest?",
            "", "Which animals are there? " * 20,
        )),
    ],
)  # fmt: skip
def test_a_question_for_one_kind_is_told_from_others(kinds: Kinds, question: str, kind: str) -> None:
    assert kinds.asked_for(question) == kind


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("Egyptian cat", "cat animal mammal pet", "dog bird vehicle"),
        ("dog", "dog animal mammal", "cat bird"),
        ("rooster", "bird animal", "mammal"),
        ("espresso", "coffee drink food", "animal"),
        ("jeep", "car vehicle", "animal boat"),
        ("computer mouse", "device", "animal"),
        ("hot dog", "food", "dog animal"),
    ],
)
def test_a_name_belongs_to_its_kinds_only(kinds: Kinds, name: str, yes: str, no: str) -> None:
    assert [kind for kind in yes.split() if not kinds.is_a(name, kind)] == []
    assert [kind for kind in no.split() if kinds.is_a(name, kind)] == []


def test_nearly_every_name_that_a_picture_can_get_has_a_kind(kinds: Kinds) -> None:
    names = read_weights()[1]
    assert sum(name not in kinds for name in names) < 0.01 * len(names)


@pytest.mark.parametrize(
    ("kind", "names", "sentence"),
    [
        ("animal", ["cat", "dog"], "The animals are a cat and a dog."),
        ("animal", ["cat"], "The animal is a cat."),
        ("dog", ["dog"], "There is a dog."),
        ("food", ["pizza", "apple"], "The food is a pizza and a apple."),
        ("vehicle", [], "There is no vehicle; this is everything."),
    ],
)
def test_what_is_of_a_kind_is_named_in_one_sentence(kind: str, names: list[str], sentence: str) -> None:
    assert kind_sentence(kind, names, " and ".join(f"a {name}" for name in names), "everything") == sentence


@pytest.mark.parametrize(
    ("kind", "several"),
    [
        ("animal", "animals"), ("piece of furniture", "pieces of furniture"), ("fish", "fish"), ("person", "people"),
        ("butterfly", "butterflies"), ("monkey", "monkeys"), ("bus", "buses"), ("food", "food"),
    ],
)  # fmt: skip
def test_kinds_have_plurals(kind: str, several: str) -> None:
    assert plural(kind) == several


CATS = {"egyptian cat": 0.42, "wild cat": 0.27, "tiger cat": 0.1, "espresso": 0.02}


@pytest.mark.parametrize(
    ("name", "chances", "said"),
    [
        ("Egyptian cat", CATS, "cat"),
        ("Egyptian cat", {**CATS, "egyptian cat": 0.95, "wild cat": 0.01}, "Egyptian cat"),
        ("espresso", {"espresso": 0.6, "cup": 0.2}, "espresso"),
        ("African elephant", {"african elephant": 0.3, "indian elephant": 0.3, "bison": 0.2}, "elephant"),
        ("minivan", {"minivan": 0.3, "pickup truck": 0.2, "convertible": 0.2}, "car"),
        ("gorilla", {"gorilla": 0.4, "zebra": 0.4}, "gorilla"),
        ("hot dog", {"hot dog": 0.5, "dog": 0.3, "toy poodle": 0.2}, "hot dog"),
    ],
)
def test_a_thing_that_may_be_any_of_a_kind_is_called_by_the_kind(
    kinds: Kinds, name: str, chances: dict[str, float], said: str
) -> None:
    assert kinds.everyday(name, chances) == said


@pytest.mark.parametrize(
    ("asked", "shown", "relation"),
    [
        ("cat", "Egyptian cat", "same"),
        ("dogs", "German shepherd", "same"),
        ("vehicle", "jeep", "same"),
        ("dog", "cat", "rival"),
        ("car", "fire truck", "rival"),
        ("car", "cat", "other"),
        ("people", "dog", "other"),
        ("dog", "", "other"),
        ("castle", "building", "other"),
        ("leopard", "jaguar", "unclear"),
        ("owl", "kite bird", "unclear"),
        ("sofa", "teddy bear", "unclear"),
        ("cup", "espresso", "unclear"),
        ("fur", "cat", "unclear"),
        ("sky", "", "unclear"),
    ],
)
def test_what_is_asked_about_and_what_is_shown_go_together_or_not(
    kinds: Kinds, asked: str, shown: str, relation: str
) -> None:
    assert kinds.relation(asked, shown) == relation


def test_a_damaged_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "kinds.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"kinds\.json is missing or damaged"):
        load_kinds(tmp_path / "kinds.json")
