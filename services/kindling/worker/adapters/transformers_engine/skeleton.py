"""A model without weights: parameters on the meta device, everything else real."""

import threading
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from kindling.platform.errors import InternalError
from kindling.worker.adapters.transformers_engine.architectures import ModelConfig
from kindling.worker.adapters.transformers_engine.attention import ATTENTION_NAME

_BUILDING = threading.Lock()
"""Building sets torch's default dtype and switches initialisation off, for all threads alike."""


def build_skeleton(model_config: ModelConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Build the model with our attention; parameters take no memory, buffers are on ``device`` with their values."""
    with _BUILDING, no_init_weights(), torch.device("meta"):
        model: Any = model_config.model_class._from_config(  # type: ignore[no-untyped-call]  # noqa: SLF001
            model_config.config, dtype=dtype, attn_implementation=ATTENTION_NAME
        )
    for name, module in model.named_modules():
        if module._buffers:  # noqa: SLF001 — torch has no public way to replace a buffer
            _make_buffers_real(model, name, module, device)
    model.requires_grad_(False).eval()
    return cast("PreTrainedModel", model)


def _make_buffers_real(model: Any, name: str, module: torch.nn.Module, device: torch.device) -> None:
    """Compute a module's buffers as transformers' own loader does, by the model's ``_init_weights``."""
    for key, buffer in module._buffers.items():  # noqa: SLF001
        if buffer is not None:
            unset = float("nan") if buffer.is_floating_point() else 0
            module._buffers[key] = torch.full_like(buffer, unset, device=device)  # noqa: SLF001
    model._init_weights(module)  # noqa: SLF001 — the hook that model classes define for it
    for key, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point() and bool(buffer.isnan().any()):
            raise InternalError(f"Buffer {name}.{key} of {type(model).__name__} has no value.", reason="BUFFER_UNSET")
