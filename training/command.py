"""How a recipe ends when something its caller can mend is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from core.errors import AppError


def run_recipe(main: Callable[[], None]) -> None:
    """Run a recipe's command line; an error of ours becomes one sentence and exit code 2."""
    try:
        main()
    except AppError as error:
        print(error.message, file=sys.stderr)
        raise SystemExit(2) from None
