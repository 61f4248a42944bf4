"""Text from tokens equals the text of all tokens, however they come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.gateway.domain.detokenizer import REPLACEMENT, Detokenizer
from support.gateway_tokenizers import byte_level, sentencepiece_like

TOKENIZERS = {"byte_level": byte_level(), "sentencepiece_like": sentencepiece_like()}
kinds = st.sampled_from(sorted(TOKENIZERS))
texts = st.one_of(st.text(max_size=60), st.text(alphabet="Hello wörld 你好世界😀é\u200d👨‍👩‍👧", max_size=60))


def decoder(kind: str):
    return lambda ids: TOKENIZERS[kind].decode(ids, skip_special_tokens=False)


def pieces(kind: str, ids: list[int], sizes: list[int]) -> list[str]:
    """Feed ``ids`` in batches of ``sizes``, again and again."""
    detokenizer = Detokenizer(decoder(kind))
    out, at, turn = [], 0, 0
    while at < len(ids):
        out.append(detokenizer.append(ids[at : at + sizes[turn % len(sizes)]]))
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    return [*out, detokenizer.flush()]


@given(kind=kinds, text=texts, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_text_comes_whole_and_without_broken_characters(kind, text, sizes):
    ids = TOKENIZERS[kind].encode(text, add_special_tokens=False).ids
    got = pieces(kind, ids, sizes)
    assert "".join(got) == decoder(kind)(ids)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in got)


@given(ids=st.lists(st.integers(0, 399), max_size=120), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_tokens_of_a_byte_level_model_give_their_text(ids, sizes):
    """A model with random weights emits bytes that are no text; the answer is the same as all of them decoded."""
    assert "".join(pieces("byte_level", ids, sizes)) == decoder("byte_level")(ids)


@pytest.mark.parametrize("token", ["Ġ", "\u0143"])
def test_a_long_run_of_one_token_costs_the_same_per_token(token):
    """Space, and a byte that is never text by itself."""
    token_id = TOKENIZERS["byte_level"].token_to_id(token)
    assert token_id is not None
    decoded = []

    def decode(ids: list[int]) -> str:
        decoded.append(len(ids))
        return decoder("byte_level")(ids)

    detokenizer = Detokenizer(decode)
    text = "".join(detokenizer.append([token_id]) for _ in range(3000)) + detokenizer.flush()
    assert text == decoder("byte_level")([token_id] * 3000)
    assert max(decoded) <= 32
    assert len(decoded) <= 3 * 3000


@given(text=texts, sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_hidden_tokens_leave_no_trace(text, sizes):
    ids = TOKENIZERS["byte_level"].encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(decoder("byte_level"), frozenset({0}))
    got = [detokenizer.append([token_id, *[0] * (sizes[at % len(sizes)])]) for at, token_id in enumerate(ids)]
    assert "".join([*got, detokenizer.flush()]) == decoder("byte_level")([i for i in ids if i != 0])
