"""Tells the readers of silent generations whether their engine gets on."""

from collections.abc import Callable

from kindling.platform.clock import Clock
from kindling.worker.engine_loop import EngineLoop

ALIVE_SECONDS = 0.5


async def tell_alive(loop: EngineLoop, clock: Clock, loaded_bytes: Callable[[], int]) -> None:
    """Until cancelled, tell it about every half second in which the engine made a step or its weights came further."""
    last = (loop.steps, loaded_bytes())
    while True:
        await clock.sleep(ALIVE_SECONDS)
        now = (loop.steps, loaded_bytes())
        if now != last:
            loop.tell_alive()
        last = now
