"""Live migration between two workers over real gRPC: whoever reads a generation does not notice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kindling.platform.errors import FailedPreconditionError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import inference_pb2
from kindling.worker.checkpoint_ports import EngineFactory
from support.engines import write_model
from support.worker_pair import Reader, RealEngines, WorkerInPair, asked, paced_fakes, worker_in_pair, worker_pair

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose context leaves room for generations that outlast every migration here."""
    directory = tmp_path_factory.mktemp("llama")
    write_model(directory, "llama", max_position_embeddings=2048)
    return directory


@pytest.fixture(params=["fake", "transformers"])
def engines(request: pytest.FixtureRequest, checkpoint: Path) -> EngineFactory:
    return paced_fakes() if request.param == "fake" else RealEngines(checkpoint, max_batch_tokens=64)


async def read_all(requests: Sequence[inference_pb2.GenerateRequest], worker: WorkerInPair) -> list[list[int]]:
    """What an undisturbed run gives."""
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(Reader(request, (worker,)).read()) for request in requests]
    return [read.result() for read in reads]


async def test_a_dozen_generations_move_at_once_and_their_readers_see_an_undisturbed_run(
    engines: EngineFactory,
) -> None:
    requests = [asked(number, 300 + number) for number in range(12)]
    async with worker_pair(engines) as (source, target):
        expected = await read_all(requests, source)
        readers = [Reader(request, (source, target)) for request in requests]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            for number, reader in enumerate(readers):
                await reader.until(number + 1)
            outcomes = await source.migrate_to(target)
            assert source.view.generation_ids == ()
        assert [read.result() for read in reads] == expected
        assert {outcome.moved.generation_id for outcome in outcomes} == {f"g{number}" for number in range(12)}
        assert [reader.moves for reader in readers] == [1] * 12
        for outcome in outcomes:
            moved = outcome.moved
            assert moved.rounds == len(moved.round_tokens) - 1 >= 1
            assert sum(moved.round_tokens) == 20 + moved.position
            assert 0 < moved.handover_seconds < moved.seconds
            assert moved.sent_bytes > 2 * 20
        await target.until(lambda view: view.generation_ids == ())


async def test_one_generation_goes_back_and_forth_twenty_times(engines: EngineFactory) -> None:
    request = asked(1, 700)
    async with worker_pair(engines) as (first, second):
        expected = (await read_all([request], first))[0]
        reader = Reader(request, (first, second))
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.read())
            here, there = first, second
            for move in range(20):
                await reader.until(8 * (move + 1))
                outcomes = await here.migrate_to(there)
                assert [outcome.moved.generation_id for outcome in outcomes] == ["g1"]
                here, there = there, here
        assert reading.result() == expected
        assert reader.moves == 20


async def test_generations_that_end_by_themselves_meanwhile_end_as_they_would(engines: EngineFactory) -> None:
    async with worker_pair(engines) as (source, target):
        whole = await read_all([asked(number, 60) for number in range(12)], source)
        stops = [
            {"stop_token_ids": [whole[number][20 + 3 * number]]} if number % 3 == 0 else {} for number in range(12)
        ]
        requests = [asked(number, 20 + 3 * number, **stops[number]) for number in range(12)]
        expected = await read_all(requests, source)
        readers = [Reader(request, (source, target)) for request in requests]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            await readers[11].until(18)
            outcomes = await source.migrate_to(target)
        assert [read.result() for read in reads] == expected
        assert len(outcomes) == sum(reader.moves for reader in readers)
        await target.until(lambda view: view.generation_ids == ())


async def test_a_reader_that_leaves_meanwhile_leaves_nothing_behind(engines: EngineFactory) -> None:
    async with worker_pair(engines, orphan_seconds=1000) as (source, target):
        readers = [Reader(asked(number, 500), (source, target)) for number in range(6)]
        kept = Reader(asked(7, 300), (source, target))
        expected = (await read_all([kept.request], source))[0]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            keeping = tasks.create_task(kept.read())
            await kept.until(5)
            moving = tasks.create_task(source.migrate_to(target))
            await target.until(lambda view: len(view.generation_ids) > 0)
            for read in reads:
                read.cancel()
        assert keeping.result() == expected
        assert moving.result()[-1].HasField("moved")
        await source.until(lambda view: view.generation_ids == ())


