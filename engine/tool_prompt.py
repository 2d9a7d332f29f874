"""Tools in the prompt: as the model's own template takes them, else in Hermes form in the system turn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.types import ChatMessage, Tokenizer, Tool
from engine.decoding.tool_calls import CLOSE, OPEN

_INSTRUCTION = """You may call functions to help with the question. Their signatures are JSON between <tools> tags:
<tools>
{signatures}
</tools>
To call a function, write a JSON object with its name and arguments between tool_call tags:
{open}
{{"name": "NAME", "arguments": {{...}}}}
{close}"""


def turns_with_tools(
    tokenizer: Tokenizer, messages: Sequence[ChatMessage], tools: Sequence[Tool]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the turns for a chat template, and the tools it renders itself (none when they are in the turns)."""
    signatures = [_signature(tool) for tool in tools]
    if tokenizer.takes_tools:
        return [_native_turn(message) for message in messages], signatures
    turns = _merged([_plain_turn(message) for message in messages])
    if not signatures:
        return turns, []
    written = "\n".join(json.dumps(signature, ensure_ascii=False) for signature in signatures)
    instruction = _INSTRUCTION.format(signatures=written, open=OPEN, close=CLOSE)
    if turns and turns[0]["role"] == "system":
        first = {"role": "system", "content": f"{turns[0]['content']}\n\n{instruction}"}
        return [first, *turns[1:]], []
    return [{"role": "system", "content": instruction}, *turns], []


def _signature(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def _native_turn(message: ChatMessage) -> dict[str, Any]:
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": message.text} | ({"tool_calls": calls} if calls else {})


def _plain_turn(message: ChatMessage) -> dict[str, Any]:
    """Write calls and answers out as text; the answer of a function comes back in a user's turn."""
    if message.role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.text}\n</tool_response>", "is_answer": True}
    calls = [
        f'{OPEN}\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n{CLOSE}' for call in message.tool_calls
    ]
    return {"role": message.role, "content": "\n".join([*filter(None, [message.text]), *calls])}


def _merged(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join the answers of parallel calls, which follow each other, to one turn."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and turn.get("is_answer") and merged[-1].get("is_answer"):
            merged[-1]["content"] += "\n" + turn["content"]
        else:
            merged.append(dict(turn))
    return [{"role": turn["role"], "content": turn["content"]} for turn in merged]
