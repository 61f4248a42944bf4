"""Several generations in one instance: prompts in turn, beside those that decode."""

from dataclasses import replace

import pytest

from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.running import Batch, Generation, Running
from kindling.simulate.workload import Arrival

MODEL = ModelProfile("m", 100, 10, 100.0, seconds_per_token=0.1, kv_bytes_per_token=1, prompt_tokens_beside=32)


def running(began: float, prompt_tokens: int = 100, output_tokens: int = 10) -> Running:
    return Running(Generation("g", Arrival(began, "a", prompt_tokens, output_tokens)), "i", lambda: None, began)


def join(batch: Batch, one: Running, loaded_at: float = 0.0) -> float:
    """Return by how much its first token is late."""
    late, _ = batch.join(one, MODEL, loaded_at, MODEL.seconds_per_token)
    return late


def test_one_at_a_time_is_never_late() -> None:
    batch = Batch()
    for began in (0.0, 2.0, 10.0):
        one = running(began)
        assert join(batch, one) == 0.0
        assert (one.first_token_at, one.ends_at) == (began + 1.0, began + 2.0)
        batch.running.remove(one)


def test_prompts_are_computed_one_after_the_other() -> None:
    batch = Batch()
    assert [join(batch, running(0.0, output_tokens=0)) for _ in range(3)] == pytest.approx([0.0, 1.0, 2.0])


def test_beside_those_that_decode_a_prompt_is_computed_in_parts() -> None:
    """100 tokens in parts of 32: four steps, each with a token of the other, which ends later by the prompt alone."""
    batch, first, second = Batch(), running(0.0, output_tokens=50), running(3.0)
    join(batch, first)
    late, delayed = batch.join(second, MODEL, 0.0, MODEL.seconds_per_token)
    assert (late, delayed) == (pytest.approx(0.4), [first])
    assert first.ends_at == pytest.approx(1.0 + 5.0 + 1.0)
    assert second.ends_at == pytest.approx(3.0 + 1.4 + 1.0)


def test_who_has_ended_by_then_is_not_delayed() -> None:
    batch, first = Batch(), running(0.0)
    join(batch, first)
    assert batch.join(running(2.0), MODEL, 0.0, MODEL.seconds_per_token) == (0.0, [])
    assert first.ends_at == 2.0


def test_those_that_wait_for_weights_are_computed_in_turn_once_these_are_there() -> None:
    batch, first, second = Batch(), running(0.0), running(0.5)
    assert join(batch, first, loaded_at=8.0) == pytest.approx(8.0 + 1.0 / 10 - 1.0)
    assert join(batch, second, loaded_at=8.0) == pytest.approx(8.1 + 1.4 - 0.5 - 1.0)


def test_a_prompt_that_fits_one_step_takes_one_of_theirs() -> None:
    assert replace(MODEL, prompt_tokens_beside=512).prefill_seconds_beside(100, 0.1) == pytest.approx(1.1)


def test_where_nothing_is_said_of_it_prompts_are_in_nobodys_way() -> None:
    batch, model = Batch(), replace(MODEL, prompt_tokens_beside=0)
    for _ in range(3):
        assert batch.join(running(0.0), model, 0.0, 0.1) == (0.0, [])


def test_a_generation_that_is_slowed_down_ends_later_by_what_it_has_yet_to_compute() -> None:
    batch, one = Batch(), running(0.0)
    join(batch, one)
    one.change_pace(0.2, now=1.5)
    assert one.ends_at == pytest.approx(1.5 + 0.5 * 2)
    assert one.tokens(1.5) == 100 + 5
    one.change_pace(0.1, now=2.5)
    assert one.ends_at == 2.5


def test_a_prompt_that_is_computed_is_not_stretched() -> None:
    batch, one = Batch(), running(0.0)
    join(batch, one)
    one.change_pace(0.2, now=0.5)
    assert (one.first_token_at, one.ends_at) == (1.0, pytest.approx(1.0 + 2.0))
