"""Errors in OpenAI's shape."""

import json

import pytest

from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.domain.openai_error import openai_error
from kindling.platform.errors import ERROR_BY_CODE, Code, KindlingError, UnauthenticatedError

STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_its_status_and_shape(code: Code):
    error: KindlingError = ERROR_BY_CODE[code]("what to do", reason="SOME_REASON", field="model")
    answer = openai_error(error)
    body = json.loads(answer.body)
    assert answer.status == STATUS[code]
    assert body["error"]["message"] == "what to do"
    assert (body["error"]["param"], body["error"]["code"]) == ("model", "some_reason")
    assert (answer.retry_after_seconds is not None) == (answer.status in {429, 503})


@pytest.mark.parametrize(("seconds", "whole"), [(0.1, 1), (2.0, 2), (2.1, 3)])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, whole: int):
    error = ERROR_BY_CODE[Code.RESOURCE_EXHAUSTED]("full", reason="QUEUE_FULL", retry_after_seconds=seconds)
    assert openai_error(error).retry_after_seconds == whole


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic right", b"right"])
def test_wrong_keys_are_refused(header: bytes | None):
    with pytest.raises(UnauthenticatedError):
        ApiKeys(["right", "other"]).require(header)


def test_right_keys_and_no_keys_pass():
    ApiKeys(["right", "other"]).require(b"Bearer other")
    ApiKeys([]).require(None)
