"""Host memory that a CUDA device may read directly, pinned where it lies."""

from typing import Any, Final

import torch

from kindling.platform.logging import get_logger

PORTABLE: Final = 0x01
READ_ONLY: Final = 0x08
log = get_logger(__name__)


class HostPins:
    """Pins of shared, read-only mappings; each piece is pinned once, until ``release``.

    ``cudaHostRegister`` needs ``cudaHostRegisterReadOnly`` for memory that this process may not write. Some drivers do
    not know it: the first refusal is logged, and everything is refused from then on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._addresses: list[int] = []
        self._refused = False

    def pin(self, memory: torch.Tensor) -> bool:
        """Pin the memory; False, and no change, if the driver refuses."""
        if self._refused:
            return False
        address = memory.data_ptr()
        error = int(_runtime().cudaHostRegister(address, memory.nbytes, PORTABLE | READ_ONLY))
        if error:
            self._refuse(error)
            return False
        self._addresses.append(address)
        return True

    def release(self) -> None:
        """Unpin everything; no copy may be under way."""
        for address in self._addresses:
            torch.cuda.check_error(_runtime().cudaHostUnregister(address))
        self._addresses.clear()

    def _refuse(self, error: int) -> None:
        self._refused = True
        log.warning("host_memory_pin_refused", cuda_error=error, device=str(self._device), instead="staging buffers")
        _forget_last_error(self._device)


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _forget_last_error(device: torch.device) -> None:
    """CUDA keeps a refusal as its last error, and the next kernel to start would report it: let that be this one."""
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        log.debug("cuda_error_forgotten", message=str(error).splitlines()[0])
