"""Safetensors files written byte by byte, so that tests can write wrong ones."""

import json
import struct
from pathlib import Path
from typing import Any


def raw(header: dict[str, Any] | bytes, data: bytes = b"", *, announced: int | None = None) -> bytes:
    """The bytes of a file with this header and data; ``announced`` is the header length it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if announced is None else announced) + text + data


def tensor(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_model(directory: Path, weights: bytes, **config: Any) -> Path:
    """A directory with a config and ``model.safetensors`` of these bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, **config)
    (directory / "model.safetensors").write_bytes(weights)
    return directory


def write_config(directory: Path, **more: Any) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **more}
    (directory / "config.json").write_text(json.dumps(config))


def write_sharded(directory: Path, weight_map: Any, shards: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name, data in shards.items():
        (directory / name).write_bytes(data)
    return directory


ONE_TENSOR = raw({"a.weight": tensor("U8", [4], 0, 4)}, b"abcd")
