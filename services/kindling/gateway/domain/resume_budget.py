"""How often generations may be tried again: each by itself, and all of them together.

Attempts that get somewhere cost nothing: one that brought ``PROGRESS_TOKENS`` tokens before it broke off has paid for
the next, so that a long generation outlives any number of workers. What is counted are attempts that get nowhere.
"""

from dataclasses import dataclass

from kindling.platform.errors import KindlingError, UnavailableError

PROGRESS_TOKENS = 8
# What may be saved up: the generations of a large worker that is lost before they have come anywhere.
MOST_SAVED = 256.0


@dataclass(frozen=True, slots=True)
class ResumeLimits:
    """``attempts`` in a row per generation; over all, ``share`` of an attempt per request and ``per_second`` besides.

    A worker that is silent for ``silence_seconds`` is hedged; 0 never hedges. A generation that has begun waits
    for room elsewhere for ``room_seconds``, and for workers that are all silent for ``hung_seconds``.
    """

    attempts: int = 3
    share: float = 0.1
    per_second: float = 10.0
    silence_seconds: float = 3.0
    room_seconds: float = 60.0
    hung_seconds: float = 60.0


class SharedBudget:
    """Attempts that may be made over all generations beyond those that requests need anyway.

    Without it, something that breaks every attempt would multiply the load by the attempts that each generation has.
    """

    def __init__(self, limits: ResumeLimits, now: float) -> None:
        self._limits = limits
        self._saved = MOST_SAVED
        self._filled_at = now

    def earn(self) -> None:
        """A request has come: it pays in its share."""
        self._saved = min(MOST_SAVED, self._saved + self._limits.share)

    def take(self, now: float) -> bool:
        """Take one attempt; false if none is left."""
        earned = (now - self._filled_at) * self._limits.per_second
        self._saved, self._filled_at = min(MOST_SAVED, self._saved + earned), now
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class ResumeBudget:
    """What one generation may still do when it has broken off; ``in_a_row`` counts resumes without progress between."""

    def __init__(self, limits: ResumeLimits, shared: SharedBudget) -> None:
        self.in_a_row = 0
        self._limits = limits
        self._shared = shared
        self._position = 0
        self._refused_at: float | None = None

    def granted(self) -> None:
        """There was room."""
        self._refused_at = None

    def refused(self, error: KindlingError, now: float) -> None:
        """Note that there is no room just now: that costs no attempt, only time.

        Raises:
            KindlingError: ``error``, if there has been none for as long as the generation may wait.
        """
        if self._refused_at is None:
            self._refused_at = now
        if now - self._refused_at >= self._limits.room_seconds:
            raise error

    def broke_off(self, position: int, error: KindlingError, now: float) -> bool:
        """Take one more attempt after ``error`` at ``position``; returns whether there was progress since the last.

        Raises:
            UnavailableError: RESUMES_EXHAUSTED, this generation gets nowhere; RESUMES_LIMITED, too many do not.
            KindlingError: ``error`` itself, if generations are not resumed.
        """
        if not self._limits.attempts:
            raise error
        progressed = position - self._position >= PROGRESS_TOKENS
        self._position = position
        if progressed:
            self.in_a_row = 0
        if self.in_a_row == self._limits.attempts:
            raise _exhausted(position, self.in_a_row, error) from error
        if not progressed and not self._shared.take(now):
            raise _limited(error) from error
        self.in_a_row += 1
        return progressed


def _exhausted(position: int, attempts: int, error: KindlingError) -> UnavailableError:
    return UnavailableError(
        f"The generation broke off at position {position} and was resumed {attempts} times in a row without getting "
        f"anywhere; it may be what breaks its workers, so see their logs before you send it again. "
        f"The last one said: {error.message}",
        reason="RESUMES_EXHAUSTED",
        metadata={"position": str(position), "attempts": str(attempts), "last_reason": error.reason},
    )


def _limited(error: KindlingError) -> UnavailableError:
    return UnavailableError(
        "The generation broke off and is not resumed, as too many generations break off without getting anywhere; "
        f"see `kindling status` and the workers' logs, and try again later. This one's worker said: {error.message}",
        reason="RESUMES_LIMITED",
        metadata={"last_reason": error.reason},
        retry_after_seconds=1.0,
    )
