"""Log-probabilities are those of a full forward, before temperature and filters."""

from pathlib import Path

import pytest
import torch

from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import Token
from support.engines import prompt_of, request, run, tokens, write_model


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "top_k": 3, "top_p": 0.5, "seed": 3}])
def test_logprobs_equal_a_full_forward(tmp_path: Path, sampling: dict[str, float]) -> None:
    model = write_model(tmp_path, "llama")
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path, max_batch_tokens=16)
    prompt = prompt_of(40)
    events = run(engine, [request("x", prompt, max_tokens=10, top_logprobs=5, **sampling)])["x"]
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *tokens(events)]])).logits[0, len(prompt) - 1 : -1]
    for token, expected in zip(events[:-1], logits.log_softmax(-1), strict=True):
        assert isinstance(token, Token)
        assert token.logprob == pytest.approx(expected[token.token_id].item(), abs=1e-4)
        top = expected.topk(5)
        assert [token_id for token_id, _ in token.top_logprobs] == top.indices.tolist()
        assert [logprob for _, logprob in token.top_logprobs] == pytest.approx(top.values.tolist(), abs=1e-4)
