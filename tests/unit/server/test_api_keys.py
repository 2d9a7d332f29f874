"""Key files: what they hold, what they refuse, and how a ring reloads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import ConfigError
from server.api_keys import ApiKey, KeyRing, add_key, read_key_file, remove_key

HEX = "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_file_holds_a_digest_and_never_the_key(path: Path) -> None:
    secret = add_key(path, ApiKey(name="ann", is_admin=True, requests_per_minute=60))
    text = path.read_text()
    assert secret not in text
    assert secret.removeprefix("bc-") not in text
    assert path.stat().st_mode & 0o777 == 0o600
    (key,) = read_key_file(path)
    assert (key.name, key.is_admin, key.requests_per_minute, key.max_concurrent) == ("ann", True, 60, None)


def test_a_ring_knows_the_keys_of_file_and_settings_by_name(path: Path) -> None:
    secret = add_key(path, ApiKey(name="ann"))
    ring = KeyRing(keys=[SecretStr("plain")], admin_keys=[SecretStr("boss")], file=path)
    ann, plain, boss = ring.find(secret), ring.find("plain"), ring.find("boss")
    assert ann is not None and plain is not None and boss is not None
    assert (ann.name, ann.is_admin, plain.is_admin, boss.is_admin) == ("ann", False, False, True)
    assert plain.name.startswith("key-") and "plain" not in plain.name
    assert [ring.find(offered) for offered in ("", "PLAIN", "plain ", secret[:-1], f"sha256:{HEX}", "\udcff")] == [
        None
    ] * 6


def test_an_empty_key_file_lets_nobody_in(path: Path) -> None:
    path.write_text("# nobody yet\n\n")
    ring = KeyRing(file=path)
    assert ring.asks
    assert ring.find("") is None
    assert not KeyRing().asks


def test_a_reload_that_fails_leaves_the_keys_as_they_were(path: Path) -> None:
    first = add_key(path, ApiKey(name="first"))
    ring = KeyRing(file=path)
    second = add_key(path, ApiKey(name="second"))
    assert ring.find(second) is None
    ring.reload()
    assert ring.find(second) is not None
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match="line 1"):
        ring.reload()
    assert ring.find(first) is not None
    path.unlink()
    with pytest.raises(ConfigError, match="keys add"):
        ring.reload()


def test_a_removed_key_is_gone_and_the_others_stay(path: Path) -> None:
    add_key(path, ApiKey(name="ann"))
    kept = add_key(path, ApiKey(name="ann-2", max_concurrent=3))
    remove_key(path, "ann")
    ring = KeyRing(file=path)
    assert ring.names == ("ann-2",)
    assert ring.find(kept) == read_key_file(path)[0]
    with pytest.raises(ConfigError, match="no key ann"):
        remove_key(path, "ann")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "a" * 65, "a\nb", "#a"])
def test_a_name_that_could_break_a_line_or_a_path_is_refused(path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        add_key(path, ApiKey(name=name))
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann sha256:abc",
        f"ann md5:{HEX}",
        f"ann sha256:{HEX} root",
        f"ann sha256:{HEX} max_concurrent=0",
        f"ann sha256:{HEX} max_concurrent=ten",
        f"ann sha256:{HEX} colour=3",
        f"an/n sha256:{HEX}",
        f"ann sha256:{HEX}\nann sha256:{HEX}",
    ],
)
def test_a_wrong_line_is_refused_by_number_or_name(path: Path, line: str) -> None:
    path.write_text(f"# keys\n{line}\n")
    with pytest.raises(ConfigError, match=r"line 2|named ann"):
        read_key_file(path)
