"""A trace as it is, its times and its lengths; only the models are imposed."""

from collections.abc import Sequence

import numpy as np

from kindling.simulate.popularity import impose
from kindling.simulate.traces import Trace
from kindling.simulate.workload import Arrival, Workload


def replay(trace: Trace, models: Sequence[str], *, zipf: float, seed: int) -> Workload:
    """Return the trace with a model for each request; the first model is the most popular.

    Raises InvalidArgumentError NO_MODELS or ZIPF_EXPONENT_INVALID.
    """
    chosen = impose(len(trace.requests), len(models), zipf, np.random.default_rng(seed))
    return Workload(
        name=f"{trace.name} replayed, Zipf {zipf:g}",
        arrivals=tuple(
            Arrival(request.at_seconds, models[index], request.prompt_tokens, request.output_tokens)
            for request, index in zip(trace.requests, chosen, strict=True)
        ),
        models=tuple(models),
        duration_seconds=trace.duration_seconds,
    )
