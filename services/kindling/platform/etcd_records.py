"""What Kindling's keys in etcd are called, and how their values are written: JSON of the messages in state.proto.

JSON, so that ``etcdctl get --prefix /kindling/`` shows an operator the cluster's state as it is.
"""

from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from kindling.platform.errors import DataLossError

M = TypeVar("M", bound=Message)


def encode_record(message: Message) -> bytes:
    """Return ``message`` as UTF-8 JSON on one line, field names as in the proto."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None).encode()


def decode_record(cls: type[M], data: bytes) -> M:
    """Return the message in ``data``; unknown fields are ignored, so that versions can run side by side."""
    try:
        return json_format.Parse(data, cls(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise DataLossError(
            f"a {cls.__name__} in etcd cannot be read: {error}; delete its key if nothing else wrote it",
            reason="RECORD_INVALID",
            metadata={"record": cls.__name__},
        ) from error


def node_key(prefix: str, node_id: str) -> str:
    """Key of a NodeRecord."""
    return f"{prefix}nodes/{node_id}"


def worker_key(prefix: str, worker_id: str) -> str:
    """Key of a WorkerRecord; ``worker_id`` is ``node/worker``."""
    return f"{prefix}workers/{worker_id}"


def residency_key(prefix: str, node_id: str, digest: str) -> str:
    """Key of a ResidencyRecord."""
    return f"{prefix}residency/{node_id}/{digest}"


def model_key(prefix: str, name: str) -> str:
    """Key of a ModelRecord."""
    return f"{prefix}models/{name}"


def instance_key(prefix: str, instance_id: str) -> str:
    """Key of an InstanceRecord."""
    return f"{prefix}instances/{instance_id}"


def decision_key(prefix: str, decision_id: str) -> str:
    """Key of a DecisionRecord."""
    return f"{prefix}decisions/{decision_id}"


def drain_key(prefix: str, node_id: str) -> str:
    """Key of a DrainRecord."""
    return f"{prefix}drains/{node_id}"


def tenant_key(prefix: str, tenant: str) -> str:
    """Key of a TenantRecord; the default tenant's name is empty."""
    return f"{prefix}tenants/{tenant}"


def retirement_key(prefix: str, digest: str) -> str:
    """Key of a RetirementRecord."""
    return f"{prefix}retirements/{digest}"


def request_key(prefix: str, request_id: str) -> str:
    """Key of a RequestRecord."""
    return f"{prefix}requests/{request_id}"


def last_write_key(prefix: str) -> str:
    """Key of the LastWriteRecord."""
    return f"{prefix}last_write"


def leader_key(prefix: str) -> str:
    """Key of the LeaderRecord."""
    return f"{prefix}scheduler/leader"
