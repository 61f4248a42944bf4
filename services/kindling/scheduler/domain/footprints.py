"""What instances take of the memory of their workers' devices."""

import math
from collections.abc import Iterable


class Footprints:
    """Bytes by instance, from its start until it is gone; of one that is not known, all that there is."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def enter(self, instance_id: str, needed_bytes: int) -> None:
        """An instance takes so many bytes."""
        self._bytes[instance_id] = needed_bytes

    def forget(self, instance_id: str) -> None:
        """An instance is gone; one that is not known is ignored."""
        self._bytes.pop(instance_id, None)

    def of(self, instance_id: str) -> float:
        """The bytes that an instance takes; infinity if they are not known."""
        return self._bytes.get(instance_id, math.inf)

    def together(self, instance_ids: Iterable[str]) -> float:
        """The bytes that several take."""
        return sum(map(self.of, instance_ids))
