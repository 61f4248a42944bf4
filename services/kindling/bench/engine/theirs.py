"""transformers' own ways of generating."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from kindling.bench.engine.generate import Generate
from kindling.bench.engine.workload import Prompts
from kindling.platform.errors import FailedPreconditionError

_PAD = 0
_CACHE_BLOCKS = 64
_LONGEST_STEP_SECONDS = 60.0


def one_by_one(directory: Path) -> Generate:
    """``generate`` for one prompt after the other."""
    model = _load(directory)
    return lambda prompts, new_tokens: sum(_generate(model, [prompt], new_tokens) for prompt in prompts)


def static_batch(directory: Path) -> Generate:
    """``generate`` for all prompts as one batch, padded on the left."""
    model = _load(directory)
    return lambda prompts, new_tokens: _generate(model, prompts, new_tokens)


@contextmanager
def continuous_batching(directory: Path) -> Iterator[Generate]:
    """transformers' continuous batching, kept running as its own server keeps it.

    Raises:
        FailedPreconditionError: CONTINUOUS_BATCHING_FAILED.
    """
    model = _load(directory)
    greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=_PAD)  # type: ignore[no-untyped-call]
    manager = model.init_continuous_batching(
        generation_config=greedy,
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=_CACHE_BLOCKS),
    )
    manager.start()
    try:
        yield lambda prompts, new_tokens: _through(manager, prompts, new_tokens)
    finally:
        manager.stop(block=True)


def _load(directory: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    return model.eval()


def _generate(model: Any, prompts: Prompts, new_tokens: int) -> int:
    longest = max(len(prompt) for prompt in prompts)
    token_ids = torch.tensor([[_PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        token_ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=_PAD
    )
    return len(prompts) * int(output.shape[1] - longest)


def _through(manager: Any, prompts: Prompts, new_tokens: int) -> int:
    left = set(manager.add_requests(inputs=prompts, max_new_tokens=new_tokens))
    tokens = 0
    while left:
        result = manager.get_result(timeout=_LONGEST_STEP_SECONDS)
        if result is None or result.error is not None:
            cause = manager.background_thread_status.fatal_error if result is None else result.error
            raise FailedPreconditionError(f"continuous batching failed: {cause}", reason="CONTINUOUS_BATCHING_FAILED")
        if result.is_finished():
            left.discard(result.request_id)
            tokens += len(result.generated_tokens)
    return tokens
