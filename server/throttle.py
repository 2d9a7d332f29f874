"""How much one API key may ask for: requests a minute, requests at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import RateLimited
from server.api_keys import ApiKey
from server.error_handlers import error_response
from server.guards import PROBE_PATHS
from server.trace import RequestTrace


@dataclass(slots=True)
class _Account:
    """One key's running requests and what is left of its minute, as a bucket that refills evenly."""

    tokens: float
    filled_s: float
    num_running: int = 0


class KeyThrottle:
    """Admit requests key by key. Limits of None are none; a key's own limit replaces the server's."""

    def __init__(
        self,
        *,
        requests_per_minute: int | None,
        max_concurrent: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    @contextmanager
    def admitted(self, key: ApiKey, *, leaving: int = 0) -> Iterator[None]:
        """Count one request while it runs; `leaving` keeps so much of the key's share for others, where it has more.

        Raises `RateLimited` with the time to come back.
        """
        account = self._accounts.get(key.name)
        if account is None:
            account = self._accounts[key.name] = _Account(math.inf, self._clock())
        concurrent = key.max_concurrent or self._max_concurrent
        if concurrent is not None and account.num_running >= max(1, concurrent - leaving):
            raise RateLimited(
                f"{concurrent} requests of this key are running, the limit (max_concurrent); wait for one"
            )
        self._take(account, key.requests_per_minute or self._requests_per_minute, leaving)
        account.num_running += 1
        try:
            yield
        finally:
            account.num_running -= 1

    def _take(self, account: _Account, per_minute: int | None, leaving: int) -> None:
        now_s = self._clock()
        if per_minute is None:
            account.tokens, account.filled_s = math.inf, now_s
            return
        account.tokens = min(float(per_minute), account.tokens + (now_s - account.filled_s) * per_minute / 60)
        account.filled_s = now_s
        needed = min(per_minute, 1 + leaving)
        if account.tokens < needed:
            raise RateLimited(
                f"this key may send {per_minute} requests a minute (requests_per_minute); come back later",
                retry_after_s=max(1, math.ceil((needed - account.tokens) * 60 / per_minute)),
            )
        account.tokens -= 1


class ThrottleMiddleware:
    """Hold every request but the probes against the limits of its key."""

    def __init__(self, app: ASGIApp, *, throttle: KeyThrottle) -> None:
        self._app = app
        self._throttle = throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBE_PATHS:
            await self._app(scope, receive, send)
            return
        trace: RequestTrace = scope["state"]["trace"]
        with ExitStack() as running:
            try:
                running.enter_context(self._throttle.admitted(trace.key))
            except RateLimited as error:
                trace.error_code = error.code
                await error_response(error)(scope, receive, send)
            else:
                await self._app(scope, receive, send)
