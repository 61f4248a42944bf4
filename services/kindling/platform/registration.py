"""Keys that exist in etcd as long as this process lives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kindling.platform.background import alongside
from kindling.platform.errors import AbortedError, DeadlineExceededError, NotFoundError, UnavailableError
from kindling.platform.etcd import EtcdClient
from kindling.platform.logging import get_logger

log = get_logger(__name__)
# What etcd being away, or forgetting our lease while it was, looks like from here.
_OUTAGE = (UnavailableError, DeadlineExceededError, AbortedError, NotFoundError)


class Registration:
    """Some keys on one lease. A change is written soon; after an outage of etcd all are written again."""

    def __init__(self, etcd: EtcdClient, ttl_seconds: float) -> None:
        self._etcd = etcd
        self._ttl_seconds = ttl_seconds
        self._wanted: dict[str, bytes] = {}
        self._published: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self.complete = asyncio.Event()

    def set(self, key: str, value: bytes) -> None:
        """Want ``key`` to be ``value``."""
        if self._wanted.get(key) != value:
            self._wanted[key] = value
            self._note_change()

    def remove(self, key: str) -> None:
        """Want ``key`` to be gone."""
        if self._wanted.pop(key, None) is not None:
            self._note_change()

    def _note_change(self) -> None:
        self.complete.clear()
        self._changed.set()

    async def run(self) -> None:
        """Keep the keys as wanted until cancelled; then the lease is revoked and they go."""
        while True:
            try:
                await self._run_on_one_lease()
            except* _OUTAGE as group:
                log.warning("registration_interrupted", errors=[str(error) for error in group.exceptions])

    async def _run_on_one_lease(self) -> None:
        async with self._etcd.lease(self._ttl_seconds) as lease, asyncio.TaskGroup() as tasks:
            self._published = {}
            self._changed.set()
            publisher = tasks.create_task(self._publish_changes(lease.lease_id))
            await lease.lost.wait()
            publisher.cancel()

    async def _publish_changes(self, lease_id: int) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._publish(lease_id)
            if not self._changed.is_set():
                self.complete.set()

    async def _publish(self, lease_id: int) -> None:
        wanted = dict(self._wanted)
        for key in self._published.keys() - wanted.keys():
            await self._etcd.delete(key)
        for key, value in wanted.items():
            if self._published.get(key) != value:
                await self._etcd.put(key, value, lease_id=lease_id)
        self._published = wanted


@asynccontextmanager
async def registered(etcd: EtcdClient, key: str, value: bytes, ttl_seconds: float) -> AsyncIterator[Registration]:
    """Hold ``key`` (and what is set later) in etcd inside the context, as soon as and whenever etcd can be reached.

    The context begins at once: a service must obey its signals while etcd is away. ``complete`` tells when the keys
    are there.
    """
    registration = Registration(etcd, ttl_seconds)
    registration.set(key, value)
    async with alongside(registration.run()):
        yield registration
