"""A checkpoint that the storage manager holds for this worker, as far as it has come."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import CancelledError, KindlingError, UnavailableError
from kindling.v1 import checkpoint_pb2, storage_pb2
from kindling.worker import convert
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.lease import Lease
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.placement import PlacedWeights
from kindling.worker.domain.instance import LoadProgress, LoadReport, Tier

SLOWEST_LAST = (Tier.GPU, Tier.DRAM, Tier.SSD, Tier.REMOTE)


class HeldCheckpoint:
    """The port ``OpenCheckpoint`` over shared memory; the lease's events are told to ``note``."""

    def __init__(
        self,
        lease: Lease,
        manifest: Manifest,
        files_directory: Path,
        mappings: Sequence[PartitionMapping],
        arrivals: Arrivals,
        weights: PlacedWeights,
        on_progress: Callable[[LoadProgress], None],
    ) -> None:
        self.lease = lease
        self.is_parked = False
        self.taken_back = asyncio.Event()
        self.manifest = manifest
        self.files_directory = files_directory
        self.mappings = mappings
        self.weights = weights
        self._arrivals = arrivals
        self._on_progress = on_progress
        self._progress = LoadProgress(0, manifest.total_bytes)
        self._report: LoadReport | None = None
        self._failure: KindlingError | None = None
        self._settled = asyncio.Event()
        on_progress(self._progress)

    @property
    def report(self) -> LoadReport | None:
        """What the load was made of, once every byte is there; raises what it failed with."""
        if self._failure is not None:
            raise self._failure
        return self._report if self.weights.placed.done() else None

    @property
    def is_loaded(self) -> bool:
        """Whether the storage manager has brought every byte."""
        return self._report is not None

    @property
    def size_bytes(self) -> int:
        """Bytes of the checkpoint's data files."""
        return self.manifest.total_bytes

    async def park(self) -> None:
        """Let the storage manager take the memory back; see the port."""
        self.is_parked = True  # first: a lease that ends from now on was taken back
        if not self.lease.is_over:
            await self.lease.set_parked(parked=True)

    async def unpark(self) -> None:
        """Hold the memory firmly again; weights that were copied elsewhere do without. See the port."""
        if not self.lease.is_over:
            await self.lease.set_parked(parked=False)
        if self.taken_back.is_set():
            raise UnavailableError("The storage manager took the checkpoint back; open it anew.", reason="TAKEN_BACK")
        self.is_parked = False

    async def loaded(self) -> LoadReport:
        """Return when every byte is there; raise what the load failed with."""
        await self._settled.wait()
        if self._report is None:
            assert self._failure is not None, "a load ends with a report or an error"
            raise self._failure
        await asyncio.wrap_future(self.weights.placed)
        return self._report

    def note(self, event: storage_pb2.OpenCheckpointResponse) -> None:
        """Take an event of the lease in."""
        match event.WhichOneof("event"):
            case "arrived":
                self._arrive(event.arrived)
            case "closed":
                self.lease.closed_reason = event.closed.reason
            case "loaded":
                self.complete(event.loaded)

    def complete(self, report: checkpoint_pb2.LoadReport) -> None:
        """Every chunk can be read."""
        self._report = convert.report_from_wire(report)
        self._arrivals.add(range(self.manifest.chunk_count))
        self._settled.set()
        if self._progress.loaded_bytes < self._progress.total_bytes:
            self._progress = LoadProgress(self._progress.total_bytes, self._progress.total_bytes, Tier.DRAM)
            self._on_progress(self._progress)

    def fail(self, error: KindlingError) -> None:
        """The load failed; nothing changes if it was complete."""
        if not self._settled.is_set():
            self._failure = error
            self._arrivals.fail(error)
            self._settled.set()

    def give_up(self) -> None:
        """Nobody waits for the load any more."""
        self.fail(given_up_error(self.manifest.digest))

    def _arrive(self, arrived: storage_pb2.ChunksArrived) -> None:
        chunks = range(arrived.first_chunk, arrived.first_chunk + arrived.chunk_count)
        self._arrivals.add(chunks)
        tiers = [self._progress.tier, convert.tier_from_wire(getattr(arrived, "from"))]
        self._progress = LoadProgress(
            self._progress.loaded_bytes + sum(self.manifest.chunk_range(chunk)[1] for chunk in chunks),
            self._progress.total_bytes,
            max((tier for tier in tiers if tier), key=SLOWEST_LAST.index, default=None),
        )
        self._on_progress(self._progress)


def given_up_error(digest: str) -> CancelledError:
    """Return what those who wait for chunks get when nobody needs the load any more."""
    return CancelledError(f"Loading {digest} was given up: it was stopped.", reason="LOAD_GIVEN_UP")
