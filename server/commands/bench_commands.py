"""`bindchat bench`: how fast a server answers mixed traffic, this one or any other that speaks OpenAI's API."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from server.commands.errors import fail, one_sentence_errors
from server.commands.inner_server import own_server
from server.commands.server_options import api_root, first_model, parse_fields, run_facts, write_text
from server.load_test.measure import Measurement, run_load
from server.load_test.report import html_report
from server.load_test.summary import summarize, table
from server.load_test.traffic import ChatMaker, TrafficPlan, parse_mix

UrlOption = Annotated[str | None, typer.Option(help="The server, with or without /v1; else one is started inside.")]
ModelOption = Annotated[str | None, typer.Option(help="The model to ask; without it, the first that is listed.")]
KeyOption = Annotated[str | None, typer.Option(help="The key of that server.", envvar="BINDCHAT_CHAT_KEY")]
RequestsOption = Annotated[int, typer.Option(min=1, help="How many chats to send.")]
RateOption = Annotated[float | None, typer.Option(min=0.001, help="Chats a second, a Poisson process; else no pauses.")]
FlightOption = Annotated[int, typer.Option(min=1, help="Chats open at a time; others wait, and that counts.")]
MixOption = Annotated[str, typer.Option(help="Shares of text, image, audio, video and point_cloud, as text=2,image=1.")]
TokensOption = Annotated[int, typer.Option(min=1, help="The longest answer.")]
PromptOption = Annotated[str | None, typer.Option(help="One question for all; without it, one for each kind.")]
Files = Annotated[list[Path] | None, typer.Option(help="Send this file instead of made-up media; may repeat.")]
RepeatOption = Annotated[bool, typer.Option(help="The same made-up media every time: what a server remembers.")]
FieldOption = Annotated[list[str] | None, typer.Option(metavar="NAME=JSON", help="Any other field of the body.")]
WarmOption = Annotated[int, typer.Option(min=0, help="Chats sent before the test and not counted.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Seconds that one answer may take.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Decides media, kinds and times.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Write a report with plots, one file that needs no other.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]


def bench(  # noqa: PLR0913 (every option of a command is a parameter)
    url: UrlOption = None,
    model: ModelOption = None,
    api_key: KeyOption = None,
    requests: RequestsOption = 100,
    rate: RateOption = None,
    in_flight: FlightOption = 8,
    mix: MixOption = "image",
    max_tokens: TokensOption = 64,
    prompt: PromptOption = None,
    image: Files = None,
    audio: Files = None,
    video: Files = None,
    point_cloud: Files = None,
    repeat_media: RepeatOption = False,
    field: FieldOption = None,
    warm_up: WarmOption = 2,
    timeout: TimeoutOption = 600,
    seed: SeedOption = 0,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load test a server: time to the first token, between tokens and in all, by kind of medium.

    Media are made up and all different, so that no server answers from memory; name files to send your own. With
    --rate, waits are counted from when a chat was due.

    bindchat bench --requests 50 --mix text=2,image=1 --rate 4 --html report.html

    bindchat bench --url http://127.0.0.1:9000 --in-flight 16

    Exit codes: 0 every chat was answered, 1 some failed, 2 the command is wrong or the server cannot be reached.
    """
    with one_sentence_errors(), ExitStack() as stack:
        files = {"image": image, "audio": audio, "video": video, "point_cloud": point_cloud}
        arrivals: dict[str, Any] = {"num_requests": requests, "rate_per_s": rate, "max_in_flight": in_flight}
        bodies: dict[str, Any] = {"max_tokens": max_tokens, "prompt": prompt, "fields": parse_fields(field or [])}
        plan = TrafficPlan(mix=parse_mix(mix), files=files, repeats_media=repeat_media, seed=seed, **arrivals, **bodies)
        test = _LoadTest(api_root(url or stack.enter_context(own_server(model, _terminal()))), api_key, timeout)
        measurements, facts = asyncio.run(test.run(plan, model, warm_up))
        summary = summarize(measurements)
        write_text(html, html_report(facts, summary, measurements))
    _show(summary, facts, as_json=as_json)
    if summary["failed"]:
        fail(f"{summary['failed']} of {summary['requests']} chats failed: {summary['errors']}", exit_code=1)


class _LoadTest:
    """One server under test."""

    def __init__(self, root: str, api_key: str | None, timeout_s: float) -> None:
        self._root = root
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._options: dict[str, Any] = {"base_url": root, "headers": headers, "timeout": timeout_s, "limits": limits}

    async def run(
        self, plan: TrafficPlan, model: str | None, num_warm_up: int
    ) -> tuple[list[Measurement], dict[str, Any]]:
        """Return every measurement, and what to tell a reader about the test."""
        async with httpx.AsyncClient(**self._options) as client:
            name = model or await first_model(client)
            maker = ChatMaker(plan, name)
            kinds = [kind for kind, share in plan.mix.items() if share > 0]
            warm = TrafficPlan(
                mix=dict.fromkeys(kinds, 1.0), num_requests=num_warm_up, seed=plan.seed + 10**6, fields=plan.fields
            )
            await run_load(client, warm, ChatMaker(warm, name), lambda measured: None)
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, console=_terminal()) as bars:
                bar = bars.add_task("chats", total=plan.num_requests)
                measurements = await run_load(client, plan, maker, lambda measured: bars.advance(bar))
        return measurements, _facts(plan, self._root, name)


def _terminal() -> Console:
    """Return where progress is shown, which is not where results are written."""
    return Console(stderr=True, highlight=False)


def _facts(plan: TrafficPlan, root: str, model: str) -> dict[str, Any]:
    return {
        **run_facts(root, model),
        "mix": ", ".join(f"{kind} {share:g}" for kind, share in plan.mix.items()),
        "arrivals": "as soon as one may be open"
        if plan.rate_per_s is None
        else f"Poisson, {plan.rate_per_s:g} a second",
        "in flight": plan.max_in_flight,
        "max_tokens": plan.max_tokens,
        "seed": plan.seed,
    }


def _show(summary: dict[str, Any], facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"test": facts, **summary}, indent=2))
        return
    header, *rows = table(summary)
    shown = Table(*header, box=None)
    for row in rows:
        shown.add_row(*row)
    Console(width=160).print(shown)
    typer.echo(
        f"{summary['requests_per_s']} requests/s, {summary['completion_tokens_per_s']} tokens/s "
        f"over {summary['duration_s']} s"
    )
