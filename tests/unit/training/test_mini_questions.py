"""The conversations that teach `mini`: answers hold what the question asks for, doubt is spoken."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from models.mini.articles import article
from models.mini.assets import VOCABULARY
from training.recipes.mini_pictures import Name, choose_unseen, extra_names, read_vocabulary, split_of
from training.recipes.mini_questions import (
    IS_OF_SENSE,
    Interviewer,
    Thing,
    say_caption,
    say_description,
    say_more,
    say_use,
    say_what,
)
from training.recipes.mini_wordings import UNCOUNTED

DOG = Thing("golden retriever", "dog", ("animal",), "Labrador retriever")
UNSURE = Thing("ketch", "boat", ("vehicle",), "windmill", unsure=True)


def _interviewer(seed: int) -> Interviewer:
    names = (Name("banana", "fruit", ("food",)), Name("hammer", "tool", ("tool",)))
    return Interviewer(("animal", "vehicle", "food"), names, random.Random(seed))


def test_a_sure_answer_names_the_thing_and_its_kind() -> None:
    assert say_what(DOG) == "This is a golden retriever, a kind of dog."


def test_an_unsure_answer_names_both_candidates() -> None:
    assert say_what(UNSURE) == "It may be a ketch or a windmill."
    assert say_caption(UNSURE) == "Perhaps a ketch or a windmill."


def test_a_description_calls_the_picture_what_the_question_calls_it() -> None:
    assert say_description(DOG, "Describe this image.") == "The image shows a golden retriever, a kind of dog."
    assert say_description(DOG, "Describe it.") == "The picture shows a golden retriever, a kind of dog."


def test_more_is_what_the_groups_tell_and_that_there_is_no_more() -> None:
    more = say_more(DOG)
    assert more == "This is a golden retriever, a kind of dog. It is an animal; I cannot tell more."
    assert say_more(UNSURE) == "It may be a ketch or a windmill. I cannot tell more."
    assert say_more(Thing("dam", "barrier", ())) == "This is a dam, a kind of barrier. I cannot tell more."


def test_a_use_is_told_where_the_groups_tell_it() -> None:
    assert say_use(Thing("espresso", "drink", ("food",))) == "This is an espresso, which people drink."
    assert say_use(Thing("lobster", "sea animal", ("animal", "food"))) is None
    assert say_use(DOG) is say_use(UNSURE) is None


def test_nothing_is_ever_counted() -> None:
    turns = [turn for seed in range(60) for turn in _interviewer(seed).conversation(DOG)]
    replies = {answer for (_, question), (_, answer) in pairwise(turns) if question in UNCOUNTED}
    assert replies == {"I cannot tell; I only see a golden retriever."}


@pytest.mark.parametrize(
    ("name", "with_article"),
    [("ant", "an ant"), ("unicycle", "a unicycle"), ("binoculars", "some binoculars"), ("bass", "a bass")],
)
def test_names_take_the_article_that_english_gives_them(name: str, with_article: str) -> None:
    assert article(name) == with_article


@pytest.mark.parametrize("seed", range(40))
def test_every_conversation_alternates_and_ends_with_an_answer(seed: int) -> None:
    turns = _interviewer(seed).conversation(random.Random(seed).choice((DOG, UNSURE)))
    roles = [role for role, _ in turns if role != "system"]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert all(text.strip() == text and text for _, text in turns)


@pytest.mark.parametrize("seed", range(60))
def test_a_question_about_a_group_is_answered_with_the_truth(seed: int) -> None:
    for (_, question), (_, answer) in zip(*[iter(_interviewer(seed)._group(DOG))] * 2, strict=True):
        forms = [form.split("{a}")[0].lower() for form in IS_OF_SENSE["picture"]]
        assert any(form in question.lower() for form in forms)
        assert answer.startswith("Yes" if "animal" in question else "No")


def test_the_vocabulary_has_a_thousand_distinct_imagenet_names() -> None:
    imagenet, nouns = read_vocabulary(VOCABULARY)
    assert len({name.text for name in imagenet}) == 1000
    assert len(nouns) > 5000


def test_the_unseen_classes_are_a_fixed_draw_that_training_does_not_name() -> None:
    imagenet, _ = read_vocabulary(VOCABULARY)
    classes = ["lobster", "umbrella", "emu", "Faces", *(name.text.replace(" ", "_") for name in imagenet[:60])]
    unseen = choose_unseen(classes, imagenet, seed=0)
    assert unseen == choose_unseen(classes, imagenet, seed=0)
    trained = [name for name in classes if name not in unseen]
    assert not {name.text for name in extra_names(trained, imagenet)} & {name.replace("_", " ") for name in unseen}


def test_photographs_fall_into_three_disjoint_splits() -> None:
    assert [split_of(number) for number in (5, 10, 1, 2, 11)] == ["test", "test", "validation", "train", "validation"]
