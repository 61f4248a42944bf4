"""The batch-invariant layout: few row counts, whole KV blocks, and a trial that notices when it does not hold."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kindling.worker.adapters.transformers_engine import exact_proof
from kindling.worker.adapters.transformers_engine.architectures import ModelConfig, read_model_config
from kindling.worker.adapters.transformers_engine.exact import KV_BLOCK, exact_layout, padded_rows
from kindling.worker.adapters.transformers_engine.kv_cache import KvCache, kv_layout
from kindling.worker.adapters.transformers_engine.packing import Layout
from support.engines import write_model

CPU = torch.device("cpu")


@pytest.fixture
def model_config(tmp_path: Path) -> ModelConfig:
    write_model(tmp_path, "llama")
    return read_model_config(tmp_path)


@pytest.mark.parametrize("fewest", [2, 4, 8, 24])
def test_rows_are_padded_to_a_few_counts(fewest: int) -> None:
    padded = [padded_rows(rows, fewest) for rows in range(1, 513)]
    assert all(count >= max(rows, fewest) for rows, count in enumerate(padded, start=1))
    assert padded == sorted(padded)
    assert len(set(padded)) <= 13
    assert all(count < 2 * rows for rows, count in enumerate(padded, start=1) if rows > fewest)


def test_single_precision_has_rows_for_every_thread() -> None:
    threads = torch.get_num_threads()
    assert exact_layout(torch.float32).padded_rows(1) >= 4 * threads
    assert exact_layout(torch.bfloat16).padded_rows(1) >= 2


@pytest.mark.parametrize("context_length", [100, 512, 2048, 3000])
def test_slots_are_whole_blocks(model_config: ModelConfig, context_length: int) -> None:
    layout = kv_layout(model_config.config, torch.float32, CPU)
    cache = KvCache(layout, context_length=context_length, budget_bytes=1 << 40, block=KV_BLOCK)
    for tokens in (1, 100, 511, 512, 513, 1500, context_length):
        slot_tokens = cache.bytes_for(tokens) // layout.bytes_per_token
        assert slot_tokens >= tokens
        assert slot_tokens % KV_BLOCK == 0


def test_the_fast_layout_does_not_pass_the_trial(model_config: ModelConfig) -> None:
    assert not exact_proof.holds(Layout(), model_config, torch.bfloat16, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_exact_layout_passes_and_is_tried_once(
    model_config: ModelConfig, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[torch.dtype] = []

    def holds(layout: Layout, *rest: Any) -> bool:
        tried.append(dtype)
        return real(layout, *rest)

    real = exact_proof.holds
    monkeypatch.setattr(exact_proof, "holds", holds)
    monkeypatch.setattr(exact_proof, "_proven", {})
    assert exact_proof.layout_for(model_config, dtype, CPU).exact
    assert exact_proof.layout_for(model_config, dtype, CPU).exact
    assert tried == [dtype]


def test_where_it_does_not_hold_the_fast_mode_runs_and_says_so(
    model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exact_proof, "holds", lambda *_: False)
    monkeypatch.setattr(exact_proof, "_proven", {})
    assert exact_proof.layout_for(model_config, torch.bfloat16, CPU) == Layout()
    printed = capsys.readouterr()
    assert "exact_unavailable" in printed.out + printed.err
