"""What an object store's failures are to Kindling."""

from kindling.platform.error_groups import first_error
from kindling.platform.errors import KindlingError, NotFoundError, PermissionDeniedError, UnavailableError

_MOST_DETAIL_CHARACTERS = 300


def bucket_error(error: Exception, uri: str) -> KindlingError:
    """Return what to raise when obstore raised ``error`` for the object ``uri``.

    NotFoundError (OBJECT_NOT_FOUND), PermissionDeniedError (REMOTE_FORBIDDEN) or UnavailableError (REMOTE_UNAVAILABLE).
    """
    from obstore.exceptions import PermissionDeniedError as Forbidden
    from obstore.exceptions import UnauthenticatedError as Unauthenticated

    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{uri} does not exist", reason="OBJECT_NOT_FOUND", metadata={"uri": uri})
    if isinstance(error, Forbidden | Unauthenticated):
        return PermissionDeniedError(
            f"{uri} may not be used: {detail(error)}; check the storage manager's credentials for it (AWS_…, GOOGLE_… "
            "or AZURE_… variables; KINDLING_STORAGE_REMOTE_ANONYMOUS=true asks without any)",
            reason="REMOTE_FORBIDDEN",
            metadata={"uri": uri},
        )
    return unavailable(uri, detail(error))


def unavailable(uri: str, why: str) -> UnavailableError:
    """The store does not answer, or not as it should, for longer than we try."""
    return UnavailableError(
        f"{uri} cannot be had: {why}; check that the store is up and can be reached from this node",
        reason="REMOTE_UNAVAILABLE",
        metadata={"uri": uri},
        retry_after_seconds=1.0,
    )


def detail(error: Exception) -> str:
    """What ``error`` says, in one line."""
    # obstore appends the debug form of the error, over many lines.
    text = str(error).partition("Debug source")[0]
    return " ".join(text.split())[:_MOST_DETAIL_CHARACTERS] or type(error).__name__


def innermost(group: BaseExceptionGroup[KindlingError]) -> KindlingError:
    """Return the first of the errors that parallel transfers ended with."""
    error = first_error(group)
    assert isinstance(error, KindlingError)
    return error
