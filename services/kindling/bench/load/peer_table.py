"""Which loaders are measured, from which file, with which settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from kindling.bench.load import peers

SAFETENSORS = "model.safetensors"
TORCH = "model.pt"
TENSORIZER = "model.tensors"


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to load ``file`` of the peers' directory; ``package`` may be missing on this machine."""

    key: str
    label: str
    package: str
    file: str
    prepare: Callable[[Path], peers.Load]
    keeps: bool = True
    """Whether all tensors are kept, as in a load; else each is dropped when it was looked at."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


PEERS: tuple[Peer, ...] = (
    Peer("safetensors_load_file", "safetensors load_file", "safetensors", SAFETENSORS, peers.safetensors_load_file),
    Peer("safetensors_safe_open", "safetensors safe_open", "safetensors", SAFETENSORS, peers.safetensors_safe_open),
    Peer("torch_load", "torch.load", "torch", TORCH, peers.torch_load),
    Peer("torch_load_mmap", "torch.load mmap", "torch", TORCH, peers.torch_load_mmap),
    Peer("from_pretrained", "transformers", "transformers", SAFETENSORS, peers.transformers_from_pretrained),
    Peer("runai", "runai streamer", "runai_model_streamer", SAFETENSORS, peers.runai_streamer),
    Peer(
        "runai_4",
        "runai streamer, 4 threads",
        "runai_model_streamer",
        SAFETENSORS,
        peers.runai_streamer,
        environment={"RUNAI_STREAMER_CONCURRENCY": "4"},
    ),
    Peer(
        "runai_dropped",
        "runai streamer, nothing kept",
        "runai_model_streamer",
        SAFETENSORS,
        peers.runai_streamer,
        keeps=False,
    ),
    Peer("fastsafetensors", "fastsafetensors", "fastsafetensors", SAFETENSORS, peers.fastsafetensors),
    Peer(
        "fastsafetensors_4",
        "fastsafetensors, 4 threads",
        "fastsafetensors",
        SAFETENSORS,
        partial(peers.fastsafetensors, threads=4),
    ),
    Peer("tensorizer", "tensorizer", "tensorizer", TENSORIZER, peers.tensorizer),
)
BY_KEY = {peer.key: peer for peer in PEERS}
