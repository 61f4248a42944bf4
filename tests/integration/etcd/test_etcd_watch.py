import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from kindling.platform.errors import UnavailableError
from kindling.platform.etcd import Batch, Delete, EtcdClient, EventKind, Put, Snapshot, WatchEvent, WatchUpdate
from support.etcd_server import EtcdServer, running_etcd
from support.tcp_relay import TcpRelay, running_relay


async def next_batch(updates: AsyncGenerator[WatchUpdate, None]) -> Batch:
    update = await anext(updates)
    assert isinstance(update, Batch)
    return update


async def next_snapshot(updates: AsyncGenerator[WatchUpdate, None]) -> Snapshot:
    update = await anext(updates)
    assert isinstance(update, Snapshot)
    return update


async def events_until(updates: AsyncGenerator[WatchUpdate, None], revision: int) -> list[WatchEvent]:
    events: list[WatchEvent] = []
    while not events or events[-1].item.mod_revision < revision:
        events += (await next_batch(updates)).events
    return events


@asynccontextmanager
async def relayed_watch(
    server: EtcdServer,
) -> AsyncIterator[tuple[TcpRelay, EtcdClient, AsyncGenerator[WatchUpdate, None]]]:
    """A watch of k/ through a relay, begun, and a client that does not depend on the relay."""
    async with (
        running_relay(server.endpoint) as relay,
        EtcdClient([server.endpoint]) as writer,
        EtcdClient([relay.endpoint]) as client,
        aclosing(client.watch("k/")) as updates,
    ):
        await next_snapshot(updates)
        yield relay, writer, updates


async def test_a_watch_begins_with_what_is_there(client: EtcdClient, prefix: str) -> None:
    revision = await client.put(f"{prefix}a", b"1")
    async with aclosing(client.watch(prefix)) as updates:
        snapshot = await next_snapshot(updates)
    assert [(item.key, item.value) for item in snapshot.items] == [(f"{prefix}a", b"1")]
    assert snapshot.revision >= revision


async def test_puts_and_deletes_come_with_their_revisions(client: EtcdClient, prefix: str) -> None:
    key = f"{prefix}a"
    async with aclosing(client.watch(prefix)) as updates:
        await next_snapshot(updates)
        written = await client.put(key, b"1")
        await client.delete(key)
        events = await events_until(updates, written + 1)
    assert [(event.kind, event.item.mod_revision) for event in events] == [
        (EventKind.PUT, written),
        (EventKind.DELETE, written + 1),
    ]
    assert (events[0].item.value, events[1].item.key) == (b"1", key)


async def test_a_transactions_changes_come_in_one_batch(client: EtcdClient, prefix: str) -> None:
    await client.put(f"{prefix}a", b"")
    async with aclosing(client.watch(prefix)) as updates:
        await next_snapshot(updates)
        result = await client.transact([], [Delete(f"{prefix}a"), Put(f"{prefix}b", b"1")])
        batch = await next_batch(updates)
    assert batch.revision == result.revision
    assert {(event.kind, event.item.key) for event in batch.events} == {
        (EventKind.DELETE, f"{prefix}a"),
        (EventKind.PUT, f"{prefix}b"),
    }


async def test_watching_one_key_ignores_those_it_is_a_prefix_of(client: EtcdClient, prefix: str) -> None:
    async with aclosing(client.watch_key(f"{prefix}a")) as updates:
        await next_snapshot(updates)
        await client.put(f"{prefix}ab", b"")
        revision = await client.put(f"{prefix}a", b"")
        batch = await next_batch(updates)
    assert [event.item.mod_revision for event in batch.events] == [revision]


async def test_compacted_history_is_replaced_by_a_snapshot(own_etcd: EtcdServer) -> None:
    async with relayed_watch(own_etcd) as (relay, writer, updates):
        relay.cut()
        await writer.put("k/a", b"1")
        await writer.delete("k/a")
        await writer.compact(await writer.put("k/b", b"2"))
        relay.mend()
        snapshot = await next_snapshot(updates)
        revision = await writer.put("k/c", b"3")
        batch = await next_batch(updates)
    assert [(item.key, item.value) for item in snapshot.items] == [("k/b", b"2")]
    assert batch.revision == revision


