"""What teaches `mini` to repeat the parts that its prompt tells."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from benchmarks.sense import is_clean
from core.errors import CheckpointError
from core.types import Modality
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import decoder_file
from models.mini.told import load_told
from training.recipes.mini_chat import ChatAnswer
from training.recipes.mini_pictures import Name
from training.recipes.mini_told import ToldCondition, told_samples, write_told
from training.recipes.mini_told_talks import Talk, Teller

POOLS = {
    Modality.IMAGE: [Name("beagle", "dog", ("animal",)), Name("harp", "instrument", ("musical instrument",))],
    Modality.AUDIO: [Name("rain", "sound of nature", ()), Name("horse", "animal sound", ("animal",))],
    Modality.POINT_CLOUD: [Name("lamp", "lamp", ()), Name("truck", "truck", ("vehicle",))],
    Modality.TEXT: [Name("cloud", "object", ()), Name("apple", "fruit", ("food",))],
}
POOLS[Modality.VIDEO] = POOLS[Modality.IMAGE]
NAMES = [name.text for names in POOLS.values() for name in names]
UNKNOWN = "I cannot tell; I only know that "


def talks(count: int) -> list[tuple[Talk, str, str]]:
    """Return talks with what they tell and what they ask."""
    teller = Teller(POOLS | {Modality.IMAGE: [*POOLS[Modality.IMAGE], Name("kettle", "object", ())]}, random.Random(4))
    found = []
    for _ in range(count):
        talk = teller.talk()
        context, _, rest = talk.turns[-1][1].partition("</context>")
        found.append((talk, context, rest))
    return found


def test_an_answer_says_what_was_told_and_nothing_else() -> None:
    for talk, context, question in talks(600):
        answer = (talk.answer or "").removeprefix(UNKNOWN)
        told = [name for name in (*NAMES, "kettle") if name in context]
        assert is_clean(answer, told, question + " food vehicles animals plants"), (talk.turns[-1], answer)


@pytest.mark.parametrize(
    ("asks_for", "belongs"),
    [("animals", ("beagle", "horse")), ("vehicles", ("truck",)), ("musical instruments", ("harp",))],
)
def test_a_question_for_a_group_is_answered_with_its_members_alone(asks_for: str, belongs: tuple[str, ...]) -> None:
    asked = [(talk.answer or "", context) for talk, context, question in talks(3000) if f" {asks_for}" in question]
    assert asked
    for answer, context in asked:
        present = {name for name in belongs if name in context}
        said = {name for name in (*NAMES, "kettle") if name in answer}
        if present:
            assert present <= said
            assert answer.startswith("There is ")
        else:
            assert answer.startswith(f"There are no {asks_for}, only ")


def test_only_the_last_turn_tells_the_parts() -> None:
    longer = [talk for talk, _, _ in talks(300) if len(talk.turns) > 1]
    assert longer
    assert all("<context>" not in text for talk in longer for _, text in talk.turns[:-1])


def test_learning_starts_from_no_condition_and_its_weights_are_served(tmp_path: Path) -> None:
    condition = ToldCondition(torch.ones(3, 2), width=8)
    prompts = condition.prompts(torch.zeros(5, 1))
    assert prompts.shape == (5, 3, 1, 8)
    assert not prompts.any()
    with torch.no_grad():
        condition.told += torch.arange(24.0).view(3, 8)
    write_told(condition, tmp_path / "told.safetensors")
    widths = BindNetworkConfig(embedding_width=4, width=8, hidden_width=8)
    served = load_told(tmp_path / "told.safetensors", ImageBindLLMAdapter(widths, num_layers=3, num_heads=2))
    assert served.prompts.shape == (3, 1, 8)
    assert torch.equal(torch.from_numpy(served.prompts[:, 0]), condition.told.detach())
    with pytest.raises(CheckpointError, match="told"):
        load_told(tmp_path / "told.safetensors", ImageBindLLMAdapter(widths, num_layers=2, num_heads=2))


def test_a_base_models_own_answer_is_the_target_of_an_open_task() -> None:
    tokenizer = load_gguf_tokenizer(decoder_file())
    answer = ChatAnswer("Tell me a story.", [5, 6, 2], torch.zeros(3, 8).long(), torch.ones(3, 8))
    (sample,) = told_samples(tokenizer, lambda rng: Teller(POOLS, rng), [answer], 1, "0", open_share=1.0)
    assert sample.token_ids[-3:] == [5, 6, 2]
    assert sample.weights == [0.0] * (len(sample.token_ids) - 3) + [1.0] * 3
