"""An engine computes the same tokens wherever its weights are placed, also while they still arrive."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from kindling.checkpoint.convert import pack
from kindling.checkpoint.layout import directory_name, partition_file_name
from kindling.checkpoint.manifest import Manifest
from kindling.platform.fd_passing import Extent
from kindling.worker.adapters.arena_weights import ArenaWeights
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.cpu_copier import CpuCopier
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.placement import weights_on
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from support.engines import prompt_of, request, run, tokens, write_model
from support.gpu import GPU_MARKS

CHUNK_BYTES = 64 * 1024
REQUESTS = [request(str(length), prompt_of(length), max_tokens=10) for length in (1, 9, 30)]


def map_partitions(directory: Path, manifest: Manifest) -> list[PartitionMapping]:
    mappings = []
    for index, partition in enumerate(manifest.partitions):
        fd = os.open(directory / partition_file_name(index), os.O_RDONLY)
        mapping = PartitionMapping(partition.size_bytes)
        mapping.map_extents([Extent(0, partition.size_bytes, 0, 0)], [fd])
        os.close(fd)
        mappings.append(mapping)
    return mappings


def outcome(engine: TransformersEngine) -> dict[str, list[int]]:
    try:
        return {name: tokens(events) for name, events in run(engine, REQUESTS).items()}
    finally:
        engine.close()


@pytest.mark.parametrize("way", ["cpu", "arena", pytest.param("cuda", marks=GPU_MARKS)])
@pytest.mark.parametrize("name", ["llama-tied", "qwen2", "mixtral"])
def test_tokens_are_the_same_while_chunks_arrive(tmp_path: Path, name: str, way: str) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    write_model(source, name)
    store.mkdir()
    manifest = pack(source, store, chunk_bytes=CHUNK_BYTES)
    directory = store / directory_name(manifest.digest)
    arrivals = Arrivals(manifest.chunk_count)
    make = partial(ArenaWeights, make_copier=CpuCopier) if way == "arena" else weights_on(way)
    weights = make(manifest, map_partitions(directory, manifest), arrivals)
    engine = TransformersEngine(weights, directory, device="cuda" if way == "cuda" else "cpu", max_batch_tokens=24)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(outcome, engine)
        for chunk in range(manifest.chunk_count):
            arrivals.add([chunk])
        found = running.result()
    weights.placed.result()
    weights.close()
    assert found == outcome(TransformersEngine(DirectoryWeightSource(source), source, max_batch_tokens=24))
