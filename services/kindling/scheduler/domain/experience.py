"""What starts and migrations have taught the leader, and how well it foresaw them.

All of it is soft: a new leader has the storage managers' and workers' own measurements and the reports of what runs,
and learns the rest again.
"""

import math
from dataclasses import dataclass

from kindling.scheduler.domain.bandwidths import MIN_SAMPLE_BYTES, Bandwidths
from kindling.scheduler.domain.builds import Builds
from kindling.scheduler.domain.durations import Durations
from kindling.scheduler.domain.handovers import Handovers
from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.track_record import EstimateKind, TrackRecord
from kindling.scheduler.domain.values import Checkpoint, Instance, LoadReport, Node, Tier, Worker

_CLEARLY_LONGER = 1.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance starts, and what."""

    node: Node
    worker: Worker
    checkpoint: Checkpoint


class Experience:
    """Learns from each report once. What it foresaw is compared with the outcome before it learns from that."""

    def __init__(self) -> None:
        self.bandwidths = Bandwidths()
        self.builds = Builds()
        self.handovers = Handovers()
        self.record = TrackRecord()
        self._unparks: dict[str, LearnedRate] = {}  # by kind of device
        self._asking = LearnedRate(steady=True)
        self._opening = LearnedRate(steady=True)
        self._generations: dict[str, Durations] = {}  # from grant to end, by digest

    @property
    def asking_seconds(self) -> float:
        """Seconds from a decision until it is recorded and the worker asked, and from its answer until that is here."""
        return self._asking.value() or 0.0

    @property
    def dispatch_seconds(self) -> float:
        """Those, and the ones until the checkpoint is opened there."""
        return self.asking_seconds + (self._opening.value() or 0.0)

    def init_seconds(self, checkpoint: Checkpoint, worker: Worker, source: Tier | None) -> float | None:
        """Seconds that building a model takes while its weights come from a tier: its own, those of models like it,
        those of the worker's small one."""
        known = self.builds.known(checkpoint, worker.device_kind, while_reading=_is_read(source))
        return known or worker.init_seconds or None

    def parked_seconds(self, worker: Worker, prior: float) -> float:
        """Seconds that a worker takes to start what is parked; ``prior`` is believed before the first time.

        The model makes no difference: nothing of it is read, copied or built.
        """
        rate = self._unparks.get(worker.device_kind)
        return (rate.value(prior) if rate else None) or prior

    def generation_left(self, digest: str, age_seconds: float) -> float | None:
        """Seconds that a generation granted so long ago is expected to run still; none where too few have told."""
        durations = self._generations.get(digest)
        return durations.left(age_seconds) if durations else None

    def hear_generation(self, digest: str, seconds: float) -> None:
        """Learn how long a generation took."""
        self._generations.setdefault(digest, Durations()).add(seconds)

    def hear(self, known: Instance | None, instance: Instance, place: Place) -> None:
        """Learn from what has become of an instance, that was ``known`` as it was before."""
        report, before = instance.report, known.report if known else None
        if report is None:
            return
        if before is None:
            self._hear_asking(instance, report)
        if before is None and not _was_parked(report):
            self._hear_init(instance, report.init_seconds, place)
            self._hear_opening(report)
        if report.complete and not (before and before.complete):
            self._hear_startup(instance, place)
            if not _was_parked(report):
                self._hear_load(report, place)

    def hear_migration(self, source: Instance, target: Worker, generations: int, tokens: int, seconds: float) -> None:
        """Learn how long an instance's generations took to move."""
        self.handovers.learn(source.digest, target.device_kind, generations, tokens, seconds)

    def _hear_init(self, instance: Instance, seconds: float, place: Place) -> None:
        foreseen = self.init_seconds(place.checkpoint, place.worker, instance.source)
        if foreseen is not None:
            self.record.note(EstimateKind.INIT, place.node.node_id, foreseen, seconds)
        prior, kind = place.worker.init_seconds or seconds, place.worker.device_kind
        self.builds.learn(place.checkpoint, kind, seconds, prior, while_reading=_is_read(instance.source))

    def _hear_asking(self, instance: Instance, report: LoadReport) -> None:
        """Learn what the worker does not know of; a load that was over before its start was told leaves nothing."""
        seconds = instance.ready_at - instance.started_at - report.total_seconds
        if 0 < seconds < math.inf:
            self._asking.add(seconds)

    def _hear_opening(self, report: LoadReport) -> None:
        """Learn what came before the build; a start that read everything before it was told does not say."""
        if not any(part.seconds for part in report.traffic):
            self._opening.add(max(0.0, report.total_seconds - report.init_seconds))

    def _hear_startup(self, instance: Instance, place: Place) -> None:
        took, tier = instance.startup_seconds, instance.slowest_tier
        if took is None or took == math.inf:
            return
        if instance.estimated_seconds > 0:
            self.record.note(EstimateKind.STARTUP, place.node.node_id, instance.estimated_seconds, took, tier)
        if tier is Tier.GPU and instance.report is not None:
            unparks = self._unparks.setdefault(place.worker.device_kind, LearnedRate(steady=True))
            unparks.add(instance.report.total_seconds)

    def _hear_load(self, report: LoadReport, place: Place) -> None:
        for part in report.traffic:
            self._hear_traffic(part.source, part.bytes, part.seconds, place)
        if _crossed_to_device(report, place.worker):
            self._hear_traffic(Tier.DRAM, sum(part.bytes for part in report.traffic), report.total_seconds, place)

    def _hear_traffic(self, tier: Tier, size_bytes: int, seconds: float, place: Place) -> None:
        foreseen = self.bandwidths.known(place.node, tier)
        if foreseen and size_bytes >= MIN_SAMPLE_BYTES:
            expected = self.bandwidths.seconds(tier, size_bytes, foreseen)
            self.record.note(EstimateKind.LOAD, place.node.node_id, expected, seconds, tier)
        self.bandwidths.learn(place.node, tier, size_bytes, seconds)


def _is_read(source: Tier | None) -> bool:
    """Whether weights are read into DRAM, which takes cores that building a model could use."""
    return source is not None and source > Tier.DRAM


def _was_parked(report: LoadReport) -> bool:
    return report.complete and report.slowest_tier is Tier.GPU


def _crossed_to_device(report: LoadReport, worker: Worker) -> bool:
    """Whether copying from DRAM to a device's own memory is what a start took its time for."""
    if worker.device_tier is not Tier.GPU or report.slowest_tier is not Tier.DRAM:
        return False
    return report.total_seconds > _CLEARLY_LONGER * report.init_seconds
