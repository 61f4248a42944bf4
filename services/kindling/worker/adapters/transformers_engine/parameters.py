"""Turns a checkpoint's bytes into a model's parameters, without a copy where that is possible."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from kindling.platform.errors import InvalidArgumentError
from kindling.worker.adapters.transformers_engine.weight_names import sources_by_parameter
from kindling.worker.ports import WeightSource


class Parameters:
    """The parameters of one model, each a view of its source's memory, used only when its bytes are there.

    A view needs one tensor, or neighbours in memory, of the model's dtype and on its device. Anything else is copied
    once, when the module that owns it first runs.
    """

    def __init__(self, model: PreTrainedModel, source: WeightSource, device: torch.device) -> None:
        self._source = source
        self._device = device
        self._names = sources_by_parameter(model, source.tensors)
        self._parameters: dict[tuple[str, ...], nn.Parameter] = {}
        self._to_fill: dict[tuple[str, ...], torch.Tensor] = {}
        self._hooks: list[Any] = []
        self.copied_bytes = 0
        for prefix, module in model.named_modules():
            self._assign(prefix, module)

    def settle(self) -> None:
        """Drop the waiting once every byte has arrived, so that later steps pay nothing for it."""
        if self._hooks and self._source.complete:
            for names in list(self._to_fill):
                self._fill(names)
            for hook in self._hooks:
                hook.remove()
            self._hooks.clear()

    def _assign(self, prefix: str, module: nn.Module) -> None:
        present = {key: meta for key, meta in module._parameters.items() if meta is not None}  # noqa: SLF001
        own = {key: self._names[f"{prefix}.{key}" if prefix else key] for key in present}
        for key, names in own.items():
            module._parameters[key] = self._parameter(names, present[key])  # noqa: SLF001
        if own:
            wait = _Wait(self, list(own.values()))
            self._hooks.append(module.register_forward_pre_hook(wait))

    def _parameter(self, names: tuple[str, ...], meta: nn.Parameter) -> nn.Parameter:
        if names not in self._parameters:
            self._parameters[names] = nn.Parameter(self._view_or_room(names, meta), requires_grad=False)
        parameter = self._parameters[names]
        if parameter.shape != meta.shape:
            raise _shape_error(names[0], tuple(parameter.shape), tuple(meta.shape))
        return parameter

    def _view_or_room(self, names: tuple[str, ...], meta: nn.Parameter) -> torch.Tensor:
        tensors = [self._source.tensor(name) for name in names]
        if len(tensors) == 1 and tensors[0].shape != meta.shape:
            raise _shape_error(names[0], tuple(tensors[0].shape), tuple(meta.shape))
        if sum(tensor.numel() for tensor in tensors) != meta.numel():
            raise _shape_error(names[0], tuple(tensors[0].shape), tuple(meta.shape))
        if tensors[0].dtype == meta.dtype and tensors[0].device == self._device:
            view = fuse(tensors)
            if view is not None:
                return view.view(meta.shape)
        room = torch.empty_like(meta, device=self._device)
        self.copied_bytes += room.nbytes
        self._to_fill[names] = room
        return room

    def wait(self, names: tuple[str, ...]) -> None:
        """Block until the tensors' bytes are there and copied if they are to be."""
        self._source.wait(names)
        if names in self._to_fill:
            self._fill(names)

    def _fill(self, names: tuple[str, ...]) -> None:
        flat = self._to_fill.pop(names).view(-1)
        start = 0
        for name in names:
            tensor = self._source.tensor(name)
            flat[start : start + tensor.numel()].copy_(tensor.reshape(-1))
            start += tensor.numel()


class _Wait:
    """A forward-pre-hook that waits for the module's own parameters."""

    __slots__ = ("_groups", "_parameters")

    def __init__(self, parameters: Parameters, groups: list[tuple[str, ...]]) -> None:
        self._parameters = parameters
        self._groups = groups

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        for names in self._groups:
            self._parameters.wait(names)
        self._groups = []


def fuse(tensors: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """See neighbours in one storage as one flat tensor; None if they are no neighbours, or of several dtypes."""
    first = tensors[0]
    end = first.storage_offset()
    for tensor in tensors:
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() and tensor.dtype == first.dtype
        if not same or not tensor.is_contiguous() or tensor.storage_offset() != end:
            return None
        end += tensor.numel()
    return first.as_strided((end - first.storage_offset(),), (1,))


def _shape_error(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"Tensor {name} has shape {found}, the model needs {expected}; check that config.json belongs to the weights.",
        reason="TENSOR_SHAPE_MISMATCH",
        metadata={"tensor": name, "found": str(found), "expected": str(expected)},
    )
