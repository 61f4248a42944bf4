"""The error model: one typed hierarchy that every service raises and every boundary translates.

Domain code raises a subclass of :class:`KindlingError`; an interceptor turns it into ``google.rpc.Status`` with one
``ErrorInfo``, the gateway turns it into OpenAI's error shape. ``code`` says what kind of failure it is (the names are
gRPC's canonical ones), ``reason`` is a stable UPPER_SNAKE_CASE constant that a program can match on, the message tells
a person what to do next.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar


class Code(enum.Enum):
    """gRPC's canonical status codes, by name and number."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class KindlingError(Exception):
    """Base of every error that Kindling raises on purpose.

    ``metadata`` holds the values a program needs (names, sizes in bytes), all as strings. ``retry_after_seconds`` is
    set where trying again later makes sense. ``field`` names the offending request field of an invalid argument.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_seconds = retry_after_seconds
        self.field = field


class CancelledError(KindlingError):
    """The caller gave up, or the operation was cancelled on its behalf."""

    code = Code.CANCELLED


class UnknownError(KindlingError):
    """A peer failed without saying how."""

    code = Code.UNKNOWN


class InvalidArgumentError(KindlingError):
    """The request is wrong in itself; sending it again cannot help."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceededError(KindlingError):
    """The operation did not finish within its deadline."""

    code = Code.DEADLINE_EXCEEDED


class NotFoundError(KindlingError):
    """The named thing does not exist."""

    code = Code.NOT_FOUND


class AlreadyExistsError(KindlingError):
    """The thing to be created exists already, and differs."""

    code = Code.ALREADY_EXISTS


class PermissionDeniedError(KindlingError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED


class ResourceExhaustedError(KindlingError):
    """A quota, a queue, memory or a disk is full."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(KindlingError):
    """The system is not in the state that the operation needs."""

    code = Code.FAILED_PRECONDITION


class AbortedError(KindlingError):
    """A concurrent change won; read again and retry."""

    code = Code.ABORTED


class OutOfRangeError(KindlingError):
    """An offset or position lies past the end."""

    code = Code.OUT_OF_RANGE


class UnimplementedError(KindlingError):
    """The operation is not supported here."""

    code = Code.UNIMPLEMENTED


class InternalError(KindlingError):
    """A broken invariant: a bug of Kindling's."""

    code = Code.INTERNAL


class UnavailableError(KindlingError):
    """The service cannot be reached or is draining; retrying with backoff is right."""

    code = Code.UNAVAILABLE


class DataLossError(KindlingError):
    """Bytes are wrong or gone and could not be repaired."""

    code = Code.DATA_LOSS


class UnauthenticatedError(KindlingError):
    """The caller did not say who it is, or could not prove it."""

    code = Code.UNAUTHENTICATED


ERROR_BY_CODE: dict[Code, type[KindlingError]] = {
    cls.code: cls
    for cls in (
        CancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}
