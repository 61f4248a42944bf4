"""What a model may be called and how it may be scaled."""

import math
import re

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MOST = 2**31 - 1
_MOST_DEVICES = 64


def check_name(name: str) -> None:
    """Raise InvalidArgumentError INVALID_MODEL_NAME unless ``name`` may be a model's."""
    if _NAME.fullmatch(name) is None or ".." in name:
        raise InvalidArgumentError(
            f"{name[:64]!r} cannot be a model's name: use 1 to 128 of A-Z a-z 0-9 . _ -, begin with a letter or digit, "
            "and leave out '..'",
            reason="INVALID_MODEL_NAME",
            field="name",
        )


def check_source(source_uri: str) -> None:
    """Raise InvalidArgumentError INVALID_SOURCE unless there is a source of a kind that nodes may know."""
    if "://" not in source_uri or "\0" in source_uri:
        raise InvalidArgumentError(
            "source_uri must say where the model is, for instance file:///models/my-model",
            reason="INVALID_SOURCE",
            field="source_uri",
        )


def check_settings(settings: ModelSettings) -> None:
    """Raise InvalidArgumentError INVALID_MODEL_SETTINGS, naming the field, unless the settings can be kept."""
    if settings.max_instances and settings.min_instances > settings.max_instances:
        raise _invalid(
            "min_instances", f"{settings.min_instances} is more than max_instances, {settings.max_instances}"
        )
    for name in ("min_instances", "max_instances", "concurrency_target", "max_queued_requests"):
        if not 0 <= getattr(settings, name) <= _MOST:
            raise _invalid(name, "it must be a small whole number, not negative")
    if not 1 <= settings.devices <= _MOST_DEVICES:
        raise _invalid("devices", f"it must be from 1 to {_MOST_DEVICES}, for all of them are of one node")
    for name in ("keep_alive", "max_queue_wait"):
        seconds = getattr(settings, f"{name}_seconds")
        if not math.isfinite(seconds) or seconds < 0:
            raise _invalid(name, "it must be a duration, not negative")


def _invalid(name: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"settings.{name} cannot be kept: {problem}", reason="INVALID_MODEL_SETTINGS", field=f"settings.{name}"
    )
