"""In the batch-invariant mode nothing that happens around a generation changes it: neither in bf16 nor in fp32."""

from pathlib import Path

import pytest
import torch

from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import GenerationRequest, Token
from support.engines import Outcome, prompt_of, request, run, tokens, write_model

DTYPES = [torch.float32, torch.bfloat16]
MODELS = ["llama", "qwen2", "mistral-window", "gpt2"]
PROMPT = prompt_of(50)
MAX_TOKENS = 24
CONTEXT = 1024


@pytest.fixture(params=MODELS, scope="module")
def checkpoints(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Path]:
    """One model in each dtype, with a context of more than one KV block."""
    directories = {dtype: tmp_path_factory.mktemp("model") for dtype in DTYPES}
    for dtype, directory in directories.items():
        write_model(directory, request.param, dtype=dtype, max_position_embeddings=CONTEXT)
    return directories


@pytest.fixture(params=DTYPES, ids=str)
def checkpoint(request: pytest.FixtureRequest, checkpoints: dict[torch.dtype, Path]) -> Path:
    return checkpoints[request.param]


def exact_engine(checkpoint: Path, **options: int) -> TransformersEngine:
    engine = TransformersEngine(DirectoryWeightSource(checkpoint), checkpoint, exact=True, **options)
    assert engine.exact
    return engine


def asked(emitted: tuple[int, ...] = (), prompt: tuple[int, ...] = PROMPT) -> GenerationRequest:
    return request("x", prompt, emitted, max_tokens=MAX_TOKENS, top_logprobs=5)


def companions() -> list[GenerationRequest]:
    lengths = (1, 2, 9, 31, 64, 77, 130)
    return [request(f"companion {length}", prompt_of(length), max_tokens=MAX_TOKENS) for length in lengths]


def reports(outcome: Outcome) -> list[tuple[int, float | None, tuple[tuple[int, float], ...]]]:
    """Tokens with their log-probabilities, whose last bits tell more than tokens do."""
    return [(event.token_id, event.logprob, event.top_logprobs) for event in outcome["x"] if isinstance(event, Token)]


def test_a_continuation_recomputed_at_any_cut_is_the_same(checkpoint: Path) -> None:
    undisturbed = reports(run(exact_engine(checkpoint), [asked()]))
    emitted = tuple(token_id for token_id, *_ in undisturbed)
    engine = exact_engine(checkpoint)
    for cut in range(1, MAX_TOKENS):
        assert reports(run(engine, [asked(emitted=emitted[:cut])])) == undisturbed[cut:]


def test_company_changes_nothing(checkpoint: Path) -> None:
    alone = reports(run(exact_engine(checkpoint), [asked()]))
    first, *others = companions()
    assert reports(run(exact_engine(checkpoint), [first, asked(), *others], every=2)) == alone
    assert reports(run(exact_engine(checkpoint), [*others, asked(), first])) == alone


@pytest.mark.parametrize("max_batch_tokens", [1, 3, 8, 33, 512])
def test_the_size_of_prefill_chunks_changes_nothing(checkpoint: Path, max_batch_tokens: int) -> None:
    whole = reports(run(exact_engine(checkpoint), [asked()]))
    assert reports(run(exact_engine(checkpoint, max_batch_tokens=max_batch_tokens), [asked()])) == whole


def test_a_continuation_across_a_kv_block_is_the_same(checkpoint: Path) -> None:
    prompt = prompt_of(500)
    undisturbed = reports(run(exact_engine(checkpoint), [asked(prompt=prompt)]))
    emitted = tuple(token_id for token_id, *_ in undisturbed)
    for cut in (3, 11, 12, 13, 20):
        resumed = run(exact_engine(checkpoint), [*companions(), asked(emitted=emitted[:cut], prompt=prompt)])
        assert reports(resumed) == undisturbed[cut:]


def test_preemption_changes_nothing(checkpoint: Path) -> None:
    alone = reports(run(exact_engine(checkpoint), [asked()]))
    engine = exact_engine(checkpoint)
    slot_bytes = engine._cache.bytes_for(1)
    crowded = exact_engine(checkpoint, kv_budget_bytes=3 * slot_bytes, max_batch_tokens=40)
    grows = request("grows", prompt_of(490), max_tokens=60)
    outcome = run(crowded, [grows, request("second", prompt_of(7), max_tokens=90), asked()])
    assert reports(outcome) == alone
    assert len(tokens(outcome["grows"])) == 60
