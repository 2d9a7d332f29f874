"""The `bindchat` command and its subcommands; docs/cli.md is made from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from server import __version__
from server.app import create_app
from server.commands.api_commands import print_openapi
from server.commands.batch_commands import batch_app
from server.commands.bench_commands import bench
from server.commands.cache_commands import cache_app
from server.commands.chat_commands import chat
from server.commands.embed_commands import embed
from server.commands.errors import fail, one_sentence_errors
from server.commands.eval_commands import eval_app
from server.commands.key_commands import keys_app
from server.commands.train_command import train
from server.configuration import SettingRow, configure, flags_of, load_settings, pairs_of
from server.context import AppContext
from server.doctor import examine
from server.logs import configure_logging
from server.runner import ChatServer
from server.settings import Settings
from server.wiring import build_service, damaged_files

SAMPLE = Path("docs/samples/cat.jpg")

app = typer.Typer(
    epilog="Exit codes: 0 done, 1 it ran and something failed, 2 the command or its settings are wrong.",
    no_args_is_help=True,
)
app.add_typer(batch_app, name="batch")
app.add_typer(cache_app, name="cache")
app.add_typer(eval_app, name="eval")
app.add_typer(keys_app, name="keys")
app.command(
    "train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(train)
console = Console(highlight=False, soft_wrap=True, markup=False)

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; --print-config lists them.")
]
ConfigOption = Annotated[Path | None, typer.Option(help="A TOML file of settings; else BINDCHAT_CONFIG names one.")]
ModelOption = Annotated[str | None, typer.Option(help="The model to serve: a name, or a converted folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"bindchat {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version, and leave.")
    ] = False,
) -> None:
    """BindChat: chat with pictures, sounds, films and shapes."""


class WeightType(StrEnum):
    """The precisions a decoder can be written in."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(  # noqa: PLR0913 (every option of a command is a parameter)
    ctx: typer.Context,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    model: ModelOption = None,
    log_dir: Annotated[Path | None, typer.Option(help="The folder of the log.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="Made by `bindchat keys add`; SIGHUP reloads it.")] = None,
    allow_unauthenticated: Annotated[
        bool | None, typer.Option("--allow-unauthenticated", help="Let a whole network in without a key.")
    ] = None,
    allow_remote_media: Annotated[
        bool | None, typer.Option("--allow-remote-media", help="Fetch media from public addresses.")
    ] = None,
    media_domain: Annotated[
        list[str] | None, typer.Option(help="Fetch only from this domain and below; may repeat.")
    ] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds that requests get after SIGTERM.")] = None,
    set_: SetOption = None,
    print_config: Annotated[bool, typer.Option(help="Show every setting with its source, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Show them as JSON.")] = False,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C. Any other setting is an option too: --max-slots 8."""

    def announce_end_of_load(context: AppContext, load_s: float) -> None:
        if context.load_error is None:
            console.print(f"{settings.model} is ready after {load_s:.1f} s")
        else:
            server.should_exit = True

    with one_sentence_errors():
        named = {name: value for name, value in ctx.params.items() if name in Settings.model_fields}
        named |= {"media_domains": media_domain and tuple(media_domain), "drain_timeout_s": drain_timeout}
        configuration = configure({**named, **pairs_of(set_ or []), **flags_of(ctx.args)}, file=config)
        settings = configuration.settings
        if print_config:
            _print_config(configuration.rows, as_json=as_json)
            return
        log_path = configure_logging(settings.log_dir, settings.log_level)
        server = ChatServer(
            create_app(settings, build_service, announce_end_of_load),
            on_bound=lambda url: _announce_address(settings, url, log_path),
        )
        server.check_address()
    try:
        server.run()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    if server.context.load_error is not None:
        fail(f"{settings.model} could not be loaded: {server.context.load_error}", exit_code=1)


app.command("chat")(chat)
app.command("embed")(embed)
app.command("bench")(bench)


@app.command()
def doctor(
    model: ModelOption = None,
    as_json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Say what is installed and whether the model answers; exit code 1 when something is broken."""
    with one_sentence_errors():
        settings = load_settings({"model": model, **pairs_of(set_ or [])})
    findings = examine(settings, build_service, damaged_files)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{'ok' if finding.ok else 'BROKEN':<7} {finding.name:<24} {finding.text}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A known model, or OWNER/NAME of a LLaMA repository.")],
    to: Annotated[Path, typer.Option(help="The folder to write; run it again to go on after a stop.")],
    accept_licence: Annotated[bool, typer.Option(help="You have read the licence and agree.")] = False,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit; without it, the latest.")] = None,
    as_json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Fetch released weights, verify them, and show the licence they come under."""
    from models.pull import PullRequest
    from models.pull import pull as fetch

    with one_sentence_errors(), Progress(console=Console(stderr=True)) as bars:
        shown: dict[str, TaskID] = {}

        def draw(file_name: str, done_bytes: int, total_bytes: int) -> None:
            if file_name not in shown:
                shown[file_name] = bars.add_task(file_name)
            bars.update(shown[file_name], completed=done_bytes, total=total_bytes or None)

        pulled = fetch(
            PullRequest(
                name=name,
                target=to,
                accept_licence=accept_licence,
                endpoint=load_settings(pairs_of(set_ or [])).hub_endpoint,
                revision=revision,
                meter=draw,
            ),
            lambda line: bars.console.print(line, markup=False, highlight=False),
        )
    if as_json:
        typer.echo(json.dumps([asdict(file) for file in pulled], indent=2))
    else:
        typer.echo(f"{len(pulled)} files of {name} are in {to}")


@app.command()
def convert(  # noqa: PLR0913 (every option of a command is a parameter)
    target: Annotated[Path, typer.Argument(help="The folder to write; its name becomes the model's name.")],
    family: Annotated[str, typer.Option(help="What the adapter is, for example imagebind_llm.")],
    adapter: Annotated[Path, typer.Option(help="The released adapter file, for example 7B.pth.")],
    base: Annotated[Path, typer.Option(help="The LLaMA: a Hugging Face or Meta folder, or a GGUF file.")],
    encoder: Annotated[Path | None, typer.Option(help="The encoder's file; without it the model takes text.")] = None,
    knn_index: Annotated[Path | None, typer.Option(help="The FAISS file of the model's visual cache.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A folder with tokenizer files, if not beside base.")] = None,
    sizes: Annotated[Path | None, typer.Option(help="JSON with what differs from the released 7B models.")] = None,
    dtype: Annotated[WeightType, typer.Option(help="The precision of the merged decoder.")] = WeightType.FLOAT16,
    as_json: JsonOption = False,
) -> None:
    """Turn released weights into a folder that `serve --model FOLDER` takes; run it again to go on after a stop."""
    from models.convert import ConversionPlan, ConversionSizes
    from models.convert import convert as write_folder
    from models.registry import DTYPES

    with one_sentence_errors(), Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)
        plan = ConversionPlan(
            family=family,
            adapter=adapter,
            base=base,
            target=target,
            name=target.name,
            encoder=encoder,
            knn_index=knn_index,
            tokenizer=tokenizer,
            sizes=ConversionSizes() if sizes is None else ConversionSizes.read(sizes),
            dtype=DTYPES[dtype],
        )
        write_folder(plan, lambda step: bar.update(task, description=step.stage, completed=step.done, total=step.total))
    if as_json:
        typer.echo(json.dumps({"model": target.name, "family": family, "folder": str(target)}, indent=2))
    else:
        typer.echo(f"serve it with: bindchat serve --model {target}")


app.command("openapi")(print_openapi)


def _print_config(rows: Sequence[SettingRow], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({row.name: {"value": row.value, "source": row.source} for row in rows}, indent=2))
        return
    for row in rows:
        typer.echo(f"{row.name:<24} {row.value:<28} {row.source}")


def _announce_address(settings: Settings, address: str, log_path: Path) -> None:
    key = '-H "Authorization: Bearer $KEY" ' if settings.api_keys or settings.api_key_file else ""
    console.print(f"BindChat listens on {address} and loads {settings.model}")
    console.print(f'  curl {address}/v1/chat/completions {key}-F prompt="What is this?" -F image=@{SAMPLE}')
    console.print(f"  logs: {log_path}")


if __name__ == "__main__":
    app()
