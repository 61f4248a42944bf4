"""Reading no faster than a link is said to be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kindling.platform.clock import Clock
from kindling.storage.domain.rate_limit import RateLimit


@asynccontextmanager
async def no_sooner(limit: RateLimit | None, size_bytes: int, clock: Clock) -> AsyncIterator[None]:
    """Leave no sooner than ``limit`` allows for a transfer of ``size_bytes`` that begins on entry."""
    done_at = limit.reserve(size_bytes, clock.now()) if limit else 0.0
    yield
    remaining = done_at - clock.now()
    if remaining > 0:
        await clock.sleep(remaining)
