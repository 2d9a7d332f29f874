"""`priority` and `timeout_s`: who is served first, and how long a client is willing to wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.api_keys import ApiKey, add_key
from tests.support.live_server import CHAT, LONG, assert_refused, chat_body, live_server, reply_text, stream_frames


def test_a_lower_priority_is_served_first() -> None:
    with live_server(max_slots=1) as server, ThreadPoolExecutor(2) as clients, server.stream(max_tokens=LONG) as lines:
        next(lines)
        ended: list[int] = []
        for num_waiting, priority in enumerate((5, 1), start=1):
            waiting = clients.submit(server.chat, f"hello {priority}", max_tokens=60, priority=priority)
            waiting.add_done_callback(lambda done, priority=priority: ended.append(priority))  # type: ignore[misc]
            while server.get("/ready").json()["queue_length"] < num_waiting:
                continue
        for _ in lines:  # the running reply ends
            continue
        clients.shutdown()
        assert ended == [1, 5]


def test_only_an_admin_goes_before_everybody(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    secrets = [add_key(keys, ApiKey(name=name, is_admin=name == "root")) for name in ("root", "guest")]
    with live_server(api_key_file=keys) as server, server.client() as client:
        answers = [client.post(CHAT, json=chat_body(priority=-1), headers={"x-api-key": secret}) for secret in secrets]
    assert reply_text(answers[0])
    assert_refused(answers[1], 403, "admin", "0 or more")


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
def test_a_reply_that_takes_longer_than_its_client_waits_ends_and_frees_its_slot(path: str) -> None:
    fields = {CHAT: chat_body(max_tokens=LONG), "/v1/completions": {"prompt": "hello", "max_tokens": LONG}}
    body = fields.get(path, {"input": "hello", "max_output_tokens": LONG})
    with live_server() as server, server.client() as client:
        answer = client.post(path, json={**body, "ignore_eos": True, "timeout_s": 0.02})
        assert_refused(answer, 504)
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        server.wait_until_idle()


def test_a_stream_that_runs_out_of_its_time_says_so_in_its_last_frame() -> None:
    with live_server(first_event_wait_s=0.001) as server, server.stream(max_tokens=LONG, timeout_s=0.1) as lines:
        *_, last = stream_frames(lines)
    assert last["error"]["code"] == "deadline_exceeded"


def test_a_request_that_waits_too_long_in_the_queue_leaves_it() -> None:
    with live_server(max_slots=1) as server, server.stream(max_tokens=LONG) as lines:
        next(lines)
        assert_refused(server.chat(timeout_s=0.02), 504)
        while server.get("/ready").json()["queue_length"] > 0:
            continue


def test_what_no_one_can_promise_is_refused() -> None:
    with live_server(request_timeout_s=5) as server:
        assert_refused(server.chat(timeout_s=6), 400, "at most 5", param="timeout_s")
        assert_refused(server.chat(timeout_s=0), 400, "timeout_s", param="timeout_s")
        assert_refused(server.chat(priority=101), 400, "100", param="priority")
        assert_refused(server.chat(priority=0.5), 400, "integer", param="priority")
