"""The demo's sample, read back by the library that real checkpoints are made for."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from kindling.cli import sample


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("sample")
    sample.make_sample(path, layers=2, hidden_size=256, shard_size="1MB")
    return path


def test_weights_are_sharded_bf16_and_read_as_a_causal_model(directory):
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16
    tokens = model.generate(torch.tensor([[0, 7, 8]]), max_new_tokens=3, do_sample=False, pad_token_id=1)
    assert tokens.shape[1] <= 6


def test_the_same_weights_every_time(directory, tmp_path):
    sample.make_sample(tmp_path, layers=2, hidden_size=256, shard_size="1MB")
    first, second = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (directory, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("text", ["Hello there", "héllo wörld", "日本 🎉", " a\n\tb"])
def test_any_text_survives_the_tokenizer(directory, text):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_conversation_goes_through_the_chat_template(directory):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<s><|system|>Be kind.</s><|user|>Hi</s><|assistant|>"
    assert len(tokenizer("<|assistant|>")["input_ids"]) == 1


def test_the_generation_config_names_the_end_token(directory):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert GenerationConfig.from_pretrained(directory).eos_token_id == tokenizer.eos_token_id
