"""Requests that are wrong, over real HTTP: each has a clear error in OpenAI's shape, and nothing runs."""

import asyncio
import json

import pytest

from support.gateway_peers import MODEL, FakeModel, Rig, gateway_rig
from support.gateway_tokenizers import model_files

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
USER = [{"role": "user", "content": "hi"}]
HEADERS = {"content-type": "application/json"}


@pytest.fixture
async def rig():
    async with gateway_rig(max_body_bytes=400_000, max_header_bytes=8192) as rig:
        yield rig


def the_error(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


BAD_CHAT = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
    ),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "user", "content": "hi"}] * 5000}, "messages"),
    ({"model": 5}, "model"),
    ({"model": None}, "model"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": [1]}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"n": 0}, "n"),
    ({"n": 10**6}, "n"),
    ({"seed": 2**64}, "seed"),
    ({"stop": ["x"] * 10_000}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stop": [5]}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"stop": "x" * 5000}, "stop"),
    ({"stop_token_ids": ["a"]}, "stop_token_ids"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": 5}, "stream_options"),
    ({"stream": True, "stream_options": {"speed": 5}}, "stream_options.speed"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"prompt": "hi"}, "prompt"),
    ({"no_such_field": 1}, "no_such_field"),
]


async def test_bad_chat_fields_are_named(rig: Rig):
    for change, param in BAD_CHAT:
        body = {"model": MODEL, "messages": USER, **change}
        error = the_error(await rig.client.post(CHAT, json=body), 400)
        assert error["param"] == param, change
        assert error["type"] == "invalid_request_error"
    assert rig.worker.requests == []
    assert rig.scheduler.acquired.items == []


async def test_bad_completion_fields_are_named(rig: Rig):
    bad = [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [5, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**32]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 100, "n": 2}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 99}, "logprobs"),
        ({"messages": USER}, "messages"),
    ]
    for change, param in bad:
        body = {"model": MODEL, "prompt": "Hello", **change}
        error = the_error(await rig.client.post(COMPLETIONS, json=body), 400)
        assert error["param"] == param, change
    assert rig.worker.requests == []


async def test_more_than_the_context_is_refused_with_its_length(rig: Rig):
    for change in ({"max_tokens": 10**9}, {"max_tokens": 512}, {"messages": [{"role": "user", "content": "x" * 600}]}):
        error = the_error(await rig.client.post(CHAT, json={"model": MODEL, "messages": USER, **change}), 400)
        assert error["code"] == "context_length_exceeded"
        assert "512" in error["message"]
    assert rig.scheduler.acquired.items == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b'{"model": "\xc3"}', b"{'a': 1}"])
async def test_what_is_no_json_object_is_refused(rig: Rig, body: bytes):
    for path in (CHAT, COMPLETIONS):
        error = the_error(await rig.client.post(path, content=body, headers=HEADERS), 400)
        assert error["param"] == "body"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(rig: Rig, number: str):
    body = json.dumps({"model": MODEL, "messages": USER})[:-1] + f', "temperature": {number}}}'
    error = the_error(await rig.client.post(CHAT, content=body, headers=HEADERS), 400)
    assert error["code"] == "json_invalid"


async def test_deep_nesting_is_refused(rig: Rig):
    body = '{"model":' + "[" * 40_000 + "]" * 40_000 + "}"
    the_error(await rig.client.post(CHAT, content=body, headers=HEADERS), 400)


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded"])
async def test_other_content_types_are_refused(rig: Rig, content_type: str):
    body = json.dumps({"model": MODEL, "messages": USER})
    error = the_error(await rig.client.post(CHAT, content=body, headers={"content-type": content_type}), 415)
    assert "application/json" in error["message"]


async def test_long_bodies_are_refused(rig: Rig):
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x" * 500_000}]})
    the_error(await rig.client.post(CHAT, content=body, headers=HEADERS), 413)

    async def chunks():
        for _ in range(10):
            yield b"x" * 60_000

    the_error(await rig.client.post(CHAT, content=chunks(), headers=HEADERS), 413)


NAMES = ["no-such", "a/b", "../etc", "..", "a\x00b", "x" * 10_000, "", "wörld", "a b"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_model_names_that_cannot_be_are_not_found(rig: Rig, name: str):
    body = {"model": name, "messages": USER}
    error = the_error(await rig.client.post(CHAT, json=body), 404)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert len(error["message"]) < 400


async def test_model_names_in_paths_are_not_found(rig: Rig):
    for path in ("a%00b", "a%2Fb", "a/b", "%FF", "x" * 5000):
        error = the_error(await rig.client.get(f"/v1/models/{path}"), 404)
        assert error["code"] == "model_not_found"


async def test_unknown_paths_and_methods(rig: Rig):
    assert the_error(await rig.client.get("/v1/nothing"), 404)["code"] == "path_not_found"
    assert the_error(await rig.client.get(CHAT), 405)["code"] == "method_not_allowed"


async def test_a_model_without_chat_template_is_told_so(rig: Rig):
    rig.scheduler.models["plain"] = FakeModel(model_files(rig.tokenizer, chat_template=None), "blake3:01")
    error = the_error(await rig.client.post(CHAT, json={"model": "plain", "messages": USER}), 400)
    assert error["code"] == "no_chat_template"
    assert (await rig.client.post(COMPLETIONS, json={"model": "plain", "prompt": "Hello"})).status_code == 200


async def test_what_the_chat_template_refuses_is_refused(rig: Rig):
    body = {"model": MODEL, "messages": [{"role": "assistant", "content": "hi"}]}
    error = the_error(await rig.client.post(CHAT, json=body), 400)
    assert "cannot begin with the assistant" in error["message"]


@pytest.mark.parametrize("files", [{}, {"tokenizer.json": b"{"}, {"tokenizer.json": b'{"model": 5}'}])
async def test_a_model_without_a_readable_tokenizer_is_told_so(rig: Rig, files):
    rig.scheduler.models["broken"] = FakeModel({"config.json": b"{}", **files}, "blake3:02")
    error = the_error(await rig.client.post(COMPLETIONS, json={"model": "broken", "prompt": "Hello"}), 409)
    assert error["code"] == "tokenizer_unreadable"


async def test_endless_headers_are_cut_off(rig: Rig):
    host, port = rig.gateway.http.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: ")
    for _ in range(64):
        writer.write(b"y" * 1024)
    async with asyncio.timeout(10):
        assert b"431" in await reader.readline()
    writer.close()
