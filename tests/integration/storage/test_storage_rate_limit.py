"""Slow disks and slow stores, made by settings."""

import pytest

from kindling.storage.domain.rate_limit import RateLimit
from kindling.v1 import checkpoint_pb2
from support.storage_checkpoint import make_checkpoint
from support.storage_node import Place, all_released, open_checkpoint, storage_node

RATE = 2_000_000


def test_transfers_are_booked_one_after_the_other() -> None:
    limit = RateLimit(100)
    assert limit.reserve(50, now=10.0) == 10.5
    assert limit.reserve(50, now=10.1) == 11.0
    assert limit.reserve(50, now=20.0) == 20.5, "time in which nothing was read is not saved up"


def test_no_limit_takes_no_time() -> None:
    assert RateLimit(0).reserve(1 << 40, now=3.0) == 3.0


async def traffic_of_a_load(place: Place, digest: str, **settings: object) -> checkpoint_pb2.TierTraffic:
    async with storage_node(place, **settings) as (node, stub):
        async with open_checkpoint(stub, digest) as lease:
            (flow,) = (await lease.loaded()).traffic
        await all_released(node)
        return flow


@pytest.mark.parametrize("tier", ["remote", "ssd"])
async def test_a_limited_tier_gives_its_rate_and_is_measured_so(place: Place, tier: str) -> None:
    manifest = make_checkpoint(place.remote, chunks=8)
    if tier == "ssd":
        await traffic_of_a_load(place, manifest.digest)  # leaves a copy, which the next load reads
    flow = await traffic_of_a_load(place, manifest.digest, **{f"{tier}_read_limit": RATE})
    assert getattr(flow, "from") == checkpoint_pb2.Tier.Value(f"TIER_{tier.upper()}")
    assert flow.bytes == manifest.total_bytes
    assert flow.seconds >= manifest.total_bytes / RATE