async def test_a_watch_of_a_store_that_went_back_in_time_begins_anew(own_etcd: EtcdServer) -> None:
    with running_etcd() as younger:
        async with EtcdClient([own_etcd.endpoint, younger.endpoint]) as client:
            for _ in range(5):
                await client.put("k/old", b"")
            async with aclosing(client.watch("k/")) as updates:
                await next_snapshot(updates)
                own_etcd.kill()
                snapshot = await next_snapshot(updates)
                revision = await client.put("k/new", b"")
                assert (await next_batch(updates)).revision == revision
    assert snapshot.items == ()


async def test_responses_in_fragments_are_put_together(own_etcd: EtcdServer) -> None:
    async with relayed_watch(own_etcd) as (relay, writer, updates):
        relay.cut()
        revisions = [await writer.put(f"k/{number}", bytes(1_000_000)) for number in range(5)]
        relay.mend()
        batch = await next_batch(updates)
    assert [event.item.mod_revision for event in batch.events] == revisions


async def test_a_break_in_the_middle_of_a_long_history_loses_nothing(own_etcd: EtcdServer) -> None:
    async with relayed_watch(own_etcd) as (relay, writer, updates):
        relay.cut()
        revisions = [await writer.put(f"k/{number}", bytes(5_000)) for number in range(1500)]
        relay.mend()
        first = await next_batch(updates)
        relay.cut()
        relay.mend()
        events = [*first.events, *await events_until(updates, revisions[-1])]
    assert 0 < len(first.events) < len(revisions), "etcd was expected to split the history"
    assert [event.item.mod_revision for event in events] == revisions


async def test_a_silent_connection_is_given_up(own_etcd: EtcdServer) -> None:
    async with relayed_watch(own_etcd) as (relay, writer, updates):
        revision = await writer.put("k/a", b"")
        await next_batch(updates)
        relay.freeze()
        revision = await writer.put("k/b", b"")
        async with asyncio.timeout(15):
            assert (await next_batch(updates)).revision == revision


@pytest.mark.faults
async def test_every_acknowledged_put_is_seen_once_and_in_order_across_three_kills(own_etcd: EtcdServer) -> None:
    puts, kill_after = 1_600, {400, 800, 1_200}
    acknowledged: list[tuple[int, bytes]] = []
    seen: list[tuple[int, bytes]] = []
    watching = asyncio.Event()

    async def follow(client: EtcdClient) -> None:
        async with aclosing(client.watch("k/")) as updates:
            assert (await next_snapshot(updates)).items == ()
            watching.set()
            while not seen or seen[-1][1] != b"end":
                batch = await next_batch(updates)
                seen.extend((event.item.mod_revision, event.item.value) for event in batch.events)

    async def put(client: EtcdClient, value: bytes) -> None:
        while True:
            with suppress(UnavailableError):
                acknowledged.append((await client.put("k/a", value), value))
                return

    async def write(client: EtcdClient, numbers: range) -> None:
        for number in numbers:
            await put(client, b"%d" % number)
            if number in kill_after:  # the other writer's put is under way
                own_etcd.kill()
                await own_etcd.restart_async()

    async def write_all(client: EtcdClient) -> None:
        await watching.wait()
        async with asyncio.TaskGroup() as writers:
            writers.create_task(write(client, range(0, puts, 2)))
            writers.create_task(write(client, range(1, puts, 2)))
        await put(client, b"end")

    async with (
        EtcdClient([own_etcd.endpoint]) as writer,
        EtcdClient([own_etcd.endpoint]) as watcher,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(follow(watcher))
        tasks.create_task(write_all(writer))

    revisions = [revision for revision, _ in seen]
    assert revisions == sorted(set(revisions)), "an event came twice or out of order"
    assert len(acknowledged) == puts + 1
    # A put whose answer was lost is repeated: its first event is seen too, though never acknowledged.
    missed = [event for event in acknowledged if event not in set(seen)]
    # One member before etcd 3.5.5 answers before it has written (etcd's issue 14370): what it forgets when killed in
    # between is lost to everyone, and its revision given to another put.
    assert [event for event in missed if not gave_twice(own_etcd, event, dict(seen))] == []
    assert len(missed) <= len(kill_after), "more than a put in flight at each kill was missed"


def gave_twice(server: EtcdServer, event: tuple[int, bytes], seen: dict[int, bytes]) -> bool:
    """Whether the server itself told of two values at the revision of ``event``: then, to a watch, and now."""
    revision, value = event
    answer = server.call_json("/v3/kv/range", {"key": b64encode(b"k/a").decode(), "revision": revision})
    return {b64decode(answer["kvs"][0]["value"]), seen.get(revision, value)} != {value}
