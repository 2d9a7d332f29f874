"""`/v1/cache` over HTTP: search by anything, items that come and go, several indexes, and what goes wrong."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from typer.testing import CliRunner

from cache_index.store import IndexStore
from server.cli import app as command_line
from tests.support.live_server import (
    LiveServer,
    assert_refused,
    data_uri,
    image_file,
    image_part,
    live_server,
    picture,
    reply_text,
)
from tests.support.tiny_gallery import SPACE, gallery_rows, write_gallery

ITEMS, SEARCH = "/v1/cache/items", "/v1/cache/search"
RED, BLUE = picture((210, 20, 20)), picture((20, 20, 210))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_gallery(tmp_path / "things")


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[LiveServer]:
    indexes = {"things": folder, "others": write_gallery(tmp_path / "others", 3)}
    with live_server(cache_indexes=indexes) as running:
        yield running


def call(server: LiveServer, method: str, path: str, **options: Any) -> httpx.Response:
    with server.client() as client:
        return client.request(method, path, **options)


def search(server: LiveServer, **body: Any) -> list[dict[str, Any]]:
    answer = call(server, "POST", SEARCH, json=body)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_a_picture_that_was_added_is_found_by_itself_and_gone_once_deleted(server: LiveServer) -> None:
    item = {"input": image_part(RED), "label": "red", "caption": "a red square", "metadata": {"codepoint": "1f7e5"}}
    added = call(server, "POST", ITEMS, json={"items": [item, {"input": [image_part(BLUE)], "label": "blue"}]}).json()
    assert [row["id"] for row in added["data"]] == [40, 41]
    (best,) = search(server, input=image_part(RED), k=1)
    assert (best["id"], best["label"], best["caption"], best["metadata"]) == (
        40, "red", "a red square", {"codepoint": "1f7e5"},
    )  # fmt: skip
    assert best["score"] == pytest.approx(1, abs=1e-4)
    assert call(server, "DELETE", f"{ITEMS}/40").json() == {
        "object": "cache.item", "index": "things", "id": 40, "deleted": True,
    }  # fmt: skip
    assert 40 not in [row["id"] for row in search(server, input=image_part(RED), k=1000)]
    assert_refused(call(server, "DELETE", f"{ITEMS}/40"), 404, "no item 40")


def test_forms_add_and_search_files(server: LiveServer) -> None:
    files = [("image", ("red.png", RED, "image/png")), ("image", ("blue.png", BLUE, "image/png"))]
    added = call(server, "POST", ITEMS, files=files, data={"label": "7", "metadata": '{"by": "form"}'}).json()
    assert [(row["file"], row["label"], row["metadata"]) for row in added["data"]] == [
        ("red.png", "7", {"by": "form"}), ("blue.png", "7", {"by": "form"}),
    ]  # fmt: skip
    found = call(server, "POST", SEARCH, files=[image_file(BLUE)], data={"k": "1"}).json()
    assert found["data"][0]["file"] == "blue.png"


def test_a_raw_embedding_is_a_query_and_an_item(server: LiveServer) -> None:
    row = gallery_rows(50, seed=9)[49]
    added = call(server, "POST", ITEMS, json={"items": [{"embedding": row.tolist(), "label": "given"}]})
    assert added.status_code == 200, added.text
    packed = base64.b64encode((3 * row).astype("<f4").tobytes()).decode()
    assert search(server, embedding=packed, k=1)[0]["label"] == "given"


def test_a_blend_is_searched_as_the_chat_would_blend_it(server: LiveServer) -> None:
    parts = [image_part(RED, weight=2.0), image_part(BLUE, weight=-0.5)]
    client = OpenAI(base_url=f"{server.url}/v1", api_key="unused")
    vector = client.post("/embeddings", body={"input": [parts]}, cast_to=object)["data"][0]["embedding"]  # type: ignore[index]
    by_parts, by_vector = search(server, input=parts, k=5), search(server, embedding=vector, k=5)
    assert [row["id"] for row in by_parts] == [row["id"] for row in by_vector]
    expected = np.argsort(-gallery_rows() @ np.array(vector))[:5].tolist()
    assert [row["id"] for row in by_parts] == expected


def test_items_are_listed_in_pages(server: LiveServer) -> None:
    ids, after = [], -1
    for _ in range(5):
        page = call(server, "GET", ITEMS, params={"limit": 16, "after": after}).json()
        ids += [row["id"] for row in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert ids == list(range(40))
    assert call(server, "GET", ITEMS, params={"index": "others"}).json()["data"][2]["label"] == "thing-2"


def test_several_items_are_deleted_together_or_not_at_all(server: LiveServer) -> None:
    assert_refused(call(server, "DELETE", ITEMS, params={"ids": [3, 99]}), 404, "no item 99")
    assert call(server, "DELETE", ITEMS, params={"ids": [3, 4]}).json()["num_deleted"] == 2
    assert call(server, "GET", "/v1/cache/stats").json()["indexes"][0]["items"] == 38


def test_stats_tell_every_index_and_the_memo(server: LiveServer) -> None:
    for _ in range(2):
        search(server, input=image_part(RED))
    stats = call(server, "GET", "/v1/cache/stats").json()
    first, second = stats["indexes"]
    assert (first["name"], first["items"], first["dimension"], first["encoder_id"]) == ("things", 40, 16, SPACE)
    assert (second["name"], second["types"], second["metric"]) == ("others", ["IndexFlatIP"], "inner_product")
    assert (stats["memo"]["hits"], stats["memo"]["misses"], stats["memo"]["hit_rate"]) == (1, 1, 0.5)


def test_another_process_may_change_an_index_while_it_is_served(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    arguments = [
        "cache",
        "add",
        str(tmp_path / "things"),
        str(tmp_path / "red.png"),
        "--label",
        "red",
        "--model",
        "tiny",
    ]
    assert CliRunner().invoke(command_line, arguments).exit_code == 0
    assert search(server, input=image_part(RED), k=1)[0]["label"] == "red"
    (row, _) = call(server, "POST", "/v1/cache/reload").json()["data"]
    assert (row["index"], row["items"], row["changed"], row["error"]) == ("things", 41, False, None)


def test_a_bad_new_generation_leaves_the_old_one_in_use(
    server: LiveServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "manifest.json").replace(folder / "kept.json")
    (folder / "manifest.json").write_text('{"format_version": 1')
    (row, _) = call(server, "POST", "/v1/cache/reload").json()["data"]
    assert (row["items"], row["changed"]) == (40, False)
    assert "is damaged" in row["error"]
    assert len(search(server, embedding=gallery_rows()[0].tolist(), k=3)) == 3
    assert '"event": "index_not_reloaded", "index": "things"' in caplog.text
    write_gallery(folder, 7, space="another")
    outcome = call(server, "POST", "/v1/cache/reload", params={"index": "things"}).json()["data"][0]
    assert "holds embeddings of encoder 'another'" in outcome["error"]
    shutil.rmtree(folder)
    assert search(server, embedding=gallery_rows()[5].tolist(), k=1)[0]["id"] == 5


def test_adding_to_a_full_disk_says_so_and_loses_nothing(folder: Path) -> None:
    """A server whose process may not write files of more than 4 KB: the real refusal of the operating system."""
    program = (
        "import resource, sys, json, pathlib; sys.path.insert(0, '.');"
        "from tests.support.live_server import live_server;"
        "from tests.support.tiny_gallery import gallery_rows;"
        "from tests.integration.test_server_cache import call, ITEMS;"
        f"server = live_server(cache_indexes={{'things': pathlib.Path({str(folder)!r})}});"
        "running = server.__enter__();"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "body = {'items': [{'embedding': row.tolist()} for row in gallery_rows(64)]};"
        "answer = call(running, 'POST', ITEMS, json=body);"
        "again = call(running, 'GET', '/v1/cache/stats').json()['indexes'][0]['items'];"
        "print(json.dumps([answer.status_code, answer.json()['error']['message'], again]));"
        "server.__exit__(None, None, None)"
    )
    root = Path(__file__).parents[2]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    status, sentence, items = json.loads(done.stdout.splitlines()[-1])
    assert (status, items) == (507, 40), sentence
    assert "could not be written: File too large; it is as it was" in sentence
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, ["either input or embedding"]),
        ({"input": "words", "embedding": [1.0] * 16}, 400, ["either input or embedding"]),
        ({"input": "words"}, 415, ["no encoder of text"]),
        ({"embedding": [1.0] * 15}, 400, ["15 numbers", "takes 16"]),
        ({"embedding": [0.0] * 16}, 400, ["not all 0"]),
        ({"embedding": "?!"}, 400, ["base64"]),
        ({"embedding": [1.0] * 16, "k": 0}, 400, ["k"]),
        ({"embedding": [1.0] * 16, "index": "nobody"}, 404, ["known: things, others"]),
        ({"embedding": [1.0] * 16, "model": "nobody"}, 404, ["nobody"]),
        ({"input": {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}}, 422, []),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    server: LiveServer, body: dict[str, Any], status: int, words: list[str]
) -> None:
    assert_refused(call(server, "POST", SEARCH, json=body), status, *words)


def test_items_that_cannot_be_are_refused_and_nothing_is_added(server: LiveServer) -> None:
    good = {"embedding": [1.0] * 16}
    damaged = {"type": "image_url", "image_url": {"url": data_uri(RED[:40])}}
    for bad in ({}, {"input": damaged}, {"embedding": [1.0]}, {**good, "metadata": {"deep": {}}}, {**good, "id": 3}):
        answer = call(server, "POST", ITEMS, json={"items": [good, bad]})
        assert answer.status_code in (400, 422), answer.text
    assert_refused(call(server, "POST", ITEMS, json={"items": []}), 400, "items")
    assert_refused(call(server, "POST", ITEMS, json={"items": [good] * 65}), 400, "at most 64")
    assert call(server, "GET", "/v1/cache/stats").json()["indexes"][0]["items"] == 40


def test_only_an_admin_may_change_an_index(folder: Path) -> None:
    with live_server(cache_indexes={"things": folder}, api_keys=("user",), admin_keys=("boss",)) as server:

        def ask(key: str, method: str, path: str, **options: Any) -> httpx.Response:
            return call(server, method, path, headers={"Authorization": f"Bearer {key}"}, **options)

        item = {"items": [{"embedding": [1.0] * 16}]}
        for method, path in (("POST", ITEMS), ("DELETE", f"{ITEMS}/0"), ("POST", "/v1/cache/reload")):
            assert_refused(ask("user", method, path, **({"json": item} if path == ITEMS else {})), 403, "admin key")
        assert_refused(ask("user", "DELETE", ITEMS, params={"ids": [0]}), 403, "admin key")
        assert ask("user", "POST", SEARCH, json={"embedding": [1.0] * 16}).status_code == 200
        assert ask("boss", "POST", ITEMS, json=item).status_code == 200


def test_a_server_without_indexes_says_how_to_get_one() -> None:
    with live_server() as server:
        assert_refused(call(server, "POST", SEARCH, json={"embedding": [1.0]}), 404, "cache_indexes")
        assert call(server, "GET", "/v1/cache/stats").json()["indexes"] == []


def test_an_item_added_while_a_chat_uses_the_index_changes_its_next_reply(server: LiveServer) -> None:
    bind = {"cache": {"k": 1, "blend": 1.0}}
    before = reply_text(server.chat([image_part(RED)], max_tokens=24, bind=bind))
    call(server, "POST", ITEMS, json={"items": [{"input": image_part(RED)}]})
    after = reply_text(server.chat([image_part(RED)], max_tokens=24, bind=bind))
    assert before != after
    assert after == reply_text(server.chat([image_part(RED)], max_tokens=24))  # its nearest neighbour is itself


def test_the_writer_of_an_index_may_be_killed_while_it_is_served(server: LiveServer, folder: Path) -> None:
    program = (
        "import sys, os, signal, pathlib; sys.path.insert(0, '.');"
        "from cache_index.reader import ItemMetadata; from cache_index.store import IndexStore;"
        "from tests.support.tiny_gallery import gallery_rows;"
        f"store = IndexStore(pathlib.Path({str(folder)!r}),"
        " on_step=lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == 'rename' else None);"
        "store.add(gallery_rows(3), [ItemMetadata()] * 3, encoder_id='tiny')"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60)
    assert killed.returncode == -9
    assert call(server, "POST", ITEMS, json={"items": [{"embedding": [1.0] * 16}]}).json()["data"][0]["id"] == 40
    assert IndexStore(folder).remove([40]) == 1
    assert call(server, "GET", "/v1/cache/stats").json()["indexes"][0]["items"] == 40
