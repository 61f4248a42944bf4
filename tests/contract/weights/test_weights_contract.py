"""What every source of weights does, wherever it puts them: views of shared memory, an arena, a device."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from kindling.platform.errors import CancelledError, DataLossError
from kindling.worker.adapters.arena_weights import ArenaWeights
from kindling.worker.adapters.cpu_copier import CpuCopier
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.placement import MakeWeights, PlacedWeights, weights_on
from kindling.worker.adapters.transformers_engine.parameters import fuse
from support.gpu import GPU_MARKS
from support.weight_sources import CHUNKS, CHUNKS_OF, TENSORS, MappedCheckpoint, mapped_checkpoint, place, same_bytes

WAYS: dict[str, Callable[[], MakeWeights]] = {
    "mapped": lambda: weights_on("cpu"),
    "arena": lambda: partial(ArenaWeights, make_copier=CpuCopier),
    "cuda": lambda: weights_on("cuda"),
}
Waiting = Callable[[str], None]


@pytest.fixture(params=["mapped", "arena", pytest.param("cuda", marks=GPU_MARKS)])
def make_weights(request: pytest.FixtureRequest) -> MakeWeights:
    return WAYS[request.param]()


@pytest.fixture
def checkpoint() -> Iterator[MappedCheckpoint]:
    with mapped_checkpoint() as checkpoint:
        yield checkpoint


@pytest.fixture
def weights(make_weights: MakeWeights, checkpoint: MappedCheckpoint) -> Iterator[PlacedWeights]:
    placed = place(checkpoint, make_weights)
    yield placed
    checkpoint.arrivals.fail(given_up())
    placed.close()


def given_up() -> CancelledError:
    return CancelledError("The test is over.", reason="LOAD_GIVEN_UP")


def test_every_tensor_is_known_before_anything_arrived(weights: PlacedWeights) -> None:
    assert list(weights.tensors) == [entry.name for entry in TENSORS]
    assert weights.tensors["head"].shape == (8, 1000)
    assert weights.tensor("head").shape == (8, 1000)
    assert not weights.complete


def test_tensors_have_the_bytes_of_their_files(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    views = {name: weights.tensor(name) for name in weights.tensors}
    checkpoint.arrive(*range(CHUNKS))
    weights.wait(weights.tensors)
    for name, view in views.items():
        assert same_bytes(view, checkpoint.expected(name)), name


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1, 0), (2, 0, 5, 1, 4, 3), (0, 1, 2, 3, 4, 5)])
def test_a_tensor_is_there_as_soon_as_its_own_chunks_are(
    weights: PlacedWeights, checkpoint: MappedCheckpoint, order: tuple[int, ...]
) -> None:
    arrived: set[int] = set()
    for chunk in order:
        checkpoint.arrive(chunk)
        arrived.add(chunk)
        for name, chunks in CHUNKS_OF.items():
            if arrived.issuperset(chunks):
                weights.wait([name])
                assert same_bytes(weights.tensor(name), checkpoint.expected(name)), (name, arrived)


def test_chunks_may_be_told_of_again(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    checkpoint.arrive(0, 1)
    checkpoint.arrivals.add(range(CHUNKS - 2))
    checkpoint.arrive(*range(CHUNKS))
    weights.placed.result()
    assert weights.complete


def test_waiting_blocks_until_the_last_chunk_of_a_tensor(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    started, result = threading.Event(), []

    def wait() -> None:
        started.set()
        weights.wait(["head"])
        result.append(same_bytes(weights.tensor("head"), checkpoint.expected("head")))

    checkpoint.arrive(4)
    waiter = threading.Thread(target=wait)
    waiter.start()
    started.wait()
    assert result == []
    checkpoint.arrive(0, 1, 2, 3)
    assert result == []
    checkpoint.arrive(5)
    waiter.join()
    assert result == [True]


def test_a_tensor_without_bytes_is_not_waited_for(weights: PlacedWeights) -> None:
    weights.wait(["empty"])
    weights.wait([])
    assert weights.tensor("empty").numel() == 0


def test_it_is_complete_when_all_is_placed(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    checkpoint.arrive(*range(CHUNKS - 1))
    assert not weights.complete
    checkpoint.arrive(CHUNKS - 1)
    weights.placed.result()
    assert weights.complete
    weights.wait(weights.tensors)


def test_a_failed_load_fails_those_who_wait_for_what_is_missing(
    weights: PlacedWeights, checkpoint: MappedCheckpoint
) -> None:
    checkpoint.arrive(0, 1)
    weights.wait(["embedding"])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(weights.wait, ["tail"])
        checkpoint.arrivals.fail(DataLossError("Chunk 3 is bad.", reason="CHUNK_CORRUPT"))
        assert isinstance(waiting.exception(), DataLossError)
    with pytest.raises(DataLossError):
        weights.wait(["head"])
    weights.wait(["embedding"])
    assert same_bytes(weights.tensor("embedding"), checkpoint.expected("embedding"))
    assert not weights.complete


def test_closing_ends_every_read_of_the_mapping(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    checkpoint.arrive(0)
    checkpoint.arrivals.fail(given_up())
    weights.close()
    for mapping in checkpoint.mappings:
        mapping.retire()
    weights.close()


def test_neighbours_are_one_tensor_without_a_copy(weights: PlacedWeights, checkpoint: MappedCheckpoint) -> None:
    checkpoint.arrive(*range(CHUNKS))
    weights.wait(weights.tensors)
    fused = fuse([weights.tensor("first.a"), weights.tensor("first.b")])
    assert fused is not None
    assert fused.data_ptr() == weights.tensor("first.a").data_ptr()
    both = torch.cat([checkpoint.expected("first.a"), checkpoint.expected("first.b")])
    assert same_bytes(fused, both)


def test_mappings_of_another_checkpoint_are_refused(make_weights: MakeWeights, checkpoint: MappedCheckpoint) -> None:
    with pytest.raises(DataLossError) as caught:
        make_weights(checkpoint.manifest, [PartitionMapping(100)], checkpoint.arrivals)
    assert caught.value.reason == "MANIFEST_INVALID"
