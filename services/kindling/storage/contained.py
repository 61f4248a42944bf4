"""Keeping what goes wrong in one piece of work from the rest of the storage manager."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from kindling.platform.error_groups import first_error
from kindling.platform.errors import InternalError, KindlingError
from kindling.platform.logging import get_logger

log = get_logger(__name__)


async def outcome(work: Coroutine[Any, Any, None], name: str) -> KindlingError | None:
    """Return what ``work`` failed with, if it failed; a cancelled caller cancels it.

    An error that nobody foresaw is logged and becomes an InternalError with reason UNEXPECTED_ERROR: it is that of one
    call, and other calls must go on.
    """
    outcomes: list[BaseException | None] = list(await asyncio.gather(work, return_exceptions=True))
    if outcomes[0] is None:
        return None
    error = first_error(outcomes[0])
    if isinstance(error, KindlingError):
        return error
    log.error("work_failed_unexpectedly", work=name, exc_info=error)
    return InternalError(
        f"{name} failed unexpectedly ({type(error).__name__}: {error}); the storage manager's log has the details. "
        "Please report this as a bug",
        reason="UNEXPECTED_ERROR",
        metadata={"error": type(error).__name__},
    )
