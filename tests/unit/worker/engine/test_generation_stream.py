"""A generation as the event loop knows it: when its growth is told."""

import pytest

from kindling.worker.domain.generation import GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.stream import LEAST_GROWTH_TOKENS, GenerationStream


@pytest.mark.parametrize(
    ("prompt_tokens", "expected"),
    [(10, [138, 266, 399, 598]), (400, [600]), (10_000, [])],
)
def test_growth_is_told_at_half_as_many_again_and_not_before_128_more(prompt_tokens: int, expected: list[int]) -> None:
    told: list[int] = []
    request = GenerationRequest("g", tuple(range(prompt_tokens)), SamplingParams(max_tokens=1000))
    stream = GenerationStream(request, has_reader=True, on_growth=lambda: told.append(stream.tokens))
    for position in range(600 - prompt_tokens if prompt_tokens < 600 else LEAST_GROWTH_TOKENS):
        stream.put(Token("g", position, 1))
    assert told == expected


def test_tokens_are_those_of_the_prompt_and_all_that_were_emitted() -> None:
    request = GenerationRequest("g", (1, 2, 3), SamplingParams(max_tokens=10), emitted_token_ids=(4, 5))
    stream = GenerationStream(request, has_reader=False)
    stream.put(Token("g", 2, 6))
    assert stream.tokens == 6
