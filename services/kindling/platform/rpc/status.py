"""Translation between :class:`KindlingError` and ``google.rpc.Status``, both ways."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from kindling.platform.errors import ERROR_BY_CODE, Code, KindlingError

ERROR_DOMAIN = "kindling"
# gRPC drops trailers of more than some 8 KiB, in which a message is two or three times, escaped.
_MESSAGE_BYTES = 1200
_METADATA_BYTES = 200


def status_of(error: KindlingError) -> status_pb2.Status:
    """Return ``error`` as a status with one ErrorInfo, plus RetryInfo and BadRequest where the error has them."""
    message = _shortened(error.message, _MESSAGE_BYTES)
    status = status_pb2.Status(code=error.code.value, message=message)
    for detail in _details(error, message):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def grpc_status_of(error: KindlingError) -> grpc.Status:
    """Return ``error`` in the form that a grpc servicer aborts with."""
    status: grpc.Status = rpc_status.to_status(status_of(error))
    return status


def error_of(rpc_error: grpc.aio.AioRpcError, peer: str) -> KindlingError:
    """Return the error that ``peer`` raised, or one with reason ``RPC_<CODE>`` if it did not say."""
    code = Code(rpc_error.code().value[0])
    cls = ERROR_BY_CODE[code]
    info = error_details_pb2.ErrorInfo()
    status = _status_in(rpc_error)
    details = list(status.details) if status is not None else []
    if not _unpack(details, info):
        name = code_pb2.Code.Name(code.value)
        message = f"{peer} failed: {rpc_error.details() or name}"
        if code is Code.DEADLINE_EXCEEDED:
            message = f"{peer} did not answer in time"
        return cls(message, reason=f"RPC_{name}", metadata={"peer": peer})
    retry, bad = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    return cls(
        rpc_error.details() or info.reason,
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after_seconds=retry.retry_delay.ToTimedelta().total_seconds() if _unpack(details, retry) else None,
        field=bad.field_violations[0].field if _unpack(details, bad) and bad.field_violations else None,
    )


@contextmanager
def remote_errors(peer: str) -> Iterator[None]:
    """Raise what ``peer``'s call fails with as a :class:`KindlingError`."""
    try:
        yield
    except grpc.aio.AioRpcError as rpc_error:
        raise error_of(rpc_error, peer) from rpc_error


def _status_in(rpc_error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(rpc_error)
    except ValueError:  # it is about another failure than the one that came of it on the way
        return None


def _shortened(text: str, count: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= count else encoded[:count].decode(errors="ignore") + "…"


def _details(error: KindlingError, message: str) -> Iterator[Message]:
    metadata = {key: _shortened(value, _METADATA_BYTES) for key, value in error.metadata.items()}
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata)
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_seconds * 1e9))
        yield error_details_pb2.RetryInfo(retry_delay=delay)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message)
        yield error_details_pb2.BadRequest(field_violations=[violation])


def _unpack(details: list[any_pb2.Any], into: Message) -> bool:
    return any(detail.Unpack(into) for detail in details)
