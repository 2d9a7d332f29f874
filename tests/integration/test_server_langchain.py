"""LangChain's `ChatOpenAI` against a running server: text, streams, tools and structured output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, SecretStr

from tests.support.live_server import MODEL, LiveServer, data_uri, live_server, picture


class Paint(BaseModel):
    """Paint a wall."""

    colour: Literal["red", "blue"]
    coats: int = Field(ge=1, le=9)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def model(server: LiveServer) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        base_url=f"{server.url}/v1",
        api_key=SecretStr("none"),
        max_completion_tokens=250,
        temperature=1,
        seed=3,
        max_retries=0,
    )


def test_a_picture_is_answered_with_usage(model: ChatOpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": data_uri(picture())}}
    answer = model.invoke([HumanMessage(content=[{"type": "text", "text": "what is this?"}, image])])
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_stream_is_the_whole_answer_in_pieces(model: ChatOpenAI) -> None:
    assert "".join(str(chunk.content) for chunk in model.stream("hello")) == model.invoke("hello").content


def test_a_bound_tool_is_called_and_its_answer_taken(model: ChatOpenAI) -> None:
    painting = model.bind_tools([Paint], tool_choice="Paint")
    question = HumanMessage(content="hello")
    called = painting.invoke([question])
    (call,) = called.tool_calls
    assert Paint(**call["args"])
    after = model.invoke([question, called, ToolMessage(content="done", tool_call_id=call["id"] or "")])
    assert after.tool_calls == []


def test_a_streamed_call_adds_up(model: ChatOpenAI) -> None:
    chunks = list(model.bind_tools([Paint], tool_choice="Paint").stream("hello"))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    (call,) = total.tool_calls
    assert Paint(**call["args"])


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_class(
    model: ChatOpenAI, method: Literal["json_schema", "function_calling"]
) -> None:
    answer = model.with_structured_output(Paint, method=method).invoke("hello")
    assert isinstance(answer, Paint)


@pytest.mark.anyio
async def test_the_asynchronous_client_works_alike(model: ChatOpenAI) -> None:
    assert (await model.ainvoke("hello")).content == model.invoke("hello").content
