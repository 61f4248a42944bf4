"""Copies to a CUDA device: pinned where the memory lies, and through staging buffers where that is refused."""

import pytest
import torch

from kindling.platform.errors import ResourceExhaustedError
from kindling.worker.adapters.cuda_copier import CudaCopier, CudaDevice
from kindling.worker.adapters.cuda_floor import pinned_copy_seconds
from kindling.worker.adapters.devices import resolve_device
from kindling.worker.adapters.host_pins import HostPins
from kindling.worker.adapters.staging_ring import StagingRing
from kindling.worker.adapters.tensor_views import mapped_bytes
from support.gpu import GPU_MARKS
from support.weight_sources import mapped_checkpoint

pytestmark = GPU_MARKS
SIZE = 48 * 2**20 + 12345


@pytest.fixture
def device() -> CudaDevice:
    return CudaDevice(resolve_device("cuda"))


def random_bytes(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (size,), dtype=torch.uint8)


def test_read_only_mappings_of_shared_memory_can_be_pinned(device: CudaDevice) -> None:
    """If this fails, loads still work, through staging buffers: record it beside the figures."""
    with mapped_checkpoint() as checkpoint:
        checkpoint.arrive(0, 1, 2, 3)
        pins = HostPins(device.device)
        memory = mapped_bytes(checkpoint.mappings[0])
        assert pins.pin(memory)
        assert memory.is_pinned()
        pins.release()


def test_a_refused_pin_leaves_no_error_behind(device: CudaDevice) -> None:
    pins = HostPins(device.device)
    twice = random_bytes(2**20)
    assert pins.pin(twice)
    other = HostPins(device.device)
    assert not other.pin(twice), "memory that is pinned already is refused"
    assert int(torch.ones(5, device=device.device).sum()) == 5
    pins.release()


def test_staged_copies_take_any_length_in_order(device: CudaDevice) -> None:
    source = random_bytes(SIZE)
    target = torch.zeros(SIZE, dtype=torch.uint8, device=device.device)
    ring = StagingRing(buffer_bytes=2**20, buffer_count=3)
    ring.copy(source, target)
    torch.cuda.synchronize()
    assert torch.equal(target.cpu(), source)


@pytest.mark.parametrize("pinning", [True, False])
def test_an_event_makes_the_computing_stream_wait(device: CudaDevice, pinning: bool) -> None:
    copier = device.copier(SIZE)
    assert isinstance(copier, CudaCopier)
    copier._pins._refused = not pinning
    source = random_bytes(SIZE)
    copied = copier.copy(source, 0)
    copied.wait()
    total = copier.arena.sum(dtype=torch.int64)
    copier.finish()
    assert int(total) == int(source.sum(dtype=torch.int64))


def test_a_checkpoint_that_does_not_fit_is_refused(device: CudaDevice) -> None:
    with pytest.raises(ResourceExhaustedError) as caught:
        device.copier(2**50)
    assert caught.value.reason == "DEVICE_MEMORY_EXHAUSTED"
    assert int(torch.ones(5, device=device.device).sum()) == 5


def test_the_floor_can_be_measured() -> None:
    assert pinned_copy_seconds(2**26, "cuda") > 0
