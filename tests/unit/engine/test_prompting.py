from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import PromptTooLong
from core.types import AdapterPrompt, BindScope, ChatMessage, ChatRequest, MediaBlob, Modality, SamplingParams
from engine.prompting import PromptBuilder, conversation_key, media_in_scope
from models.bundle import ModelBundle
from models.tiny import load_tiny

WITH_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}[system]be kind[end]{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}[end]{% endfor %}[assistant]"
)
WITHOUT_SYSTEM = WITH_DEFAULT_SYSTEM.partition("{% endif %}")[2]


def bundle() -> ModelBundle:
    tiny = load_tiny(torch.float32)
    tokenizer = tiny.tokenizer.with_template(WITH_DEFAULT_SYSTEM)  # type: ignore[attr-defined]
    conditioned = tiny.tokenizer.with_template(WITHOUT_SYSTEM)  # type: ignore[attr-defined]
    return replace(tiny, tokenizer=tokenizer, conditioned_tokenizer=conditioned)


def picture(name: str) -> MediaBlob:
    return MediaBlob(modality=Modality.IMAGE, container="png", data=b"", sha256=name)


def request(*messages: ChatMessage, max_tokens: int = 10, scope: BindScope = "latest") -> ChatRequest:
    return ChatRequest(
        request_id="r", model="tiny", messages=messages, sampling=SamplingParams(max_tokens=max_tokens), scope=scope
    )


def rendered(model: ModelBundle, chat: ChatRequest) -> str:
    return model.tokenizer.decode(PromptBuilder(model, max_context=1000).build(chat))


def test_text_alone_renders_as_the_base_models_template_says() -> None:
    chat = request(ChatMessage(role="user", text="hi"))
    assert rendered(bundle(), chat) == "[system]be kind[end][user]hi[end][assistant]"


def test_a_prompt_with_media_leaves_the_default_system_turn_out() -> None:
    chat = request(ChatMessage(role="user", text="what?", media=(picture("a"),)))
    assert rendered(bundle(), chat) == "[user]what?[end][assistant]"


def test_a_system_message_of_the_client_stays_with_media() -> None:
    chat = request(
        ChatMessage(role="system", text="be brief"), ChatMessage(role="user", text="what?", media=(picture("a"),))
    )
    assert rendered(bundle(), chat) == "[system]be brief[end][user]what?[end][assistant]"


def test_a_model_without_a_second_template_renders_media_prompts_alike() -> None:
    model = replace(bundle(), conditioned_tokenizer=None)
    chat = request(ChatMessage(role="user", text="what?", media=(picture("a"),)))
    assert rendered(model, chat).startswith("[system]be kind")


def test_the_latest_user_message_with_media_conditions_the_reply() -> None:
    messages = (
        ChatMessage(role="user", text="one", media=(picture("a"),)),
        ChatMessage(role="user", text="two", media=(picture("b"), picture("c"))),
        ChatMessage(role="assistant", text="ok"),
        ChatMessage(role="user", text="and?"),
    )
    assert [blob.sha256 for blob in media_in_scope(messages, "latest")] == ["b", "c"]
    assert [blob.sha256 for blob in media_in_scope(messages, "all")] == ["a", "b", "c"]
    assert media_in_scope(messages[2:], "latest") == ()


def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers() -> None:
    chat = request(ChatMessage(role="user", text="hi"), max_tokens=60)
    builder = PromptBuilder(replace(bundle(), conditioned_tokenizer=None), max_context=100)
    length = len(builder.token_ids(chat))
    with pytest.raises(PromptTooLong, match=rf"{length} tokens .* is 60, .* 100 tokens"):
        builder.build(chat)
    builder.max_context = length + 60
    assert len(builder.build(chat)) == length


def test_every_turn_of_a_conversation_has_one_key_and_others_have_their_own() -> None:
    opening = (ChatMessage(role="system", text="be brief"), ChatMessage(role="user", text="what is this?"))
    later = (*opening, ChatMessage(role="assistant", text="a cat"), ChatMessage(role="user", text="is it old?"))
    seen, other = (AdapterPrompt(prompts=np.full((2, 1, 4), value, dtype=np.float32)) for value in (1, 2))
    key = conversation_key(request(*opening), seen)
    assert conversation_key(request(*later, max_tokens=3), seen) == key
    different = [
        conversation_key(request(*opening), other),
        conversation_key(request(*opening), None),
        conversation_key(request(opening[1]), seen),
        conversation_key(request(opening[0], later[3]), seen),
        conversation_key(replace(request(*opening), tenant="somebody"), seen),
    ]
    assert len({key, *different}) == 6


def test_raw_prompts_that_continue_each_other_have_one_key() -> None:
    begun = replace(request(), raw_prompts=(tuple(range(40)),))
    longer, different = (replace(request(), raw_prompts=(ids,)) for ids in (tuple(range(60)), tuple(range(1, 41))))
    assert conversation_key(begun, None) == conversation_key(longer, None)
    assert conversation_key(begun, None) != conversation_key(different, None)
