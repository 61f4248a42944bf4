"""Which models the engine runs, and what it needs to know of their configuration."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kindling.checkpoint.architectures import SUPPORTED_ARCHITECTURES
from kindling.platform.errors import InvalidArgumentError

_ROPE_THAT_LOOKS_AT_THE_BATCH = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A checkpoint's configuration, read without running any code of the checkpoint's."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    eos_token_ids: frozenset[int]

    @property
    def context_length(self) -> int:
        """Most positions that the model was made for."""
        return int(self.config.max_position_embeddings)

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the configuration names, if any."""
        dtype = self.config.dtype
        return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def supported_architectures() -> frozenset[str]:
    """Names, as in ``config.json``, of the causal language models that the engine runs."""
    return SUPPORTED_ARCHITECTURES & frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())


def is_supported(architecture: str) -> bool:
    """Whether the engine runs models of this architecture."""
    return architecture in supported_architectures()


def read_model_config(directory: Path) -> ModelConfig:
    """Read ``config.json`` and ``generation_config.json`` of a checkpoint; ``auto_map`` code is never run.

    Raises:
        InvalidArgumentError: CONFIG_INVALID, ARCHITECTURE_UNSUPPORTED, QUANTIZATION_UNSUPPORTED or ROPE_UNSUPPORTED.
    """
    raw = _read_json(directory / "config.json")
    model_class = _model_class(raw)
    if "quantization_config" in raw:
        raise _unsupported("QUANTIZATION_UNSUPPORTED", "quantized weights", "deploy the unquantized checkpoint")
    config = _config(raw, model_class)
    for rope_type in _rope_types(config) & _ROPE_THAT_LOOKS_AT_THE_BATCH:
        raise _unsupported("ROPE_UNSUPPORTED", f"rope type {rope_type!r}", "deploy a model with another one")
    generation_path = directory / "generation_config.json"
    generation = _read_json(generation_path) if generation_path.exists() else {}
    eos = generation.get("eos_token_id", config.eos_token_id)
    return ModelConfig(model_class, config, _token_ids(eos))


def _model_class(raw: dict[str, Any]) -> type[PreTrainedModel]:
    import transformers

    names = raw.get("architectures") or ["none"]
    if not isinstance(names, list) or not is_supported(str(names[0])):
        known = ", ".join(sorted(supported_architectures()))
        raise _unsupported("ARCHITECTURE_UNSUPPORTED", f"architecture {names!r:.200}", f"deploy one of: {known}")
    model_class: type[PreTrainedModel] = getattr(transformers, names[0])
    return model_class


def _config(raw: dict[str, Any], model_class: type[PreTrainedModel]) -> PreTrainedConfig:
    config_class = model_class.config_class
    assert config_class is not None, "every causal language model has a configuration class"
    expected = config_class.model_type
    if raw.get("model_type", expected) != expected:
        raise _config_error(f"model_type {raw['model_type']!r:.100} does not belong to {model_class.__name__}")
    values = {name: value for name, value in raw.items() if name != "auto_map"}
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[expected].from_dict(values)
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        raise _config_error(str(error)) from error
    return config


def _rope_types(config: PreTrainedConfig) -> frozenset[str]:
    """Rope types of all layers; some models have one for each type of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return frozenset(str(parameters.get("rope_type")) for parameters in (rope, *nested))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _config_error(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise _config_error(f"{path.name} is not a JSON object")
    return content


def _token_ids(value: int | list[int] | None) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset(value) if isinstance(value, list) else frozenset({value})


def _config_error(detail: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The checkpoint's configuration cannot be used ({detail[:500]}); give a directory written by save_pretrained.",
        reason="CONFIG_INVALID",
    )


def _unsupported(reason: str, what: str, instead: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The engine does not run {what}; {instead}.", reason=reason, metadata={"what": what})
