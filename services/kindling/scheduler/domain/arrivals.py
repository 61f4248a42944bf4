"""When a checkpoint is called next: a histogram of the gaps between its calls, and the hours of the day that have any.

Both forget. Neither needs more than a few numbers per checkpoint, and asking costs O(number of different gaps).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

HALF_LIFE_SECONDS = 86_400.0  # in which a gap's weight halves
SAME_VISIT_SECONDS = 1.0  # calls so close to the last one are part of it
BUCKETS_PER_OCTAVE = 8  # a bucket's gaps differ by 9 % at most
_LONGEST_GAP_SECONDS = 14 * 86_400.0
_DOUBT = 1.0  # the weight of "it is never called again", in gaps
_HOUR = 3_600.0
_DAY_WEIGHT = 0.25  # of the last day in an hour's share of days
_SUREST_HOUR = 0.95
_REBASE_EXPONENT = 500.0  # 2.0 to this is still far from the largest float


@dataclass(slots=True)
class _Hour:
    share: float  # of days with a call in this hour, recent days weigh more
    day: int  # the last one with a call


@dataclass(slots=True)
class CallPattern:
    """The calls of one checkpoint. Times are seconds on the monotonic scale, ``day_seconds`` those since some midnight.

    Before the first call, ``last_call`` is when watching began.
    """

    last_call: float
    is_called: bool = False
    # By bucket, in units of a gap that ended at ``_origin``: an older one weighs less by itself.
    _weights: dict[int, float] = field(default_factory=dict)
    _origin: float = 0.0
    _hours: dict[int, _Hour] = field(default_factory=dict)

    def note(self, now: float, day_seconds: float) -> bool:
        """Take in a call; returns whether it is one by itself, not a part of the last."""
        gap = now - self.last_call
        if self.is_called and gap < SAME_VISIT_SECONDS:
            self.last_call = max(now, self.last_call)
            return False
        if self.is_called:
            self._add_gap(min(gap, _LONGEST_GAP_SECONDS), now)
        self._add_hour(day_seconds)
        self.last_call, self.is_called = now, True
        return True

    def probability(self, now: float, day_seconds: float, horizon_seconds: float) -> float:
        """How probable a call within ``horizon_seconds`` is at least, by what was seen.

        Between 0 and 1, and no less for a longer horizon."""
        return max(self._by_gaps(now, horizon_seconds, 0.0), self._by_hours(day_seconds, horizon_seconds))

    def probability_at_most(self, now: float, day_seconds: float, horizon_seconds: float) -> float:
        """How probable a call may be at most: what was not seen yet counts as if the gap since the last call were as
        likely to end in the next t seconds as not, if it has lasted for t."""
        elapsed = max(0.0, now - self.last_call)
        unseen = horizon_seconds / (elapsed + horizon_seconds) if horizon_seconds > 0 else 0.0
        return max(self._by_gaps(now, horizon_seconds, unseen), self._by_hours(day_seconds, horizon_seconds))

    def next_rise(self, now: float, day_seconds: float, horizon_seconds: float) -> float:
        """Until when the probability does not rise: ``now`` if it may already; infinity if only another call helps."""
        lasting = (bucket for bucket in self._weights if self.last_call + _lower_edge(bucket + 1) > now)
        edges = (self.last_call + _lower_edge(bucket) - horizon_seconds for bucket in lasting)
        hours = (now + _until_hour(hour, day_seconds) - horizon_seconds for hour in self._hours)
        return min((max(now, time) for time in (*edges, *hours)), default=math.inf)

    def _by_gaps(self, now: float, horizon_seconds: float, unseen: float) -> float:
        elapsed = max(0.0, now - self.last_call)
        scale = math.exp2((self._origin - now) / HALF_LIFE_SECONDS)
        ending = lasting = 0.0
        for bucket, weight in self._weights.items():
            left = _share_after(bucket, elapsed)
            lasting += weight * left
            ending += weight * (left - _share_after(bucket, elapsed + horizon_seconds))
        return (scale * ending + _DOUBT * unseen) / (scale * lasting + _DOUBT)

    def _by_hours(self, day_seconds: float, horizon_seconds: float) -> float:
        """Each hour is taken as a Poisson process as busy as its share of days with a call says."""
        expected = 0.0
        for begins, ends in _hours_of(day_seconds, horizon_seconds):
            known = self._hours.get(int(begins // _HOUR) % 24)
            if known is not None:
                missed_days = max(0, int(begins // 86_400) - known.day - 1)
                share = min(_SUREST_HOUR, known.share * (1 - _DAY_WEIGHT) ** missed_days)
                expected -= math.log1p(-share) * (ends - begins) / _HOUR
        return -math.expm1(-expected)

    def _add_gap(self, gap: float, now: float) -> None:
        exponent = (now - self._origin) / HALF_LIFE_SECONDS
        if exponent > _REBASE_EXPONENT:
            self._weights = {bucket: weight * math.exp2(-exponent) for bucket, weight in self._weights.items()}
            self._origin, exponent = now, 0.0
        bucket = math.floor(BUCKETS_PER_OCTAVE * math.log2(gap))
        self._weights[bucket] = self._weights.get(bucket, 0.0) + math.exp2(exponent)

    def _add_hour(self, day_seconds: float) -> None:
        hour, day = int(day_seconds // _HOUR) % 24, int(day_seconds // 86_400)
        known = self._hours.get(hour)
        if known is None:
            self._hours[hour] = _Hour(_DAY_WEIGHT, day)
        elif day > known.day:
            share = known.share * (1 - _DAY_WEIGHT) ** (day - known.day) + _DAY_WEIGHT
            self._hours[hour] = _Hour(min(1.0, share), day)


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
        """See :meth:`CallPattern.probability`; 0 for what was never called."""
        pattern = self._patterns.get(digest)
        return pattern.probability(now, now + self._offset, horizon_seconds) if pattern else 0.0

    def probability_at_most(self, digest: str, now: float, horizon_seconds: float) -> float:
        """See :meth:`CallPattern.probability_at_most`; what was never called has been waited for from the beginning."""
        pattern = self._patterns.get(digest) or CallPattern(self._began)
        return pattern.probability_at_most(now, now + self._offset, horizon_seconds)

    def next_rise(self, digest: str, now: float, horizon_seconds: float) -> float:
        """See :meth:`CallPattern.next_rise`; infinity for what was never called."""
        pattern = self._patterns.get(digest)
        return pattern.next_rise(now, now + self._offset, horizon_seconds) if pattern else math.inf


def _lower_edge(bucket: int) -> float:
    return math.exp2(bucket / BUCKETS_PER_OCTAVE)


def _share_after(bucket: int, seconds: float) -> float:
    """The part of a bucket's gaps, spread evenly over it, that last longer."""
    low, high = _lower_edge(bucket), _lower_edge(bucket + 1)
    return min(1.0, max(0.0, (high - seconds) / (high - low)))


def _hours_of(day_seconds: float, horizon_seconds: float) -> Iterator[tuple[float, float]]:
    """A stretch of time of a day at most, cut where hours begin."""
    begins, end = day_seconds, day_seconds + min(horizon_seconds, 86_400.0)
    while begins < end:
        ends = min(end, (begins // _HOUR + 1) * _HOUR)
        yield begins, ends
        begins = ends


def _until_hour(hour: int, day_seconds: float) -> float:
    """Seconds until an hour of the day begins, tomorrow's if it has begun."""
    return (hour * _HOUR - day_seconds) % 86_400.0 or 86_400.0
