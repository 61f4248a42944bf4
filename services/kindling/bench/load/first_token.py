"""Progressive start: the first token from a slow disk, and from a checkpoint half of which is in DRAM."""

import statistics
from typing import Any

from kindling.bench.child import ask_child
from kindling.bench.load.options import CHUNK_BYTES
from kindling.bench.load.place import FULL, HALF, TINY
from kindling.bench.load.stages import Bench
from kindling.bench.load.storage_process import StorageProcess

DISK_BYTES_PER_SECOND = 500_000_000
PROMPT_TOKENS = 512
_CHILD = "kindling.bench.load.first_token_child"


def measure_first_token(bench: Bench) -> None:
    """Take ``rounds`` measurements of both figures on a disk slowed down to 500 MB/s, and note their medians."""
    samples: dict[str, list[float]] = {"progressive": [], "half": [], "load": [], "dram": [], "prefill": []}
    with _slow_storage(bench) as storage:
        storage.wait_touched()
        bench.worker(storage, HALF)
        for _ in range(bench.options.rounds):
            (load,) = bench.worker(storage, FULL, keep="TIER_SSD")
            samples["load"].append(load["views_seconds"])
            dram = _first_token(bench, storage)
            samples["dram"].append(dram["first_token_seconds"])
            samples["prefill"].append(dram["prefill_seconds"])
            samples["progressive"].append(_first_token(bench, storage, keep="TIER_SSD")["first_token_seconds"])
            before = [bench.place.digests[FULL], bench.place.digests[HALF]]
            samples["half"].append(_first_token(bench, storage, load_before=before)["first_token_seconds"])
    _conclude(bench, {name: statistics.median(values) for name, values in samples.items()})


def _conclude(bench: Bench, median: dict[str, float]) -> None:
    figures = bench.results.figures
    figures["progressive_over_max"] = median["progressive"] / max(median["load"], median["prefill"])
    figures["half_resident_over_expected"] = median["half"] / (median["dram"] + median["load"] / 2)
    for name, seconds in median.items():
        figures[f"first_token_{name}_seconds"] = seconds
    bench.results.note(
        f"first token: SSD tier held to {DISK_BYTES_PER_SECOND / 1e6:.0f} MB/s by the setting ssd_read_limit; "
        f"prompt of {PROMPT_TOKENS} tokens; timer from StartInstance to the first token, in the worker's own process; "
        "prefill is that of a second prompt on the loaded model"
    )


def _slow_storage(bench: Bench) -> StorageProcess:
    # Room for the checkpoint and hardly more, so that loading another one pushes its tail out.
    chunks = -(-bench.options.size_bytes // CHUNK_BYTES) + 2
    return bench.storage(pool_bytes=str(chunks * CHUNK_BYTES), ssd_read_limit=str(DISK_BYTES_PER_SECOND))


def _first_token(bench: Bench, storage: StorageProcess, **request: Any) -> dict[str, float]:
    defaults = {
        "address": storage.address,
        "digest": bench.place.digests[FULL],
        "tiny": bench.place.digests[TINY],
        "keep": "",
        "load_before": [],
        "prompt_tokens": PROMPT_TOKENS,
    }
    return ask_child(_CHILD, defaults | request)
