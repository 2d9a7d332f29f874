"""Ask a running server about media with the visual cache on, off, and without the medium at all.

    python -m benchmarks.cache_effect TREE --url http://127.0.0.1:8000 [--synonyms names.json] [--limit N] [--blend B]

TREE is `class/file` of one modality: pictures, sounds, films or shapes. Answers are judged as in `benchmarks.naming`.
`default` is what a request gets that says nothing about the cache. Cached embeddings (the memo) make the second, third
and fourth question about a medium cheap.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.progress import Progress

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask
from benchmarks.naming import QUESTION, Answer, judge, percent, score

WAYS = ("default", "cache on", "cache off", "condition off")


def file_message(question: str, content: bytes | None) -> dict[str, Any]:
    """Return one user message; the server finds out itself what the file is."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if content is not None:
        encoded = base64.b64encode(content).decode("ascii")
        parts.insert(0, {"type": "file", "file": {"file_data": f"data:;base64,{encoded}"}})
    return {"role": "user", "content": parts}


def body_for(way: str, content: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the request of one way."""
    options = {"k": arguments.k, "inverse_temperature": arguments.inverse_temperature, "blend": arguments.blend}
    cache: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    bind = {"cache on": {"cache": {"enabled": True, **cache}}, "cache off": {"cache": {"enabled": False}}}.get(way)
    return {
        "model": arguments.model,
        "messages": [file_message(arguments.question, None if way == "condition off" else content)],
        "temperature": 0,
        "max_completion_tokens": 48,
        **({} if bind is None else {"bind": bind}),
    }


async def ask_every_way(
    arguments: argparse.Namespace, files: Sequence[Path], synonyms: Mapping[str, list[str]]
) -> dict[str, list[Answer]]:
    """Ask about every file in every way, some files at a time."""
    limiter = asyncio.Semaphore(arguments.concurrency)

    async def ask_about(client: httpx.AsyncClient, path: Path, progress: Progress) -> list[Answer]:
        name, content = path.parent.name, await asyncio.to_thread(path.read_bytes)
        async with limiter:
            texts = [await ask(client, body_for(way, content, arguments)) for way in WAYS]
        progress.advance(progress.task_ids[0])
        return [judge(f"{name}/{path.name}", name, text, synonyms.get(name, [])) for text in texts]

    async with httpx.AsyncClient(base_url=arguments.url, timeout=httpx.Timeout(REQUEST_TIMEOUT_S)) as client:
        with Progress() as progress:
            progress.add_task("media", total=len(files))
            rows = await asyncio.gather(*(ask_about(client, path, progress) for path in files))
    return {way: [row[place] for row in rows] for place, way in enumerate(WAYS)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare answers with the visual cache on, off, and blind.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--synonyms", type=Path, help="JSON: class to list of further right names")
    parser.add_argument("--limit", type=int, help="ask about this many files, drawn at random")
    parser.add_argument("--k", type=int)
    parser.add_argument("--inverse-temperature", type=float)
    parser.add_argument("--blend", type=float)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--result", type=Path, help="write every answer here as JSON")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.tree.glob("*/*") if path.is_file())
    if arguments.limit is not None and arguments.limit < len(files):
        files = sorted(random.Random(0).sample(files, arguments.limit))
    if not files:
        raise SystemExit(f"{arguments.tree} has no class/file in it")
    synonyms = json.loads(arguments.synonyms.read_text()) if arguments.synonyms else {}
    answers = asyncio.run(ask_every_way(arguments, files, synonyms))
    print(f"{len(files)} media of {arguments.tree.name}\n{'':<14} {'right':>6} {'hedged':>6}")
    for way, given in answers.items():
        row = score(given)
        print(f"{way:<14} {percent(row.accuracy)} {percent(row.hedge_share)}")
    if arguments.result:
        texts = {way: {answer.photo: answer.text for answer in given} for way, given in answers.items()}
        arguments.result.write_text(json.dumps(texts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
