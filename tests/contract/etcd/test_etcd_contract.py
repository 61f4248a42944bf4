"""What the etcd client promises, of a real etcd and of the simulated one alike."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from kindling.platform.errors import NotFoundError, OutOfRangeError
from kindling.platform.etcd import (
    Batch,
    Compare,
    Delete,
    DeletePrefix,
    DeleteResult,
    EtcdClient,
    EventKind,
    Get,
    GetPrefix,
    GetResult,
    Put,
    PutResult,
    Relation,
    Snapshot,
    absent,
)
from support.etcd_worlds import Check, World

Run = Callable[[Check], None]


def test_keys_have_revisions_and_versions(run: Run) -> None:
    async def check(world: World) -> None:
        key = f"{world.prefix}a"
        async with world.client() as etcd:
            assert await etcd.get(key) is None
            first = await etcd.put(key, b"1")
            second = await etcd.put(key, b"2")
            item = await etcd.get(key)
            assert item is not None
            assert (item.value, item.version, item.create_revision, item.mod_revision) == (b"2", 2, first, second)
            assert await etcd.delete(key)
            assert not await etcd.delete(key)
            assert await etcd.put(key, b"3") == second + 2, "deleting what is not there is no revision"
            again = await etcd.get(key)
            assert again is not None
            assert (again.version, again.create_revision) == (1, second + 2)

    run(check)


def test_prefixes_are_read_in_order_and_deleted_whole(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd:
            for name in ("b", "a", "ab", "c"):
                await etcd.put(world.prefix + name, name.encode())
            await etcd.put(world.prefix[:-1], b"not below the prefix")
            items = (await etcd.get_prefix(world.prefix)).items
            assert [item.value for item in items] == [b"a", b"ab", b"b", b"c"]
            assert await etcd.delete_prefix(f"{world.prefix}a") == 2
            assert len((await etcd.get_prefix(world.prefix)).items) == 2

    run(check)


def test_transactions_do_all_or_nothing_at_one_revision(run: Run) -> None:
    async def check(world: World) -> None:
        a, b = f"{world.prefix}a", f"{world.prefix}b"
        async with world.client() as etcd:
            done = await etcd.transact([absent(a)], [Put(a, b"1"), Put(b, b"1"), Get(a)])
            assert done.succeeded
            assert done.responses[:2] == (PutResult(), PutResult())
            read = done.responses[2]
            assert isinstance(read, GetResult)
            assert {item.mod_revision for item in (await etcd.get_prefix(world.prefix)).items} == {done.revision}

            refused = await etcd.transact([absent(a)], [Delete(a)], [GetPrefix(world.prefix)])
            assert not refused.succeeded
            assert refused.revision == done.revision, "reading is no revision"
            deleted = await etcd.transact([], [Delete(a), DeletePrefix(world.prefix), Delete(b)])
            assert deleted.responses == (DeleteResult(1), DeleteResult(1), DeleteResult(0))

    run(check)


@pytest.mark.parametrize("is_there", [True, False])
def test_every_comparison(run: Run, is_there: bool) -> None:
    async def check(world: World) -> None:
        key = f"{world.prefix}key"
        async with world.client() as etcd:
            revision = await etcd.put(key, b"5") if is_there else 0
            for relation, numbers in (
                (Relation.EQUAL, [False, True, False]),
                (Relation.NOT_EQUAL, [True, False, True]),
                (Relation.GREATER, [True, False, False]),
                (Relation.LESS, [False, False, True]),
            ):
                version = 1 if is_there else 0
                for compare, value in ((Compare.version, version), (Compare.create_revision, revision)):
                    assert [await _holds(etcd, compare(key, relation, value + add)) for add in (-1, 0, 1)] == numbers
                by_revision = [Compare.mod_revision(key, relation, revision + add) for add in (-1, 0, 1)]
                assert [await _holds(etcd, compare) for compare in by_revision] == numbers
                by_value = [Compare.value(key, relation, value) for value in (b"4", b"5", b"6")]
                assert [await _holds(etcd, compare) for compare in by_value] == (numbers if is_there else [False] * 3)

    run(check)


async def _holds(etcd: EtcdClient, compare: Compare) -> bool:
    return (await etcd.transact([compare], [])).succeeded


def test_keys_go_with_their_lease(run: Run) -> None:
    async def check(world: World) -> None:
        key = f"{world.prefix}key"
        async with world.client() as etcd:
            async with etcd.lease(60) as lease:
                await etcd.put(key, b"", lease_id=lease.lease_id)
                await etcd.put(f"{world.prefix}kept", b"", lease_id=lease.lease_id)
                await etcd.put(f"{world.prefix}kept", b"")
                item = await etcd.get(key)
                assert item is not None
                assert item.lease_id == lease.lease_id
            assert lease.lost.is_set()
            assert [item.key for item in (await etcd.get_prefix(world.prefix)).items] == [f"{world.prefix}kept"]
            with pytest.raises(NotFoundError):
                await etcd.put(key, b"", lease_id=lease.lease_id)

    run(check)


def test_a_lease_is_kept_alive_for_as_long_as_it_is_held(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd, etcd.lease(1) as lease:
            await etcd.put(world.prefix, b"", lease_id=lease.lease_id)
            await asyncio.sleep(1.3)
            assert not lease.lost.is_set()
            assert await etcd.get(world.prefix) is not None

    run(check)


def test_a_watch_tells_what_is_there_and_then_every_change(run: Run) -> None:
    async def check(world: World) -> None:
        a, b = f"{world.prefix}a", f"{world.prefix}b"
        async with world.client() as etcd:
            await etcd.put(a, b"1")
            async with asyncio.timeout(10), aclosing(etcd.watch(world.prefix)) as updates:
                first = await anext(updates)
                assert isinstance(first, Snapshot)
                assert [item.key for item in first.items] == [a]
                await etcd.transact([], [Put(b, b"1"), Delete(a)])
                await etcd.put("/elsewhere", b"")
                last = await etcd.put(b, b"2")
                batches: list[Batch] = []
                while not batches or batches[-1].revision < last:
                    batch = await anext(updates)
                    assert isinstance(batch, Batch)
                    batches.append(batch)
        events = [(event.kind, event.item.key) for batch in batches for event in batch.events]
        assert sorted(events[:2], key=lambda event: event[1]) == [(EventKind.DELETE, a), (EventKind.PUT, b)]
        assert events[2:] == [(EventKind.PUT, b)]
        assert {event.item.mod_revision for event in batches[0].events} >= {last - 2}, "one change is never split"

    run(check)


def test_a_watch_of_one_key_sees_no_other(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd, aclosing(etcd.watch_key(f"{world.prefix}a")) as updates:
            async with asyncio.timeout(10):
                assert await anext(updates) == Snapshot((await etcd.get_prefix("/none")).revision, ())
                await etcd.put(f"{world.prefix}ab", b"")
                await etcd.put(f"{world.prefix}a", b"")
                batch = await anext(updates)
        assert isinstance(batch, Batch)
        assert [event.item.key for event in batch.events] == [f"{world.prefix}a"]

    run(check)


def test_a_revision_is_compacted_once(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd:
            revision = await etcd.put(world.prefix, b"")
            await etcd.compact(revision)
            with pytest.raises(OutOfRangeError):
                await etcd.compact(revision)
            with pytest.raises(OutOfRangeError):
                await etcd.compact(revision + 1000)

    run(check)
