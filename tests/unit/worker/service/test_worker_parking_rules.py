"""What becomes of parked models, with checkpoints that do what a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from kindling.platform.errors import NotFoundError, UnavailableError
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.no_storage import EmptyCheckpoint
from kindling.worker.parking import LoadedModel, Parking, ParkingLimits


class LentCheckpoint(EmptyCheckpoint):
    """Somebody else's memory."""

    def __init__(self, size_bytes: int = 100) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.closed = asyncio.Event()
        self.refuses_to_park = False
        self.was_taken_back = False
        self.unpark_may_end = asyncio.Event()
        self.unpark_may_end.set()
        self.unpark_began = asyncio.Event()

    async def park(self) -> None:
        if self.refuses_to_park:
            raise UnavailableError("no", reason="STORAGE_DRAINING")

    async def unpark(self) -> None:
        self.unpark_began.set()
        await self.unpark_may_end.wait()
        if self.was_taken_back:
            raise NotFoundError("gone", reason="LEASE_UNKNOWN")


class ClosingEngine(FakeEngine):
    """Notes that it was closed, and whether its memory was there still."""

    def __init__(self, checkpoint: LentCheckpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.closed_in_time: bool | None = None

    def close(self) -> None:
        self.closed_in_time = not self.checkpoint.closed.is_set()
        super().close()


def loaded(digest: str, checkpoint: LentCheckpoint) -> LoadedModel:
    lease = AsyncExitStack()
    lease.callback(checkpoint.closed.set)
    return LoadedModel(digest, checkpoint, ClosingEngine(checkpoint), lease)


def was_dropped(model: LoadedModel) -> bool:
    assert isinstance(model.checkpoint, LentCheckpoint)
    assert isinstance(model.engine, ClosingEngine)
    if model.checkpoint.closed.is_set():
        assert model.engine.closed_in_time, "an engine is closed before its weights go"
    return model.checkpoint.closed.is_set()


@asynccontextmanager
async def parking(models: int = 2, size_bytes: int | None = None) -> AsyncIterator[Parking]:
    async with asyncio.TaskGroup() as tasks:
        lot = Parking(ParkingLimits(models, size_bytes), tasks, lambda: None)
        yield lot
        await lot.close()


async def test_a_model_is_parked_once_and_taken_once() -> None:
    async with parking() as lot:
        model = loaded("a", LentCheckpoint())
        await lot.put(model)
        assert [(one.digest, one.size_bytes) for one in lot.view] == [("a", 100)]
        assert await lot.take("a") is model
        assert (lot.view, await lot.take("a")) == ((), None)
        assert not was_dropped(model)


async def test_what_cannot_be_parked_is_dropped() -> None:
    async with parking() as lot:
        checkpoint = LentCheckpoint()
        checkpoint.refuses_to_park = True
        model = loaded("a", checkpoint)
        await lot.put(model)
        assert was_dropped(model)
        assert lot.view == ()


async def test_what_was_taken_back_is_dropped_at_once() -> None:
    async with parking() as lot:
        checkpoint = LentCheckpoint()
        model = loaded("a", checkpoint)
        await lot.put(model)
        checkpoint.taken_back.set()
        await checkpoint.closed.wait()
        assert was_dropped(model)
        assert lot.view == ()


async def test_what_was_taken_back_while_somebody_asks_for_it_is_not_given_out() -> None:
    async with parking() as lot:
        checkpoint = LentCheckpoint()
        checkpoint.was_taken_back = True
        model = loaded("a", checkpoint)
        await lot.put(model)
        assert await lot.take("a") is None
        assert was_dropped(model)


async def test_a_start_that_is_given_up_while_it_takes_a_model_leaves_nothing_behind() -> None:
    async with parking() as lot:
        checkpoint = LentCheckpoint()
        checkpoint.unpark_may_end.clear()
        model = loaded("a", checkpoint)
        await lot.put(model)
        taking = asyncio.create_task(lot.take("a"))
        await checkpoint.unpark_began.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert was_dropped(model)


async def test_the_same_checkpoint_is_kept_once() -> None:
    async with parking() as lot:
        first, second = loaded("a", LentCheckpoint()), loaded("a", LentCheckpoint())
        await lot.put(first)
        await lot.put(second)
        assert was_dropped(first)
        assert await lot.take("a") is second


@pytest.mark.parametrize(
    ("models", "size_bytes", "kept"),
    [(2, None, ["b", "c"]), (9, 250, ["b", "c"]), (9, 100, ["c"]), (9, 99, []), (0, None, [])],
)
async def test_those_parked_longest_go_when_the_limits_are_reached(
    models: int, size_bytes: int | None, kept: list[str]
) -> None:
    async with parking(models, size_bytes) as lot:
        parked = {digest: loaded(digest, LentCheckpoint()) for digest in "abc"}
        for model in parked.values():
            await lot.put(model)
        assert [one.digest for one in lot.view] == kept
        assert [digest for digest, model in parked.items() if not was_dropped(model)] == kept


async def test_room_is_made_one_by_one() -> None:
    async with parking() as lot:
        models = [loaded(digest, LentCheckpoint()) for digest in "ab"]
        for model in models:
            await lot.put(model)
        assert await lot.drop_oldest()
        assert [was_dropped(model) for model in models] == [True, False]
        assert await lot.drop_oldest()
        assert not await lot.drop_oldest()


async def test_nothing_is_parked_after_the_end() -> None:
    async with parking() as lot:
        early, late = loaded("a", LentCheckpoint()), loaded("b", LentCheckpoint())
        await lot.put(early)
        await lot.close()
        await lot.put(late)
        assert (was_dropped(early), was_dropped(late), lot.is_open) == (True, True, False)
