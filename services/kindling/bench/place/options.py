"""What one run of the benchmark is to do."""

from dataclasses import dataclass, replace

from kindling.platform.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Size:
    """A cluster: nodes with so many workers each, models, and the checkpoints that nodes hold."""

    nodes: int = 1_000
    workers_per_node: int = 8
    models: int = 10_000
    residency: int = 100_000

    @property
    def workers(self) -> int:
        """Workers of all nodes."""
        return self.nodes * self.workers_per_node

    def halved(self) -> "Size":
        """Half as large a cluster, with half as many models."""
        return replace(self, nodes=self.nodes // 2, models=self.models // 2, residency=self.residency // 2)


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """The stated size, with ``steps`` events, and for the growth half and a quarter of it, with as many per worker."""

    size: Size = Size()
    steps: int = 40_000
    seed: int = 1

    def steps_for(self, size: Size) -> int:
        """Events in a cluster: a larger one has more of them."""
        return max(2, self.steps * size.workers // self.size.workers)

    def sizes(self) -> list[Size]:
        """What is measured, the smallest first.

        Raises InvalidArgumentError CLUSTER_TOO_SMALL if in the smallest nothing would run, or nothing wait for a slot.
        """
        half = self.size.halved()
        least = half.halved()
        if least.workers < 2 or least.models <= least.workers:
            message = (
                f"A quarter of the cluster has {least.workers} workers and {least.models} models; it needs at least "
                "two workers, and more models than workers: give more nodes, workers or models."
            )
            raise InvalidArgumentError(message, reason="CLUSTER_TOO_SMALL")
        return [least, half, self.size]
