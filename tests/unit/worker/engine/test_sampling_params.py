"""A sampling parameter out of range never comes into being."""

import math
from typing import Any

import pytest

from kindling.platform.errors import InvalidArgumentError
from kindling.worker.domain.sampling import SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", math.nan),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_p", math.nan),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("seed", -1),
        ("seed", 2**64),
        ("max_tokens", -1),
        ("max_tokens", 0),
        ("max_tokens", 2**32),
        ("max_tokens", False),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", (1, 2**32)),
        ("top_logprobs", -1),
        ("top_logprobs", 21),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        SamplingParams(**{"max_tokens": 1, field: value})
    assert raised.value.field == field
    assert raised.value.reason == "SAMPLING_PARAMETER_INVALID"
    assert raised.value.message.startswith(field)


def test_the_borders_are_allowed() -> None:
    params = SamplingParams(2**32 - 1, 2.0, 0.0, 2**32 - 1, 2**64 - 1, (0,), True, 20)
    assert not params.greedy
    assert SamplingParams(1).greedy
