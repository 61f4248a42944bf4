"""Packing real model directories: content, layout, order, determinism."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from kindling.checkpoint import (
    LayerKind,
    Manifest,
    PackedCheckpoint,
    directory_name,
    dump_manifest,
    load_manifest,
    pack,
    verify,
)
from support.checkpoints import ARCHITECTURES, make_checkpoint

CHUNK = 64 * 1024


def tensors_of(*files: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def packed(store: Path, manifest: Manifest) -> Path:
    return store / directory_name(manifest.digest)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_survives(tmp_path: Path, architecture: str, sharded: bool) -> None:
    source = make_checkpoint(tmp_path / "source", architecture, sharded=sharded, tied=sharded)
    manifest = pack(source, tmp_path / "store", chunk_bytes=CHUNK)
    directory = packed(tmp_path / "store", manifest)
    expected = tensors_of(*source.glob("*.safetensors"))
    found = tensors_of(directory / "partition-0.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert (len(list(source.glob("*.safetensors"))) > 1) == sharded
    assert verify(directory).is_intact
    assert {layer.kind for layer in manifest.layers} == set(LayerKind)


def test_manifest_locates_every_byte(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "mixtral", dtype="bfloat16")
    manifest = pack(source, tmp_path / "store", chunk_bytes=CHUNK)
    data = (packed(tmp_path / "store", manifest) / "partition-0.safetensors").read_bytes()
    expected = tensors_of(source / "model.safetensors")
    position = manifest.partitions[0].data_offset
    assert position % 4096 == 0
    for entry in manifest.tensors:
        assert entry.offset_bytes == position
        position = entry.end_bytes
        raw = expected[entry.name].view(torch.uint8).numpy().tobytes()
        assert data[entry.offset_bytes : entry.end_bytes] == raw
        assert (entry.shape, entry.dtype) == (tuple(expected[entry.name].shape), "BF16")
    assert position == len(data) == manifest.total_bytes
    assert manifest.parameter_count == sum(tensor.numel() for tensor in expected.values())
    assert (manifest.architecture, manifest.model_type) == ("MixtralForCausalLM", "mixtral")
    assert (manifest.torch_dtype, manifest.context_length) == ("bfloat16", 512)


def test_chunks_tile_the_file_and_layers_cover_their_tensors(tmp_path: Path) -> None:
    manifest = pack(make_checkpoint(tmp_path / "source"), tmp_path / "store", chunk_bytes=CHUNK)
    ranges = [manifest.chunk_range(index) for index in range(manifest.chunk_count)]
    assert [offset for offset, _ in ranges] == list(range(0, manifest.total_bytes, CHUNK))
    assert sum(length for _, length in ranges) == manifest.total_bytes
    spans = {layer.name: range(layer.first_chunk, layer.last_chunk + 1) for layer in manifest.layers}
    assert list(spans) == ["embedding", "model.layers.0", "model.layers.1", "head"]
    for entry in manifest.tensors:
        layer = next((name for name in spans if entry.name.startswith(f"{name}.")), None)
        name = layer or ("embedding" if "embed" in entry.name else "head")
        assert set(manifest.tensor_chunks(entry)) <= set(spans[name])


def test_experts_fuse_into_one_view(tmp_path: Path) -> None:
    """The ranges that transformers fuses equal its own fused parameters, byte for byte."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    source = make_checkpoint(tmp_path / "source", "mixtral")
    manifest = pack(source, tmp_path / "store", chunk_bytes=CHUNK)
    data = (packed(tmp_path / "store", manifest) / "partition-0.safetensors").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(source)
    experts = {name: value for name, value in model.named_parameters() if ".experts." in name}
    assert len(experts) == 4
    by_name = {entry.name: entry for entry in manifest.tensors}
    for name, value in experts.items():
        layer = name.split(".")[2]
        first = "w1" if name.endswith("gate_up_proj") else "w2"
        begin = by_name[f"model.layers.{layer}.block_sparse_moe.experts.0.{first}.weight"].offset_bytes
        view = np.frombuffer(data, dtype=np.float32, count=value.numel(), offset=begin)
        assert np.array_equal(view, value.detach().numpy().reshape(-1))


def test_packing_is_deterministic_and_idempotent(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", sharded=True)
    first = pack(source, tmp_path / "one", chunk_bytes=CHUNK)
    second = pack(source, tmp_path / "two", chunk_bytes=CHUNK)
    assert first == second
    before = {path: path.stat().st_ino for path in (tmp_path / "one").rglob("*")}
    assert pack(source, tmp_path / "one", chunk_bytes=CHUNK) == first
    assert {path: path.stat().st_ino for path in (tmp_path / "one").rglob("*")} == before


def test_sharding_is_not_content(tmp_path: Path) -> None:
    single, sharded = make_checkpoint(tmp_path / "a"), make_checkpoint(tmp_path / "b", sharded=True)
    assert pack(single, tmp_path / "store") == pack(sharded, tmp_path / "store")


def test_other_weights_and_other_config_are_other_checkpoints(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    digests = {pack(source, tmp_path / "store").digest}
    digests.add(pack(make_checkpoint(tmp_path / "other", seed=1), tmp_path / "store").digest)
    digests.add(pack(source, tmp_path / "store", chunk_bytes=CHUNK).digest)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    digests.add(pack(source, tmp_path / "store").digest)
    assert len(digests) == 4


def test_model_files_come_along(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    (source / "README.md").write_text("not the model's")
    manifest = pack(source, tmp_path / "store")
    directory = packed(tmp_path / "store", manifest)
    names = {file.path for file in manifest.files}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= names
    assert {path.name for path in directory.iterdir()} == names | {"manifest.json", "partition-0.safetensors"}
    assert all((directory / name).read_bytes() == (source / name).read_bytes() for name in names)


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = make_checkpoint(tmp_path / "source", tied=True)
    tensors = tensors_of(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    names = {entry.name for entry in pack(source, tmp_path / "store").tensors}
    assert names == tensors.keys() - {"lm_head.weight"}
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    assert {entry.name for entry in pack(source, tmp_path / "store").tensors} == tensors.keys()


def test_transformers_opens_the_packed_file(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    source = make_checkpoint(tmp_path / "source", "qwen2", tied=True)
    directory = packed(tmp_path / "store", pack(source, tmp_path / "store"))
    (directory / "partition-0.safetensors").rename(directory / "model.safetensors")
    tokens = torch.tensor([[5, 6, 7]])
    ours = AutoModelForCausalLM.from_pretrained(directory)(tokens).logits
    assert torch.equal(ours, AutoModelForCausalLM.from_pretrained(source)(tokens).logits)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_packed_only_on_request(tmp_path: Path, legacy: bool) -> None:
    source = make_checkpoint(tmp_path / "source")
    expected = pack(source, tmp_path / "store")
    tensors = tensors_of(source / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].t().contiguous().t()
    torch.save(tensors, source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    (source / "model.safetensors").unlink()
    assert pack(source, tmp_path / "other", allow_pickle=True) == expected


def test_manifest_json_round_trips(tmp_path: Path) -> None:
    manifest = pack(make_checkpoint(tmp_path / "source"), tmp_path / "store", chunk_bytes=CHUNK)
    assert load_manifest(dump_manifest(manifest)) == manifest
    assert PackedCheckpoint.open(packed(tmp_path / "store", manifest)).manifest == manifest
