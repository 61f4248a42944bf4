"""The same requests in the simulator."""

from collections.abc import Sequence

from kindling.bench.predict.results import Startups
from kindling.simulate.experiment import Setup, Variant, run
from kindling.simulate.mechanisms import ALL_MECHANISMS, Mechanism
from kindling.simulate.policies import PolicyName
from kindling.simulate.workload import Arrival, Workload

_SEED = 1  # the full policy draws nothing
_MECHANISMS = ALL_MECHANISMS - {Mechanism.PREFETCH}  # which the real cluster does not do either


def foretell(before: Sequence[Arrival], asked: Sequence[Arrival], setup: Setup) -> Startups:
    """Return what becomes of requests in a cluster that had others ``before``, as it is left by those."""
    variant = Variant(PolicyName.FULL, _MECHANISMS)
    earlier = run(variant, _workload(before), setup, _SEED)
    whole = run(variant, _workload([*before, *asked]), setup, _SEED)
    starts = {tier: count - earlier.starts_by_tier[tier] for tier, count in whole.starts_by_tier.items()}
    return Startups(tuple(one.startup_seconds for one in whole.served[len(before) :]), starts)


def _workload(arrivals: Sequence[Arrival]) -> Workload:
    in_order = tuple(sorted(arrivals, key=lambda one: one.at_seconds))
    models = tuple(sorted({one.model for one in in_order}))
    return Workload("as they came", in_order, models, in_order[-1].at_seconds)
