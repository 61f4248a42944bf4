"""What becomes of messages between processes, by a script; when it is over, every message arrives at once."""

import asyncio
import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class Fate(enum.Enum):
    """What becomes of one request."""

    CALM = "it arrives, and so does its answer"
    SLOW = "it arrives late, and so does its answer"
    LOSE_REQUEST = "it never arrives"
    LOSE_ANSWER = "it takes effect, and its sender never hears of it"
    LATE = "its sender is told that it may be lost, and later it takes effect after all"
    KILL_BEFORE = "its sender dies before it is sent"
    KILL_AFTER = "its sender dies once it has taken effect"


@dataclass(frozen=True, slots=True)
class Blow:
    """A fate, and the seconds that belong to it."""

    fate: Fate = Fate.CALM
    seconds: float = 0.0


class Weather:
    """Tells the blows of a script one after the other."""

    def __init__(self, script: Iterable[Blow] = ()) -> None:
        self._script = iter(script)

    def next(self) -> Blow:
        """What becomes of the next request."""
        return next(self._script, Blow())

    def follow(self, script: Iterable[Blow]) -> None:
        """Go on by another script."""
        self._script = iter(script)

    def clear(self) -> None:
        """From now on everything arrives."""
        self.follow(())


class Process:
    """Somebody who sends messages until it dies; what it had sent by then may still take effect."""

    def __init__(self, weather: Weather, died: Callable[[], None] = lambda: None) -> None:
        self.weather = weather
        self.is_dead = False
        self.is_cut_off = False  # from etcd
        self._died = died

    async def die(self) -> None:
        """End here and now; does not return."""
        self.is_dead = True
        self._died()
        await asyncio.Event().wait()
