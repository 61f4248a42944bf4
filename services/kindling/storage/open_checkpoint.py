"""Opens checkpoints: one load per checkpoint however many ask, a lease for each who asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from opentelemetry import metrics, trace

from kindling.platform import buckets
from kindling.platform.clock import Clock
from kindling.platform.errors import (
    DataLossError,
    FailedPreconditionError,
    KindlingError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.logging import get_logger
from kindling.storage.contained import outcome
from kindling.storage.holding import Holding, Lease
from kindling.storage.keyed_lock import KeyedLock
from kindling.storage.load_checkpoint import LazyRemote, LoadCheckpoint, LoadPlan
from kindling.storage.parked_leases import ParkedLeases
from kindling.storage.ports import SsdCopy
from kindling.storage.prefetch_turn import PrefetchTurn
from kindling.storage.prepare_holding import PrepareHolding
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)
tracer = trace.get_tracer(__name__)
meter = metrics.get_meter(__name__)
load_duration = meter.create_histogram(
    "kindling.checkpoint.load.duration",
    unit="s",
    description="Time from request to last chunk.",
    explicit_bucket_boundaries_advisory=buckets.SECONDS,
)


class OpenCheckpoint:
    """All leases and loads of this node. Loads run one at a time, in the order in which they were asked for, so that
    the scheduler's estimates hold; ``tasks`` owns them.
    """

    def __init__(
        self, tiers: Tiers, publisher: Publisher, clock: Clock, tasks: asyncio.TaskGroup, *, lanes: int
    ) -> None:
        self._tiers = tiers
        self._publisher = publisher
        self._clock = clock
        self._tasks = tasks
        self._lanes = lanes
        self.parked = ParkedLeases(tiers)
        self._prepare = PrepareHolding(tiers, self.parked)
        self._current: dict[str, Holding] = {}
        # With those whose load failed, as long as somebody has a lease on them.
        self._holdings: list[Holding] = []
        self._load_turn = asyncio.Lock()
        self._closing_reason = ""
        self.locks = KeyedLock()
        self.prefetches = PrefetchTurn()  # to DRAM
        self.copies = PrefetchTurn()  # to the SSD

    @asynccontextmanager
    async def open(self, digest: str, holder: str) -> AsyncIterator[Lease]:
        """Hold a lease on ``digest`` inside the context: its chunks stay where they are.

        Raises NotFoundError, DataLossError or ResourceExhaustedError (POOL_TOO_SMALL) if it cannot be opened, and
        UnavailableError (STORAGE_DRAINING) once :meth:`drain` was called.
        """
        started = self._clock.now()
        async with self.locks.hold(digest):
            holding = await self._join(digest)
            lease = Lease(holding, holder, self._clock, started)
            holding.leases[lease.lease_id] = lease
            self.parked.review(holding)
        try:
            yield lease
        finally:
            self._leave(holding, lease)

    def set_parked(self, lease_id: str, *, parked: bool) -> None:
        """Let a lease give way when the room is needed, or make it firm again.

        Raises NotFoundError (LEASE_UNKNOWN) if it is over, FailedPreconditionError (LOAD_UNDER_WAY) while it is loaded.
        """
        lease = next((lease for lease in self.leases() if lease.lease_id == lease_id), None)
        if lease is None or lease.holding.doomed or lease.holding.board.closed_reason:
            raise _lease_unknown(lease_id)
        if not lease.holding.board.complete:
            raise FailedPreconditionError(
                f"the checkpoint of lease {lease_id} is still being loaded; cancel the lease instead of parking it",
                reason="LOAD_UNDER_WAY",
            )
        lease.parked = parked
        self.parked.review(lease.holding)

    def between_loads(self) -> AbstractAsyncContextManager[None]:
        """Nothing is loaded inside the context; a load that is asked for waits for its end, so keep it short."""
        return self._load_turn

    def holdings(self) -> tuple[Holding, ...]:
        """What is open or being loaded, or still being let go of."""
        return tuple(self._holdings)

    def leases(self) -> tuple[Lease, ...]:
        """The leases held now."""
        return tuple(lease for holding in self._holdings for lease in holding.leases.values())

    def is_open(self, digest: str) -> bool:
        """Whether somebody has a lease on ``digest``, or it is being loaded."""
        return any(holding.digest == digest for holding in self._holdings)

    def drain(self, reason: str) -> None:
        """Tell every holder of a lease that it is over, and refuse new ones."""
        self._closing_reason = reason
        for holding in self._holdings:
            holding.board.close(reason)

    async def _join(self, digest: str) -> Holding:
        if self._closing_reason:
            raise UnavailableError("the storage manager is shutting down; use another node", reason="STORAGE_DRAINING")
        holding = self._current.get(digest)
        if holding is not None and holding.doomed:
            await holding.load_ended.wait()
            holding = self._current.get(digest)
            if holding is not None and holding.doomed:
                holding = None  # parked, and being taken back
        if holding is None:
            holding = await self._begin(digest)
        return holding

    async def _begin(self, digest: str) -> Holding:
        """Make a holding, and begin its load if there is anything to load; a prefetch gives way to that."""
        self.prefetches.begin_load()
        self.copies.begin_load()
        try:
            if not self._tiers.pool.holds_all(digest):
                self.copies.cut()  # it has nothing that a load waits for
                await self.prefetches.clear()
            holding = await self._prepare.prepare(digest)
        except BaseException:
            self._end_load_turn()
            raise
        self._current[digest] = holding
        self._holdings.append(holding)
        self._start(holding)
        return holding

    def _start(self, holding: Holding) -> None:
        if holding.board.complete:
            self._note_load_ended(holding)
            self._tiers.bandwidth.learn(holding.meter.totals())
        else:
            holding.load = self._tasks.create_task(self._contained_load(holding), name=f"load {holding.digest}")

    def _leave(self, holding: Holding, lease: Lease) -> None:
        del holding.leases[lease.lease_id]
        self.parked.review(holding)
        wanted = holding.leases or holding.board.complete or holding.doomed
        if holding.load is not None and not wanted:
            holding.doomed = True  # cancelled once: putting things in order afterwards must not be cut short
            holding.load.cancel()
        self._retire_if_unused(holding)

    def _retire_if_unused(self, holding: Holding) -> None:
        if holding.leases or not holding.load_ended.is_set():
            return
        if self._current.get(holding.digest) is holding:
            del self._current[holding.digest]
        self._holdings.remove(holding)
        self._release_copy(holding)
        self._tiers.pool.unpin(holding.digest)
        holding.gone.set()
        self._publisher.note(holding.digest)

    def _release_copy(self, holding: Holding) -> None:
        if holding.copy is not None:
            holding.release_copy()
            self._tiers.ledger.unpin(holding.digest)

    async def _contained_load(self, holding: Holding) -> None:
        await outcome(self._load(holding), f"ending the load of {holding.digest}")

    async def _load(self, holding: Holding) -> None:
        started = self._clock.now()
        try:
            error = await outcome(self._run_load(holding), f"loading {holding.digest}")
            if error is None:
                self._report(holding, self._clock.now() - started)
            else:
                await self._fail(holding, error)
        finally:
            await self._end(holding)

    async def _run_load(self, holding: Holding) -> None:
        remote = LazyRemote(self._tiers.remote, holding.known.manifest)
        plan = LoadPlan(
            holding,
            present_chunks=self._tiers.pool.filled_chunks(holding.digest),
            lanes=self._lanes,
            on_arrival=lambda: self._note_arrival(holding),
        )
        attributes = {"kindling.digest": holding.digest}
        try:
            with tracer.start_as_current_span("checkpoint.load", attributes=attributes) as span:
                async with self._load_turn:
                    span.add_event("first_read")  # until here it was others' turn
                    await LoadCheckpoint(plan, self._tiers, remote, self._clock).run()
                read = {
                    f"kindling.load.{flow.tier.name.lower()}_bytes": flow.size_bytes for flow in holding.meter.totals()
                }
                span.set_attributes(read)
        finally:
            remote.close()
        await self._seal(holding)

    def _note_arrival(self, holding: Holding) -> None:
        self._tiers.pool.mark_filled(holding.digest, holding.board.watermark)
        self._publisher.note(holding.digest)

    async def _seal(self, holding: Holding) -> None:
        if holding.copy is None or holding.copy_is_sealed or holding.copy_is_abandoned:
            return
        try:
            await holding.copy.seal()
        except (ResourceExhaustedError, UnavailableError) as error:
            holding.copy_is_abandoned = True
            if not holding.layout.in_dram:
                raise
            log.warning("ssd_copy_abandoned", digest=holding.digest, error=error.message)
        else:
            holding.copy_is_sealed = True
            self._tiers.ledger.seal(holding.digest)

    def _report(self, holding: Holding, seconds: float) -> None:
        traffic = holding.meter.totals()
        self._tiers.bandwidth.learn(traffic)
        slowest = max((flow.tier for flow in traffic), default=None)
        load_duration.record(seconds, {"from": slowest.name if slowest else "", "to": "DRAM"})
        flows = {flow.tier.name: flow.size_bytes for flow in traffic}
        log.info("checkpoint_loaded", digest=holding.digest, seconds=round(seconds, 4), bytes_by_tier=flows)

    async def _fail(self, holding: Holding, error: KindlingError) -> None:
        log.error("checkpoint_load_failed", digest=holding.digest, reason=error.reason, error=error.message)
        holding.doomed = True
        holding.board.fail(error)
        if isinstance(error, DataLossError) and holding.copy is not None and holding.copy_is_sealed:
            self._tiers.ledger.remove(holding.digest)
            holding.release_copy()
            await self._tiers.ssd.quarantine(holding.digest)

    async def _end(self, holding: Holding) -> None:
        """Put things in order after a load, whether it went well, failed or was cancelled."""
        try:
            if holding.copy is not None and not holding.copy_is_sealed:
                await self._part_with_copy(holding, holding.copy)
        finally:
            if holding.doomed and self._current.get(holding.digest) is holding:
                del self._current[holding.digest]
            self._note_load_ended(holding)
            self.parked.review(holding)
            self._retire_if_unused(holding)
            self._publisher.note(holding.digest)

    def _note_load_ended(self, holding: Holding) -> None:
        holding.load_ended.set()
        self._end_load_turn()

    def _end_load_turn(self) -> None:
        self.prefetches.end_load()
        self.copies.end_load()

    async def _part_with_copy(self, holding: Holding, copy: SsdCopy) -> None:
        """What was written before a load was cut short stays for the next one, until the room is needed."""
        if holding.copy_is_abandoned:
            holding.copy = None
            self._tiers.ledger.remove(holding.digest)
            await copy.discard()
        else:
            self._release_copy(holding)


def _lease_unknown(lease_id: str) -> NotFoundError:
    return NotFoundError(
        f"lease {lease_id} is over: it was given back, or taken back; open the checkpoint anew",
        reason="LEASE_UNKNOWN",
        metadata={"lease_id": lease_id},
    )
