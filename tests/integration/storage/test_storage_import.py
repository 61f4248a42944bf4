"""Importing a model directory, over the wire."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from kindling.platform.errors import InvalidArgumentError, KindlingError, UnimplementedError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES
from support.storage_node import Place, open_checkpoint, storage_node

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


async def test_an_imported_model_can_be_opened(place: Place) -> None:
    source = make_model(place.root / "my model")
    async with storage_node(place) as (_, stub):
        progress, imported = await import_model(stub, source.as_uri())
        assert progress[-1].done_bytes == progress[-1].total_bytes > 0
        assert [p.done_bytes for p in progress] == sorted(p.done_bytes for p in progress)
        assert (imported.architecture, imported.dtype, imported.chunk_bytes, imported.context_length) == (
            "LlamaForCausalLM",
            "float32",
            CHUNK_BYTES,
            256,
        )
        async with open_checkpoint(stub, imported.digest) as lease:
            report = await lease.loaded()
            assert sum(flow.bytes for flow in report.traffic) == imported.total_bytes


async def test_the_same_import_many_times_at_once_is_done_once(place: Place) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place) as (_, stub):
        results = await asyncio.gather(*(import_model(stub, source.as_uri()) for _ in range(5)))
        assert len({imported.digest for _, imported in results}) == 1
        assert len(list(place.remote.iterdir())) == 1
        again = await import_model(stub, source.as_uri(), request_id="r1")
        repeated = await import_model(stub, "file:///not/read/again", request_id="r1")
        assert repeated == ([], again[1])


@pytest.mark.parametrize(
    ("uri", "kind", "reason"),
    [
        ("s3://bucket/model", UnimplementedError, "SCHEME_UNSUPPORTED"),
        ("relative/dir", InvalidArgumentError, "SOURCE_INVALID"),
        ("file://host/dir", InvalidArgumentError, "SOURCE_INVALID"),
        ("", InvalidArgumentError, "SOURCE_INVALID"),
        ("file:///a%00b", InvalidArgumentError, "SOURCE_INVALID"),
        ("file:///nowhere/at/all", KindlingError, "SOURCE_NOT_FOUND"),
    ],
)
async def test_bad_sources_are_clear_errors(place: Place, uri: str, kind: type[KindlingError], reason: str) -> None:
    async with storage_node(place) as (_, stub):
        with pytest.raises(kind) as caught:
            await import_model(stub, uri)
        assert caught.value.reason == reason


async def test_an_architecture_that_no_worker_runs_is_refused(place: Place) -> None:
    source = make_model(place.root / "model", architectures=["BloomForCausalLM"])
    async with storage_node(place) as (_, stub):
        with pytest.raises(KindlingError, match="BloomForCausalLM") as caught:
            await import_model(stub, source.as_uri())
        assert caught.value.reason == "ARCHITECTURE_UNSUPPORTED"
        assert not place.remote.exists() or not list(place.remote.iterdir())
