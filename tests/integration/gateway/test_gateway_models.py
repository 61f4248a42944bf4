"""What the gateway knows of models: fresh enough, asked for once, nothing kept of names that are none."""

import asyncio

import pytest

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.models import FRESH_SECONDS, GrpcModels
from kindling.gateway.background import Background
from kindling.platform.clock import SystemClock
from kindling.platform.errors import NotFoundError
from kindling.platform.rpc.channel import ChannelPool
from support.gateway_peers import MODEL, FakeModel, FakeScheduler
from support.gateway_tokenizers import byte_level, model_files


class Hands(SystemClock):
    """A clock whose hands a test turns."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds


class Rig:
    """A fake scheduler and what asks it."""

    def __init__(self, scheduler: FakeScheduler, clock: Hands, models: GrpcModels) -> None:
        self.scheduler, self.clock, self.models = scheduler, clock, models

    def redeploy(self, digest: str) -> None:
        self.scheduler.models[MODEL] = FakeModel(model_files(byte_level()), digest)


@pytest.fixture
async def rig():
    clock = Hands()
    scheduler = FakeScheduler([], {})
    async with scheduler.serve() as server, ChannelPool(retry=False) as channels, Background(1) as background:
        leader = LeaderClient(channels, [server.address], clock, retry_seconds=5)
        rig = Rig(scheduler, clock, GrpcModels(leader, background, clock))
        rig.redeploy("one")
        yield rig


async def test_an_answer_is_used_while_it_is_fresh(rig: Rig):
    assert (await rig.models.get(MODEL)).digest == "one"
    rig.redeploy("two")
    rig.clock.seconds += FRESH_SECONDS / 2
    assert (await rig.models.get(MODEL)).digest == "one"
    rig.clock.seconds += FRESH_SECONDS
    assert (await rig.models.get(MODEL)).digest == "two"


async def test_a_model_that_changed_is_asked_for_at_once(rig: Rig):
    await rig.models.get(MODEL)
    rig.redeploy("two")
    rig.models.forget(MODEL)
    assert (await rig.models.get(MODEL)).digest == "two"


async def test_a_failure_is_not_kept(rig: Rig):
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await rig.models.get("later")
    rig.scheduler.models["later"] = rig.scheduler.models[MODEL]
    assert (await rig.models.get("later")).name == "later"


async def test_one_who_leaves_does_not_take_the_answer_with_them(rig: Rig):
    first, second = (asyncio.ensure_future(rig.models.get(MODEL)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).digest == "one"
