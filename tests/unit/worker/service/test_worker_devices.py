"""The devices that a worker may be told to use."""

import pytest
import torch
from pydantic import ValidationError

from kindling.platform.errors import FailedPreconditionError
from kindling.worker.adapters.devices import CPU_KV_BUDGET_BYTES, default_kv_budget, resolve_device
from kindling.worker.adapters.placement import weights_on
from kindling.worker.adapters.shm_weights import SharedWeights
from kindling.worker.settings import WorkerSettings


def settings(device: str) -> WorkerSettings:
    return WorkerSettings(node_id="node-a", storage_address="127.0.0.1:1", device=device)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:15"])
def test_these_devices_can_be_set(device: str) -> None:
    assert settings(device).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "cuda:a", "cpu:0", "cuda:0 ", "mps"])
def test_others_are_refused_at_once(device: str) -> None:
    with pytest.raises(ValidationError):
        settings(device)


def test_a_cpu_maps_weights_and_has_a_fixed_kv_budget() -> None:
    assert weights_on("cpu") is SharedWeights
    assert default_kv_budget(resolve_device("cpu"), slots=4) == CPU_KV_BUDGET_BYTES


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FailedPreconditionError) as caught:
        weights_on(device)
    assert caught.value.reason == "DEVICE_UNAVAILABLE"
    assert device in caught.value.message


def test_one_device_of_several_is_known_by_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(FailedPreconditionError):
        resolve_device("cuda:2")
