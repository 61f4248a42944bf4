"""Quotas across leaders: recorded in etcd, and counted by what workers say they run."""

import asyncio
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.platform.errors import FailedPreconditionError
from kindling.scheduler.domain.quotas import Quota
from kindling.scheduler.domain.values import Checkpoint, Model, ModelSettings
from kindling.scheduler.manage_tenants import QuotaChange, TenantStatus, remove_tenant, tenant_status
from support.simulated_cluster import SimulatedCluster
from support.virtual_time import run_virtually
from support.weather import Weather

MODEL = Model("m", Checkpoint("blake3:m", 1000, 100, 10), ModelSettings(concurrency_target=8, keep_alive_seconds=60.0))
SINGLE = replace(MODEL, settings=replace(MODEL.settings, concurrency_target=1))


async def next_leader(cluster: SimulatedCluster) -> None:
    """Have the leader die, and return once its successor knows the records."""
    leader = next(one for one in cluster.schedulers if one.seat.leader is not None and one.seat.leader.is_self)
    leader.kill()
    await asyncio.sleep(0.1)
    assert leader.seat.present_term is None
    await cluster.term()


async def status_of(cluster: SimulatedCluster, tenant: str) -> TenantStatus:
    return tenant_status(await cluster.term(), tenant)


def test_a_new_leader_knows_the_quotas_and_whose_the_running_generations_are() -> None:
    async def check() -> None:
        cluster = SimulatedCluster(Weather())
        cluster.add_model(MODEL)
        async with asyncio.timeout(100), cluster.running(), asyncio.TaskGroup() as tasks:
            await cluster.set_quota("acme", QuotaChange(generations=2))
            for number in range(3):
                tasks.create_task(cluster.generate("m", f"acme-{number}", 20.0, "acme"))
            tasks.create_task(cluster.generate("m", "other", 20.0, "other"))
            await asyncio.sleep(3)
            assert cluster.running_of("acme") == 2
            await next_leader(cluster)
            late = tasks.create_task(cluster.generate("m", "late", 1.0, "acme"))
            quick = tasks.create_task(cluster.generate("m", "quick", 1.0, "other"))
            await asyncio.sleep(5)
            assert quick.done(), "nobody else waits"
            assert not late.done()
            status = await status_of(cluster, "acme")
            assert (status.generations, status.waiting, status.quota) == (2, 2, Quota(generations=2))
            assert (await status_of(cluster, "other")).generations == 1
            assert cluster.running_of("acme") == 2
        assert cluster.wrongs == []

    run_virtually(check())


def test_a_new_leader_knows_whose_devices_are_whose() -> None:
    async def check() -> None:
        cluster = SimulatedCluster(Weather(), slots=(2, 2))
        cluster.add_model(SINGLE)
        async with asyncio.timeout(100), cluster.running(), asyncio.TaskGroup() as tasks:
            await cluster.set_quota("acme", QuotaChange(devices=1))
            for number in range(3):
                tasks.create_task(cluster.generate("m", f"acme-{number}", 10.0, "acme"))
            await asyncio.sleep(3)
            await next_leader(cluster)
            assert (await status_of(cluster, "acme")).devices == 1
            tasks.create_task(cluster.generate("m", "other", 1.0, "other"))
            await asyncio.sleep(2)
            assert len(cluster.names("instances")) == 2
            assert cluster.running_of("acme") == 1, "it waits for its own, and the other one's is taken"

    run_virtually(check())


def test_a_quota_that_is_removed_stays_so() -> None:
    async def check() -> None:
        cluster = SimulatedCluster(Weather())
        async with asyncio.timeout(100), cluster.running():
            for tenant in ("", "*", "acme"):
                await cluster.set_quota(tenant, QuotaChange(waiting=5))
            await cluster.set_quota("acme", QuotaChange(weight=3))
            assert await remove_tenant(await cluster.term(), "*")
            assert not await remove_tenant(await cluster.term(), "*")
            await next_leader(cluster)
            assert (await cluster.term()).view.quotas.named() == ["", "acme"]
            assert (await status_of(cluster, "acme")).quota == Quota(waiting=5, weight=3)

    run_virtually(check())


def test_what_a_deposed_leader_is_asked_changes_nothing() -> None:
    async def check() -> None:
        cluster = SimulatedCluster(Weather())
        async with asyncio.timeout(100), cluster.running():
            await cluster.set_quota("acme", QuotaChange(waiting=5))
            old = await cluster.term()
            await next_leader(cluster)
            with pytest.raises(FailedPreconditionError, match="no longer leads"):
                await old.mutations.change_quota("acme", QuotaChange(waiting=9).apply)
            assert (await status_of(cluster, "acme")).quota.waiting == 5

    run_virtually(check())


arrivals = st.lists(
    st.tuples(st.sampled_from(("acme", "other")), st.sampled_from((0.0, 0.5, 2.0)), st.sampled_from((1.0, 5.0, 20.0))),
    min_size=5,
    max_size=25,
)
reigns = st.lists(st.sampled_from((1.0, 3.0, 8.0)), min_size=1, max_size=3)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(arrivals, st.integers(1, 3), reigns)
def test_no_leader_lets_a_tenant_run_more_than_it_may(
    asked: list[tuple[str, float, float]], most: int, lives: list[float]
) -> None:
    """Leaders die one after the other while generations come and go; what they grant is counted at the workers."""
    seen = count()

    async def watch(cluster: SimulatedCluster) -> None:
        while True:
            assert cluster.running_of("acme") <= most
            next(seen)
            await asyncio.sleep(0.05)

    async def depose(cluster: SimulatedCluster) -> None:
        for seconds in lives:
            await asyncio.sleep(seconds)
            await next_leader(cluster)

    async def check() -> None:
        cluster = SimulatedCluster(Weather())
        cluster.add_model(MODEL)
        async with asyncio.timeout(1000), cluster.running():
            await cluster.set_quota("acme", QuotaChange(generations=most))
            watching = asyncio.create_task(watch(cluster))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(depose(cluster))
                for number, (tenant, pause_seconds, seconds) in enumerate(asked):
                    await asyncio.sleep(pause_seconds)
                    tasks.create_task(cluster.generate("m", f"g{number}", seconds, tenant))
            assert not watching.done(), watching.exception()
            watching.cancel()
        assert cluster.names("tenants") == ["acme"]

    run_virtually(check())
    assert next(seen) > 0
