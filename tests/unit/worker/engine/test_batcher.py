"""What a step computes of prompts, alone and beside those who decode."""

import torch

from kindling.worker.adapters.transformers_engine.batcher import Batcher, Sequence
from kindling.worker.adapters.transformers_engine.kv_cache import KvCache, KvLayout
from kindling.worker.domain.generation import GenerationRequest
from kindling.worker.domain.progress import Progress
from kindling.worker.domain.sampling import SamplingParams

LAYOUT = KvLayout(layers=1, kv_heads=1, head_dim=4, dtype=torch.float32, device=torch.device("cpu"))


def batcher() -> Batcher:
    cache = KvCache(LAYOUT, context_length=1024, budget_bytes=1 << 20)
    return Batcher(cache, max_batch_tokens=100, max_prompt_tokens_beside=10, max_running=8)


def sequence(name: str, prompt_tokens: int, computed: int = 0, *, held: bool = False) -> Sequence:
    request = GenerationRequest(name, tuple(range(prompt_tokens)), SamplingParams(max_tokens=5))
    return Sequence(Progress(request, eos_token_ids=frozenset(), context_length=1024, held=held), computed)


def planned(batch: Batcher) -> dict[str, int]:
    return {chunk.owner: len(chunk.token_ids) for chunk in batch.plan()}


def test_a_prompt_alone_fills_the_step() -> None:
    batch = batcher()
    batch.add(sequence("long", 300))
    assert planned(batch) == {"long": 100}


def test_prompts_together_take_a_small_part_while_others_decode() -> None:
    batch = batcher()
    for joining in (sequence("first", 7), sequence("second", 300)):
        batch.add(joining)
    batch.add(sequence("decodes", 20, computed=19))
    assert planned(batch) == {"decodes": 1, "first": 7, "second": 3}


def test_whoever_is_held_and_computed_does_not_slow_a_prompt_down() -> None:
    batch = batcher()
    batch.add(sequence("long", 300))
    batch.add(sequence("held", 20, computed=19, held=True))
    assert planned(batch) == {"long": 100}
