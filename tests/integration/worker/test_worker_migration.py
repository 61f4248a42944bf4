"""Live migration between two workers over real gRPC: whoever reads a generation does not notice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kindling.v1 import inference_pb2
from kindling.worker.checkpoint_ports import EngineFactory
from support.engines import write_model
from support.worker_pair import Reader, RealEngines, WorkerInPair, asked, paced_fakes, worker_pair

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    write_model(directory, "llama")
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
    requests = [asked(number, 150 + number) for number in range(12)]
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
    request = asked(1, 230)
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
