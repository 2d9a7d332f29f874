"""Look at everything a server needs and say what is there, what is missing, and whether one token comes out."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.errors import AppError
from core.types import ChatMessage, ChatRequest, SamplingParams
from server import __version__
from server.context import Service
from server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.pipeline import ChoiceEvent

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "fastapi", "uvicorn", "pillow", "faiss-cpu")
MIN_FREE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `ok` false makes the exit code 1."""

    name: str
    ok: bool
    text: str


def examine(
    settings: Settings, build: Callable[[Settings], Service], find_damage: Callable[[Settings], list[str]]
) -> list[Finding]:
    """Return every finding; the last ones load the model and generate one token with it."""
    findings = [
        Finding("bindchat", True, __version__),
        Finding("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_packages(),
        _sound_and_film(),
        _cores(settings),
        _memory(),
        _log_folder(settings.log_dir),
    ]
    started_s = time.perf_counter()
    try:
        findings += [Finding("model files", False, sentence) for sentence in find_damage(settings)]
        service = build(settings)
    except AppError as error:
        return [*findings, Finding("model", False, f"{settings.model} cannot be loaded: {error.message}")]
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return [*findings, Finding("model", False, f"{settings.model} cannot be loaded: {error!r}")]
    findings.append(_model(settings, service, time.perf_counter() - started_s))
    findings.append(_experts(service.pipeline.expert_names))
    findings += [Finding(f"file {name}", True, f"sha256 {digest}") for name, digest in service.facts.sources.items()]
    findings.append(asyncio.run(_self_test(service)))
    return findings


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(f"package {name}", True, version(name))
        except PackageNotFoundError:
            yield Finding(f"package {name}", False, "not installed; run make setup")


def _sound_and_film() -> Finding:
    try:
        return Finding("package av", True, f"{version('av')}, reads sound and film")
    except PackageNotFoundError:
        return Finding("package av", True, "left out: audio and video are refused; make setup MEDIA=full adds it")


def _cores(settings: Settings) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chosen = settings.num_threads or os.environ.get("OMP_NUM_THREADS") or "all"
    return Finding("cpu", True, f"{usable} cores usable, decoder threads: {chosen}")


def _memory() -> Finding:
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", True, "unknown on this system")
    available = max(available, _reclaimable_bytes())
    gib = 1024**3
    return Finding("memory", available > MIN_FREE_BYTES, f"{available / gib:.1f} GiB free of {total / gib:.1f} GiB")


def _reclaimable_bytes() -> int:
    """Return what Linux would hand out, file caches included; 0 elsewhere."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _log_folder(log_dir: Path) -> Finding:
    nearest = next(folder for folder in (log_dir.absolute(), *log_dir.absolute().parents) if folder.exists())
    free_gib = shutil.disk_usage(nearest).free / 1024**3
    return Finding("logs", os.access(nearest, os.W_OK), f"{log_dir}, {free_gib:.1f} GiB of disk free")


def _model(settings: Settings, service: Service, load_s: float) -> Finding:
    described = service.pipeline.describe()[0]
    return Finding(
        "model",
        True,
        f"{described.name}: {service.facts.num_parameters:,} parameters, {settings.dtype} on "
        f"{service.facts.device}, reads {', '.join(described.input_modalities)}, context {described.max_context}, "
        f"loaded in {load_s:.1f} s",
    )


def _experts(names: Sequence[str]) -> Finding:
    missing = [name for name in ("ocr", "transcribe") if name not in names]
    advice = f"; make setup-experts adds {' and '.join(missing)}" if missing else ""
    return Finding("experts", True, f"{', '.join(names)}{advice}")


async def _self_test(service: Service) -> Finding:
    request = ChatRequest(
        request_id="doctor",
        model=service.pipeline.describe()[0].name,
        messages=(ChatMessage(role="user", text="Hello"),),
        sampling=SamplingParams(max_tokens=1, temperature=0.0),
    )
    started_s = time.perf_counter()
    try:
        await service.pipeline.start()
        async with aclosing(cast("AsyncGenerator[ChoiceEvent, None]", service.pipeline.stream(request))) as events:
            num_tokens = len([event async for event in events])
    except AppError as error:
        return Finding("self-test", False, f"no token came out: {error.message}")
    finally:
        await service.pipeline.stop()
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    return Finding("self-test", num_tokens == 1, f"{num_tokens} token in {elapsed_ms:.0f} ms")
