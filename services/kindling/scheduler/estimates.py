"""What the leader has learned about starts and migrations, and how well it foresees them."""

from dataclasses import dataclass

from kindling.scheduler.domain.bandwidths import LearnedLink
from kindling.scheduler.domain.builds import LearnedBuild
from kindling.scheduler.domain.handovers import LearnedHandover
from kindling.scheduler.domain.track_record import Quality
from kindling.scheduler.term import Term


@dataclass(frozen=True, slots=True)
class Estimates:
    """What was learned in this term, of live nodes; see :class:`~kindling.scheduler.domain.experience.Experience`."""

    qualities: tuple[Quality, ...]
    links: tuple[LearnedLink, ...]
    builds: tuple[LearnedBuild, ...]
    handovers: tuple[LearnedHandover, ...]


def learned_estimates(term: Term) -> Estimates:
    """Return what a term has learned up to now."""
    experience, nodes = term.view.experience, sorted(term.view.nodes.items())
    return Estimates(
        qualities=tuple(experience.record.qualities()),
        links=tuple(link for _, node in nodes for link in experience.bandwidths.learned(node)),
        builds=tuple(experience.builds.learned()),
        handovers=tuple(experience.handovers.learned()),
    )
