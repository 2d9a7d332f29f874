"""What teaches `mini` to judge: truth about a thing, wordings kept out of training, weights left as they were."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.mini.articles import article
from training.recipes.mini_adapter import export, keep_parts, start_from, stored_names
from training.recipes.mini_pictures import Name
from training.recipes.mini_questions import Thing
from training.recipes.mini_verdict_pairs import MARK, Asker, draw_form, other_questions, verdict_questions
from training.recipes.mini_verdict_words import HELD_OUT_ASKS

NAMES = (Name("banana", "fruit", ("food",)), Name("hammer", "tool", ("tool",)), Name("ferry", "boat", ("vehicle",)))
DOG = Thing("golden retriever", "dog", ("animal",), synonyms=("retriever",))
TRUE_OF_DOG = {"golden retriever", "retriever", "dog", "animal", "mammal", "pet"}
ALIVE = {"alive", "living", "living thing", "living being", "living creature", "organism", "lives", "lifeform"}


def test_what_is_asked_is_answered_with_the_truth_about_the_thing() -> None:
    asker = Asker(NAMES, random.Random(3))
    drawn = {pair for _ in range(3000) if (pair := asker.ask(DOG)) is not None}
    assert {asked for asked, is_true in drawn if is_true} == TRUE_OF_DOG | ALIVE
    assert {"banana", "hammer", "vehicle", "wear"} <= {asked for asked, is_true in drawn if not is_true}


def test_a_drink_or_a_fruit_is_no_animal_but_a_dish_may_have_been_one() -> None:
    def asked(kind: str) -> set[tuple[str, bool]]:
        asker, thing = Asker(NAMES, random.Random(4)), Thing("x", kind, ("food",))
        return {pair for _ in range(3000) if (pair := asker.ask(thing)) is not None and pair[0] == "animal"}

    assert asked("drink") == asked("fruit") == {("animal", False)}
    assert asked("food") == set()


def test_a_blend_is_what_each_of_its_things_is() -> None:
    blend = Thing("golden retriever", "dog", ("animal",), beside=(NAMES[2],))
    asker = Asker(NAMES[:2], random.Random(3))
    drawn = {pair for _ in range(2000) if (pair := asker.ask(blend)) is not None}
    assert {("vehicle", True), ("ferry", True), ("dog", True)} <= drawn
    assert not drawn & {("boat", False), ("animal", False)}


def test_wordings_held_out_are_in_no_question_for_training() -> None:
    rng = random.Random(1)
    held_out = {form.format(a=article("banana")) for form in HELD_OUT_ASKS}
    drawn = {draw_form(rng).format(a=article("banana"), n="banana") for _ in range(20_000)}
    assert len(drawn) > 5_000
    assert not drawn & held_out


def test_the_words_asked_for_are_marked_and_other_questions_ask_for_none() -> None:
    rng = random.Random(2)
    questions = verdict_questions([name.text for name in NAMES], rng, 300)
    assert all(MARK in question for question in questions)
    assert all(f"{MARK}banana" in question for question in questions if "banana" in question)
    assert not any(MARK in question for question in other_questions(NAMES, ("What is two plus two?",), rng, 300))


def test_parts_that_are_not_made_anew_stay_as_they_were(tmp_path: Path) -> None:
    encoder = {
        f"{prefix}{key}": tensor
        for prefix in ("", "thumbnail.")
        for key, tensor in {
            "head.weight": torch.randn(2, 5).half(),
            "head.bias": torch.randn(2),
            "drawings.weight": torch.randn(3, 5).half(),
            "drawings.bias": torch.randn(3),
            "confidence": torch.randn(2),
        }.items()
    }
    words = {"relevance.weight": torch.randn(6), "relevance.bias": torch.randn(1), "verdict.decide.bias": torch.ones(1)}
    vectors = torch.randn(4, 8).half()
    first = small_adapter()
    export(first, {**encoder, **words, "names.vectors": vectors}, ["a", "b", "c", "d"], tmp_path)
    weights, out = tmp_path / "mini.safetensors", tmp_path / "out"
    out.mkdir()
    keep_parts(weights, {"calibration", "verdicts"}, out)
    kept = {path.stem: torch.load(path, weights_only=True) for path in out.iterdir()}
    assert set(kept) == {"head", "drawings", "thumbnail.head", "thumbnail.drawings", "emoji_names", "relevance"}
    assert all(
        torch.equal(kept[layer][key], encoder[f"{layer}.{key}"].float())
        for layer in ("head", "drawings", "thumbnail.head", "thumbnail.drawings")
        for key in ("weight", "bias")
    )
    assert torch.equal(kept["emoji_names"], vectors[2:].float())
    assert kept["relevance"].keys() == {"relevance.weight", "relevance.bias"}
    assert stored_names(weights) == ["a", "b", "c", "d"]
    again = small_adapter()
    start_from(again, weights)
    export(again, {**encoder, **words, "names.vectors": vectors}, ["a", "b", "c", "d"], out)
    old, new = load_file(weights), load_file(out / "mini.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(new[key], old[key]) and new[key].dtype == old[key].dtype for key in old)


def small_adapter() -> ImageBindLLMAdapter:
    config = BindNetworkConfig(embedding_width=8, width=8, hidden_width=8)
    return ImageBindLLMAdapter(config, num_layers=2, num_heads=2, doubt_below=0.5, has_verdicts=True)
