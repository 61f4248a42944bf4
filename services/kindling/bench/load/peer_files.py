"""Writes the formats that other loaders want; a program of its own, since it holds all tensors at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kindling.bench.child import Answer, answer_parent
from kindling.bench.load.peer_table import SAFETENSORS, TENSORIZER, TORCH


def write(request: Answer) -> Mapping[str, Any]:
    """Make every format of what ``request["directory"]`` has as safetensors; say why one could not be made."""
    import torch
    from safetensors.torch import load_file

    directory = Path(request["directory"])
    tensors = load_file(directory / SAFETENSORS)
    torch.save(dict(tensors), directory / TORCH)
    try:
        from tensorizer import TensorSerializer
    except ImportError as error:
        return {"tensorizer": str(error)}
    serializer = TensorSerializer(str(directory / TENSORIZER))
    serializer.write_state_dict(tensors)
    serializer.close()
    return {}


if __name__ == "__main__":
    answer_parent(write)
