"""Text of a choice: characters and stop sequences across tokens."""

import pytest

from kindling.gateway.adapters.token_bytes import TokenBytes
from kindling.gateway.domain.choice_text import ChoiceText
from support.gateway_tokenizers import byte_level, sentencepiece_like

TEXT = "Hello wörld, 你好 😀!"


def ids_and_decoder(tokenizer):
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    return ids, lambda some: tokenizer.decode(some, skip_special_tokens=False)


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
def test_every_piece_has_whole_characters(make):
    ids, decode = ids_and_decoder(make())
    text = ChoiceText(decode, frozenset(), ())
    pieces = [text.feed([token_id])[0] for token_id in ids]
    assert "".join(pieces) + text.flush() == TEXT
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
def test_a_stop_sequence_ends_the_text_at_its_token(make):
    ids, decode = ids_and_decoder(make())
    text = ChoiceText(decode, frozenset(), ("好 😀",))
    out, used = text.feed(ids)
    assert text.stopped
    assert out == "Hello wörld, 你"
    assert "好 😀" in decode(ids[:used])
    assert "好 😀" not in decode(ids[: used - 1])
    assert text.feed(ids[used:])[0] == text.flush() == ""


def test_a_beginning_of_a_stop_sequence_is_withheld_and_given_back():
    ids, decode = ids_and_decoder(byte_level())
    text = ChoiceText(decode, frozenset(), ("😀! and more",))
    out, used = text.feed(ids)
    assert used == len(ids)
    assert out == TEXT.removesuffix("😀!")
    assert text.flush() == "😀!"
    assert not text.stopped


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
def test_the_bytes_of_tokens_make_the_text(make):
    tokenizer = make()
    names = TokenBytes(tokenizer)
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert b"".join(map(names.get, ids)).decode().strip() == TEXT
    assert names.get(0) == b"<|end|>"
    assert names.get(10**6) == b""
