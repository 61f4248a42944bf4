"""What a model weighs and how fast a device computes it, derived from its architecture and the device's data sheet."""

import math
from dataclasses import dataclass
from typing import Final

from kindling.platform.errors import NotFoundError
from kindling.simulate.device_kinds import DeviceKind, device_kind

BYTES_PER_NUMBER: Final = 2
"""Weights, keys and values in half precision."""
DECODE_EFFICIENCY: Final = 0.7
"""Assumed share of the memory's bandwidth that decoding reaches; engines reach 0.6 to 0.8 at small batches."""
PREFILL_EFFICIENCY: Final = 0.5
"""Assumed share of the peak operations that prefilling reaches: matrix products of some hundred rows and more."""
WEIGHTS_SHARE: Final = 0.9
"""Assumed share of a device's memory that weights may take; the rest is for keys and values and for the engine."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model on one kind of device; ``devices`` of them hold it together, and the speeds are those of all of them.

    With ``prompt_tokens_beside``, an instance computes one prompt after the other, and so many tokens of them a step
    while others decode; without, each as if it were alone. Where workers share their cores, each other generation on
    the node has tokens take ``seconds_per_token_beside`` longer.
    """

    name: str
    checkpoint_bytes: int
    layers: int
    prefill_tokens_per_second: float
    seconds_per_token: float
    kv_bytes_per_token: int
    devices: int = 1
    prompt_tokens_beside: int = 0
    seconds_per_token_beside: float = 0.0

    def token_seconds(self, generations: int) -> float:
        """Seconds that a token takes while so many generations run on the node, at least one."""
        return self.seconds_per_token + (generations - 1) * self.seconds_per_token_beside

    def prefill_seconds(self, tokens: int) -> float:
        """Seconds that a prompt takes by itself."""
        return tokens / self.prefill_tokens_per_second

    def prefill_seconds_beside(self, tokens: int, token_seconds: float) -> float:
        """Seconds that it takes while others decode: each step has a part of it and one token of theirs."""
        return self.prefill_seconds(tokens) + math.ceil(tokens / self.prompt_tokens_beside) * token_seconds


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes that matter; ``kv_width`` is key-value heads times the size of a head."""

    name: str
    parameters: int
    layers: int
    kv_width: int

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the weights, shared tensors once."""
        return self.parameters * BYTES_PER_NUMBER

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token of context takes: a key and a value per layer."""
        return 2 * self.layers * self.kv_width * BYTES_PER_NUMBER


def _opt(name: str, layers: int, hidden: int) -> Architecture:
    """OPT (Zhang et al., 2022): 50,272 words tied to the head, 2,048 + 2 positions, 4 × hidden in the MLP, biases."""
    attention = 4 * (hidden * hidden + hidden)
    mlp = 2 * hidden * 4 * hidden + 4 * hidden + hidden
    norms = 2 * 2 * hidden
    parameters = (50_272 + 2_050) * hidden + layers * (attention + mlp + norms) + 2 * hidden
    return Architecture(name, parameters, layers, kv_width=hidden)


def _llama3(name: str, layers: int, hidden: int, mlp: int) -> Architecture:
    """Llama 3 (Meta, 2024): 128,256 words and a head of its own, 8 key-value heads of 128, a gated MLP, no biases."""
    kv_width = 8 * 128
    layer = 2 * hidden * hidden + 2 * hidden * kv_width + 3 * hidden * mlp + 2 * hidden
    return Architecture(name, 2 * 128_256 * hidden + layers * layer + hidden, layers, kv_width)


ARCHITECTURES: Final = {
    one.name: one
    for one in (
        _opt("opt-6.7b", layers=32, hidden=4096),
        _opt("opt-13b", layers=40, hidden=5120),
        _opt("opt-30b", layers=48, hidden=7168),
        _llama3("llama-3-8b", layers=32, hidden=4096, mlp=14_336),
        _llama3("llama-3-70b", layers=80, hidden=8192, mlp=28_672),
    )
}


def model_profile(name: str, device: str) -> ModelProfile:
    """Return the profile of a model of the catalogue on as few devices of a kind as hold it, a power of two.

    Raises NotFoundError MODEL_PROFILE_UNKNOWN or DEVICE_KIND_UNKNOWN.
    """
    if (architecture := ARCHITECTURES.get(name)) is None:
        message = f"The simulator knows no model {name!r}; it knows {', '.join(ARCHITECTURES)}."
        raise NotFoundError(message, reason="MODEL_PROFILE_UNKNOWN", metadata={"model": name})
    return derive(architecture, device_kind(device))


def derive(architecture: Architecture, device: DeviceKind) -> ModelProfile:
    """Derive the speeds: decoding reads every weight once a token, prefilling takes 2 operations per weight and token.

    Devices that share a model are taken to add up; what they lose to talking is within the assumed efficiencies.
    """
    devices = _devices_for(architecture, device)
    decode_bytes_per_second = devices * device.memory_bytes_per_second * DECODE_EFFICIENCY
    prefill_flops = devices * device.peak_flops * PREFILL_EFFICIENCY
    return ModelProfile(
        name=architecture.name,
        checkpoint_bytes=architecture.checkpoint_bytes,
        layers=architecture.layers,
        prefill_tokens_per_second=prefill_flops / (2 * architecture.parameters),
        seconds_per_token=architecture.checkpoint_bytes / decode_bytes_per_second,
        kv_bytes_per_token=architecture.kv_bytes_per_token,
        devices=devices,
    )


def _devices_for(architecture: Architecture, device: DeviceKind) -> int:
    devices = 1
    while devices * device.memory_bytes * WEIGHTS_SHARE < architecture.checkpoint_bytes:
        devices *= 2
    return devices
