"""Pin the closure of the `.in` files, as installed in this environment, into `.txt` files of exact versions.

Run as `make lock` after installing what the `.in` files name. The lock was made on Python 3.11; a dependency that only
another platform needs is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
HEADER = "# Made by `make lock` from {sources}; edit those. Exact versions of everything, transitive ones included.\n"

# What the CUDA build of torch 2.13.0 declares on Linux and the CPU build does not.
CUDA_EXTRAS = """\
cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.3
nvidia-cudnn-cu13==9.20.0.48
nvidia-cusparselt-cu13==0.8.1
nvidia-nccl-cu13==2.29.7
nvidia-nvshmem-cu13==3.4.5
triton==3.7.1
"""


def read_requirements(name: str) -> list[Requirement]:
    """Return the direct requirements of one `.in` file."""
    lines = (FOLDER / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def closure(direct: Iterable[Requirement]) -> dict[str, str]:
    """Return `{name: version}` of every distribution that `direct` reaches here; builds such as +cpu are dropped."""
    versions: dict[str, str] = {}
    pending = [(requirement.name, frozenset(requirement.extras)) for requirement in direct]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        name, extras = pending.pop()
        key = (canonicalize_name(name), extras)
        if key in seen:
            continue
        seen.add(key)
        installed = distribution(name)
        versions[key[0]] = installed.version.partition("+")[0]
        for line in installed.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                pending.append((requirement.name, frozenset(requirement.extras)))
    return versions


def write_lock(name: str, sources: str, versions: Mapping[str, str], preamble: str = "") -> None:
    """Write one sorted lock file."""
    pins = "".join(f"{package}=={version}\n" for package, version in sorted(versions.items()))
    (FOLDER / name).write_text(HEADER.format(sources=sources) + preamble + pins)


def main() -> None:
    runtime = closure(read_requirements("runtime.in"))
    media = {
        package: version
        for package, version in closure(read_requirements("media.in")).items()
        if package not in runtime
    }
    everything = closure([*read_requirements("runtime.in"), *read_requirements("dev.in")])
    dev = {package: version for package, version in everything.items() if package not in runtime | media}
    if find_spec("ray") is not None:
        scale = closure(read_requirements("scale.in"))
        own = {package: version for package, version in scale.items() if package not in runtime | media}
        write_lock("scale.txt", "scale.in", own)
    models, audio = (
        {str(canonicalize_name(r.name)): str(r.specifier).removeprefix("==") for r in read_requirements(name)}
        for name in ("models.in", "audio.in")
    )
    write_lock("runtime.txt", "runtime.in", runtime)
    write_lock("media.txt", "media.in", media)
    write_lock("dev.txt", "dev.in", dev, "-r runtime.txt\n-r media.txt\n")
    write_lock("models.txt", "models.in", models)
    write_lock("audio.txt", "audio.in", audio)
    (FOLDER / "cuda.txt").write_text(
        "# Installed before runtime.txt by `make setup ACCELERATOR=cuda`: the CUDA 13 build of the same torch, Linux.\n"
        f"torch=={runtime['torch']}\n{CUDA_EXTRAS}"
    )


if __name__ == "__main__":
    main()
