"""Importing a model directory, over the wire."""

import asyncio

import pytest

from kindling.platform.errors import InvalidArgumentError, KindlingError, UnimplementedError
from support.model_directories import import_model, make_model
from support.storage_checkpoint import CHUNK_BYTES
from support.storage_node import Place, open_checkpoint, storage_node


async def test_an_imported_model_can_be_opened(place: Place) -> None:
    source = make_model(place.root / "my model")
    async with storage_node(place) as (_, stub):
        progress, imported = await import_model(stub, source.as_uri())
        assert progress[-1].done_bytes == progress[-1].total_bytes > 0
        assert [p.done_bytes for p in progress] == sorted(p.done_bytes for p in progress)
        assert (imported.architecture, imported.dtype, imported.chunk_bytes, imported.context_length) == (
            "LlamaForCausalLM",
            "float32",
            CHUNK_BYTES,
            256,
        )
        async with open_checkpoint(stub, imported.digest) as lease:
            report = await lease.loaded()
            assert sum(flow.bytes for flow in report.traffic) == imported.total_bytes


async def test_the_same_import_many_times_at_once_is_done_once(place: Place) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place) as (_, stub):
        results = await asyncio.gather(*(import_model(stub, source.as_uri()) for _ in range(5)))
        assert len({imported.digest for _, imported in results}) == 1
        assert len(list(place.remote.iterdir())) == 1
        again = await import_model(stub, source.as_uri(), request_id="r1")
        repeated = await import_model(stub, "file:///not/read/again", request_id="r1")
        assert repeated == ([], again[1])


@pytest.mark.parametrize(
    ("uri", "kind", "reason"),
    [
        ("ftp://bucket/model", UnimplementedError, "SCHEME_UNSUPPORTED"),
        ("relative/dir", InvalidArgumentError, "SOURCE_INVALID"),
        ("file://host/dir", InvalidArgumentError, "SOURCE_INVALID"),
        ("", InvalidArgumentError, "SOURCE_INVALID"),
        ("file:///a%00b", InvalidArgumentError, "SOURCE_INVALID"),
        ("file:///nowhere/at/all", KindlingError, "SOURCE_NOT_FOUND"),
    ],
)
async def test_bad_sources_are_clear_errors(place: Place, uri: str, kind: type[KindlingError], reason: str) -> None:
    async with storage_node(place) as (_, stub):
        with pytest.raises(kind) as caught:
            await import_model(stub, uri)
        assert caught.value.reason == reason


async def test_an_architecture_that_no_worker_runs_is_refused(place: Place) -> None:
    source = make_model(place.root / "model", architectures=["BloomForCausalLM"])
    async with storage_node(place) as (_, stub):
        with pytest.raises(KindlingError, match="BloomForCausalLM") as caught:
            await import_model(stub, source.as_uri())
        assert caught.value.reason == "ARCHITECTURE_UNSUPPORTED"
        assert not place.remote.exists() or not list(place.remote.iterdir())
