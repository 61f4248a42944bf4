"""A model as far as the gateway needs to know it."""

import re
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's name, the checkpoint behind it, and the most tokens of a prompt and its answer together."""

    name: str
    digest: str
    context_length: int
    created_seconds: int


def is_model_name(name: str) -> bool:
    """Whether a model could have this name; others need not be looked up."""
    return _NAME.fullmatch(name) is not None
