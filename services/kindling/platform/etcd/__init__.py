"""A small asyncio client of etcd's v3 API: what Kindling needs of it, and dependable."""

from kindling.platform.etcd.binary import find_etcd_binary
from kindling.platform.etcd.client import EtcdClient
from kindling.platform.etcd.config import Credentials, TlsConfig
from kindling.platform.etcd.election import Leadership, campaign
from kindling.platform.etcd.first_contact import reachable_etcd
from kindling.platform.etcd.lease import Lease
from kindling.platform.etcd.txn import (
    Attribute,
    Compare,
    Delete,
    DeletePrefix,
    DeleteResult,
    Get,
    GetPrefix,
    GetResult,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Relation,
    TxnResult,
    absent,
)
from kindling.platform.etcd.values import Batch, EventKind, KeyValue, Snapshot, WatchEvent, WatchUpdate

__all__ = [
    "Attribute",
    "Batch",
    "Compare",
    "Credentials",
    "Delete",
    "DeletePrefix",
    "DeleteResult",
    "EtcdClient",
    "EventKind",
    "Get",
    "GetPrefix",
    "GetResult",
    "KeyValue",
    "Leadership",
    "Lease",
    "Operation",
    "OperationResult",
    "Put",
    "PutResult",
    "Relation",
    "Snapshot",
    "TlsConfig",
    "TxnResult",
    "WatchEvent",
    "WatchUpdate",
    "absent",
    "campaign",
    "find_etcd_binary",
    "reachable_etcd",
]
