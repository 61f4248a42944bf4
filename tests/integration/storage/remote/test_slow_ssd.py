"""A slow SSD does not hold up what arrives in DRAM, and gets its copy all the same."""

import asyncio
from typing import Any

from kindling.checkpoint import Manifest
from kindling.v1 import checkpoint_pb2
from support.object_store import FaultyServer
from support.storage_checkpoint import make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node


class GatedSsd:
    """An SSD whose writes wait for ``gate``."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, manifest: Manifest) -> "GatedCopy":
        return GatedCopy(await self._inner.create(manifest), self.gate)


class GatedCopy:
    def __init__(self, inner: Any, gate: asyncio.Event) -> None:
        self._inner = inner
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        await self._gate.wait()
        await self._inner.write_chunk(chunk, data, cached=cached)


async def test_everything_arrives_before_anything_is_written(place: Place, server: FaultyServer) -> None:
    manifest = make_checkpoint(place.remote, chunks=12)
    async with storage_node(place, remote_uri=server.uri) as (node, stub):
        ssd = node.tiers.ssd = GatedSsd(node.tiers.ssd)
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            assert not node.tiers.ledger.has(manifest.digest)
        ssd.gate.set()
        await all_released(node)
        assert node.tiers.ledger.has(manifest.digest)
        copy = partition_path(place.copies, manifest)
        assert copy.read_bytes() == partition_path(place.remote, manifest).read_bytes()


async def test_what_waits_to_be_written_is_no_hindrance_to_stopping(place: Place, server: FaultyServer) -> None:
    manifest = make_checkpoint(place.remote, chunks=12)
    async with storage_node(place, remote_uri=server.uri) as (node, stub):
        node.tiers.ssd = GatedSsd(node.tiers.ssd)
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert (await lease.next_event()).HasField("arrived")
            (holding,) = node.use_cases.opens.holdings()
            assert holding.load is not None
            holding.load.cancel()
        await all_released(node)
        assert not node.tiers.ledger.has(manifest.digest)
    async with storage_node(place, remote_uri=server.uri) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        report = await lease.loaded()
        assert sum(flow.bytes for flow in report.traffic) == manifest.total_bytes
        assert checkpoint_pb2.TIER_REMOTE in {getattr(flow, "from") for flow in report.traffic}
