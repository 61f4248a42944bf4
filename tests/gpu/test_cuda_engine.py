"""The engine on a CUDA device gives the tokens that it gives on a CPU, from weights that went through an arena."""

from pathlib import Path

import pytest
import torch

from kindling.worker.adapters.devices import default_kv_budget, resolve_device
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from support.engines import prompt_of, request, run, tokens, write_model
from support.gpu import GPU_MARKS

pytestmark = GPU_MARKS


@pytest.fixture(scope="module", autouse=True)
def exact_products() -> None:
    """fp32 products in fp32, so that both devices draw the same tokens."""
    torch.backends.cuda.matmul.allow_tf32 = False


def greedy(directory: Path, device: str) -> dict[str, list[int]]:
    engine = TransformersEngine(DirectoryWeightSource(directory), directory, device=device, max_batch_tokens=24)
    requests = [request(str(length), prompt_of(length), max_tokens=12) for length in (1, 7, 40)]
    outcome = run(engine, requests, every=2)
    engine.close()
    return {name: tokens(events) for name, events in outcome.items()}


@pytest.mark.parametrize("name", ["llama", "qwen2", "mixtral", "gpt2"])
def test_tokens_are_those_of_the_cpu(tmp_path: Path, name: str) -> None:
    write_model(tmp_path, name)
    assert greedy(tmp_path, "cuda") == greedy(tmp_path, "cpu")


def test_sampled_tokens_are_those_of_the_cpu(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    drawn = []
    for device in ("cpu", "cuda"):
        engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path, device=device)
        wanted = request("s", prompt_of(9), max_tokens=24, temperature=0.9, top_p=0.9, top_k=40, seed=11)
        drawn.append(tokens(run(engine, [wanted])["s"]))
        engine.close()
    assert drawn[0] == drawn[1]


def test_a_closed_engine_gives_its_memory_back(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    greedy(tmp_path, "cuda")
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        greedy(tmp_path, "cuda")
    assert torch.cuda.memory_allocated() <= before


def test_the_kv_budget_is_a_share_of_what_is_free() -> None:
    device = resolve_device("cuda")
    one, four = default_kv_budget(device, 1), default_kv_budget(device, 4)
    assert 0 < four < one < torch.cuda.mem_get_info(device)[1]
