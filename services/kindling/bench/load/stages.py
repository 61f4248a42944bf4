"""What is measured in a round, stage by stage."""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kindling.bench.child import ask_child
from kindling.bench.load import fio
from kindling.bench.load.memory import MemorySampler
from kindling.bench.load.options import CHUNK_BYTES, MIB, LoadOptions, Part
from kindling.bench.load.page_cache import PageCache
from kindling.bench.load.peer_table import PEERS, Peer
from kindling.bench.load.place import EIGHTH, FULL, TINY, Place
from kindling.bench.load.results import Results
from kindling.bench.load.rows import (
    DIRECT_PATTERNS,
    DRAM_AGAIN,
    DRAM_TOUCHED,
    DRAM_VIEWS,
    DRAM_VIEWS_EIGHTH,
    FIO_ENGINES,
    MEMCPY,
    OBSTORE_PATTERNS,
    REMOTE,
    SSD,
    SSD_FRESH,
    ReadPattern,
    State,
    peer_row,
)
from kindling.bench.load.storage_process import StorageProcess
from kindling.platform.errors import FailedPreconditionError

HITS = 2
_WORKER = "kindling.bench.load.worker_child"
_FLOOR = "kindling.bench.load.floor_child"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every stage needs."""

    options: LoadOptions
    place: Place
    results: Results
    remote_uri: str

    @property
    def cache(self) -> PageCache:
        """The page cache of the files there are now."""
        return PageCache(self.place.files)

    def storage(self, **settings: str) -> StorageProcess:
        """A storage manager on the benchmark's tiers, not yet started."""
        own = {
            "node_id": "bench",
            "remote_uri": self.remote_uri,
            "cache_dir": str(self.place.cache),
            "pool_bytes": str(self.options.pool_bytes),
            "chunk_bytes": str(CHUNK_BYTES),
        }
        return StorageProcess(own | settings)

    def worker(self, storage: StorageProcess, name: str, **request: Any) -> list[dict[str, float]]:
        """Open a checkpoint in a worker's way; see worker_child."""
        return open_in_worker(storage.address, self.place, name, **request)


def open_in_worker(
    address: str, place: Place, name: str, *, started: Callable[[int], None] | None = None, **request: Any
) -> list[dict[str, float]]:
    """Return how long each step of each open took."""
    defaults = {
        "address": address,
        "digest": place.digests[name],
        "before": [place.digests[TINY]],
        "keep": "",
        "repeats": 1,
    }
    opens: list[dict[str, float]] = ask_child(_WORKER, defaults | request, started)["opens"]
    return opens


Stage = tuple[Part, tuple[str, ...], Callable[[Bench], None]]
"""Its part, the rows that are given up if it fails, and itself."""


def stages() -> list[Stage]:
    """Every stage of a round, in order."""
    return [
        (Part.FLOORS, ("direct",), measure_direct_reads),
        (Part.OURS, (SSD, DRAM_VIEWS), measure_resident_pool),
        *[(Part.PEERS, (peer.key,), functools.partial(measure_peer, peer)) for peer in PEERS],
        (Part.FRESH, (SSD_FRESH,), measure_fresh_pool),
        (Part.REMOTE, (REMOTE,), measure_remote),
        (Part.REMOTE, ("obstore",), measure_obstore),
        (Part.FLOORS, (MEMCPY,), measure_memcpy),
    ]


def measure_resident_pool(bench: Bench) -> None:
    """SSD to usable, and DRAM hits, with a pool whose pages are present: what users of the service get."""
    with bench.storage() as storage:
        storage.wait_touched()
        bench.results.note(f"pool: {storage.backing}")
        bench.cache.drop()
        (load,) = bench.worker(storage, FULL, keep="TIER_SSD")
        bench.results.add(SSD, load["touched_seconds"], int(load["bytes"]))
        bench.worker(storage, EIGHTH)
        for _ in range(HITS):
            _measure_hits(bench, storage)


def _measure_hits(bench: Bench, storage: StorageProcess) -> None:
    """In a worker that never had these checkpoints, which is what a cold start meets."""
    first, *again = bench.worker(storage, FULL, repeats=3)
    bench.results.add(DRAM_VIEWS, first["views_seconds"], int(first["bytes"]))
    bench.results.add(DRAM_TOUCHED, first["touched_seconds"], int(first["bytes"]))
    for hit in again:
        bench.results.add(DRAM_AGAIN, hit["views_seconds"], int(hit["bytes"]))
    (eighth,) = bench.worker(storage, EIGHTH)
    bench.results.add(DRAM_VIEWS_EIGHTH, eighth["views_seconds"], int(eighth["bytes"]))


