"""Generations that join, leave and give way at random change nobody's tokens and leave nothing behind."""

import random
from pathlib import Path

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.engine_loop import EngineLoop
from support.engines import prompt_of, request, run, tokens, write_model

KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    write_model(directory, "llama")
    return directory


def engine_of(checkpoint: Path, kv_tokens: int, max_batch_tokens: int) -> TransformersEngine:
    budget = kv_tokens * KV_BYTES_PER_TOKEN
    source = DirectoryWeightSource(checkpoint)
    return TransformersEngine(source, checkpoint, kv_budget_bytes=budget, max_batch_tokens=max_batch_tokens)


def random_request(chance: random.Random, number: int) -> GenerationRequest:
    return request(
        f"{number}",
        prompt_of(chance.choice([1, 3, 20, 200, 254, 255, 256, 290]), number),
        temperature=chance.choice([0.0, 0.8]),
        seed=number,
        top_p=chance.choice([0.9, 1.0]),
        max_tokens=chance.choice([1, 2, 15, 40]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_changes_no_token(checkpoint: Path, seed: int) -> None:
    chance = random.Random(seed)
    requests = [random_request(chance, number) for number in range(30)]
    expected = {
        asked.generation_id: tokens(run(engine_of(checkpoint, 512, 512), [asked])[asked.generation_id])
        for asked in requests
    }
    engine = engine_of(checkpoint, chance.choice([512, 1024, 1280]), chance.choice([5, 16, 64]))
    seen: dict[str, list[Token | Finished]] = {}
    preempted = 0
    waiting = list(requests)
    while waiting or engine.has_work:
        if waiting and chance.random() < 0.5:
            engine.add(waiting.pop())
        if chance.random() < 0.02 and seen:
            victim = chance.choice(list(seen))
            finished = engine.cancel(victim)
            seen[victim] += [finished] if finished else []
        running = engine.stats.running
        events = engine.step()
        for event in events:
            seen.setdefault(event.generation_id, []).append(event)
        preempted += running > engine.stats.running + sum(isinstance(event, Finished) for event in events)
        engine.check_integrity()
    for generation_id, events in seen.items():
        got = tokens(events)
        cancelled = events[-1] == Finished(generation_id, FinishReason.CANCELLED, events[-1].prompt_tokens, len(got))  # type: ignore[union-attr]
        assert got == expected[generation_id][: len(got)]
        assert cancelled or got == expected[generation_id]
    assert preempted > 0
    assert engine.stats.kv_bytes_used == 0


def test_a_generation_that_could_never_fit_is_refused(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, 256, 64)
    with pytest.raises(ResourceExhaustedError, match="KV cache") as raised:
        engine.add(request("x", prompt_of(200), max_tokens=57))
    assert raised.value.metadata == {
        "needed_bytes": str(512 * KV_BYTES_PER_TOKEN),
        "budget_bytes": str(256 * KV_BYTES_PER_TOKEN),
    }
    assert len(tokens(run(engine, [request("x", prompt_of(200), max_tokens=56)])["x"])) == 56


async def test_the_loop_streams_a_real_engines_tokens(checkpoint: Path) -> None:
    asked = request("x", prompt_of(40), temperature=1.0, seed=6, max_tokens=30)
    expected = run(engine_of(checkpoint, 256, 64), [asked])["x"]
    loop = EngineLoop(engine_of(checkpoint, 256, 16))
    assert [event async for batch in loop.generate(asked) for event in batch] == expected
    await loop.close()
