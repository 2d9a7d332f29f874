"""Fetch released weights: by a known name, or any LLaMA repository of a Hugging Face hub or its mirror.

A repository's revision is resolved to a commit once and kept in a receipt, so a second pull gets the same files.
Downloads resume, digests are verified, and each licence is shown before a byte is fetched.
"""

from __future__ import annotations

import fnmatch
import io
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import tqdm

from core.errors import CheckpointError, ConfigError, UnknownName
from models.checkpoints import file_sha256
from models.pull_receipt import PulledFile, read_receipt, write_receipt

Meter = Callable[[str, int, int], None]
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_WANTED = ("*.safetensors", "*.json", "tokenizer.model", "*.jinja", "LICENSE*", "USE_POLICY*", "NOTICE*")
_META_WANTED = ("consolidated.*.pth", "params.json", "tokenizer.model", "LICENSE*", "USE_POLICY*")
_OPEN_LICENCES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a file may be used for. Unless `is_open`, the operator must accept it."""

    name: str
    text: str
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file: `name` inside `repository` of a hub, or at `url` elsewhere; `sha256` where it is known beforehand."""

    name: str
    repository: str | None = None
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one name stands for: its files and their licence; `commit` of the repository once it is known."""

    files: tuple[RemoteFile, ...]
    licence: Licence
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to fetch and where to. `endpoint` is a mirror of the hub, `revision` a branch, tag or commit of it.

    `meter` is told a file's name, the bytes that are there and its size, again and again while it is fetched.
    """

    name: str
    target: Path
    accept_licence: bool = False
    endpoint: str | None = None
    revision: str | None = None
    meter: Meter = lambda name, done_bytes, total_bytes: None


_RESEARCH = Licence(
    name="LLaMA-Adapter weights",
    text="Code GPL-3.0. The weights were tuned on LLaMA (Meta's research licence) and on data for research only: "
    "non-commercial use. https://github.com/OpenGVLab/LLaMA-Adapter",
)
_IMAGEBIND = Licence(
    name="CC-BY-NC-SA-4.0",
    text="ImageBind by Meta: attribution, non-commercial use, derived works under the same licence. "
    "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
)
_CLIP = Licence(name="MIT", text="CLIP by OpenAI, MIT licence. https://github.com/openai/CLIP", is_open=True)
_RELEASES = "https://github.com/OpenGVLab/LLaMA-Adapter/releases/download/v.2.0.0"
_V2_DIGESTS = {
    "BIAS-7B": "7fa55208379faf2dd862565284101b0e4a2a72114d6490a95e432cf9d9b6c813",
    "LORA-BIAS-7B": "1bcbffc43484332672092e0024a8699a6eb5f558161aebf98a7c6b1db67224d1",
    "CAPTION-7B": "5088aeb63a89746b90bcfd5cb819e1c7411b2771b267c6d131ce73e250a8abf0",
}
CATALOGUE: dict[str, Offer] = {
    "imagebind-llm-7b": Offer(files=(RemoteFile(name="7B.pth", repository="Cxxs/ImageBind-LLM"),), licence=_RESEARCH),
    "llama-adapter-v2-7b": Offer(
        files=tuple(
            RemoteFile(name=f"{name}.pth", url=f"{_RELEASES}/{digest}_{name}.pth", sha256=digest)
            for name, digest in _V2_DIGESTS.items()
        ),
        licence=_RESEARCH,
    ),
    "imagebind-huge": Offer(
        files=(
            RemoteFile(name="imagebind_huge.pth", url="https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth"),
        ),
        licence=_IMAGEBIND,
    ),
    "knn-index": Offer(files=(RemoteFile(name="knn.index", repository="csuhan/knn"),), licence=_IMAGEBIND),
    "clip-vit-l14": Offer(
        files=(RemoteFile(name="model.safetensors", repository="openai/clip-vit-large-patch14"),), licence=_CLIP
    ),
}


def pull(request: PullRequest, report: Callable[[str], None]) -> list[PulledFile]:
    """Fetch everything `request.name` stands for into its target folder and return the receipt's lines.

    `report` gets the licence first, then one line per file. Raises `UnknownName` for a name that is neither known nor
    a repository, `ConfigError` when a licence must be accepted or a server does not answer, and `CheckpointError`
    when a file's digest is not the expected one.
    """
    offer = CATALOGUE.get(request.name) or _repository_offer(request)
    return pull_offer(request, offer, report)


def pull_offer(request: PullRequest, offer: Offer, report: Callable[[str], None]) -> list[PulledFile]:
    """Fetch one offer; see `pull`."""
    licence = offer.licence
    report(f"{request.name}: {licence.name}\n{licence.text}")
    if not licence.is_open and not request.accept_licence:
        raise ConfigError(
            f"{request.name} is under {licence.name}, which is not an open licence; read it, then repeat with "
            "--accept-licence if you agree"
        )
    request.target.mkdir(parents=True, exist_ok=True)
    receipt = read_receipt(request.target)
    for file in offer.files:
        report(f"{file.name}: fetching")
        pulled = _fetch(request, offer, file, receipt.get(file.name))
        receipt[file.name] = pulled
        write_receipt(request.target, receipt)
        report(f"{file.name}: sha256 {pulled.sha256}")
    return [receipt[file.name] for file in offer.files]


