"""Tokenizers are loaded once per checkpoint, kept while there is room, and tried again after a failure."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kindling.gateway.adapters import tokenizers
from kindling.gateway.adapters.tokenizers import TokenizerCache
from kindling.gateway.background import Background
from kindling.gateway.domain.model_info import ModelInfo
from kindling.platform.errors import UnavailableError
from support.gateway_tokenizers import byte_level, model_files


class Files:
    """Stands for the scheduler: counts reads, fails when told."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.fail = False

    async def read(self, model: ModelInfo) -> dict[str, bytes]:
        self.reads.append(model.digest)
        await asyncio.sleep(0)
        if self.fail:
            raise UnavailableError("no scheduler", reason="NO_SCHEDULER")
        return model_files(byte_level())


def model(digest: str) -> ModelInfo:
    return ModelInfo("name", digest, 100, 0)


@pytest.fixture
async def files():
    return Files()


@pytest.fixture
async def cache(files: Files):
    async with Background(5) as background, TokenizerCache(files, background, 2) as cache:
        yield cache


async def test_many_who_ask_share_one_load(cache: TokenizerCache, files: Files):
    tokenizers = await asyncio.gather(*(cache.get(model("a")) for _ in range(5)))
    assert len(set(map(id, tokenizers))) == 1
    assert files.reads == ["a"]


async def test_the_least_recently_used_goes(cache: TokenizerCache, files: Files):
    for digest in ("a", "b", "a", "c", "a", "b"):
        await cache.get(model(digest))
    assert files.reads == ["a", "b", "c", "b"]


async def test_a_failure_is_not_kept(cache: TokenizerCache, files: Files):
    files.fail = True
    with pytest.raises(UnavailableError):
        await cache.get(model("a"))
    files.fail = False
    assert await (await cache.get(model("a"))).encode("Hello") == tuple(byte_level().encode("Hello").ids)


async def test_one_who_leaves_does_not_take_the_load_with_them(cache: TokenizerCache, files: Files):
    first = asyncio.ensure_future(cache.get(model("a")))
    second = asyncio.ensure_future(cache.get(model("a")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).hidden_ids == {0}
    assert files.reads == ["a"]


async def test_who_waits_for_a_load_tells_so_in_their_trace(cache: TokenizerCache, monkeypatch: pytest.MonkeyPatch):
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tokenizers, "tracer", provider.get_tracer("test"))
    await asyncio.gather(cache.get(model("a")), cache.get(model("a")))
    await cache.get(model("a"))  # which is there
    assert [span.name for span in kept.get_finished_spans()] == ["gateway.load_tokenizer"] * 2


async def test_long_texts_are_encoded_alike(cache: TokenizerCache):
    text = "Hello wörld " * 1000
    assert await (await cache.get(model("a"))).encode(text) == tuple(byte_level().encode(text).ids)
