"""`bindchat eval text`: the harness asks a real server, and what it computes is the decoder's own likelihood."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.tiny import load_tiny
from server.cli import app
from server.evaluation.text_asker import ServerPlace, TextAsker, TokenScore
from tests.support.live_server import MODEL, LiveServer, live_server
from tests.support.tiny_engine import TOKENIZER

TASK = """
task: facts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
QUESTIONS = (("Cows eat", ["grass", "stones", "lamps"]), ("Rain is", ["red", "wet", "a verb"]))


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def likelihood(question: str, choice: str) -> float:
    """Score by the decoder itself."""
    before, ids = TOKENIZER.encode(question), TOKENIZER.encode(f"{question} {choice}")
    logprobs = load_tiny(torch.float32).decoder.score(torch.tensor([ids])).log_softmax(dim=-1)[0]
    return float(logprobs[range(len(before) - 1, len(ids) - 1), ids[len(before) :]].sum())


def test_scores_are_those_of_every_token_but_the_first(server: LiveServer) -> None:
    ids = TOKENIZER.encode("once upon a time")

    async def ask() -> list[TokenScore]:
        async with TextAsker(ServerPlace(root=f"{server.url}/v1", model=MODEL), lambda count: None) as asker:
            assert await asker.token_ids("once upon a time") == ids
            return await asker.scores(ids)

    scores = asyncio.run(ask())
    logprobs = load_tiny(torch.float32).decoder.score(torch.tensor([ids])).log_softmax(dim=-1)[0]
    assert [score.logprob for score in scores[1:]] == pytest.approx(
        logprobs[range(len(ids) - 1), ids[1:]].tolist(), abs=1e-4
    )
    assert [score.is_likeliest for score in scores[1:]] == (
        logprobs[:-1].argmax(dim=-1) == torch.tensor(ids[1:])
    ).tolist()


@pytest.mark.filterwarnings("default")  # of the harness and what it imports
def test_the_harness_counts_the_choices_that_the_decoder_finds_likeliest(server: LiveServer, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="`make setup-eval` installs lm-evaluation-harness")
    likeliest = [max(range(len(c)), key=lambda i, q=q, c=c: likelihood(q, c[i])) for q, c in QUESTIONS]  # type: ignore[misc]
    answers = [likeliest[0], (likeliest[1] + 1) % 3]  # one is right, one is wrong
    rows = [{"question": q, "choices": c, "answer": a} for (q, c), a in zip(QUESTIONS, answers, strict=True)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "facts.yaml").write_text(TASK.format(file=tmp_path / "facts.jsonl"))
    always = ["eval", "text", "facts", "--folder", str(tmp_path), "--url", server.url, "--json"]
    done = CliRunner().invoke(app, [*always, "--against-url", server.url])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["tasks"]["facts acc"]["model"] == found["tasks"]["facts acc"]["base"] == 0.5
    assert found["harmed"] == []
    unknown = CliRunner().invoke(app, [*always[:2], "riddles", *always[3:]])
    assert (unknown.exit_code, "riddles" in unknown.output) == (2, True)


@pytest.mark.filterwarnings("default")  # of the harness and what it imports
def test_a_task_of_bigbench_counts_the_best_choices_that_the_decoder_finds_likeliest(
    server: LiveServer, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="`make setup-eval` installs lm-evaluation-harness")
    examples = []
    for place, (question, choices) in enumerate(QUESTIONS):
        likeliest = max(choices, key=lambda choice, question=question: likelihood(question, choice))  # type: ignore[misc]
        scores = {choice: float((choice == likeliest) == (place == 0)) for choice in choices}  # the second: all others
        examples.append({"input": question, "target_scores": scores})
    task = {"examples": examples, "append_choices_to_input": False}
    (tmp_path / "facts" / "plain").mkdir(parents=True)
    (tmp_path / "facts" / "task.json").write_text("{}")
    words = {"example_input_prefix": "", "example_output_prefix": " "}
    (tmp_path / "facts" / "plain" / "task.json").write_text(json.dumps(task | words))
    always = ["eval", "text", "--folder", str(tmp_path), "--url", server.url, "--json"]
    done = CliRunner().invoke(app, [*always, "facts/plain"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tasks"]["facts_plain"]["acc"] == 0.5
    whole = CliRunner().invoke(app, [*always, "facts"])
    assert (whole.exit_code, "name one of its parts: facts/plain" in whole.output) == (2, True)
