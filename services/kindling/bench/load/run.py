"""The whole run: make the checkpoints, measure in interleaved rounds, report."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from kindling.bench.load.first_token import measure_first_token
from kindling.bench.load.huge_pages import huge_pages
from kindling.bench.load.options import MIB, LoadOptions, Part
from kindling.bench.load.place import EIGHTH, FULL, HALF, TINY, Place, made, make_peer_files
from kindling.bench.load.results import Results
from kindling.bench.load.stages import Bench, Stage, measure_memory, stages
from kindling.platform.errors import KindlingError
from kindling.storage.settings import StorageSettings

Say = Callable[[str], None]
_FLOOR_BUFFERS_BYTES = 320 * MIB


def measure(options: LoadOptions, say: Say) -> Results:
    """Return everything that was measured; what fails is noted and the rest goes on.

    Raises:
        ResourceExhaustedError: DISK_FULL.
        KindlingError: the storage manager does not start, or cannot load the checkpoint at all.
    """
    results = Results()
    needed = options.pool_bytes + _FLOOR_BUFFERS_BYTES
    with made(options, say) as place, huge_pages(needed) as huge_bytes, _served(place, results) as remote_uri:
        if huge_bytes < needed:
            results.note(f"only {huge_bytes / MIB:,.0f} MiB of huge pages could be had, of {needed / MIB:,.0f} wanted")
        bench = Bench(options, place, results, remote_uri)
        results.note(bench.cache.note)
        _fill_ssd(bench, say)
        _measure_rounds(bench, say)
        for part, keys, stage in _once():
            if part in options.parts:
                say(str(part))
                _attempt(bench, (part, keys, stage))
    return results


def _fill_ssd(bench: Bench, say: Say) -> None:
    say("bringing the checkpoints to the SSD tier")
    with bench.storage() as storage:
        bench.worker(storage, FULL, before=[bench.place.digests[name] for name in (HALF, EIGHTH, TINY)])
    if Part.PEERS in bench.options.parts:
        say("writing the other loaders' formats")
        make_peer_files(bench.place, bench.results)


def _measure_rounds(bench: Bench, say: Say) -> None:
    chosen = [stage for stage in stages() if stage[0] in bench.options.parts]
    for number in range(1, bench.options.rounds + 1):
        for stage in chosen:
            if stage[1][0] not in bench.results.failures:
                say(f"round {number} of {bench.options.rounds}: {', '.join(stage[1])}")
                _attempt(bench, stage)


def _once() -> list[Stage]:
    return [
        (Part.MEMORY, ("peak_memory_over_floor",), measure_memory),
        (Part.FIRST_TOKEN, ("progressive_over_max", "half_resident_over_expected"), measure_first_token),
    ]


def _attempt(bench: Bench, stage: Stage) -> None:
    _, keys, work = stage
    try:
        work(bench)
    except KindlingError as error:
        for key in keys:
            bench.results.fail(key, error.message)


@contextmanager
def _served(place: Place, results: Results) -> Iterator[str]:
    """Serve the REMOTE tier over HTTP if the storage manager can read that, else name it as a directory."""
    try:
        StorageSettings(node_id="bench", remote_uri="http://127.0.0.1:1/x", cache_dir=Path("/nonexistent"))
    except ValidationError:
        results.note("REMOTE is a directory on the same disk: the storage manager cannot read http:// yet")
        yield place.remote.as_uri()
        return
    command = [sys.executable, "-m", "kindling.bench.load.http_server", str(place.remote)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None, "it was asked for"
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.terminate()