def measure_fresh_pool(bench: Bench) -> None:
    """SSD to usable with a pool that nobody touched before: like for like with libraries."""
    with bench.storage(touch_pool="false") as storage:
        bench.cache.drop()
        (load,) = bench.worker(storage, FULL)
        bench.results.add(SSD_FRESH, load["touched_seconds"], int(load["bytes"]))


def measure_remote(bench: Bench) -> None:
    """REMOTE to usable; the SSD copy is written on the way, as always."""
    with bench.storage() as storage:
        storage.wait_touched()
        _have_the_store_ready(bench)
        (load,) = bench.worker(storage, FULL, keep="TIER_REMOTE")
        bench.results.add(REMOTE, load["touched_seconds"], int(load["bytes"]))


def _have_the_store_ready(bench: Bench) -> None:
    """A store has disks of its own; the one here shares ours, so it serves from memory."""
    bench.cache.drop()
    bench.cache.warm(bench.place.remote_file)
    bench.results.note("REMOTE: the object store serves from its page cache, for obstore and for ours: it has our disk")


def measure_peer(peer: Peer, bench: Bench) -> None:
    """Another loader, cold and warm."""
    if importlib.util.find_spec(peer.package) is None:
        raise FailedPreconditionError(f"{peer.package} is not installed", reason="PEER_MISSING")
    bench.place.point_peers_at_ssd()
    path, tiny = (bench.place.peers / name / peer.file for name in (FULL, TINY))
    request = {"key": peer.key, "path": str(path), "tiny": str(tiny)}
    for state in (State.COLD, State.WARM):
        bench.cache.drop()
        if state is State.WARM:
            bench.cache.warm(path)
        answer = ask_child("kindling.bench.load.peer_child", request)
        bench.results.add(peer_row(peer.key, state), answer["seconds"], answer["bytes"])


def measure_direct_reads(bench: Bench) -> None:
    """Raw reads of the same file into huge pages."""
    for pattern in DIRECT_PATTERNS:
        bench.cache.drop()
        request = {"floor": "direct", "path": str(bench.place.ssd_file), **_pattern(pattern)}
        _add_floor(bench, f"direct_{pattern.name}", request)
    if not fio.is_installed():
        bench.results.note("fio is not installed: the floor is the benchmark's own reads")
        return
    for engine in FIO_ENGINES:
        bench.cache.drop()
        path = bench.place.ssd_file
        try:
            bench.results.add(f"fio_{engine}", fio.read_seconds(path, engine), path.stat().st_size)
        except FailedPreconditionError as error:
            bench.results.fail(f"fio_{engine}", error.message)


def measure_obstore(bench: Bench) -> None:
    """Raw ranged reads through obstore from the same server."""
    if not bench.remote_uri.startswith("http"):
        raise FailedPreconditionError("the REMOTE tier cannot be read over HTTP yet", reason="NO_HTTP_REMOTE")
    path = bench.place.remote_file
    url = f"{bench.remote_uri}/{path.relative_to(bench.place.remote)}"
    for pattern in OBSTORE_PATTERNS:
        _have_the_store_ready(bench)
        request = {"floor": "obstore", "url": url, "size_bytes": path.stat().st_size, **_pattern(pattern)}
        _add_floor(bench, f"obstore_{pattern.name}", request)


def measure_memcpy(bench: Bench) -> None:
    """Copying as many bytes as the checkpoint has."""
    _add_floor(bench, MEMCPY, {"floor": "memcpy", "size_bytes": bench.options.size_bytes})


def measure_memory(bench: Bench) -> None:
    """Peak memory of loading and touching the checkpoint, over the pool and what a tiny one takes beside it."""
    with bench.storage() as storage:
        storage.wait_touched()
        tiny, full = (_peak(bench, storage, name) for name in (TINY, FULL))
    floor = bench.options.pool_bytes + tiny.peak_without_pool_bytes
    bench.results.figures["peak_memory_over_floor"] = full.peak_bytes / floor


def _peak(bench: Bench, storage: StorageProcess, name: str) -> MemorySampler:
    with MemorySampler(storage.pid) as sampler:
        bench.worker(storage, name, before=[], keep="TIER_SSD", started=sampler.follow_worker)
    return sampler


def _add_floor(bench: Bench, key: str, request: dict[str, Any]) -> None:
    answer = ask_child(_FLOOR, request)
    bench.results.add(key, answer["seconds"], answer["bytes"])


def _pattern(pattern: ReadPattern) -> dict[str, int]:
    return {"threads": pattern.threads, "block_bytes": pattern.block_mib * MIB}
