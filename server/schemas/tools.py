"""Tools of a chat: the functions a reply may call, which it must call, and the calls of earlier turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from core.errors import InvalidRequest
from core.types import Tool
from server.schemas.parts import EdgeModel

if TYPE_CHECKING:
    from server.schemas.chat import Message

MAX_TOOLS = 128
OPEN_KEYWORDS = {"additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "not", "$ref", "if"}
"""Where one of these stands, only the schema itself says which arguments there may be besides `properties`."""
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(EdgeModel):
    """A function; its arguments follow `parameters` exactly whether `strict` is set or not."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def tool(self, param: str) -> Tool:
        """Return the engine's form. Raises `InvalidRequest` for a schema whose values are no objects."""
        schema = {"type": "object", **(self.parameters or {"properties": {}})}
        if schema["type"] != "object":
            raise InvalidRequest(f"{param}.parameters must be a schema of type object", param=f"{param}.parameters")
        if "properties" in schema and not schema.keys() & OPEN_KEYWORDS:
            schema["additionalProperties"] = False  # what a schema leaves open, no function has a parameter for
        return Tool(name=self.name, parameters=json.dumps(schema), description=self.description or "")


class FunctionTool(EdgeModel):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(EdgeModel):
    name: str


class NamedTool(EdgeModel):
    """One function by name."""

    type: Literal["function"]
    function: FunctionName


class AllowedToolNames(EdgeModel):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1)


class AllowedTools(EdgeModel):
    """Some of the request's tools; the prompt describes only these."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolNames


def _choice_kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "a word"
    return "some tools" if value.get("type") == "allowed_tools" else "one tool"


CHOICE_KINDS = frozenset({"a word", "one tool", "some tools"})
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a word")]
    | Annotated[NamedTool, Tag("one tool")]
    | Annotated[AllowedTools, Tag("some tools")],
    Discriminator(_choice_kind),
]


class CalledFunction(EdgeModel):
    name: ToolName
    arguments: str


class MessageToolCall(EdgeModel):
    """A call of an earlier assistant turn, as the answer brought it."""

    id: str = Field(min_length=1)
    type: Literal["function"]
    function: CalledFunction


def asked_tools(
    tools: Sequence[FunctionTool], choice: ToolChoice | None
) -> tuple[tuple[Tool, ...], Literal["auto", "required"]]:
    """Return the tools that may be called, none when `choice` says so, and whether one of them must be.

    Raises `InvalidRequest` for a name given twice and for a choice among tools that are not there.
    """
    known: dict[str, Tool] = {}
    for place, tool in enumerate(tools):
        if tool.function.name in known:
            raise InvalidRequest(f"two tools are named {tool.function.name}; names must differ", param="tools")
        known[tool.function.name] = tool.function.tool(f"tools[{place}].function")
    if choice is None or choice == "auto" or choice == "none":
        return (() if choice == "none" else tuple(known.values())), "auto"
    if not known:
        raise InvalidRequest("tool_choice needs tools; send them or leave it out", param="tool_choice")
    if choice == "required":
        return tuple(known.values()), "required"
    if isinstance(choice, NamedTool):
        return (_named(known, choice.function.name),), "required"
    names = [tool.function.name for tool in choice.allowed_tools.tools]
    return tuple(_named(known, name) for name in dict.fromkeys(names)), choice.allowed_tools.mode


def check_answers(messages: Sequence[Message]) -> None:
    """Raise `InvalidRequest` for the answer of a function that no turn before it called, and for broken arguments."""
    called: set[str] = set()
    for place, message in enumerate(messages):
        path = f"messages[{place}]"
        for number, call in enumerate(message.tool_calls or ()):
            called.add(call.id)
            _check_arguments(call.function.arguments, f"{path}.tool_calls[{number}].function.arguments")
        if message.role == "tool" and message.tool_call_id not in called:
            raise InvalidRequest(
                f"{path}.tool_call_id names no call of an assistant turn before it", param=f"{path}.tool_call_id"
            )


def _check_arguments(text: str, param: str) -> None:
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise InvalidRequest(f"{param} must be a JSON object as text", param=param)


def _named(known: dict[str, Tool], name: str) -> Tool:
    if name not in known:
        raise InvalidRequest(f"tool_choice names {name[:64]!r}, and tools hold {', '.join(known)}", param="tool_choice")
    return known[name]
