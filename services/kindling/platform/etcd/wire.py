"""Our values as etcd's messages, and back."""

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.etcd.keys import KeyRange, decode_key, encode_key
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
)
from kindling.platform.etcd.values import EventKind, KeyValue, WatchEvent

_RELATIONS = {
    Relation.EQUAL: rpc_pb2.Compare.EQUAL,
    Relation.NOT_EQUAL: rpc_pb2.Compare.NOT_EQUAL,
    Relation.GREATER: rpc_pb2.Compare.GREATER,
    Relation.LESS: rpc_pb2.Compare.LESS,
}


def item_from_wire(kv: rpc_pb2.KeyValue) -> KeyValue:
    """Return ``kv`` as a value of ours."""
    return KeyValue(decode_key(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def event_from_wire(event: rpc_pb2.Event) -> WatchEvent:
    """Return ``event`` as a value of ours."""
    kind = EventKind.DELETE if event.type == rpc_pb2.Event.DELETE else EventKind.PUT
    return WatchEvent(kind, item_from_wire(event.kv))


def range_request(keys: KeyRange) -> rpc_pb2.RangeRequest:
    """Return the request that reads ``keys``."""
    return rpc_pb2.RangeRequest(key=keys.start, range_end=keys.end)


def put_request(key: str, value: bytes, lease_id: int) -> rpc_pb2.PutRequest:
    """Return the request that writes ``key``."""
    return rpc_pb2.PutRequest(key=encode_key(key), value=value, lease=lease_id)


def delete_request(keys: KeyRange) -> rpc_pb2.DeleteRangeRequest:
    """Return the request that deletes ``keys``."""
    return rpc_pb2.DeleteRangeRequest(key=keys.start, range_end=keys.end)


def compare_to_wire(compare: Compare) -> rpc_pb2.Compare:
    """Return ``compare`` as etcd's message."""
    message = rpc_pb2.Compare(key=encode_key(compare.key), result=_RELATIONS[compare.relation])
    match compare.attribute, compare.operand:
        case Attribute.VERSION, int(number):
            message.target, message.version = rpc_pb2.Compare.VERSION, number
        case Attribute.CREATE_REVISION, int(number):
            message.target, message.create_revision = rpc_pb2.Compare.CREATE, number
        case Attribute.MOD_REVISION, int(number):
            message.target, message.mod_revision = rpc_pb2.Compare.MOD, number
        case Attribute.VALUE, bytes(value):
            message.target, message.value = rpc_pb2.Compare.VALUE, value
        case attribute, operand:
            raise TypeError(f"{attribute.value} is not compared with {operand!r}")
    return message


def operation_to_wire(operation: Operation) -> rpc_pb2.RequestOp:
    """Return ``operation`` as etcd's message."""
    match operation:
        case Get(key):
            return rpc_pb2.RequestOp(request_range=range_request(KeyRange.one(key)))
        case GetPrefix(prefix):
            return rpc_pb2.RequestOp(request_range=range_request(KeyRange.prefix(prefix)))
        case Put(key, value, lease_id):
            return rpc_pb2.RequestOp(request_put=put_request(key, value, lease_id))
        case Delete(key):
            return rpc_pb2.RequestOp(request_delete_range=delete_request(KeyRange.one(key)))
        case DeletePrefix(prefix):
            return rpc_pb2.RequestOp(request_delete_range=delete_request(KeyRange.prefix(prefix)))


def result_from_wire(response: rpc_pb2.ResponseOp) -> OperationResult:
    """Return the result of one operation as a value of ours."""
    match response.WhichOneof("response"):
        case "response_range":
            return GetResult(tuple(item_from_wire(kv) for kv in response.response_range.kvs))
        case "response_delete_range":
            return DeleteResult(response.response_delete_range.deleted)
        case _:
            return PutResult()
