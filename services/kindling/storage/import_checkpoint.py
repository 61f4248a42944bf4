"""Packs a source into the remote store, once however many ask for it at the same time."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import InvalidArgumentError, KindlingError, NotFoundError, UnimplementedError
from kindling.platform.logging import get_logger
from kindling.storage.contained import outcome
from kindling.storage.ports import PackOrder, SourceStore
from kindling.storage.settings import SchemeError, require_location
from kindling.storage.tiers import Tiers

log = get_logger(__name__)
_REMEMBERED_REQUESTS = 256


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Bytes packed, of how many."""

    done_bytes: int
    total_bytes: int


@dataclass(slots=True)
class _Import:
    """An import under way and who follows it."""

    followers: int = 0
    progress: ImportProgress | None = None
    manifest: Manifest | None = None
    error: KindlingError | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def report(self, done_bytes: int, total_bytes: int) -> None:
        self.progress = ImportProgress(done_bytes, total_bytes)
        self.notify()


class ImportCheckpoint:
    """Runs imports in ``tasks``; one that nobody follows any more is stopped."""

    def __init__(self, tiers: Tiers, sources: SourceStore, tasks: asyncio.TaskGroup, chunk_bytes: int) -> None:
        self._tiers = tiers
        self._sources = sources
        self._tasks = tasks
        self._chunk_bytes = chunk_bytes
        self._running: dict[tuple[str, bool], _Import] = {}
        self._finished: OrderedDict[str, Manifest] = OrderedDict()

    async def run(
        self, request_id: str, source_uri: str, *, allow_pickle: bool
    ) -> AsyncGenerator[ImportProgress | Manifest, None]:
        """Yield progress and, last, the manifest; a request that was answered before is answered at once.

        Raises what packing raises, InvalidArgumentError (SOURCE_INVALID) and UnimplementedError (SCHEME_UNSUPPORTED).
        """
        _require_source(source_uri)
        if request_id in self._finished:
            yield self._finished[request_id]
            return
        work = self._join(source_uri, allow_pickle)
        try:
            async for event in _follow(work):
                if isinstance(event, Manifest):
                    self._remember(request_id, event)
                yield event
        finally:
            work.followers -= 1
            if not work.followers:
                work.stop.set()

    def _join(self, source: str, allow_pickle: bool) -> _Import:
        key = (source, allow_pickle)
        work = self._running.get(key)
        if work is None or work.stop.is_set():
            work = self._running[key] = _Import()
            self._tasks.create_task(self._pack(key, work), name=f"import {source}")
        work.followers += 1
        return work

    async def _pack(self, key: tuple[str, bool], work: _Import) -> None:
        loop = asyncio.get_running_loop()
        order = PackOrder(
            allow_pickle=key[1],
            chunk_bytes=self._chunk_bytes,
            on_progress=lambda done, total: _call_soon(loop, work, done, total),
            cancelled=work.stop.is_set,
        )
        try:
            work.error = await outcome(self._pack_into(work, key[0], order), f"importing {key[0]}")
            if work.error is not None:
                log.warning("import_failed", source=key[0], reason=work.error.reason, error=work.error.message)
        finally:
            if self._running.get(key) is work:
                del self._running[key]
            work.notify()

    async def _pack_into(self, work: _Import, source: str, order: PackOrder) -> None:
        manifest = await self._packed_already(source)
        if manifest is None:
            self._tiers.remote.require_writable()
            async with self._sources.directory(source, order) as (directory, packing):
                manifest = await self._tiers.remote.pack(directory, packing)
        work.manifest = manifest
        self._tiers.catalog.add(work.manifest)
        await self._tiers.count_remote()
        log.info("checkpoint_imported", digest=work.manifest.digest, source=source)

    async def _packed_already(self, source: str) -> Manifest | None:
        """The manifest of a source that is a packed checkpoint which the remote store has: nothing is left to do."""
        digest = await self._sources.packed_digest(source)
        if digest is None:
            return None
        try:
            return await self._tiers.remote.manifest(digest)
        except NotFoundError:
            return None

    def _remember(self, request_id: str, manifest: Manifest) -> None:
        if request_id:
            self._finished[request_id] = manifest
            if len(self._finished) > _REMEMBERED_REQUESTS:
                self._finished.popitem(last=False)

    def stop(self) -> None:
        """Stop every import soon."""
        for work in self._running.values():
            work.stop.set()


async def _follow(work: _Import) -> AsyncGenerator[ImportProgress | Manifest, None]:
    seen: ImportProgress | None = None
    while True:
        changed = work.changed
        if work.progress is not None and work.progress is not seen:
            seen = work.progress
            yield seen
        if work.error is not None:
            raise work.error
        if work.manifest is not None:
            yield work.manifest
            return
        await changed.wait()


def _call_soon(loop: asyncio.AbstractEventLoop, work: _Import, done_bytes: int, total_bytes: int) -> None:
    loop.call_soon_threadsafe(work.report, done_bytes, total_bytes)


def _require_source(source_uri: str) -> None:
    try:
        require_location(source_uri)
    except SchemeError as error:
        raise UnimplementedError(str(error), reason="SCHEME_UNSUPPORTED", field="source_uri") from error
    except ValueError as error:
        raise InvalidArgumentError(str(error)[:500], reason="SOURCE_INVALID", field="source_uri") from error
