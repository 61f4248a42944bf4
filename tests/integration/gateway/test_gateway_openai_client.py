"""The official openai client against a real gateway."""

import asyncio

import openai
import pytest

from kindling.platform.errors import InternalError
from support.gateway_peers import CONTEXT_LENGTH, MODEL, REPLY, Rig, gateway_rig

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def rig():
    async with gateway_rig() as rig:
        yield rig


async def test_chat_answers_whole(rig: Rig):
    answer = await rig.openai.chat.completions.create(model=MODEL, messages=USER)
    assert answer.choices[0].message.content == REPLY
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    prompt = rig.tokenizer.encode("<user>hi<assistant>").ids
    assert list(rig.worker.requests[0].prompt_token_ids) == prompt
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == len(rig.worker.reply_ids) + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert rig.worker.requests[0].sampling.max_tokens == CONTEXT_LENGTH - len(prompt)


@pytest.mark.parametrize("batch_tokens", [1, 3, 100])
async def test_chat_streams_the_same_text(rig: Rig, batch_tokens: int):
    rig.worker.batch_tokens = batch_tokens
    stream = await rig.openai.chat.completions.create(
        model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == REPLY
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(rig.worker.reply_ids) + 1
    assert len({chunk.id for chunk in chunks}) == 1


async def test_completion_whole_and_streamed(rig: Rig):
    whole = await rig.openai.completions.create(model=MODEL, prompt="Hello", max_tokens=400)
    assert whole.choices[0].text == REPLY
    assert whole.choices[0].finish_reason == "stop"
    stream = await rig.openai.completions.create(model=MODEL, prompt="Hello", max_tokens=400, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == REPLY


async def test_completion_has_sixteen_tokens_by_default(rig: Rig):
    answer = await rig.openai.completions.create(model=MODEL, prompt="Hello")
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"
    assert REPLY.startswith(answer.choices[0].text.rstrip("�"))


async def test_prompts_of_every_shape(rig: Rig):
    ids = rig.tokenizer.encode("Hello").ids
    for prompt, choices in ((ids, 1), ([ids, ids], 2), (["Hello", "Hello", "Hello"], 3)):
        rig.worker.requests.clear()
        answer = await rig.openai.completions.create(model=MODEL, prompt=prompt, max_tokens=5)
        assert [choice.index for choice in answer.choices] == list(range(choices))
        assert [list(request.prompt_token_ids) for request in rig.worker.requests] == [ids] * choices
        assert answer.usage.prompt_tokens == len(ids) * choices


@pytest.mark.parametrize("streamed", [False, True])
async def test_n_choices_draw_with_seeds_of_their_own(rig: Rig, streamed: bool):
    answer = await rig.openai.chat.completions.create(model=MODEL, messages=USER, n=3, seed=7, stream=streamed)
    if streamed:
        texts = ["", "", ""]
        async for chunk in answer:
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        texts = [choice.message.content for choice in answer.choices]
    assert texts == [REPLY] * 3
    assert sorted(request.sampling.seed for request in rig.worker.requests) == [7, 8, 9]
    assert len(set(await rig.scheduler.released.wait_for(3))) == 3


@pytest.mark.parametrize("batch_tokens", [1, 100])
@pytest.mark.parametrize(("stop", "text"), [("世", REPLY), ("好 😀", "Hello wörld, 你"), (["xyz", "rld"], "Hello wö")])
async def test_stop_sequences_cross_tokens(rig: Rig, batch_tokens: int, stop, text):
    rig.worker.batch_tokens = batch_tokens
    answer = await rig.openai.chat.completions.create(model=MODEL, messages=USER, stop=stop)
    assert answer.choices[0].message.content == text
    assert answer.choices[0].finish_reason == "stop"
    stream = await rig.openai.chat.completions.create(model=MODEL, messages=USER, stop=stop, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == text


async def test_a_stop_sequence_cancels_the_generation_and_counts_only_its_tokens(rig: Rig):
    rig.worker.batch_tokens = 100
    answer = await rig.openai.chat.completions.create(model=MODEL, messages=USER, stop="wö")
    ids = rig.worker.reply_ids
    used = next(count for count in range(1, len(ids)) if "wö" in rig.tokenizer.decode(ids[:count]))
    assert answer.usage.completion_tokens == used
    assert await rig.scheduler.released.wait_for(1)


async def test_chat_logprobs(rig: Rig):
    answer = await rig.openai.chat.completions.create(
        model=MODEL, messages=USER, logprobs=True, top_logprobs=2, max_tokens=4
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 4
    assert (
        b"".join(bytes(entry.bytes) for entry in content).decode("utf-8", "replace")
        == answer.choices[0].message.content
    )
    assert content[0].logprob == -0.5
    assert [top.logprob for top in content[0].top_logprobs] == [-0.5, -1.5]
    assert content[0].top_logprobs[0].token == content[0].token


async def test_streamed_logprobs_cover_every_token(rig: Rig):
    stream = await rig.openai.chat.completions.create(model=MODEL, messages=USER, logprobs=True, stream=True)
    entries = [
        entry async for chunk in stream if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content
    ]
    ids = [*rig.worker.reply_ids, rig.worker.end_id]
    assert len(entries) == len(ids)
    assert b"".join(bytes(entry.bytes) for entry in entries[:-1]).decode() == REPLY


async def test_completion_logprobs(rig: Rig):
    answer = await rig.openai.completions.create(model=MODEL, prompt="Hello", logprobs=1, max_tokens=3)
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.token_logprobs == [-0.5] * 3
    assert [list(top.values()) for top in logprobs.top_logprobs] == [[-0.5]] * 3
    assert logprobs.text_offset == [0, len(logprobs.tokens[0]), len(logprobs.tokens[0] + logprobs.tokens[1])]


@pytest.mark.parametrize("streamed", [False, True])
async def test_echo_repeats_the_prompt(rig: Rig, streamed: bool):
    answer = await rig.openai.completions.create(
        model=MODEL, prompt="Hello", echo=True, max_tokens=400, stream=streamed
    )
    text = "".join([chunk.choices[0].text async for chunk in answer]) if streamed else answer.choices[0].text
    assert text == "Hello" + REPLY


async def test_token_ids_are_returned_when_asked_for(rig: Rig):
    extra = {"return_token_ids": True}
    answer = await rig.openai.chat.completions.create(model=MODEL, messages=USER, extra_body=extra)
    choice = answer.choices[0].model_dump()
    assert choice["token_ids"] == [*rig.worker.reply_ids, rig.worker.end_id]
    assert choice["prompt_token_ids"] == rig.tokenizer.encode("<user>hi<assistant>").ids
    stream = await rig.openai.chat.completions.create(model=MODEL, messages=USER, extra_body=extra, stream=True)
    ids = [token_id async for chunk in stream for token_id in chunk.choices[0].model_dump().get("token_ids") or ()]
    assert ids == [*rig.worker.reply_ids, rig.worker.end_id]


async def test_sampling_reaches_the_worker(rig: Rig):
    await rig.openai.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        temperature=0.25,
        top_p=0.5,
        seed=-1,
        max_completion_tokens=9,
        frequency_penalty=0,
        extra_body={"top_k": 7, "ignore_eos": True},
    )
    sampling = rig.worker.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.25, 0.5, 7)
    assert (sampling.seed, sampling.max_tokens, sampling.ignore_eos) == (2**64 - 1, 9, True)
    prompt = rig.tokenizer.encode("<system>Be<user>hi<assistant>").ids
    assert list(rig.worker.requests[0].prompt_token_ids) == prompt


async def test_models_are_listed(rig: Rig):
    models = await rig.openai.models.list()
    assert [model.id for model in models.data] == [MODEL]
    assert (await rig.openai.models.retrieve(MODEL)).created == 1_700_000_000


async def test_an_unknown_model_is_not_found(rig: Rig):
    with pytest.raises(openai.NotFoundError) as caught:
        await rig.openai.chat.completions.create(model="other", messages=USER)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await rig.openai.models.retrieve("other")


async def test_an_error_in_the_middle_of_a_stream_reaches_the_client(rig: Rig):
    rig.worker.fail_at = [(2, InternalError("the engine broke", reason="ENGINE_CORRUPT"))]
    stream = await rig.openai.chat.completions.create(model=MODEL, messages=USER, stream=True)
    pieces: list[str] = []

    async def read() -> None:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the error counts

    with pytest.raises(openai.APIError, match="the engine broke"):
        await read()
    assert "".join(pieces)
    assert REPLY.startswith("".join(pieces))
    assert await rig.scheduler.released.wait_for(1)


async def test_concurrent_streams_do_not_mix(rig: Rig):
    async def one() -> str:
        stream = await rig.openai.completions.create(model=MODEL, prompt="Hello", max_tokens=400, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    assert await asyncio.gather(*(one() for _ in range(40))) == [REPLY] * 40
    assert rig.scheduler.file_reads == 1
    assert len(set(await rig.scheduler.released.wait_for(40))) == 40
