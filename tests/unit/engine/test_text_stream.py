from __future__ import annotations

from pathlib import Path

import pytest

from engine.decoding.text_stream import TextStream
from models.llama.tokenizer_files import load_tokenizer_model
from models.tiny import ByteTokenizer

TOKENIZER = ByteTokenizer()


def pieces(text: str | bytes, *stop: str) -> tuple[list[str], TextStream]:
    """Push every byte as one token and return what each push and the flush released."""
    stream = TextStream(TOKENIZER, stop)
    raw = text.encode() if isinstance(text, str) else text
    released = [stream.push(byte + 3) for byte in raw]
    return [*released, stream.flush()], stream


def test_a_character_leaves_only_when_all_its_bytes_are_there() -> None:
    released, _ = pieces("é🙂")
    assert released == ["", "é", "", "", "", "🙂", ""]


def test_an_unfinished_character_at_the_end_becomes_a_replacement() -> None:
    released, _ = pieces(b"a" + "🙂".encode()[:2])
    assert "".join(released) == "a\ufffd"


def test_special_tokens_add_no_text() -> None:
    stream = TextStream(TOKENIZER)
    assert stream.push(1) + stream.push(ord("a") + 3) == "a"


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("one\n\ntwo", ("\n\n",), "one"),
        ("abababac", ("ababac",), "ab"),
        ("hello", ("hello",), ""),
        ("x END y STOP z", ("STOP", "END"), "x "),
        ("naïve🙂!", ("🙂",), "naïve"),
    ],
)
def test_text_from_a_stop_string_on_never_leaves(text: str, stop: tuple[str, ...], kept: str) -> None:
    released, stream = pieces(text, *stop)
    assert ("".join(released), stream.stopped) == (kept, True)


def test_the_beginning_of_a_stop_string_is_held_until_it_cannot_match() -> None:
    released, stream = pieces("STOx", "STOP")
    assert released[:4] == ["", "", "", "STOx"]
    assert not stream.stopped


def test_held_text_leaves_at_the_end_when_the_stop_string_stays_unfinished() -> None:
    released, _ = pieces("go STO", "STOP")
    assert "".join(released) == "go STO"


def test_the_space_that_marks_a_first_word_is_dropped_unless_the_reply_continues_its_prompt() -> None:
    model = Path(__file__).resolve().parents[2] / "golden" / "llama_tokenizer" / "tokenizer.model"
    tokenizer = load_tokenizer_model(model)
    ids = [i for i in tokenizer.encode("Hello  world") if i != tokenizer.bos_token_id]

    def joined(**options: bool) -> str:
        stream = TextStream(tokenizer, **options)
        return "".join(stream.push(token_id) for token_id in [1, *ids]) + stream.flush()

    assert joined() == tokenizer.decode(ids) == "Hello  world"
    assert joined(continues_text=True) == " Hello  world"


def test_a_byte_level_tokenizer_keeps_a_first_space() -> None:
    assert "".join(pieces(" a")[0]) == " a"
