"""What the client returns: keys, snapshots and events, as plain values."""

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it stood at some revision. Of a deleted key only ``key`` and ``mod_revision`` mean anything."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease_id: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every key of a range, in ascending order, as of one revision."""

    revision: int
    items: tuple[KeyValue, ...]


class EventKind(enum.Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of one key; ``item.mod_revision`` is the revision of the change, also of a deletion."""

    kind: EventKind
    item: KeyValue


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes since the update before, in the order of their revisions; a transaction's changes are never split.

    ``revision`` is that of the last change: everything up to it has been seen.
    """

    revision: int
    events: tuple[WatchEvent, ...]


WatchUpdate = Snapshot | Batch
