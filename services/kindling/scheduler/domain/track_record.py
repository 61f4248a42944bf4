"""How well estimates came true, of late."""

import enum
import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from kindling.scheduler.domain.values import Tier

# Upper bounds of a histogram's buckets: estimated over actual, less one. Below 0 it took longer than expected.
BUCKET_BOUNDS = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, math.inf)
_REMEMBERED = 64  # of one kind and node
_REMEMBERED_OF_ALL = 1024  # of one kind


class EstimateKind(enum.Enum):
    """What was estimated."""

    STARTUP = "startup"  # by a decision: queue, load and init
    LOAD = "load"  # reading what a load did read from one tier
    INIT = "init"  # building a model
    MIGRATION = "migration"  # by a decision: moving an instance's generations


@dataclass(frozen=True, slots=True)
class Quality:
    """The errors of the latest estimates of one kind, for one node or, if ``node_id`` is empty, for all.

    Errors are estimated over actual time, less one; median and P90 are without their signs, ``histogram`` counts those
    up to each of ``BUCKET_BOUNDS``. Startups and loads are told apart by the slowest tier that bytes came from.
    ``errors`` are there for all nodes together alone, the oldest first.
    """

    kind: EstimateKind
    source: Tier | None
    node_id: str
    count: int
    median_error: float
    p90_error: float
    histogram: tuple[int, ...]
    errors: tuple[float, ...] = ()


_Subject = tuple[EstimateKind, Tier | None, str]


class TrackRecord:
    """The last errors of each kind of estimate, by node. It is the leader's own: the next one begins with none."""

    def __init__(self) -> None:
        self._errors: dict[_Subject, deque[float]] = {}

    def note(
        self, kind: EstimateKind, node_id: str, estimated: float, actual: float, source: Tier | None = None
    ) -> None:
        """Compare an estimate with its outcome, in seconds; one that took no time to speak of tells nothing."""
        if not (0 < actual < math.inf and 0 <= estimated < math.inf):
            return
        error = estimated / actual - 1.0
        for subject, size in (((kind, source, node_id), _REMEMBERED), ((kind, source, ""), _REMEMBERED_OF_ALL)):
            self._errors.setdefault(subject, deque(maxlen=size)).append(error)

    def qualities(self) -> list[Quality]:
        """By kind, tier and node, the one of all nodes before each node's."""
        return [_quality(subject, errors) for subject, errors in sorted(self._errors.items(), key=_order)]


def _order(item: tuple[_Subject, deque[float]]) -> tuple[int, int, str]:
    kind, source, node_id = item[0]
    return list(EstimateKind).index(kind), source or 0, node_id


def _quality(subject: _Subject, errors: deque[float]) -> Quality:
    sizes = sorted(abs(error) for error in errors)
    histogram = [0] * len(BUCKET_BOUNDS)
    for error in errors:
        histogram[bisect_left(BUCKET_BOUNDS, error)] += 1
    median_error, p90_error = _quantile(sizes, 0.5), _quantile(sizes, 0.9)
    _, _, node_id = subject
    each = () if node_id else tuple(errors)
    return Quality(*subject, len(errors), median_error, p90_error, tuple(histogram), each)


def _quantile(ascending: list[float], part: float) -> float:
    """The least value that ``part`` of all do not exceed."""
    return ascending[max(0, math.ceil(part * len(ascending)) - 1)]
