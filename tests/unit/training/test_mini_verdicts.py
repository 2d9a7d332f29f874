"""What teaches `mini` to judge: truth about a thing, wordings kept out of training, weights left as they were."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.mini.articles import article
from training.recipes.mini import add_verdicts, keep_parts
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


def test_adding_verdicts_leaves_every_other_tensor_as_it_was(tmp_path: Path) -> None:
    names = ('["a", "b", "c", "d"]', torch.randn(4, 8).half())
    old = {
        "adapter.gates": torch.randn(2, 2),
        "adapter.bind.proj.weight": torch.randn(8, 8).bfloat16(),
        "names.vectors": names[1],
        "drawings.weight": torch.randn(3, 5).half(),
        "drawings.bias": torch.randn(3),
        "head.weight": torch.randn(2, 5).half(),
        "head.bias": torch.randn(2),
        "confidence": torch.randn(2),
        "relevance.weight": torch.randn(6),
        "relevance.bias": torch.randn(1),
    }
    weights, out = tmp_path / "old.safetensors", tmp_path / "out"
    out.mkdir()
    save_file(old, weights, {"names": names[0]})
    config = BindNetworkConfig(embedding_width=8, width=8, hidden_width=8)
    adapter = ImageBindLLMAdapter(config, num_layers=2, num_heads=2, has_verdicts=True)
    keep_parts(weights, out)
    add_verdicts(weights, adapter, {"verdict.decide.weight": torch.randn(1, 4)}, out)
    new = load_file(out / "mini.safetensors")
    assert new.keys() - old.keys() == {"adapter.verdicts", "verdict.decide.weight"}
    assert all(torch.equal(new[key], old[key]) and new[key].dtype == old[key].dtype for key in old)
    kept = torch.load(out / "emoji_names.pt", weights_only=True)
    assert torch.equal(kept, names[1][2:].float())
