"""Every architecture, from a Hugging Face directory to streamed text, equals transformers' own `generate`."""

from pathlib import Path

import pytest

from kindling.v1 import inference_pb2
from support import api, reference
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster

MAX_TOKENS = 24
QUESTION = "How quick is the brown fox? 🙂"
CASES = [
    ("llama", False, True),
    ("llama", True, False),
    ("qwen2", True, False),
    ("qwen2", False, True),
    ("qwen3", True, False),
    ("opt", True, False),
    ("gpt2", True, True),
    ("mistral", False, False),
    ("mixtral", False, True),
]


@pytest.mark.parametrize(("architecture", "tied", "sharded"), CASES)
def test_streamed_tokens_equal_generate(
    architecture: str, tied: bool, sharded: bool, cluster: RunningCluster, tmp_path: Path
) -> None:
    source = make_checkpoint(tmp_path / "model", architecture, tied=tied, sharded=sharded)
    name = f"{architecture}-{'tied' if tied else 'untied'}-{'sharded' if sharded else 'single'}"
    api.deploy(cluster.grpc_address, name, source)
    prompt = reference.chat_prompt(source, QUESTION)
    expected = reference.generate(source, prompt, MAX_TOKENS)
    text = reference.decode(source, expected)

    sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
    answer = api.answer_of(api.stream(cluster.grpc_address, name, prompt, sampling))
    assert answer.token_ids == expected
    assert answer.text == text
    assert answer.finished.prompt_tokens == len(prompt)
    assert answer.finished.completion_tokens == len(expected)

    assert _openai_text(cluster.http_url, name) == text
    api.delete(cluster.grpc_address, name)


def _openai_text(http_url: str, model: str) -> str:
    with api.openai_client(http_url) as client:
        chunks = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            max_tokens=MAX_TOKENS,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
