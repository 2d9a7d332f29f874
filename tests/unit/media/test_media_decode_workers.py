"""The pool of decoder processes: crashes, hangs, memory bombs and cancellation fail one row each."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import select
import signal
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.lowlevel import checkpoint
from PIL import Image

from core.errors import EngineFault, MediaDecodeError, MediaTooLarge, NotReady, Overloaded, UnsupportedMedia
from core.types import MediaBlob, Modality
from media.containers import CONTAINERS
from media.decode import DecodeWorkers
from media.limits import REFERENCE_OPTIONS, MediaLimits

pytestmark = pytest.mark.anyio
_HERE = "tests.unit.media.decoders_for_tests"
_TABLE = {
    "png": CONTAINERS["png"],
    **{name: f"{_HERE}:{name}" for name in ("echo", "crash", "swell", "fail", "chatter", "write_file")},
    "hang": f"{_HERE}:report_then_hang",
}


def blob(container: str, data: bytes = b"content") -> MediaBlob:
    digest = hashlib.sha256(data).hexdigest()
    return MediaBlob(modality=Modality.IMAGE, container=container, data=data, sha256=digest)


def png(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()


@asynccontextmanager
async def running(num_workers: int = 1, max_queue: int = 64, **limits: Any) -> AsyncIterator[DecodeWorkers]:
    pool = DecodeWorkers(
        MediaLimits(**{"max_worker_bytes": 512 << 20, **limits}),
        num_workers=num_workers,
        max_queue=max_queue,
        containers=_TABLE,
    )
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def reported_pid(pipe: Path) -> int:
    return int(await asyncio.to_thread(pipe.read_text))


def new_pipe(folder: Path) -> Path:
    pipe = folder / "pid"
    os.mkfifo(pipe)
    return pipe


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_picture_comes_back_as_its_pixels() -> None:
    async with running() as pool:
        media = await pool.decode(blob("png", png(5, 3, (10, 20, 30))))
    assert media.array.shape == (3, 5, 3)
    assert media.array.dtype == np.uint8
    assert (media.array == (10, 20, 30)).all()
    assert media.container == "png"


async def test_a_pool_that_waits_keeps_neither_the_file_nor_its_pixels() -> None:
    async with running() as pool:
        media = await pool.decode(blob("png", png(5, 3, (10, 20, 30))))
        pixels = weakref.ref(media.array)
        del media
        await checkpoint()  # the event loop holds what woke this test up while it runs
        assert pixels() is None


async def test_options_reach_the_worker() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (200, 0, 0, 0)).save(buffer, "PNG")
    async with running() as pool:
        over_white = await pool.decode(blob("png", buffer.getvalue()))
        reference = await pool.decode(blob("png", buffer.getvalue()), REFERENCE_OPTIONS)
    assert (over_white.array == 255).all()
    assert (reference.array == (200, 0, 0)).all()


async def test_a_killed_worker_fails_only_its_row_and_is_replaced(tmp_path: Path) -> None:
    pipe = new_pipe(tmp_path)
    async with running(num_workers=2) as pool:
        victim = asyncio.create_task(pool.decode(blob("hang", os.fsencode(pipe))))
        pid = await reported_pid(pipe)
        neighbour = await pool.decode(blob("echo", b"neighbour"))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(MediaDecodeError, match="ended its decoder"):
            await victim
        after = await asyncio.gather(*(pool.decode(blob("echo", b"after")) for _ in range(4)))
        assert pid not in pool.stats().worker_pids
        assert len(pool.stats().worker_pids) == 2
    assert neighbour.array.tobytes() == b"neighbour"
    assert [media.array.tobytes() for media in after] == [b"after"] * 4


async def test_a_worker_killed_while_idle_costs_no_row() -> None:
    async with running() as pool:
        await pool.decode(blob("echo"))
        (pid,) = pool.stats().worker_pids
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert (await pool.decode(blob("echo"))).array.tobytes() == b"content"
        assert pool.stats().num_replaced == 1


async def test_a_decoder_that_hangs_is_stopped_at_the_time_limit(tmp_path: Path) -> None:
    pipe = new_pipe(tmp_path)
    async with running(decode_timeout_s=0.5) as pool:
        await pool.decode(blob("echo"))
        victim = asyncio.create_task(pool.decode(blob("hang", os.fsencode(pipe))))
        pid = await reported_pid(pipe)
        with pytest.raises(MediaDecodeError, match=r"longer than 0\.5 s"):
            await victim
        assert not is_alive(pid)
        assert (await pool.decode(blob("echo"))).array.tobytes() == b"content"


@pytest.mark.parametrize(
    ("container", "kind", "sentence"),
    [
        ("crash", MediaDecodeError, "ended its decoder"),
        ("swell", MediaTooLarge, "bytes of memory"),
        ("fail", MediaDecodeError, "could not be decoded"),
        ("pdf", UnsupportedMedia, "does not decode pdf as image"),
    ],
)
async def test_a_bad_row_gets_its_own_error_and_the_next_row_is_served(
    container: str, kind: type[Exception], sentence: str
) -> None:
    async with running() as pool:
        with pytest.raises(kind, match=sentence):
            await pool.decode(blob(container))
        assert (await pool.decode(blob("echo"))).array.tobytes() == b"content"


async def test_many_rows_at_once_each_get_their_own_array() -> None:
    rows = [png(4, 4, (n, 0, 255 - n)) for n in range(40)]
    bad = {7, 23}
    async with running(num_workers=2) as pool:
        outcomes = await asyncio.gather(
            *(pool.decode(blob("png", b"\x89PNG" if n in bad else row)) for n, row in enumerate(rows)),
            return_exceptions=True,
        )
    for n, outcome in enumerate(outcomes):
        if n in bad:
            assert isinstance(outcome, MediaDecodeError)
        else:
            assert not isinstance(outcome, BaseException)
            assert (outcome.array == (n, 0, 255 - n)).all()


async def test_a_cancelled_row_is_skipped_and_its_place_in_the_queue_is_freed(tmp_path: Path) -> None:
    pipe = new_pipe(tmp_path)
    async with running() as pool:
        first = asyncio.create_task(pool.decode(blob("hang", os.fsencode(pipe))))
        pid = await reported_pid(pipe)
        abandoned = asyncio.create_task(pool.decode(blob("crash")))
        last = asyncio.create_task(pool.decode(blob("echo", b"last")))
        await asyncio.sleep(0)
        abandoned.cancel()
        os.kill(pid, signal.SIGKILL)
        assert (await last).array.tobytes() == b"last"
        await asyncio.gather(first, abandoned, return_exceptions=True)
        assert pool.stats().num_replaced == 1  # the hang; the cancelled crash never ran


async def test_a_full_queue_refuses_at_the_door(tmp_path: Path) -> None:
    pipe = new_pipe(tmp_path)
    async with running(max_queue=1) as pool:
        busy = asyncio.create_task(pool.decode(blob("hang", os.fsencode(pipe))))
        await reported_pid(pipe)
        waiting = asyncio.create_task(pool.decode(blob("echo")))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="1 media are waiting"):
            await pool.decode(blob("echo"))
        await pool.stop()
        assert [type(end) for end in await asyncio.gather(busy, waiting, return_exceptions=True)] == [NotReady] * 2


async def test_stop_leaves_no_process_and_later_rows_are_refused(tmp_path: Path) -> None:
    pipe = new_pipe(tmp_path)
    async with running(num_workers=2) as pool:
        busy = asyncio.create_task(pool.decode(blob("hang", os.fsencode(pipe))))
        await reported_pid(pipe)
        pids = pool.stats().worker_pids
        await pool.stop()
        assert not any(is_alive(pid) for pid in pids)
        assert pool.stats().worker_pids == ()
        with pytest.raises(NotReady):
            await busy
        with pytest.raises(NotReady):
            await pool.decode(blob("echo"))


async def test_a_library_that_prints_does_not_break_the_answer() -> None:
    async with running() as pool:
        assert (await pool.decode(blob("chatter"))).array.tobytes() == b"content"


async def test_a_decoder_cannot_leave_bytes_on_disk(tmp_path: Path) -> None:
    target = tmp_path / "left"
    async with running() as pool:
        with pytest.raises(MediaDecodeError):
            await pool.decode(blob("write_file", os.fsencode(target)))
    assert target.stat().st_size == 0


async def test_an_array_over_the_budget_is_refused_inside_the_worker() -> None:
    async with running(max_decoded_bytes=1000) as pool:
        with pytest.raises(MediaTooLarge, match="at most 1000"):
            await pool.decode(blob("echo", bytes(1001)))


async def test_bytes_over_the_budget_never_reach_a_worker() -> None:
    async with running(max_bytes=10) as pool:
        with pytest.raises(MediaTooLarge, match="at most 10 are allowed"):
            await pool.decode(blob("crash", bytes(11)))
        assert pool.stats().num_replaced == 0


async def test_a_pool_that_cannot_start_says_so_instead_of_blaming_the_file() -> None:
    pool = DecodeWorkers(MediaLimits(), num_workers=1, containers={"png": "media.image:no_such_decoder"})
    await pool.start()
    try:
        with pytest.raises(EngineFault, match="could not start"):
            await pool.decode(blob("png", png(2, 2, (0, 0, 0))))
    finally:
        await pool.stop()


_SERVER = """
import asyncio, sys
from media.decode import DecodeWorkers
from media.limits import MediaLimits
from core.types import MediaBlob, Modality

async def main():
    pool = DecodeWorkers(MediaLimits(), num_workers=1, containers={"echo": "%s:echo"})
    await pool.start()
    await pool.decode(MediaBlob(modality=Modality.IMAGE, container="echo", data=b"x", sha256=""))
    print(*pool.stats().worker_pids, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_workers_end_when_their_server_is_killed() -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER % _HERE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert server.stdout is not None
    worker = os.pidfd_open(int(await server.stdout.readline()))
    server.kill()
    await server.wait()
    ended, _, _ = await asyncio.to_thread(select.select, [worker], [], [], 10)
    os.close(worker)
    assert ended == [worker]
