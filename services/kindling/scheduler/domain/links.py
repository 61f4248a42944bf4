"""What the scheduler's connection to a worker has told it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kindling.scheduler.domain.values import LoadReport, ParkedCheckpoint, ReportedInstance, WorkerReport


@dataclass(frozen=True, slots=True)
class Link:
    """The state of the watch on one worker, ``since`` when it was opened or broke."""

    since: float
    connected: bool = False
    report: WorkerReport | None = None

    @property
    def takes_work(self) -> bool:
        """Whether the worker can be given generations and instances."""
        return self.report is not None and self.is_heard and not self.report.draining

    @property
    def is_heard(self) -> bool:
        """Whether the worker tells now what it runs."""
        return self.connected and self.report is not None

    @property
    def running(self) -> frozenset[str]:
        """The instances that the worker last said it runs; nothing while it cannot be asked."""
        if self.report is None:
            return frozenset()
        return frozenset(instance.instance_id for instance in self.report.instances)

    @property
    def parked(self) -> tuple[ParkedCheckpoint, ...]:
        """What the worker last said it has parked; nothing while it cannot be asked."""
        return self.report.parked if self.report else ()

    def loaded(self, instance_id: str) -> LoadReport | None:
        """The complete report of an instance's start, if the worker has told it."""
        return next((one.loaded for one in self._reported(instance_id)), None)

    def tokens(self, instance_id: str) -> Mapping[str, int]:
        """How many tokens each generation of an instance had, as far as the worker has told it."""
        return next((one.tokens for one in self._reported(instance_id)), {})

    def _reported(self, instance_id: str) -> Iterator[ReportedInstance]:
        instances = self.report.instances if self.report else ()
        return (one for one in instances if one.instance_id == instance_id)
