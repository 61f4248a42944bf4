"""Publishes the node and its residency in etcd."""

from kindling.platform.etcd_records import encode_record, node_key, residency_key
from kindling.platform.registration import Registration
from kindling.storage import wire
from kindling.storage.domain.tier import TierResidency
from kindling.storage.tiers import Tiers


class EtcdRegistry:
    """Implements Registry on a :class:`Registration`, which writes changes soon and survives outages of etcd.

    Until :meth:`attach` nothing is published.
    """

    def __init__(self, prefix: str, node_id: str, tiers: Tiers) -> None:
        self._prefix = prefix
        self._node_id = node_id
        self._tiers = tiers
        self._address = ""
        self._registration: Registration | None = None

    def node_record(self, address: str) -> tuple[str, bytes]:
        """Key and value of the node's record when the storage manager listens on ``address``."""
        self._address = address
        record = wire.node_to_wire(self._node_id, address, self._tiers.snapshots())
        return node_key(self._prefix, self._node_id), encode_record(record)

    def attach(self, registration: Registration) -> None:
        """Publish through ``registration`` from now on."""
        self._registration = registration

    def publish_residency(self, digest: str, tiers: tuple[TierResidency, ...]) -> None:
        """See Registry."""
        if self._registration is None:
            return
        key = residency_key(self._prefix, self._node_id, digest)
        if tiers:
            self._registration.set(key, encode_record(wire.residency_to_wire(self._node_id, digest, tiers)))
        else:
            self._registration.remove(key)

    def publish_tiers(self) -> None:
        """See Registry."""
        if self._registration is not None:
            self._registration.set(*self.node_record(self._address))

    async def written(self) -> None:
        """See Registry."""
        if self._registration is not None:
            await self._registration.complete.wait()
