"""What may leave a node's DRAM for what is promoted there.

The seconds that a start gains by a byte that comes are weighed against those that another loses by one that goes, each
times how near that start is. What goes loses clearly less, for predictions err, and moving bytes to and fro costs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.promotions import GiveWay, Promotion
from kindling.scheduler.domain.savings import seconds_per_byte, useful_bytes
from kindling.scheduler.domain.values import Checkpoint, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

_CLEARLY_MORE = 1.25  # times what is lost
_HEAD_SHARE = 0.25  # of a checkpoint, as the storage managers' pools keep them
_HEADS_COUNT = 2.0  # times as much: from their heads many models can start, and none takes very long
_MOST_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class _Resident:
    """A checkpoint in a node's DRAM: how much of it is of use there, and what a useful byte's going costs."""

    checkpoint: Checkpoint
    useful_bytes: int
    seconds_lost_per_byte: float


@dataclass(frozen=True, slots=True)
class Displacement:
    """``near_seconds`` is how far off a start counts 1/e."""

    view: ClusterView
    arrivals: Arrivals
    assumptions: Assumptions
    near_seconds: float

    def give_way(self, promotion: Promotion, now: float) -> tuple[GiveWay, ...]:
        """Return what a promotion may displace, in this order: the tails that are of no use to anybody; the rest of
        what loses clearly less than is gained, what is missed least first; its heads, if that holds even if they count
        double."""
        near = self.arrivals.nearness(promotion.digest, now, self.near_seconds)
        affordable = near * promotion.seconds_saved_per_byte / _CLEARLY_MORE
        residents = sorted(
            self._residents(promotion, now), key=lambda one: (one.seconds_lost_per_byte, one.checkpoint.digest)
        )
        colder = [one for one in residents if one.seconds_lost_per_byte < affordable]
        coldest = [one for one in colder if _HEADS_COUNT * one.seconds_lost_per_byte < affordable]
        return (
            *(GiveWay(one.checkpoint.digest, one.useful_bytes) for one in residents),
            *(GiveWay(one.checkpoint.digest, int(_HEAD_SHARE * one.checkpoint.total_bytes)) for one in colder),
            *(GiveWay(one.checkpoint.digest) for one in coldest),
        )

    def _residents(self, promotion: Promotion, now: float) -> Iterator[_Resident]:
        holders, worker = self.view.holders, self.view.workers[promotion.worker_id]
        for digest in islice(holders.in_dram(promotion.node_id), _MOST_LOOKED_AT):
            if digest != promotion.digest:
                near = self.arrivals.nearness_at_most(digest, now, self.near_seconds)
                yield self._resident(digest, worker, near)

    def _resident(self, digest: str, worker: Worker, near: float) -> _Resident:
        """What has no copy on the node's SSD would come from the remote store again, slowly."""
        held = self.view.holders.held(worker.node_id, digest)
        source = Tier.SSD if held.get(Tier.SSD, 0) else Tier.REMOTE
        checkpoint = Checkpoint(digest, max(held.values()))
        useful = useful_bytes(self.view, worker, checkpoint, self.assumptions)
        lost = near * seconds_per_byte(self.view, worker, source)
        return _Resident(checkpoint, useful if source is Tier.SSD else checkpoint.total_bytes, lost)
