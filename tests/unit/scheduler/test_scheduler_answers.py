"""What mutations were answered is remembered, the latest of them."""

import pytest

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.answers import Answer, Answers


def test_the_oldest_answers_are_forgotten() -> None:
    answers = Answers(most=2)
    answers.restore([Answer("r2", "m", create_time=2.0), Answer("r1", "m", create_time=1.0)])
    assert answers.surplus() == ["r1"]
    answers.add(Answer("r3", "m", create_time=3.0))
    assert [answers.find(name, "m") is not None for name in ("r1", "r2", "r3")] == [False, True, True]


def test_more_than_there_may_be_are_restored_as_the_latest_of_them() -> None:
    answers = Answers(most=1)
    answers.restore([Answer(f"r{number}", "m", create_time=float(number)) for number in (3, 1, 2)])
    assert answers.find("r3", "m") is not None
    assert answers.surplus() == ["r3"]


def test_a_request_id_is_for_one_model() -> None:
    answers = Answers()
    answers.add(Answer("r1", "m"))
    with pytest.raises(InvalidArgumentError) as told:
        answers.find("r1", "other")
    assert (told.value.reason, told.value.field) == ("REQUEST_ID_REUSED", "request_id")
    assert "'m'" in told.value.message
