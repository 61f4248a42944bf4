"""What a transaction is made of: conditions, operations and results, as plain values."""

import enum
from dataclasses import dataclass

from kindling.platform.etcd.values import KeyValue


class Relation(enum.Enum):
    """How a key's attribute must relate to the operand."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"


class Attribute(enum.Enum):
    """What of a key is compared. The numbers are 0 and the value is empty where there is no such key."""

    VERSION = "version"
    CREATE_REVISION = "create_revision"
    MOD_REVISION = "mod_revision"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction, best made by the class methods."""

    key: str
    attribute: Attribute
    relation: Relation
    operand: int | bytes

    @classmethod
    def version(cls, key: str, relation: Relation, operand: int) -> "Compare":
        """How often ``key`` was written since it came into being."""
        return cls(key, Attribute.VERSION, relation, operand)

    @classmethod
    def create_revision(cls, key: str, relation: Relation, operand: int) -> "Compare":
        """The revision at which ``key`` came into being."""
        return cls(key, Attribute.CREATE_REVISION, relation, operand)

    @classmethod
    def mod_revision(cls, key: str, relation: Relation, operand: int) -> "Compare":
        """The revision at which ``key`` was last written."""
        return cls(key, Attribute.MOD_REVISION, relation, operand)

    @classmethod
    def value(cls, key: str, relation: Relation, operand: bytes) -> "Compare":
        """The value of ``key``; never holds where the key is absent."""
        return cls(key, Attribute.VALUE, relation, operand)


def absent(key: str) -> Compare:
    """Hold if there is no ``key``."""
    return Compare.version(key, Relation.EQUAL, 0)


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key; the result is a :class:`GetResult` of one item or none."""

    key: str


@dataclass(frozen=True, slots=True)
class GetPrefix:
    """Read every key with a prefix; the result is a :class:`GetResult`."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Put:
    """Write one key; the result is a :class:`PutResult`. ``lease_id`` 0 hangs it on no lease."""

    key: str
    value: bytes
    lease_id: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, if it is there; the result is a :class:`DeleteResult`."""

    key: str


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Delete every key with a prefix; the result is a :class:`DeleteResult`."""

    prefix: str


Operation = Get | GetPrefix | Put | Delete | DeletePrefix


@dataclass(frozen=True, slots=True)
class GetResult:
    """The keys read, in ascending order."""

    items: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class PutResult:
    """The key was written, at the transaction's revision."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """How many keys were deleted."""

    deleted: int


OperationResult = GetResult | PutResult | DeleteResult


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Whether the conditions held, and one result per operation of the list that ran, in its order."""

    succeeded: bool
    revision: int
    responses: tuple[OperationResult, ...]


def is_read(operation: Operation) -> bool:
    """Whether ``operation`` changes nothing."""
    return isinstance(operation, Get | GetPrefix)
