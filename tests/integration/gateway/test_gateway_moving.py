"""Moved generations over the wire: streams, whole answers, and the marks for those who ask."""

import asyncio

import pytest

from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import generation_pb2, generation_pb2_grpc
from support.gateway_peers import MODEL, REPLY, Rig, gateway_rig

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
LOST = UnavailableError("gone", reason="WORKER_DRAINING")


async def answer_text(rig: Rig, *, stream: bool) -> str:
    if not stream:
        return (await rig.client.post(CHAT, json=BODY)).json()["choices"][0]["message"]["content"]
    chunks = await rig.openai.chat.completions.create(**BODY, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def events_of(rig: Rig, *, trace: bool) -> list[generation_pb2.CompleteResponse]:
    request = generation_pb2.CompleteRequest(model=MODEL, prompt="hi", trace=trace)
    async with open_channel(rig.gateway.rpc.address) as channel:
        return [event async for event in generation_pb2_grpc.GenerationServiceStub(channel).Complete(request)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("position", [0, 5])
async def test_a_migrated_answer_is_whole(stream: bool, position: int):
    async with gateway_rig(workers=2) as rig:
        rig.migrate(0, position, 1)
        assert await answer_text(rig, stream=stream) == REPLY
        (there,) = rig.workers[1].requests
        assert list(there.emitted_token_ids) == rig.worker.reply_ids[:position]
        assert there.instance_id == f"{MODEL}-1"
        assert there.generation_id == rig.worker.requests[0].generation_id
        assert len(rig.scheduler.acquired.items) == 1
        assert await rig.scheduler.released.wait_for(1) == rig.scheduler.acquired.items


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_whose_worker_is_silent_is_taken_over(stream: bool):
    async with gateway_rig(workers=2, silence_seconds=0.05) as rig:
        rig.worker.hold = asyncio.Event()
        assert await answer_text(rig, stream=stream) == REPLY
        assert await rig.worker.cancelled.wait_for(1) == rig.scheduler.acquired.items[:1]
        assert rig.scheduler.avoided == [[], [f"{MODEL}-0"]]


@pytest.mark.parametrize("stream", [True, False])
async def test_signs_of_life_are_not_part_of_the_answer(stream: bool):
    async with gateway_rig() as rig:
        rig.worker.alive_before_each = 3
        assert await answer_text(rig, stream=stream) == REPLY


async def test_leaving_while_two_workers_are_asked_cancels_both():
    async with gateway_rig(workers=2, silence_seconds=0.05) as rig:
        for worker in rig.workers:
            worker.hold = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            request = group.create_task(rig.client.post(CHAT, json=BODY))
            await rig.workers[1].started.wait_for(1)
            request.cancel()
        assert await rig.workers[0].cancelled.wait_for(1) == await rig.workers[1].cancelled.wait_for(1)
        assert await rig.scheduler.released.wait_for(1) == rig.scheduler.acquired.items[:1]


async def test_who_asks_for_a_trace_is_told_of_moves():
    async with gateway_rig(workers=2) as rig:
        rig.migrate(0, 2, 1)
        rig.workers[1].fail_at = [(4, LOST)]
        events = await events_of(rig, trace=True)
        moves = [event.moved for event in events if event.HasField("moved")]
        assert [(move.index, move.kind, move.position, move.instance_id, move.worker_address) for move in moves] == [
            (0, generation_pb2.MOVE_KIND_MIGRATED, 2, f"{MODEL}-1", rig.scheduler.workers[1]),
            (0, generation_pb2.MOVE_KIND_RESUMED, 4, f"{MODEL}-1", rig.scheduler.workers[1]),
        ]
        assert "".join(event.delta.text for event in events) == REPLY


async def test_nobody_else_is_told_of_moves():
    async with gateway_rig(workers=2) as rig:
        undisturbed = (
            await rig.client.post("/v1/completions", json={"model": MODEL, "prompt": "hi", "stream": True})
        ).text
        rig.scheduler.acquired.items.clear()
        rig.migrate(0, 2, 1)
        moved = (await rig.client.post("/v1/completions", json={"model": MODEL, "prompt": "hi", "stream": True})).text
        assert len(moved.splitlines()) == len(undisturbed.splitlines())
        rig.scheduler.acquired.items.clear()
        rig.migrate(0, 2, 1)
        assert not [event for event in await events_of(rig, trace=False) if event.HasField("moved")]
