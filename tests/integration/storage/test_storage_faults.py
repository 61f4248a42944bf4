"""Damaged bytes, vanished files, full disks: repaired, or a clear error; never a wrong weight."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import DataLossError, FailedPreconditionError, KindlingError, ResourceExhaustedError
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, flip_bit, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

EVERYTHING_IN_DRAM = 16 * CHUNK_BYTES
NOTHING_IN_DRAM = 0


def sources(report: checkpoint_pb2.LoadReport) -> dict[int, int]:
    return {getattr(flow, "from"): flow.bytes for flow in report.traffic}


async def load(
    place: Place, manifest: Manifest, *, expected: bytes, pool_bytes: int = EVERYTHING_IN_DRAM
) -> dict[int, int]:
    """Load in a storage manager of its own, check every byte, and tell which tier gave how much."""
    async with storage_node(place, pool_bytes=pool_bytes) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        report = await lease.loaded()
        memory = await asyncio.to_thread(lease.take_memory)
        assert memory.content() == expected
        memory.close()
        return sources(report)


async def failing_load(place: Place, manifest: Manifest, pool_bytes: int = EVERYTHING_IN_DRAM) -> KindlingError:
    """Load in a storage manager of its own, and return the error."""
    async with storage_node(place, pool_bytes=pool_bytes) as (node, stub):
        with pytest.raises(KindlingError) as caught:
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
        await all_released(node)
        assert node.tiers.pool.pinned_bytes == 0
        node.tiers.pool.check_integrity()
        node.tiers.ledger.check_integrity()
        return caught.value


@pytest.mark.parametrize("pool_bytes", [EVERYTHING_IN_DRAM, NOTHING_IN_DRAM])
async def test_a_bad_ssd_chunk_is_repaired_from_remote(place: Place, pool_bytes: int) -> None:
    manifest = make_checkpoint(place.remote)
    expected = partition_path(place.remote, manifest).read_bytes()
    await load(place, manifest, expected=expected, pool_bytes=pool_bytes)
    flip_bit(partition_path(place.copies, manifest), CHUNK_BYTES + 5)
    traffic = await load(place, manifest, expected=expected, pool_bytes=pool_bytes)
    assert traffic[checkpoint_pb2.TIER_REMOTE] == CHUNK_BYTES
    assert partition_path(place.copies, manifest).read_bytes() == expected
    traffic = await load(place, manifest, expected=expected, pool_bytes=pool_bytes)
    assert traffic == {checkpoint_pb2.TIER_SSD: manifest.total_bytes}


async def test_a_bad_remote_chunk_fails_the_load_and_nothing_is_sealed(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    path = partition_path(place.remote, manifest)
    flip_bit(path, 2 * CHUNK_BYTES)
    error = await failing_load(place, manifest)
    assert isinstance(error, DataLossError)
    assert error.reason == "CHUNK_CORRUPT"
    assert (error.metadata["file"], error.metadata["chunk"]) == (str(path), "2")
    assert [copy.suffix for copy in place.copies.iterdir()] == [".partial"]
    flip_bit(path, 2 * CHUNK_BYTES)
    assert await load(place, manifest, expected=path.read_bytes())


async def test_bad_at_both_tiers_fails_and_puts_the_copy_aside(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    await load(place, manifest, expected=partition_path(place.remote, manifest).read_bytes())
    flip_bit(partition_path(place.copies, manifest), 7)
    flip_bit(partition_path(place.remote, manifest), 7)
    error = await failing_load(place, manifest)
    assert error.reason == "CHUNK_CORRUPT"
    assert [path.suffix for path in place.copies.iterdir()] == [".quarantined"]


@pytest.mark.parametrize("damage", ["vanish", "truncate"])
async def test_a_copy_cut_short_or_gone_is_fetched_again(place: Place, damage: str) -> None:
    manifest = make_checkpoint(place.remote)
    expected = partition_path(place.remote, manifest).read_bytes()
    async with storage_node(place) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
        await all_released(node)
        node.tiers.pool.evict(manifest.digest)
        copy = partition_path(place.copies, manifest)
        if damage == "vanish":
            copy.unlink()
        else:
            with copy.open("r+b") as file:
                file.truncate(100)
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert sources(await lease.loaded()) == {checkpoint_pb2.TIER_REMOTE: manifest.total_bytes}
        await all_released(node)
        assert copy.read_bytes() == expected


async def test_a_copy_found_damaged_at_start_is_put_aside(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    expected = partition_path(place.remote, manifest).read_bytes()
    await load(place, manifest, expected=expected)
    (partition_path(place.copies, manifest).parent / "manifest.json").write_text("{}")
    assert await load(place, manifest, expected=expected) == {checkpoint_pb2.TIER_REMOTE: manifest.total_bytes}


async def test_a_vanished_remote_file_is_named(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    path = partition_path(place.remote, manifest)
    path.unlink()
    error = await failing_load(place, manifest)
    assert isinstance(error, DataLossError)
    assert (error.reason, error.metadata["file"]) == ("CHUNK_UNREADABLE", str(path))


async def test_a_manifest_of_another_checkpoint_is_refused(place: Place) -> None:
    one, two = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2)
    directory = partition_path(place.remote, one).parent
    (directory / "manifest.json").write_bytes((partition_path(place.remote, two).parent / "manifest.json").read_bytes())
    assert (await failing_load(place, one)).reason == "MANIFEST_INVALID"


async def test_without_room_on_the_ssd_the_pool_serves_alone(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place, cache_bytes=CHUNK_BYTES) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()
        await all_released(node)
        assert not list(place.copies.iterdir())


async def test_room_nowhere_says_how_much_is_lacking(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place, cache_bytes=CHUNK_BYTES, pool_bytes=2 * CHUNK_BYTES) as (node, stub):
        with pytest.raises(ResourceExhaustedError) as caught:
            async with open_checkpoint(stub, manifest.digest):
                pass
        error = caught.value
        lacking = manifest.total_bytes - 2 * CHUNK_BYTES
        assert error.reason == "POOL_TOO_SMALL"
        assert (error.metadata["needed_bytes"], error.metadata["available_bytes"], error.metadata["lacking_bytes"]) == (
            str(manifest.total_bytes),
            str(2 * CHUNK_BYTES),
            str(lacking),
        )
        assert str(lacking) in error.message
        assert node.tiers.pool.pinned_bytes == 0


async def test_the_ssd_tier_evicts_what_was_used_least_recently(place: Place) -> None:
    manifests = [make_checkpoint(place.remote, chunks=3, seed=seed) for seed in range(3)]
    async with storage_node(place, cache_bytes=5 * CHUNK_BYTES) as (node, stub):
        for manifest in manifests:
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
            await all_released(node)
        assert set(node.tiers.ledger.digests()) == {manifest.digest for manifest in manifests[1:]}
        assert len(list(place.copies.iterdir())) == 2
        node.tiers.ledger.check_integrity()


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="a small disk of its own needs the right to mount")
@pytest.mark.parametrize("disk_bytes", [8192, 3 * CHUNK_BYTES])
async def test_a_disk_that_is_really_full_is_no_harm_while_the_pool_has_room(place: Place, disk_bytes: int) -> None:
    manifest = make_checkpoint(place.remote)
    expected = partition_path(place.remote, manifest).read_bytes()
    socket_path = place.root / "s.sock"
    with small_disk(place.cache, disk_bytes):
        async with (
            storage_node(place, socket_path=socket_path) as (_, stub),
            open_checkpoint(stub, manifest.digest) as lease,
        ):
            assert sources(await lease.loaded()) == {checkpoint_pb2.TIER_REMOTE: manifest.total_bytes}
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == expected
            assert (Path(lease.opened.files_directory) / "config.json").is_file()
            memory.close()
        async with storage_node(place, socket_path=socket_path, pool_bytes=CHUNK_BYTES) as (_, stub):
            with pytest.raises(ResourceExhaustedError, match="lacks"):
                async with open_checkpoint(stub, manifest.digest):
                    pass


async def test_a_second_storage_manager_on_the_same_directory_is_refused(place: Place) -> None:
    async with storage_node(place):
        with pytest.raises(FailedPreconditionError) as caught:
            async with storage_node(place):
                pass
        assert caught.value.reason == "CACHE_DIR_IN_USE"


async def test_evicting_needs_a_tier(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub):
        with pytest.raises(Exception, match="say which tier"):
            await stub.EvictCheckpoint(storage_pb2.EvictCheckpointRequest(digest=manifest.digest))
