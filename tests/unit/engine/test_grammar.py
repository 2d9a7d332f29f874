from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.types import Grammar
from engine.decoding.grammar import GrammarCompiler
from tests.support.tiny_engine import TOKENIZER, collect, decode_request, generated_ids, running_backend, tiny_bundle

pytestmark = pytest.mark.anyio


def schema(value: dict[str, Any]) -> Grammar:
    return Grammar(kind="json_schema", source=json.dumps(value), param="response_format")


def regex(pattern: str) -> Grammar:
    return Grammar(kind="regex", source=pattern, param="regex")


def a_record(**properties: dict[str, Any]) -> dict[str, Any]:
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


LEAVES = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "null"},
        {"type": "integer", "minimum": -20, "maximum": 300},
        {"enum": ["red", 'quo"te', 7, None]},
        {"type": "string", "maxLength": 5},
        {"type": "string", "pattern": "^[a-z]{2,4}$"},
        {"const": {"fixed": [1, 2]}},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "minItems": 1, "maxItems": 2}, inner),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(lambda fields: a_record(**fields)),
    ),
    max_leaves=4,
)


def matches(value: Any, wanted: dict[str, Any]) -> bool:
    """Validate the keywords that `SCHEMAS` uses."""
    if "enum" in wanted or "const" in wanted:
        return value in wanted.get("enum", [wanted.get("const")])
    kinds = {"boolean": bool, "null": type(None), "integer": int, "string": str, "array": list, "object": dict}
    if type(value) is not kinds[wanted["type"]]:
        return False
    if wanted["type"] == "integer":
        return bool(wanted["minimum"] <= value <= wanted["maximum"])
    if wanted["type"] == "string":
        return len(value) <= wanted.get("maxLength", 99) and bool(re.search(wanted.get("pattern", ""), value))
    if wanted["type"] == "array":
        return 1 <= len(value) <= 2 and all(matches(item, wanted["items"]) for item in value)
    if wanted["type"] == "object":
        return set(value) == set(wanted["properties"]) and all(
            matches(value[k], s) for k, s in wanted["properties"].items()
        )
    return True


@settings(max_examples=12, deadline=None)
@given(cases=st.lists(st.tuples(SCHEMAS, st.integers(0, 99)), min_size=3, max_size=3))
def test_random_weights_write_json_that_parses_and_validates(cases: list[tuple[dict[str, Any], int]]) -> None:
    async def replies() -> list[str]:
        async with running_backend(tiny_bundle()) as backend:
            requests = [
                decode_request(
                    f"r{i}", temperature=1.0, seed=seed, max_tokens=2000, ignore_eos=False, grammar=schema(s)
                )
                for i, (s, seed) in enumerate(cases)
            ]
            results = await asyncio.gather(*(collect(backend, request) for request in requests))
        assert {events[-1].finish for events in results} == {"stop"}
        return ["".join(event.text for event in events) for events in results]

    for (wanted, _), text in zip(cases, asyncio.run(replies()), strict=True):
        assert matches(json.loads(text), wanted), (wanted, text)


@pytest.mark.parametrize("pattern", [r"[0-9]{3}-[a-f]{2}", "yes|no|maybe", "é{2}ß", "a?", r"\x{2603}\U0001F600|\{"])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
async def test_a_reply_matches_its_expression_whole(pattern: str, temperature: float) -> None:
    async with running_backend(tiny_bundle()) as backend:
        request = decode_request("r", temperature=temperature, seed=1, ignore_eos=False, grammar=regex(pattern))
        events = await collect(backend, request)
    pattern = pattern.replace(r"\x{2603}", r"\u2603")  # Rust's spelling and Python's
    assert re.fullmatch(pattern, "".join(event.text for event in events))
    assert events[-1].finish == "stop"


async def test_a_grammar_leaves_its_neighbours_and_the_log_probabilities_alone() -> None:
    async with running_backend(tiny_bundle()) as backend:
        plain = await collect(backend, decode_request("plain", max_tokens=20, num_logprobs=2))
        guided = decode_request("g", max_tokens=20, ignore_eos=False, grammar=regex("[xyz]{20}"), num_logprobs=2)
        beside, held = await asyncio.gather(
            collect(backend, decode_request("beside", max_tokens=20, num_logprobs=2)), collect(backend, guided)
        )
    assert [event.token_id for event in beside] == [event.token_id for event in plain]
    assert held[0].logprob <= held[0].most_likely[0].logprob
    assert held[0].most_likely[0].token_id == plain[0].token_id


async def test_max_tokens_and_stop_strings_may_cut_a_guided_reply() -> None:
    bias = ((TOKENIZER.encode("y")[0], 50.0),)
    async with running_backend(tiny_bundle()) as backend:
        options: dict[str, Any] = {"ignore_eos": False, "grammar": regex("[xyz]{9}"), "logit_bias": bias}
        short = await collect(backend, decode_request("short", max_tokens=4, **options))
        exact = await collect(backend, decode_request("exact", max_tokens=9, **options))
        cut = await collect(backend, decode_request("cut", max_tokens=20, stop=("yyyy",), **options))
        again = await generated_ids(backend, decode_request("again", max_tokens=9, **options))
    assert (len(short), short[-1].finish) == (4, "length")
    assert (len(exact), exact[-1].finish) == (9, "stop")
    assert ("".join(event.text for event in cut), cut[-1].finish) == ("", "stop")
    assert again == [event.token_id for event in exact]


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (schema({"not": {"type": "string"}}), "not"),
        (schema({"type": "string", "format": "postcode"}), "postcode"),
        (schema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum"),
        (schema({"$ref": "https://example.org/schema"}), "not present"),
        (schema({"$ref": "#"}), "cannot be honoured"),
        (schema({"x-guidance": {"lenient": True}, "not": {}}), "not"),
        (schema({"type": "string", "minLength": 10**6}), "at most 10000"),
        (schema({"type": "string", "pattern": "(a{500}){500}"}), "10000 times"),
        (schema({"type": "object", "patternProperties": {"a{99999}": {}}}), "10000 times"),
        (schema({"enum": ["x" * 70_000]}), "at most 65536"),
        (regex("(a"), "unclosed group"),
        (regex("(?=a)b"), "look-ahead"),
        (regex("((a{1000}){1000}){1000}"), "10000 times"),
        (regex(r"\\x{10001}"), "10000 times"),
    ],
)
async def test_a_grammar_that_cannot_be_followed_exactly_is_refused(grammar: Grammar, reason: str) -> None:
    compiler = GrammarCompiler(TOKENIZER)
    with pytest.raises(InvalidRequest, match=reason) as refused:
        await compiler.guide(grammar)
    compiler.close()
    assert refused.value.param == grammar.param


async def test_a_deeply_nested_schema_is_refused_before_it_is_compiled() -> None:
    nested: dict[str, Any] = {}
    for _ in range(200):
        nested = {"type": "array", "items": nested}
    with pytest.raises(InvalidRequest, match="deeper than 32"):
        await GrammarCompiler(TOKENIZER).guide(schema(nested))


@pytest.mark.parametrize("clash", [{"ignore_eos": True}, {"ignore_eos": False, "min_tokens": 2}])
def test_a_grammar_and_a_forced_length_exclude_each_other(clash: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="leave ignore_eos and min_tokens out"):
        decode_request("r", grammar=regex("a+"), **clash)
