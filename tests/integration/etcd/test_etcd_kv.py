import pytest

from kindling.platform.errors import AbortedError, InvalidArgumentError, NotFoundError
from kindling.platform.etcd import (
    Compare,
    Delete,
    DeletePrefix,
    DeleteResult,
    EtcdClient,
    Get,
    GetPrefix,
    GetResult,
    Put,
    PutResult,
    Relation,
    absent,
)
from support.etcd_server import EtcdServer
from support.tcp_relay import running_relay


async def test_a_written_key_is_read_back_with_its_revisions(client: EtcdClient, prefix: str) -> None:
    created = await client.put(f"{prefix}a", b"\x00one")
    changed = await client.put(f"{prefix}a", b"two")
    item = await client.get(f"{prefix}a")
    assert item is not None
    assert (item.key, item.value, item.version, item.lease_id) == (f"{prefix}a", b"two", 2, 0)
    assert (item.create_revision, item.mod_revision) == (created, changed)


async def test_an_absent_key_is_none(client: EtcdClient, prefix: str) -> None:
    assert await client.get(f"{prefix}nothing") is None


async def test_a_prefix_is_read_in_order_at_one_revision(client: EtcdClient, prefix: str) -> None:
    for name in ("b", "ä", "a"):
        revision = await client.put(prefix + name, name.encode())
    snapshot = await client.get_prefix(prefix)
    assert [item.key for item in snapshot.items] == [f"{prefix}a", f"{prefix}b", f"{prefix}ä"]
    assert snapshot.revision >= revision


async def test_the_empty_prefix_means_every_key(client: EtcdClient, prefix: str) -> None:
    await client.put(prefix, b"")
    assert prefix in {item.key for item in (await client.get_prefix("")).items}


async def test_delete_says_whether_the_key_was_there(client: EtcdClient, prefix: str) -> None:
    await client.put(f"{prefix}a", b"")
    assert await client.delete(f"{prefix}a") is True
    assert await client.delete(f"{prefix}a") is False


async def test_delete_prefix_leaves_neighbours_alone(client: EtcdClient, prefix: str) -> None:
    for key in (f"{prefix}a/1", f"{prefix}a/2", f"{prefix}ab"):
        await client.put(key, b"")
    assert await client.delete_prefix(f"{prefix}a/") == 2
    assert [item.key for item in (await client.get_prefix(prefix)).items] == [f"{prefix}ab"]


async def test_a_value_larger_than_grpcs_default_limit_is_read(client: EtcdClient, prefix: str) -> None:
    for number in range(5):
        await client.put(f"{prefix}{number}", bytes(1_000_000))
    assert sum(len(item.value) for item in (await client.get_prefix(prefix)).items) == 5_000_000


async def test_a_transaction_runs_the_list_its_conditions_choose(client: EtcdClient, prefix: str) -> None:
    key = f"{prefix}a"
    first = await client.transact([absent(key)], [Put(key, b"1")])
    assert (first.succeeded, first.responses) == (True, (PutResult(),))
    second = await client.transact([absent(key)], [Put(key, b"2")], [Get(key)])
    assert not second.succeeded
    [read] = second.responses
    assert isinstance(read, GetResult)
    assert [(item.value, item.mod_revision) for item in read.items] == [(b"1", first.revision)]


async def test_a_transaction_takes_every_kind_of_operation(client: EtcdClient, prefix: str) -> None:
    for name in ("a", "b/1", "b/2", "c"):
        await client.put(prefix + name, b"")
    result = await client.transact(
        [], [Delete(f"{prefix}a"), DeletePrefix(f"{prefix}b/"), GetPrefix(prefix), Put(f"{prefix}d", b"")]
    )
    assert result.responses[:2] == (DeleteResult(1), DeleteResult(2))
    read = result.responses[2]
    assert isinstance(read, GetResult)
    assert [item.key for item in read.items] == [f"{prefix}c"]
    assert result.responses[3] == PutResult()


@pytest.mark.parametrize(
    ("relation", "offset", "holds"),
    [
        (Relation.EQUAL, 0, True),
        (Relation.EQUAL, 1, False),
        (Relation.NOT_EQUAL, 1, True),
        (Relation.NOT_EQUAL, 0, False),
        (Relation.GREATER, -1, True),
        (Relation.GREATER, 0, False),
        (Relation.LESS, 1, True),
        (Relation.LESS, 0, False),
    ],
)
async def test_numbers_are_compared(
    client: EtcdClient, prefix: str, relation: Relation, offset: int, holds: bool
) -> None:
    created = await client.put(prefix, b"")
    changed = await client.put(prefix, b"")
    for compare in (
        Compare.create_revision(prefix, relation, created + offset),
        Compare.mod_revision(prefix, relation, changed + offset),
        Compare.version(prefix, relation, 2 + offset),
    ):
        assert (await client.transact([compare], [])).succeeded is holds


async def test_values_are_compared(client: EtcdClient, prefix: str) -> None:
    await client.put(prefix, b"b")
    assert (await client.transact([Compare.value(prefix, Relation.EQUAL, b"b")], [])).succeeded
    assert (await client.transact([Compare.value(prefix, Relation.GREATER, b"a")], [])).succeeded
    assert not (await client.transact([Compare.value(prefix, Relation.LESS, b"a")], [])).succeeded


async def test_etcds_refusals_become_errors_with_a_reason(client: EtcdClient, prefix: str) -> None:
    with pytest.raises(InvalidArgumentError, match="key is not provided"):
        await client.put("", b"")
    with pytest.raises(NotFoundError) as caught:
        await client.put(prefix, b"", lease_id=4711)
    assert caught.value.reason == "ETCD_LEASE_NOT_FOUND"


async def test_the_version_is_that_of_the_server(client: EtcdClient) -> None:
    assert (await client.version()).startswith("3.")


async def test_calls_survive_a_restart(own_etcd: EtcdServer) -> None:
    async with EtcdClient([own_etcd.endpoint]) as client:
        await client.put("a", b"1")
        own_etcd.kill()
        await own_etcd.restart_async()
        assert (await client.transact([absent("b")], [Put("b", b"2")])).succeeded
        item = await client.get("a")
    assert item is not None
    assert item.value == b"1"


async def test_a_transaction_is_not_repeated_when_its_answer_is_lost(own_etcd: EtcdServer) -> None:
    async with running_relay(own_etcd.endpoint) as relay, EtcdClient([relay.endpoint]) as client:
        await client.put("counter", b"0")
        relay.drop_answers()
        with pytest.raises(AbortedError) as caught:
            await client.transact([], [Put("counter", b"1")])
        assert caught.value.reason == "ETCD_AMBIGUOUS"
    async with EtcdClient([own_etcd.endpoint]) as direct:
        item = await direct.get("counter")
    assert item is not None
    assert (item.value, item.version) == (b"1", 2)
