"""The engine's tokens are those of transformers' own ``generate``, whatever runs beside them."""

from pathlib import Path

import pytest
import torch

from kindling.worker.adapters.transformers_engine import (
    DirectoryWeightSource,
    TransformersEngine,
    supported_architectures,
)
from kindling.worker.domain.generation import FinishReason
from support.engines import MODELS, SLIDING_WINDOW, generate, prompt_of, reason, request, run, tokens, write_model

LENGTHS = (1, 5, 33, 60, 140)
MAX_TOKENS = 24


@pytest.mark.parametrize("name", MODELS)
def test_generations_joining_at_different_steps_equal_generate(tmp_path: Path, name: str) -> None:
    model = write_model(tmp_path, name)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path, max_batch_tokens=37)
    requests = [request(str(length), prompt_of(length), max_tokens=MAX_TOKENS) for length in LENGTHS]
    outcome = run(engine, requests, every=3)
    for length in LENGTHS:
        assert tokens(outcome[str(length)]) == generate(model, prompt_of(length), MAX_TOKENS)


@pytest.mark.parametrize("name", [name for name in MODELS if "mixtral" not in name and "moe" not in name])
def test_weights_are_views_of_the_mapping(tmp_path: Path, name: str) -> None:
    write_model(tmp_path, name)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path)
    assert engine.copied_weight_bytes == 0


@pytest.mark.parametrize("name", ["mistral-window", "qwen2-untied-windows"])
@pytest.mark.parametrize("max_batch_tokens", [8, 512])
def test_a_sliding_window_is_honoured(tmp_path: Path, name: str, max_batch_tokens: int) -> None:
    model = write_model(tmp_path, name)
    prompt = prompt_of(5 * SLIDING_WINDOW)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path, max_batch_tokens=max_batch_tokens)
    got = tokens(run(engine, [request("x", prompt, max_tokens=40)])["x"])
    assert got == generate(model, prompt, 40)
    unlimited = write_model(tmp_path / "unlimited", name, sliding_window=None, use_sliding_window=False)
    assert got != generate(unlimited, prompt, 40), "the window must matter for this to prove anything"


@pytest.mark.parametrize("name", ["llama", "opt", "gpt2", "mistral-window"])
def test_preemption_and_a_tight_budget_change_no_token(tmp_path: Path, name: str) -> None:
    model = write_model(tmp_path, name)
    kv_heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
    per_token = 2 * 2 * kv_heads * 16 * 4
    engine = TransformersEngine(
        DirectoryWeightSource(tmp_path), tmp_path, kv_budget_bytes=512 * per_token, max_batch_tokens=50
    )
    requests = [request(str(length), prompt_of(length), max_tokens=MAX_TOKENS) for length in (250, 240, 5, 300)]
    outcome = run(engine, requests)
    for length in (250, 240, 5, 300):
        assert tokens(outcome[str(length)]) == generate(model, prompt_of(length), MAX_TOKENS)


def test_every_supported_architecture_is_among_the_tested_ones(tmp_path: Path) -> None:
    tested = {type(write_model(tmp_path / name, name)).__name__ for name in MODELS}
    assert tested == supported_architectures()


@pytest.mark.parametrize("eos", ["int", "list"])
@pytest.mark.parametrize("where", ["config", "generation_config"])
def test_end_tokens_are_the_checkpoints_own(tmp_path: Path, eos: str, where: str) -> None:
    model = write_model(tmp_path, "llama")
    whole = generate(model, prompt_of(5), MAX_TOKENS)
    end = whole[9]
    value = end if eos == "int" else [end, 198]
    if where == "config":
        (tmp_path / "generation_config.json").unlink()
        model.config.eos_token_id = value
        model.config.save_pretrained(tmp_path)
    else:
        model.generation_config.eos_token_id = value
        model.generation_config.save_pretrained(tmp_path)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path)
    outcome = run(
        engine,
        [
            request("stops", prompt_of(5), max_tokens=MAX_TOKENS),
            request("ignores", prompt_of(5), max_tokens=MAX_TOKENS, ignore_eos=True),
        ],
    )
    assert tokens(outcome["stops"]) == whole[: whole.index(end) + 1]
    assert reason(outcome["stops"]) is FinishReason.STOP
    assert tokens(outcome["ignores"]) == whole


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_in_the_configured_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    model = write_model(tmp_path, "llama", dtype=dtype)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path)
    events = run(engine, [request("x", prompt_of(20), max_tokens=1, top_logprobs=20)])["x"]
    with torch.inference_mode():
        expected = model(torch.tensor([prompt_of(20)])).logits[0, -1].float().log_softmax(-1)
    reported = dict(events[0].top_logprobs)  # type: ignore[union-attr]
    assert engine.copied_weight_bytes == 0
    assert max(abs(expected[token_id].item() - logprob) for token_id, logprob in reported.items()) < 0.15
