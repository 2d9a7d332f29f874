"""`bindchat cache`: build, change and look into indexes of the visual cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from core.errors import AppError
from server.commands.errors import one_sentence_errors
from server.configuration import load_settings
from server.wiring import build_file_embedder

cache_app = typer.Typer(help="Indexes of the visual cache.", no_args_is_help=True)

IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="The folder of an index.")]
ModelOption = Annotated[str | None, typer.Option(help="The model whose encoders embed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
KindOption = Literal["auto", "flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"]


@cache_app.command()
def build(  # noqa: PLR0913 (every option of a command is a parameter)
    source: Annotated[Path, typer.Argument(help="A folder of media, or embeddings: .npy or .safetensors.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    model: ModelOption = None,
    kind: Annotated[KindOption, typer.Option(help="auto: by size and memory.")] = "auto",
    memory_gb: Annotated[float, typer.Option(help="The memory a server may spend on the index.")] = 4.0,
    workers: Annotated[int, typer.Option(help="Parts of a folder embedded at once.", min=1)] = 2,
    as_json: JsonOption = False,
) -> None:
    """Make an index; run it again to go on after a stop. An index already at --out is replaced when the new is whole.

    Embeddings are taken to be those of --model; a .jsonl beside them gives {"file", "caption", "label"} per row.
    """
    from cache_index.build import EmbeddingFile, build_index
    from engine.encoding.folder import embed_folder

    with one_sentence_errors(), build_file_embedder(load_settings({"model": model})) as embed, _progress() as progress:
        made, array = None, source
        if source.is_dir():
            made = embed_folder(source, out, embed, encoder_id=embed.encoder_id, num_workers=workers, progress=progress)
            array = made.array
        manifest = build_index(
            EmbeddingFile(array),
            out,
            encoder_id=embed.encoder_id,
            progress=progress,
            kind=None if kind == "auto" else kind,
            memory_budget_bytes=int(memory_gb * 2**30),
        )
        if made is not None:
            shutil.rmtree(made.array.parent)
    skipped = list(made.skipped) if made else []
    for sentence in skipped:
        typer.echo(f"left out {sentence}", err=True)
    facts = {"index": str(out), "items": manifest.count, "width": manifest.dimension, "left_out": skipped}
    words = f"{out}: {manifest.count} items of width {manifest.dimension}, {manifest.segments[0].kind}"
    typer.echo(json.dumps(facts) if as_json else words)


@cache_app.command()
def add(
    index: IndexArgument,
    files: Annotated[list[Path], typer.Argument(help="The files to embed and add.")],
    caption: Annotated[str | None, typer.Option(help="The caption of each.")] = None,
    label: Annotated[str | None, typer.Option(help="The label of each.")] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add files; a running server sees them at its next request. Nothing is added when one cannot be embedded."""
    import numpy as np

    from cache_index.reader import ItemMetadata
    from cache_index.store import IndexStore
    from engine.encoding.folder import looks_of

    with one_sentence_errors(), build_file_embedder(load_settings({"model": model})) as embed:
        rows = []
        for path, outcome in zip(files, embed(files), strict=True):
            if isinstance(outcome, AppError):
                raise type(outcome)(f"{path}: {outcome.message}")
            rows.append(outcome)
        items = [ItemMetadata(file=str(path), caption=caption, label=label, extra=looks_of(path)) for path in files]
        ids = IndexStore(index).add(np.stack(rows), items, encoder_id=embed.encoder_id)
    added = [{"id": item, "file": str(path)} for item, path in zip(ids, files, strict=True)]
    typer.echo(json.dumps(added) if as_json else "\n".join(f"{row['id']}\t{row['file']}" for row in added))


@cache_app.command()
def remove(
    index: IndexArgument,
    ids: Annotated[list[int], typer.Argument(help="Ids, as a search shows them.")],
    as_json: JsonOption = False,
) -> None:
    """Remove items by id; none when one of the ids is not there."""
    from cache_index.store import IndexStore

    with one_sentence_errors():
        num_removed = IndexStore(index).remove(ids)
    typer.echo(json.dumps({"removed": num_removed}) if as_json else f"removed {num_removed}")


@cache_app.command()
def info(index: IndexArgument, as_json: JsonOption = False) -> None:
    """Show what an index holds, and check its files against their checksums."""
    from cache_index.manifest import read_manifest, verify_files

    with one_sentence_errors():
        manifest = read_manifest(index)
        verify_files(index, manifest)
    facts = {
        "encoder": manifest.encoder_id,
        "items": manifest.count,
        "width": manifest.dimension,
        "metric": manifest.metric,
        "types": ", ".join(f"{part.kind} ({part.count})" for part in manifest.segments),
        "removed": len(manifest.removed),
        "size_bytes": sum(record.size_bytes for record in manifest.files),
        "generation": manifest.generation,
        "created": manifest.created,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<12} {value}")


@cache_app.command()
def search(
    index: IndexArgument,
    query: Annotated[str, typer.Argument(help="A file, or else a text.")],
    top_k: Annotated[int, typer.Option(help="How many neighbours.", min=1)] = 5,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the stored items nearest to a file or a text."""
    from cache_index.reader import open_index

    with one_sentence_errors(), build_file_embedder(load_settings({"model": model})) as embed:
        reader = open_index(index, memory_map=True)
        reader.manifest.check(embed.encoder_id)
        vector = embed([Path(query)])[0] if Path(query).is_file() else embed.embed_text(query)
        if isinstance(vector, AppError):
            raise vector
        found = reader.neighbours(vector, top_k)
    if as_json:
        typer.echo(json.dumps([asdict(neighbour) for neighbour in found], indent=2))
        return
    for neighbour in found:
        words = (neighbour.metadata.label, neighbour.metadata.caption, neighbour.metadata.file)
        typer.echo(f"{neighbour.score:7.4f}  {neighbour.id:>8}  {'  '.join(word for word in words if word)}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar per stage on standard error."""
    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield report