def _fetch(request: PullRequest, offer: Offer, file: RemoteFile, earlier: PulledFile | None) -> PulledFile:
    path, commit, expected = request.target / file.name, offer.commit, file.sha256
    if file.repository is None:
        assert file.url is not None
        expected = expected or (earlier.sha256 if earlier is not None else None)
        if not (path.is_file() and file_sha256(path) == expected):
            _fetch_url(file.url, path, request.meter)
    else:
        if commit is None:
            pinned = earlier.commit if earlier is not None else None
            known = _repository(request, file.repository, request.revision or pinned)
            if file.name not in known.digests:
                raise UnknownName(f"{file.repository} has no file {file.name} at {known.commit}")
            commit, expected = known.commit, file.sha256 or known.digests[file.name]
        with _HubErrors(f"{file.repository}/{file.name}"):
            hf_hub_download(
                file.repository,
                file.name,
                revision=commit,
                local_dir=request.target,
                endpoint=request.endpoint,
                tqdm_class=_metered(file.name, request.meter),
            )
    return PulledFile(
        name=file.name,
        sha256=_verified(path, expected),
        source=file.repository or str(file.url),
        commit=commit,
        licence=offer.licence.name,
    )


def _metered(name: str, meter: Meter) -> type[tqdm]:
    """Return a progress bar that is not drawn and passes what it counts on to `meter`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options |= {"file": io.StringIO(), "disable": False}
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            meter(name, int(self.n), int(self.total or 0))
            return cast("bool | None", drawn)

    return Bar


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository at one commit: its files, with the digest of those the hub keeps outside git, and its licence."""

    commit: str
    digests: dict[str, str | None]
    licence: str


def _repository(request: PullRequest, name: str, revision: str | None) -> _Repository:
    with _HubErrors(name):
        stored = HfApi(endpoint=request.endpoint).model_info(name, revision=revision, files_metadata=True)
    if stored.sha is None:
        raise ConfigError(f"{name}: the hub does not say which commit it serves; give another endpoint")
    digests = {s.rfilename: s.lfs.sha256 if s.lfs is not None else None for s in stored.siblings or ()}
    licence = stored.card_data.get("license") if stored.card_data is not None else None
    return _Repository(stored.sha, digests, str(licence or ""))


def _verified(path: Path, expected: str | None) -> str:
    """Return the digest of a file; one that differs from the expected digest is removed and refused."""
    digest = file_sha256(path)
    if expected is not None and digest != expected:
        path.unlink()
        raise CheckpointError(f"{path} has sha256 {digest}, expected {expected}; it was removed: pull again")
    return digest


def _repository_offer(request: PullRequest) -> Offer:
    """Return the weights, tokenizer and licence files of a repository, safetensors before Meta's own shards."""
    if request.name.count("/") != 1:
        known = ", ".join(CATALOGUE)
        raise UnknownName(f"unknown model {request.name!r}; known: {known}, or OWNER/NAME of a LLaMA repository")
    revision = request.revision or _commit_in(read_receipt(request.target), request.name)
    stored = _repository(request, request.name, revision)
    wanted = _WANTED if fnmatch.filter(stored.digests, "*.safetensors") else _META_WANTED
    names = sorted({n for pattern in wanted for n in fnmatch.filter(stored.digests, pattern) if "/" not in n})
    if not any(name.endswith((".safetensors", ".pth")) for name in names):
        raise UnknownName(f"{request.name} holds neither *.safetensors nor consolidated.*.pth at its top")
    files = [RemoteFile(name=name, repository=request.name, sha256=stored.digests[name]) for name in names]
    licence = Licence(
        name=stored.licence or "no stated licence",
        text=f"As stated by {request.name}; its LICENSE file, if any, is fetched with the weights.",
        is_open=stored.licence in _OPEN_LICENCES,
    )
    return Offer(files=tuple(files), licence=licence, commit=stored.commit)


def _fetch_url(url: str, path: Path, meter: Meter) -> None:
    """Download to a side file, going on where an earlier attempt stopped, then move it into place."""
    unfinished = path.with_name(f"{path.name}.incomplete")
    start = unfinished.stat().st_size if unfinished.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            _append(response, unfinished, start if response.status == 206 else 0, partial(meter, path.name))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # 416: the side file is already whole
            raise ConfigError(f"{url} answers {error.code} {error.reason}; check the address and try again") from error
    except OSError as error:
        raise ConfigError(f"{url} could not be fetched: {error}; pull again to go on where it stopped") from error
    unfinished.replace(path)


def _append(response: HTTPResponse, unfinished: Path, start: int, meter: Callable[[int, int], None]) -> None:
    """Write a response behind the first `start` bytes. Raises `OSError` when it ends before its stated length."""
    total = start + int(response.headers.get("Content-Length", 0))
    with unfinished.open("ab" if start else "wb") as stream:
        while chunk := response.read(_CHUNK_BYTES):
            stream.write(chunk)
            meter(stream.tell(), total)
        if stream.tell() < total:
            raise OSError(f"the server stopped after {stream.tell()} of {total} bytes")


class _HubErrors:
    """Turn what the hub's client raises into our errors, naming `what` was asked for."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RepositoryNotFoundError):
            raise UnknownName(f"{self._what} does not exist, or needs a token that this machine has not") from error
        if isinstance(error, HfHubHTTPError | OSError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"{self._what} could not be fetched: {reason}; pull again to go on") from error


def _commit_in(receipt: dict[str, PulledFile], repository: str) -> str | None:
    commits: Sequence[str] = [f.commit for f in receipt.values() if f.source == repository and f.commit is not None]
    return commits[0] if commits else None
