"""How much longer a generation is expected to run, from how long others did."""

from collections import deque

_WINDOW = 64
_ENOUGH = 4  # samples that lasted longer than it has; fewer tell nothing


class Durations:
    """The durations of the last 64 generations of a checkpoint, in seconds."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Take in how long a generation took."""
        self._seconds.append(seconds)

    def left(self, age_seconds: float) -> float | None:
        """Return the mean residual life: what is left, on average, to those that reach an age; none if too few did."""
        longer = [seconds - age_seconds for seconds in self._seconds if seconds > age_seconds]
        return sum(longer) / len(longer) if len(longer) >= _ENOUGH else None
