"""Etcd has to be there soon after a service starts: later it may go and come, and the service goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kindling.platform.background import alongside
from kindling.platform.errors import UnavailableError
from kindling.platform.etcd.client import EtcdClient
from kindling.platform.etcd.configured import configured_etcd
from kindling.platform.logging import get_logger
from kindling.platform.settings import ServiceSettings

log = get_logger(__name__)
_ATTEMPT_SECONDS = 2.0


@asynccontextmanager
async def reachable_etcd(settings: ServiceSettings) -> AsyncIterator[EtcdClient]:
    """The client of the etcd that ``settings`` name. The context begins at once, and obeys signals while etcd is away.

    If etcd has not answered within ``etcd_wait_seconds``, the body is cancelled and UnavailableError (ETCD_UNREACHABLE)
    is raised: whoever runs the process should see that it cannot work, and may start it again.
    """
    async with configured_etcd(settings) as etcd, alongside(_first_contact(etcd, settings)):
        yield etcd


async def _first_contact(etcd: EtcdClient, settings: ServiceSettings) -> None:
    try:
        async with asyncio.timeout(settings.etcd_wait_seconds):
            while not await _answers(etcd, settings):
                log.warning("etcd_awaited", endpoints=settings.etcd_endpoints, at_most=settings.etcd_wait_seconds)
    except TimeoutError:
        raise _gave_up(settings) from None


async def _answers(etcd: EtcdClient, settings: ServiceSettings) -> bool:
    """Whether etcd answers soon; the client makes attempts of its own meanwhile."""
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            await etcd.get(settings.etcd_prefix)
    except (TimeoutError, UnavailableError):
        return False
    return True


def _gave_up(settings: ServiceSettings) -> UnavailableError:
    prefix = settings.model_config.get("env_prefix", "")
    return UnavailableError(
        f"etcd did not answer at {settings.etcd_endpoints} within {settings.etcd_wait_seconds:g} s of the start: check "
        f"that it runs and that {prefix}ETCD_ENDPOINTS names it, or wait longer with {prefix}ETCD_WAIT_SECONDS",
        reason="ETCD_UNREACHABLE",
        metadata={"endpoints": settings.etcd_endpoints},
    )
