"""Turns a lease's token into the descriptors and extents that a worker maps."""

import os
from dataclasses import dataclass
from itertools import groupby

from kindling.platform.errors import PermissionDeniedError
from kindling.storage.domain.layout import MemoryExtent
from kindling.storage.holding import Holding
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.tiers import Tiers


@dataclass(frozen=True, slots=True)
class GrantedExtent:
    """``length`` bytes at ``file_offset`` of a partition are those at ``fd_offset`` of ``descriptor``."""

    file_offset: int
    length: int
    descriptor: int
    fd_offset: int


@dataclass(frozen=True, slots=True)
class GrantedPartition:
    """A partition's extents in file order. Each descriptor belongs to whoever has this, to be closed."""

    partition: int
    size_bytes: int
    extents: tuple[GrantedExtent, ...]


class HandOver:
    """Redeems tokens, each once."""

    def __init__(self, tiers: Tiers, opened: OpenCheckpoint) -> None:
        self._tiers = tiers
        self._opened = opened

    def redeem(self, token: str) -> tuple[GrantedPartition, ...]:
        """Return the memory of the lease that ``token`` belongs to.

        Raises PermissionDeniedError with reason TOKEN_REFUSED if no lease has it, or it was used.
        """
        for lease in self._opened.leases():
            if token and lease.token == token and lease.holding.board.error is None:
                lease.token = ""
                return self._grant(lease.holding)
        raise PermissionDeniedError("the token is not known, or was used before", reason="TOKEN_REFUSED")

    def _grant(self, holding: Holding) -> tuple[GrantedPartition, ...]:
        sizes = holding.layout.geometry.partition_bytes
        by_partition = groupby(
            sorted(holding.layout.extents(), key=lambda e: (e.partition, e.file_offset)), key=lambda e: e.partition
        )
        return tuple(
            GrantedPartition(partition, sizes[partition], tuple(self._extent(holding, extent) for extent in extents))
            for partition, extents in by_partition
        )

    def _extent(self, holding: Holding, extent: MemoryExtent) -> GrantedExtent:
        # Duplicates, so that a lease that ends while they are being sent cannot put other memory behind the number.
        if extent.buffer is not None:
            descriptor = os.dup(self._tiers.memory.descriptor(extent.buffer))
            return GrantedExtent(extent.file_offset, extent.length, descriptor, 0)
        if holding.copy is None:
            raise PermissionDeniedError("the lease is over", reason="TOKEN_REFUSED")
        descriptor = os.dup(holding.copy.descriptor(extent.partition))
        return GrantedExtent(extent.file_offset, extent.length, descriptor, extent.file_offset)
