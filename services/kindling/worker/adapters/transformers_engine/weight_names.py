"""Which tensors of a checkpoint make up which parameter of the model."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from kindling.platform.errors import InvalidArgumentError

_SHOWN_NAMES = 5
_OLD_BUFFERS = (r"\.rotary_emb\.inv_freq$", r"\.attn\.masked_bias$", r"\.attn\.bias$")
"""Buffers that older releases of transformers saved and newer ones compute."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the checkpoint, and which of a fused parameter's pieces it is (expert, then part of it)."""

    name: str
    order: tuple[int, int] = (0, 0)


def sources_by_parameter(model: PreTrainedModel, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Map every parameter to its tensors' names, in the order in which they lie in it; tied ones name the same.

    Follows transformers' own renaming: base-model prefixes are added or stripped, the experts of a layer are fused.

    Raises:
        InvalidArgumentError: TENSORS_MISSING or TENSORS_UNEXPECTED, naming them.
    """
    found: dict[str, list[Source]] = {}
    unexpected = []
    wanted = dict(model.named_parameters(remove_duplicate=False))
    renamer = _Renamer(model, wanted)
    for name in names:
        parameter, order = renamer.rename(name)
        if parameter in wanted:
            found.setdefault(parameter, []).append(Source(name, order))
        elif not _ignorable(model, name):
            unexpected.append(name)
    _tie(model, found)
    _refuse("TENSORS_MISSING", "lacks", [name for name in wanted if name not in found])
    _refuse("TENSORS_UNEXPECTED", "has, and the model does not know,", unexpected)
    return {parameter: _in_order(sources) for parameter, sources in found.items()}


class _Renamer:
    """transformers' renaming of checkpoint tensors, as its own loader does it."""

    def __init__(self, model: PreTrainedModel, wanted: Mapping[str, object]) -> None:
        transforms = get_model_conversion_mapping(model)
        self._renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
        self._converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
        self._prefix = model.base_model_prefix
        self._wanted = wanted

    def rename(self, name: str) -> tuple[str, tuple[int, int]]:
        """Return the parameter's name, and which piece of it the tensor is."""
        parameter, pattern = rename_source_key(
            name, self._renamings, self._converters, self._prefix, dict(self._wanted)
        )
        if parameter not in self._wanted:
            parameter, pattern = rename_source_key(name, [], [], self._prefix, dict(self._wanted))
        return parameter, (0, 0) if pattern is None else self._piece(name, pattern)

    def _piece(self, name: str, pattern: str) -> tuple[int, int]:
        """Fused experts lie expert by expert, the parts of one in the order of the converter's patterns."""
        parts = next(
            converter.source_patterns for converter in self._converters if pattern in converter.source_patterns
        )
        expert = re.search(r"\.experts\.(\d+)\.", name)
        return (int(expert[1]) if expert else 0, parts.index(pattern))


def _tie(model: PreTrainedModel, found: dict[str, list[Source]]) -> None:
    """Give a tied parameter that the checkpoint lacks its partner's tensors; one that it has keeps its own."""
    for target, source in model.all_tied_weights_keys.items():
        if target not in found and source in found:
            found[target] = found[source]
        elif source not in found and target in found:
            found[source] = found[target]


def _ignorable(model: PreTrainedModel, name: str) -> bool:
    patterns = (*_OLD_BUFFERS, *(model._keys_to_ignore_on_load_unexpected or ()))  # noqa: SLF001
    return any(re.search(pattern, name) for pattern in patterns)


def _in_order(sources: list[Source]) -> tuple[str, ...]:
    return tuple(source.name for source in sorted(sources, key=lambda source: source.order))


def _refuse(reason: str, what: str, names: list[str]) -> None:
    if not names:
        return
    shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
    raise InvalidArgumentError(
        f"The checkpoint {what} {len(names)} tensors ({shown}); check that config.json belongs to the weights.",
        reason=reason,
        metadata={"tensors": shown, "count": str(len(names))},
    )
