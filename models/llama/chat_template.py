"""Render chat templates in a sandbox and keep users from writing special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.errors import ConfigError, InvalidRequest

_PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
# ImageBind-LLM, LLaMA-Adapter V1 and V2 multimodal; tuned on one turn, later turns repeat the form.
ALPACA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    f"{{% else %}}{_PREAMBLE}{{% endif %}}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '\n\n### Instruction:\n' + message['content'] + '\n\n### Response:' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] }}{% endif %}{% endfor %}"
)
# V2 chat, the format whose replies end at the end-of-text token.
BAIR_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + ' ' }}"
    "{% else %}{{ 'BEGINNING OF CONVERSATION: ' }}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'USER: ' + message['content'] + ' GPT:' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
# V2 chat, the format whose replies end at a mark in the text; its preset system text and turns are the caller's.
HUMAN_STOP = "###"
HUMAN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    f"{{{{ 'Human: ' + message['content'] + '{HUMAN_STOP}Assistant:' }}}}"
    "{% elif message['role'] == 'assistant' %}"
    f"{{{{ ' ' + message['content'] + '{HUMAN_STOP}' }}}}"
    f"{{% else %}}{{{{ message['content'] + '{HUMAN_STOP}' }}}}{{% endif %}}{{% endfor %}}"
)

_FIRST_STAND_IN, _LAST_STAND_IN = 0x100000, 0x10FFFD


class ChatTemplate:
    """One Jinja chat template with the names of its special tokens, rendered as transformers renders it."""

    def __init__(self, source: str, special_names: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._special_names = dict(special_names)
        self.takes_tools = "tools" in source and "<tool_call>" in source
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template is no valid Jinja: {error}") from error

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the prompt of `messages`, ending where the assistant's turn begins.

        `tools` are only for a template that `takes_tools`: it writes them and their calls in `<tool_call>` tags.
        Raises `InvalidRequest` when the template refuses the messages, such as two user turns in a row.
        """
        turns = [dict(message) for message in messages]
        try:
            return self._template.render(
                messages=turns, tools=list(tools) or None, add_generation_prompt=True, **self._special_names
            )
        except jinja2.TemplateError as error:
            sentence = f"the model's chat template refuses these messages: {error}"
            raise InvalidRequest(sentence, param="messages") from error


class SpecialTextGuard:
    """Messages in which the text of special tokens is swapped for characters nobody wrote, and the way back.

    The template then sees ordinary text, so the special tokens in what it renders are all its own.
    """

    def __init__(
        self,
        special_texts: Iterable[str],
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        written = "".join(_strings([*messages, *tools]))
        present = sorted((text for text in special_texts if text in written), key=len, reverse=True)
        codes = (code for code in range(_FIRST_STAND_IN, _LAST_STAND_IN) if chr(code) not in written)
        self._stand_ins = dict(zip(present, map(chr, codes), strict=False))
        self.messages: list[dict[str, Any]] = self._swap(list(messages))
        self.tools: list[dict[str, Any]] = self._swap(list(tools))

    @property
    def needed(self) -> bool:
        """Whether any message holds the text of a special token."""
        return bool(self._stand_ins)

    def restore(self, rendered: str) -> str:
        """Return `rendered` with the swapped texts back in place."""
        for text, stand_in in self._stand_ins.items():
            rendered = rendered.replace(stand_in, text)
        return rendered

    def _swap(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._swap(name): self._swap(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._swap(inner) for inner in value]
        if isinstance(value, str):
            for text, stand_in in self._stand_ins.items():
                value = value.replace(text, stand_in)
        return value


def _strings(value: Any) -> Iterator[str]:
    """Yield every string inside nested messages and tools, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
