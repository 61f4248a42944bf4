"""ServerlessLLM's end-to-end evaluation (Fu et al., OSDI 2024, §7), as far as it is known, beside what goes past it.

Known: OPT-6.7B, 13B and 30B as 32, 16 and 8 models on four servers of four A40 each, arrivals with a coefficient of
variation of 8, lengths of GSM8K and ShareGPT cut to a context of 2,048. The published seconds come from readers' notes
of the paper, not from the paper itself.

Assumed: that models are equally popular, that an instance is kept for as long as it loads from the SSD, and that
requests give up after 300 s. OPT-30B takes two devices, so that its 8 models share 8 pairs. Fitted: how many requests
come in a second, and how many an instance serves at once. Of 0.2 to 2 a second and 1 to 16 at once, it is 1.4 and 8 by
which what stands for ServerlessLLM here comes nearest to its six published figures (README has the table).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.experiment import Setup, Variant, run
from kindling.simulate.lengths import FittedLengths, lengths_named
from kindling.simulate.mechanisms import ALL_MECHANISMS, Mechanism
from kindling.simulate.model_profiles import model_profile
from kindling.simulate.node_profiles import node_profile
from kindling.simulate.policies import PolicyName
from kindling.simulate.redraw import redraw
from kindling.simulate.results import Cell, cell
from kindling.simulate.workload import Workload

NODES: Final = 4
CV: Final = 8.0
CONTEXT_TOKENS: Final = 2048
PATIENCE_SECONDS: Final = 300.0
MODELS: Final = {"opt-6.7b": 32, "opt-13b": 16, "opt-30b": 8}
LENGTHS: Final = ("gsm8k", "sharegpt")
AS_IN_THE_PAPER: Final = "kindling as in the paper"
"""The planner, and a cluster that can do what the paper's can."""
_IN_THE_PAPER: Final = frozenset({Mechanism.MIGRATION})

VARIANTS: Final = (
    Variant(PolicyName.FULL, ALL_MECHANISMS),
    Variant(PolicyName.FULL, label="kindling, placement alone"),
    Variant(PolicyName.FULL, _IN_THE_PAPER, AS_IN_THE_PAPER),
    *(
        Variant(PolicyName.FULL, _IN_THE_PAPER | {one}, f"  and {one.value}")
        for one in Mechanism
        if one not in _IN_THE_PAPER
    ),
    *(Variant(policy) for policy in PolicyName if policy is not PolicyName.FULL),
)
SYSTEMS: Final = {"ServerlessLLM": AS_IN_THE_PAPER, "Ray Serve": "download", "with cache": "download-cached"}
"""The paper's systems, and what stands for them here."""
PUBLISHED_SECONDS: Final[Mapping[str, Mapping[str, tuple[float, float, float]]]] = {
    "gsm8k": {
        "ServerlessLLM": (0.8, 0.9, 7.5),
        "Ray Serve": (12.1, 142.8, 213.0),
        "with cache": (8.2, 140.1, 199.2),
    },
    "sharegpt": {
        "ServerlessLLM": (0.8, 1.6, 89.8),
        "Ray Serve": (27.6, 182.2, 260.2),
        "with cache": (17.9, 162.4, 261.8),
    },
}
"""Mean startup latencies by lengths and system, of the three models in their order."""


@dataclass(frozen=True, slots=True)
class PaperOptions:
    """Requests per second of all models together, for how long, how many an instance serves at once, and how many
    workloads are drawn."""

    rate: float = 1.4
    duration_seconds: float = 3600.0
    concurrency_target: int = 8
    seeds: int = 5


def run_paper_suite(options: PaperOptions, say: Callable[[str], None]) -> Iterator[Cell]:
    """Yield the figures of every variant on each of the six workloads.

    Raises InvalidArgumentError as ``redraw`` does.
    """
    for model in MODELS:
        setup = _setup(model, options)
        for lengths in LENGTHS:
            say(f"{model}, {lengths}")
            workloads = [_workload(model, lengths, options, seed) for seed in range(options.seeds)]
            for variant in VARIANTS:
                runs = [run(variant, workload, setup, seed) for seed, workload in enumerate(workloads)]
                yield cell(variant, lengths, model, runs)


def _setup(model: str, options: PaperOptions) -> Setup:
    node = node_profile("paper-a40")
    profile = model_profile(model, node.device_kind)
    settings = ModelSettings(
        concurrency_target=options.concurrency_target,
        keep_alive_seconds=profile.checkpoint_bytes / node.bandwidth_bytes_per_second[Tier.SSD],
        max_queued_requests=2**31 - 1,
        max_queue_wait_seconds=PATIENCE_SECONDS,
    )
    return Setup(node, NODES, profile, settings)


def _workload(model: str, lengths: str, options: PaperOptions, seed: int) -> Workload:
    fitted = FittedLengths(lengths_named(lengths), CONTEXT_TOKENS)
    names = [f"{model}-{number}" for number in range(MODELS[model])]
    duration_seconds = options.duration_seconds
    return redraw(options.rate, names, cv=CV, zipf=0.0, lengths=fitted, seed=seed, duration_seconds=duration_seconds)
