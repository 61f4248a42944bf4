"""When a checkpoint is called next: by the gaps between its calls, and by the hours of the day that have any.

Both forget. Neither needs more than a few numbers per checkpoint, and asking costs O(number of different gaps).
"""

import math
from dataclasses import dataclass, field

from kindling.scheduler.domain.gaps import Gaps
from kindling.scheduler.domain.hours import Hours
from kindling.scheduler.domain.outlooks import Nearness, Outlook, Within

SAME_VISIT_SECONDS = 1.0  # calls so close to the last one are part of it


@dataclass(slots=True)
class CallPattern:
    """The calls of one checkpoint. Times are seconds on the monotonic scale, ``day_seconds`` those since some midnight.

    Before the first call, ``last_call`` is when watching began.
    """

    last_call: float
    is_called: bool = False
    _gaps: Gaps = field(default_factory=Gaps)
    _hours: Hours = field(default_factory=Hours)

    def note(self, now: float, day_seconds: float) -> bool:
        """Take in a call; returns whether it is one by itself, not a part of the last."""
        gap = now - self.last_call
        if self.is_called and gap < SAME_VISIT_SECONDS:
            self.last_call = max(now, self.last_call)
            return False
        if self.is_called:
            self._gaps.add(gap, now)
        self._hours.add(day_seconds)
        self.last_call, self.is_called = now, True
        return True

    def at_least(self, now: float, day_seconds: float, outlook: Outlook) -> float:
        """What the outlook is by what was seen."""
        elapsed = max(0.0, now - self.last_call)
        return max(self._gaps.foresee(elapsed, now, outlook), self._hours.foresee(day_seconds, outlook))

    def at_most(self, now: float, day_seconds: float, outlook: Outlook) -> float:
        """What the outlook is if what was not seen yet counts as if the gap since the last call were as likely to end
        in the next t seconds as not, if it has lasted for t."""
        elapsed = max(0.0, now - self.last_call)
        by_gaps = self._gaps.foresee(elapsed, now, outlook, outlook.of_unknown(elapsed))
        return max(by_gaps, self._hours.foresee(day_seconds, outlook))

    def next_rise(self, now: float, day_seconds: float, horizon_seconds: float) -> float:
        """Until when the probability does not rise: ``now`` if it may already; infinity if only another call helps."""
        edges = self._gaps.lasting_from(now - self.last_call)
        ends = (self.last_call + edge - horizon_seconds for edge in edges)
        hours = (now + seconds - horizon_seconds for seconds in self._hours.until_next(day_seconds))
        return min((max(now, time) for time in (*ends, *hours)), default=math.inf)


class Arrivals:
    """The call patterns of all checkpoints; ``wall_offset_seconds`` turns monotonic times into UTC."""

    def __init__(self, began: float, wall_offset_seconds: float = 0.0) -> None:
        self._began = began
        self._offset = wall_offset_seconds
        self._patterns: dict[str, CallPattern] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def note(self, digest: str, now: float) -> bool:
        """Take in a call; returns whether it is one by itself, not a part of the last."""
        pattern = self._patterns.get(digest)
        if pattern is None:
            pattern = self._patterns[digest] = CallPattern(self._began)
        return pattern.note(now, now + self._offset)

    def forget(self, digest: str) -> None:
        """Know nothing of a checkpoint any more."""
        self._patterns.pop(digest, None)

    def probability(self, digest: str, now: float, horizon_seconds: float) -> float:
        """How probable a call within ``horizon_seconds`` is, by what was seen; 0 for what was never called.

        Between 0 and 1, and no less for a longer horizon."""
        pattern = self._patterns.get(digest)
        return pattern.at_least(now, now + self._offset, Within(horizon_seconds)) if pattern else 0.0

    def nearness(self, digest: str, now: float, seconds: float) -> float:
        """How near the next call is at least, by what was seen: see :class:`Nearness`; 0 for what was never called."""
        pattern = self._patterns.get(digest)
        return pattern.at_least(now, now + self._offset, Nearness(seconds)) if pattern else 0.0

    def nearness_at_most(self, digest: str, now: float, seconds: float) -> float:
        """How near the next call may be; what was never called has been waited for from the beginning."""
        pattern = self._patterns.get(digest) or CallPattern(self._began)
        return pattern.at_most(now, now + self._offset, Nearness(seconds))

    def next_rise(self, digest: str, now: float, horizon_seconds: float) -> float:
        """See :meth:`CallPattern.next_rise`; infinity for what was never called."""
        pattern = self._patterns.get(digest)
        return pattern.next_rise(now, now + self._offset, horizon_seconds) if pattern else math.inf
