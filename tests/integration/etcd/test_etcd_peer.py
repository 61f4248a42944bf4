"""Our client beside an independent one, `etcd3`, on the same etcd."""

import asyncio
import fcntl
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kindling.platform.etcd import Compare, EtcdClient, EventKind, Put, Relation, WatchEvent, WatchUpdate, absent
from support.etcd_server import EtcdServer

PEER = Path(__file__).parent / "peer"
ENVIRONMENT = Path(__file__).parents[3] / ".tools" / "etcd3-peer"


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """The interpreter of an environment that has `etcd3`; made once, and again when its requirements change."""
    requirements = (PEER / "requirements.txt").read_text()
    installed = ENVIRONMENT / "requirements.txt"
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with ENVIRONMENT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != requirements:
            _make_environment()
            installed.write_text(requirements)
    return ENVIRONMENT / "bin" / "python"


def _make_environment() -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = (ENVIRONMENT / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "install", "--requirement", PEER / "requirements.txt"], check=True)


class Peer:
    """Runs peer.py against one etcd."""

    def __init__(self, python: Path, server: EtcdServer) -> None:
        self._command = [str(python), str(PEER / "peer.py"), server.endpoint.rpartition(":")[2]]

    async def ask(self, *arguments: str) -> dict[str, Any]:
        async with self.running(*arguments) as process:
            output, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(output)

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*self._command, *arguments, **pipes)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
def peer(peer_python: Path, shared_etcd: EtcdServer) -> Peer:
    return Peer(peer_python, shared_etcd)


async def test_the_peer_reads_what_we_write(client: EtcdClient, peer: Peer, prefix: str) -> None:
    async with client.lease(30) as lease:
        created = await client.put(prefix, "früher".encode(), lease_id=lease.lease_id)
        changed = (await client.transact([], [Put(prefix, "später".encode(), lease.lease_id)])).revision
        assert await peer.ask("read", prefix) == {
            "value": "später",
            "lease_id": lease.lease_id,
            "create_revision": created,
            "mod_revision": changed,
        }


async def test_the_peers_lease_holds_a_key_that_we_see_go_with_it(client: EtcdClient, peer: Peer, prefix: str) -> None:
    async with peer.running("hold_lease", prefix, "30") as process, aclosing(client.watch_key(prefix)) as updates:
        assert process.stdout is not None
        assert process.stdin is not None
        held = json.loads(await process.stdout.readline())
        item = await client.get(prefix)
        await anext(updates)  # the watch begins with what is there: were the key gone by then, nothing would tell of it
        process.stdin.close()
        async for update in updates:
            if any(event.kind is EventKind.DELETE for event in events_of(update)):
                break
    assert item is not None
    assert (item.value, item.lease_id) == (b"held", held["lease_id"])


def events_of(update: WatchUpdate) -> tuple[WatchEvent, ...]:
    return getattr(update, "events", ())


async def test_either_side_wins_a_transaction_against_the_other(client: EtcdClient, peer: Peer, prefix: str) -> None:
    ours, theirs = f"{prefix}ours", f"{prefix}theirs"
    assert (await client.transact([absent(ours)], [Put(ours, b"we")])).succeeded
    assert await peer.ask("create", ours, "they") == {"won": False}
    assert await peer.ask("create", theirs, "they") == {"won": True}
    assert not (await client.transact([absent(theirs)], [Put(theirs, b"we")])).succeeded
    assert (await client.transact([Compare.value(theirs, Relation.EQUAL, b"they")], [])).succeeded


async def test_one_of_many_racing_on_both_sides_wins(client: EtcdClient, peer: Peer, prefix: str) -> None:
    async def race() -> bool:
        return (await client.transact([absent(prefix)], [Put(prefix, b"we")])).succeeded

    async def race_as_peer() -> bool:
        return (await peer.ask("create", prefix, "they"))["won"]

    results = await asyncio.gather(race_as_peer(), race(), race_as_peer())
    assert results.count(True) == 1