async def test_both_workers_send_each_other_what_they_have(engines: EngineFactory) -> None:
    requests = [asked(number, 300) for number in range(8)]
    async with worker_pair(engines) as pair:
        expected = await read_all(requests, pair[0])
        readers = [Reader(request, pair if number % 2 else pair[::-1]) for number, request in enumerate(requests)]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            for reader in readers:
                await reader.until(3)
            tasks.create_task(pair[0].migrate_to(pair[1]))
            tasks.create_task(pair[1].migrate_to(pair[0]))
        assert [read.result() for read in reads] == expected
        assert all(reader.moves >= 1 for reader in readers)


async def test_what_does_not_fit_at_the_target_stays(checkpoint: Path) -> None:
    async with (
        worker_in_pair(RealEngines(checkpoint)) as source,
        worker_in_pair(RealEngines(checkpoint, kv_budget_bytes=2**16)) as target,
    ):
        small, large = asked(0, 100), asked(1, 600)
        expected = await read_all([small, large], source)
        readers = [Reader(request, (source, target)) for request in (small, large)]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            await readers[1].until(3)
            outcomes = await source.migrate_to(target)
        assert [read.result() for read in reads] == expected
        stayed = {outcome.stayed.generation_id: outcome.stayed.reason for outcome in outcomes if outcome.stayed.reason}
        assert stayed["g1"] == "KV_CACHE_TOO_SMALL"


async def test_a_target_that_cannot_take_anything_is_refused_before_anything_is_sent() -> None:
    async with worker_pair(paced_fakes()) as (source, target), worker_in_pair(paced_fakes()) as other:
        await other.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        with pytest.raises(NotFoundError, match="does not run at"), remote_errors("the source"):
            await source.migrate_to(other)
        await other.start("blake3:" + "1" * 64)
        with pytest.raises(FailedPreconditionError) as refused, remote_errors("the source"):
            await source.migrate_to(other)
        assert refused.value.reason == "CHECKPOINT_DIFFERS"
        assert await source.migrate_to(target) == []


async def test_a_target_that_goes_away_in_the_middle_leaves_everything_where_it_was(engines: EngineFactory) -> None:
    requests = [asked(number, 500) for number in range(4)]
    async with worker_in_pair(engines) as source:
        expected = await read_all(requests, source)
        readers = [Reader(request, (source,)) for request in requests]
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(reader.read()) for reader in readers]
            await readers[0].until(2)
            async with worker_in_pair(paced_fakes(0.5)) as target:
                moving = tasks.create_task(source.migrate_to(target))
                await target.until(lambda view: len(view.generation_ids) == 4)
            outcomes = await moving
        assert [read.result() for read in reads] == expected
        assert sorted(outcome.stayed.generation_id for outcome in outcomes) == ["g0", "g1", "g2", "g3"]
        with pytest.raises(UnavailableError), remote_errors("the source"):
            await source.migrate_to(target)


async def test_a_reader_finds_its_generation_at_the_target_when_the_source_is_gone(engines: EngineFactory) -> None:
    request = asked(1, 200)
    async with worker_in_pair(engines) as target:
        expected = (await read_all([request], target))[0]
        reader = Reader(request, (target,))
        async with worker_in_pair(engines) as source:
            call = source.stub.Generate(request)
            reader.token_ids += (await call.read()).tokens.token_ids
            receiving = target.stub.ReceiveGeneration()
            begin = inference_pb2.GenerateRequest()
            begin.CopyFrom(request)
            begin.emitted_token_ids[:] = expected[:1]
            await receiving.write(inference_pb2.ReceiveGenerationRequest(begin=begin))
            await receiving.read()
        assert await reader.read() == expected
        receiving.cancel()
