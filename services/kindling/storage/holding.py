"""A checkpoint that somebody has open: its memory, what has arrived of it, and who holds a lease."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kindling.platform.clock import Clock
from kindling.storage.arrivals import Arrival, ArrivalBoard
from kindling.storage.catalog import KnownCheckpoint
from kindling.storage.domain.layout import Layout
from kindling.storage.domain.tier import Tier, TierTraffic
from kindling.storage.domain.traffic import TrafficMeter
from kindling.storage.ports import SsdCopy


@dataclass(frozen=True, slots=True)
class Loaded:
    """Every chunk can be read: what came from where since the checkpoint was opened, and how long this lease waited."""

    traffic: tuple[TierTraffic, ...]
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The lease is over, by the storage manager's will."""

    reason: str


LET_GO_SECONDS = 1.0
LeaseEvent = Arrival | Loaded | Closed


@dataclass(slots=True, eq=False)
class Holding:
    """Exists while there is a lease or a load, and is ``gone`` afterwards.

    ``copy`` is the SSD copy that chunks without a buffer live in, or that a load reads or writes; it is abandoned when
    the disk fails under it. A ``doomed`` holding takes no more leases: its load failed or was cancelled.
    """

    known: KnownCheckpoint
    layout: Layout
    board: ArrivalBoard
    meter: TrafficMeter
    files_directory: Path
    copy: SsdCopy | None
    copy_is_sealed: bool
    copy_is_abandoned: bool = False
    leases: dict[str, "Lease"] = field(default_factory=dict)
    load: "asyncio.Task[None] | None" = None
    doomed: bool = False
    load_ended: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_parked(self) -> bool:
        """Whether it is loaded, and everybody who has a lease could do without."""
        can_give_way = self.load_ended.is_set() and not self.doomed
        return can_give_way and bool(self.leases) and all(lease.parked for lease in self.leases.values())

    @property
    def digest(self) -> str:
        """The checkpoint's digest."""
        return self.known.manifest.digest

    @property
    def whereabouts(self) -> tuple[TierTraffic, ...]:
        """Where a loaded checkpoint is read from, by those who had not to wait for it."""
        missing_bytes = self.layout.missing_bytes
        parts = {Tier.DRAM: self.layout.geometry.total_bytes - missing_bytes, Tier.SSD: missing_bytes}
        return tuple(TierTraffic(tier, size_bytes, 0.0) for tier, size_bytes in parts.items() if size_bytes)

    def release_copy(self) -> None:
        """Close the SSD copy; once is enough."""
        copy, self.copy = self.copy, None
        if copy is not None:
            copy.close()


class Lease:
    """One caller's hold on a checkpoint. ``token`` opens the hand-over once."""

    def __init__(self, holding: Holding, holder: str, clock: Clock, started: float) -> None:
        self.lease_id = secrets.token_hex(8)
        self.token = secrets.token_urlsafe(24)
        self.holding = holding
        self.holder = holder
        self.parked = False
        self._found_loaded = holding.board.complete
        self._clock = clock
        self._started = started

    @property
    def loaded(self) -> Loaded | None:
        """What came from where for this lease, once every chunk can be read."""
        if not self.holding.board.complete:
            return None
        traffic = self.holding.whereabouts if self._found_loaded else self.holding.meter.totals()
        return Loaded(traffic, self._clock.now() - self._started)

    async def events(self, *, loaded_is_told: bool = False) -> AsyncIterator[LeaseEvent]:
        """Yield arrivals in execution order, then Loaded, unless both are told already, and Closed as the last event.

        Raises the load's error: DataLossError or ResourceExhaustedError.
        """
        board = self.holding.board
        seen, reported = (board.watermark, True) if loaded_is_told else (0, False)
        while True:
            change = board.change
            for arrival in board.arrivals_from(seen):
                seen = arrival.first + arrival.count
                yield arrival
            if seen < board.watermark:  # more came while the caller was busy
                continue
            if board.error is not None:
                raise board.error
            if not reported and (loaded := self.loaded):
                reported = True
                yield loaded
            if board.closed_reason:
                yield Closed(board.closed_reason)
                if self.parked:
                    await _time_to_let_go()
                return
            await change.wait()


async def _time_to_let_go() -> None:
    """Holders cancel the call when they have unmapped the memory, so that it can be used anew as it is; one that hangs
    is not waited for long: it keeps the pages, and the pool takes others."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LET_GO_SECONDS):
            await asyncio.get_running_loop().create_future()
