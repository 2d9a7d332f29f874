"""`bindchat bench` against a real server: every kind of medium, times, failures, and the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from core.errors import InvalidRequest
from server.cli import app
from server.load_test.measure import Measurement
from server.load_test.summary import summarize
from server.load_test.traffic import KINDS, ChatMaker, TrafficPlan, parse_mix
from tests.support.live_server import LiveServer, live_server, picture

EVEN = ",".join(KINDS)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def bench(server: LiveServer, *arguments: str) -> Result:
    always = ["bench", "--url", server.url, "--max-tokens", "4", "--field", "ignore_eos=true", "--warm-up", "0"]
    return CliRunner().invoke(app, [*always, *arguments])


def test_every_kind_is_asked_answered_and_counted(server: LiveServer, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    options = ("--mix", EVEN, "--requests", "15", "--rate", "200", "--seed", "1", "--json", "--html", str(report))
    result = bench(server, *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert (found["answered"], found["failed"], found["errors"]) == (15, 0, {})
    assert found["by_kind"].keys() == {*KINDS}
    assert found["completion_tokens"] == 15 * 4
    for waits in ("first_token_ms", "inter_token_ms", "total_ms"):
        values = [found[waits][name] for name in ("p50", "p90", "p95", "p99", "max")]
        assert values == sorted(values)
    assert found["test"]["model"] == "tiny"
    page = report.read_text()
    assert page.count("<svg") == 2
    assert page.count("<circle") == 15
    assert re.findall(r"(?:src|href)=|https?://(?!127\.0\.0\.1)", page) == []


def test_a_table_is_shown_without_json(server: LiveServer) -> None:
    result = bench(server, "--requests", "3", "--mix", "text")
    assert result.exit_code == 0, result.output
    assert re.search(r"^\s*all\s+3\s+0", result.stdout, re.MULTILINE)
    assert "tokens/s" in result.stdout


def test_files_of_ones_own_take_the_place_of_made_up_media(server: LiveServer, tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken.png", tmp_path / "whole.png"
    broken.write_bytes(picture()[:50])
    whole.write_bytes(picture())
    options = ("--requests", "4", "--json", "--image", str(whole), "--image", str(broken))
    result = bench(server, *options)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["answered"], found["errors"]) == (2, {"422 media_undecodable": 2})


def test_what_cannot_be_tested_ends_with_one_sentence(server: LiveServer) -> None:
    refused = bench(server, "--mix", "smell")
    assert (refused.exit_code, "smell" in refused.output) == (2, True)
    nobody = CliRunner().invoke(app, ["bench", "--url", "http://127.0.0.1:1", "--requests", "1"])
    assert (nobody.exit_code, "--url" in nobody.output) == (2, True)


def test_a_seed_decides_kinds_times_and_media() -> None:
    plan, other = (TrafficPlan(mix=parse_mix("text=1,image=3"), rate_per_s=5, seed=seed) for seed in (1, 2))
    assert plan.kinds() == TrafficPlan(mix=parse_mix("text=1,image=3"), seed=1).kinds() != other.kinds()
    assert plan.arrivals_s() == sorted(plan.arrivals_s())
    assert plan.arrivals_s() != other.arrivals_s()
    bodies = [ChatMaker(plan, "m").body("image", number) for number in (1, 1, 2)]
    assert bodies[0] == bodies[1] != bodies[2]


@pytest.mark.parametrize("mix", ["image=-1", "image=0", "image=x", "image,image", ""])
def test_a_mix_that_is_none_is_refused(mix: str) -> None:
    with pytest.raises(InvalidRequest, match="--mix"):
        parse_mix(mix)


def test_failures_are_counted_and_their_times_are_not() -> None:
    good = [Measurement(kind="text", due_s=0, first_token_s=0.1, total_s=i, num_tokens=5) for i in (1, 3)]
    bad = Measurement(kind="image", due_s=0, total_s=100, error="429 overloaded")
    found = summarize([*good, bad])
    assert (found["answered"], found["failed"], found["errors"]) == (2, 1, {"429 overloaded": 1})
    assert found["total_ms"]["max"] == 3000
    assert found["by_kind"]["image"]["total_ms"] is None
    assert found["completion_tokens_per_s"] == pytest.approx(10 / 100)
