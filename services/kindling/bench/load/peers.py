"""The other loaders. Each takes the checkpoint's path, imports what it needs, and returns the load to be timed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Tensors = Iterator["torch.Tensor"]
Load = Callable[[], Tensors]
_kept_open: list[Any] = []
"""What must not be closed before its tensors were looked at."""


def safetensors_load_file(path: Path) -> Load:
    """safetensors, all tensors at once, views of a memory map."""
    from safetensors.torch import load_file

    return lambda: iter(load_file(path).values())


def safetensors_safe_open(path: Path) -> Load:
    """safetensors, tensor by tensor."""
    from safetensors import safe_open

    def load() -> Tensors:
        with safe_open(path, framework="pt") as file:
            yield from [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping

    return load


def torch_load(path: Path) -> Load:
    """torch.load of a zip archive of tensors."""
    import torch

    return lambda: iter(torch.load(path, weights_only=True).values())


def torch_load_mmap(path: Path) -> Load:
    """torch.load of the same, memory-mapped."""
    import torch

    return lambda: iter(torch.load(path, weights_only=True, mmap=True).values())


def transformers_from_pretrained(path: Path) -> Load:
    """A whole model, as most people load it."""
    from transformers import LlamaForCausalLM

    def load() -> Tensors:
        model = LlamaForCausalLM.from_pretrained(path.parent, dtype="auto")
        yield from model.parameters()

    return load


def runai_streamer(path: Path) -> Load:
    """runai-model-streamer. Its tensors stay valid as long as somebody keeps them, and are freed where nobody does."""
    from runai_model_streamer import SafetensorsStreamer

    def load() -> Tensors:
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(str(path))
            for _, tensor in streamer.get_tensors():
                yield tensor

    return load


def fastsafetensors(path: Path, threads: int = 16) -> Load:
    """fastsafetensors into CPU memory; without GPUDirect storage, which needs a GPU."""
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    def load() -> Tensors:
        loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True, max_threads=threads)
        loader.add_filenames({0: [str(path)]})
        buffers: Any = loader.copy_files_to_device()
        _kept_open.append(buffers)
        yield from [buffers.get_tensor(name) for name in loader.get_keys()]

    return load


def tensorizer(path: Path) -> Load:
    """tensorizer, from its own format."""
    from tensorizer import TensorDeserializer

    return lambda: iter(TensorDeserializer(path, device="cpu").values())
