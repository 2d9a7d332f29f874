"""The HTTP edge and the command line. FastAPI and pydantic live here and nowhere else."""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("bindchat")
    except PackageNotFoundError:  # the code is on the path and was never installed
        return "0+unknown"


__version__ = _installed_version()
