"""What packing needs to know from a model's config.json."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

from kindling.checkpoint.files import reading
from kindling.checkpoint.strict_json import parse_object
from kindling.platform.errors import InvalidArgumentError, NotFoundError

T = TypeVar("T")

CONFIG_FILE: Final = "config.json"
_CONTEXT_FIELDS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The facts of a config.json. ``torch_dtype`` is empty where the file does not say."""

    architecture: str
    model_type: str
    torch_dtype: str
    context_length: int | None
    ties_embeddings: bool

    @classmethod
    def read(cls, directory: Path, supported: Callable[[str], bool]) -> Self:
        """Reads ``directory``'s config.json.

        Raises NotFoundError (CONFIG_MISSING) and InvalidArgumentError (CONFIG_INVALID, REMOTE_CODE_REFUSED,
        ARCHITECTURE_UNSUPPORTED: ``supported`` said no).
        """
        path = directory / CONFIG_FILE
        config = _parsed(path)
        if "auto_map" in config:
            _refuse(
                path,
                "REMOTE_CODE_REFUSED",
                "asks to run Python code from its own directory (auto_map), which is never done. Use a model whose "
                "architecture transformers has built in; if it has, remove auto_map from the file",
            )
        architecture = _architecture(path, config)
        if not supported(architecture):
            _refuse(
                path,
                "ARCHITECTURE_UNSUPPORTED",
                f"names the architecture {architecture[:100]!r}, which the workers do not know. Use a causal language "
                "model that the installed transformers has built in",
            )
        return cls(architecture, *_facts(config))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with reading(path):
            return parse_object(path.read_bytes())
    except NotFoundError as error:
        raise NotFoundError(
            f"{path.parent} has no {CONFIG_FILE}. Give a directory as transformers' save_pretrained writes it.",
            reason="CONFIG_MISSING",
            metadata={"file": str(path)},
        ) from error
    except ValueError as error:
        _refuse(path, "CONFIG_INVALID", f"cannot be read: {error}. Download or export the model again")


def _architecture(path: Path, config: dict[str, Any]) -> str:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        _refuse(path, "CONFIG_INVALID", "does not name its architecture. Set architectures to the model class's name")
    return architectures[0]


def _facts(config: dict[str, Any]) -> tuple[str, str, int | None, bool]:
    text = config.get("text_config")
    scopes = [config, text] if isinstance(text, dict) else [config]
    dtype = _first(scopes, ("dtype", "torch_dtype"), str) or ""
    ties = any(scope.get("tie_word_embeddings") is True for scope in scopes)
    context_length = _first(scopes, _CONTEXT_FIELDS, int)
    valid_context = context_length if context_length and context_length > 0 else None
    return _first(scopes, ("model_type",), str) or "", dtype.removeprefix("torch."), valid_context, ties


def _first(scopes: list[dict[str, Any]], names: tuple[str, ...], kind: type[T]) -> T | None:
    values = (scope.get(name) for scope in scopes for name in names)
    return next((value for value in values if type(value) is kind), None)


def _refuse(path: Path, reason: str, what: str) -> NoReturn:
    raise InvalidArgumentError(f"{path} {what}.", reason=reason, metadata={"file": str(path)})
