"""Runs a service: logs, telemetry, signals, exit codes."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import uvloop
from opentelemetry.sdk.metrics.export import MetricReader

from kindling.platform.error_groups import single_error
from kindling.platform.errors import KindlingError
from kindling.platform.logging import configure_logging, get_logger
from kindling.platform.settings import ServiceSettings
from kindling.platform.telemetry import configure_telemetry

EXIT_FAILURE = 1


class Shutdown:
    """Tells a service that it was asked to stop; asking twice changes nothing."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()

    def listen(self) -> None:
        """Ask for shutdown on SIGTERM and SIGINT from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.requested.set)


Serve = Callable[[Shutdown], Awaitable[None]]


def run_service(
    name: str, settings: ServiceSettings, serve: Serve, *, instance_id: str = "", readers: Sequence[MetricReader] = ()
) -> NoReturn:
    """Run ``serve`` until it returns, and exit: 0 after a clean shutdown, 1 with one clear log line otherwise."""
    configure_logging(name, settings.log_level)
    telemetry = configure_telemetry(name, instance_id, readers)
    exempt_from_collection()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(name, serve))
    finally:
        telemetry.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Everything that we opened is closed; what is left is tearing down libraries, which takes torch seconds.
    os._exit(code)


def exempt_from_collection() -> None:
    """Have the garbage collector never look again at what there is now: modules, for the most part, that stay.

    A full collection stops every thread, and looks at everything: 0.2 s where torch and transformers are imported.
    """
    gc.freeze()


async def _serve(name: str, serve: Serve) -> int:
    log = get_logger("kindling.process")
    shutdown = Shutdown()
    shutdown.listen()
    try:
        await serve(shutdown)
    except Exception as error:  # noqa: BLE001 - the process runner is one of the two places that catch everything
        _log_failure(name, error)
        return EXIT_FAILURE
    log.info("service_stopped", name=name)
    return 0


def _log_failure(name: str, error: BaseException) -> None:
    logger = get_logger("kindling.process")
    expected = single_error(error)
    if isinstance(expected, KindlingError):
        logger.error("service_failed", name=name, reason=expected.reason, message=expected.message, **expected.metadata)
    else:
        logger.error("service_crashed", name=name, exc_info=error)
