"""What a failed call to etcd means, as an error of ours."""

import grpc

from kindling.platform.errors import (
    ERROR_BY_CODE,
    Code,
    KindlingError,
    UnauthenticatedError,
    UnknownError,
)

# The endpoint is gone, hung or shutting down. Whether the call took effect cannot be told from these.
_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
# The token is from before a restart, or from before a change of users and roles. The call took no effect.
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old")
_NO_CREDENTIALS = "user name is empty"
_BAD_CREDENTIALS = "authentication failed"
_REASON_BY_DETAIL = {
    "requested lease not found": "ETCD_LEASE_NOT_FOUND",
    "database space exceeded": "ETCD_SPACE_EXHAUSTED",
    "has been compacted": "ETCD_COMPACTED",
}


def is_broken(error: grpc.aio.AioRpcError) -> bool:
    """Whether another attempt, perhaps elsewhere, may succeed where this one failed."""
    return error.code() in _BROKEN


def is_stale_token(detail: str) -> bool:
    """Whether etcd refused a call for its token, so that a new token helps."""
    return any(mark in detail for mark in _STALE_TOKEN)


def translate(error: grpc.aio.AioRpcError) -> KindlingError:
    """Return the error of ours that says what etcd said."""
    detail = error.details() or ""
    return explain(Code(error.code().value[0]), detail)


def explain(code: Code, detail: str) -> KindlingError:
    """Return the error of ours for etcd's ``code`` and words."""
    if _NO_CREDENTIALS in detail:
        message = "etcd asks for a user and a password; configure both"
        return UnauthenticatedError(message, reason="ETCD_CREDENTIALS_REQUIRED")
    if _BAD_CREDENTIALS in detail:
        return UnauthenticatedError("etcd does not accept the user and password", reason="ETCD_BAD_CREDENTIALS")
    reasons = (reason for mark, reason in _REASON_BY_DETAIL.items() if mark in detail)
    reason = next(reasons, f"ETCD_{code.name}")
    return ERROR_BY_CODE.get(code, UnknownError)(f"etcd refused: {detail}", reason=reason)
