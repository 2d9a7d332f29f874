"""Print the buildah options that give a build this machine's pip settings: `pip_settings.py PIP_CONF_TO_WRITE`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def settings() -> dict[str, str]:
    """Return pip's global settings from its files, then from `PIP_*` variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = dict(re.findall(r"^global\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    named = {k[4:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("PIP_") and v}
    return {**found, **named}


def local_paths(values: list[str]) -> list[str]:
    """Return the files and folders of this disk that the settings name."""
    words = [word for value in values for word in value.replace("\\n", " ").split()]
    # The pages of an index on disk point beside themselves, so its parent comes along.
    words = [word.removeprefix("file://").removesuffix("/simple") for word in words]
    return sorted({word for word in words if word.startswith("/") and Path(word).exists()})


def main() -> None:
    found = settings()
    lines = [f"{name} = {value.replace(chr(92) + 'n', chr(10) + '    ')}" for name, value in found.items()]
    target = Path(sys.argv[1])
    target.write_text("\n".join(["[global]", *lines, ""]))
    for path in local_paths(list(found.values())):
        sys.stdout.write(f"--volume={path}:{path}:ro\n")
    sys.stdout.write(f"--volume={target}:/etc/pip.conf:ro\n")


if __name__ == "__main__":
    main()
