"""Small model directories without torch, and importing them over the wire."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
}


def make_model(directory: Path, **config: Any) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    random = np.random.default_rng(0)
    layer = "model.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (512, 64),
        "lm_head.weight": (512, 64),
        "model.norm.weight": (64,),
        layer + "input_layernorm.weight": (64,),
        layer + "post_attention_layernorm.weight": (64,),
        **{f"{layer}self_attn.{name}_proj.weight": (64, 64) for name in "qkvo"},
        **{f"{layer}mlp.{name}_proj.weight": (128, 64) for name in ("gate", "up")},
        layer + "mlp.down_proj.weight": (64, 128),
    }
    save_file(
        {name: random.random(shape, dtype=np.float32) for name, shape in shapes.items()},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
    return directory


async def import_model(stub: Any, source_uri: str, request_id: str = "") -> tuple[list[Any], checkpoint_pb2.Checkpoint]:
    request = storage_pb2.ImportCheckpointRequest(request_id=request_id, source_uri=source_uri)
    with remote_errors("storage"):
        events = [event async for event in stub.ImportCheckpoint(request)]
    assert all(event.HasField("progress") for event in events[:-1])
    return [event.progress for event in events[:-1]], events[-1].imported
