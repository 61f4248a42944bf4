"""Figures of each policy over several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np

from kindling.simulate.experiment import Run, Variant
from kindling.simulate.policies import PolicyName

_PERCENTS: Final = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Cell:
    """A policy on a workload: startup seconds, averaged over seeds, of all requests, those that gave up included.

    What counts as startup says ``Served``. ``quantile_seconds`` are those of 0, 1, … 100 % of the requests.
    """

    policy: str
    is_baseline: bool
    workload: str
    model: str
    seeds: int
    mean_seconds: float
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    refused: float
    starts_by_tier: Mapping[str, float]
    device_seconds: float
    migrations: float
    preemptions: float
    prefetched_bytes: float
    prefetch_hits: float
    prefetch_wasted_bytes: float
    copied_bytes: float
    copy_hits: float
    copy_wasted_bytes: float
    requests: float
    quantile_seconds: tuple[float, ...]

    def cost_per_thousand(self, price_per_device_hour: float) -> float:
        """What a thousand requests cost at a price per device and hour."""
        return self.device_seconds / 3600 * price_per_device_hour / self.requests * 1000


def cell(variant: Variant, workload: str, model: str, runs: Sequence[Run]) -> Cell:
    """Sum runs up that differ in their seeds alone; each has requests."""
    startups = [np.array([one.startup_seconds for one in run.served]) for run in runs]
    quantiles = np.mean([np.quantile(seconds, _PERCENTS) for seconds in startups], axis=0).tolist()
    tiers = next(iter(runs)).starts_by_tier
    return Cell(
        policy=variant.name,
        is_baseline=variant.policy.is_baseline,
        workload=workload,
        model=model,
        seeds=len(runs),
        mean_seconds=fmean(float(seconds.mean()) for seconds in startups),
        p50_seconds=quantiles[50],
        p95_seconds=quantiles[95],
        p99_seconds=quantiles[99],
        refused=fmean(sum(one.refused for one in run.served) for run in runs),
        starts_by_tier={tier.name: fmean(run.starts_by_tier[tier] for run in runs) for tier in tiers},
        device_seconds=fmean(run.device_seconds for run in runs),
        migrations=fmean(run.migrations for run in runs),
        preemptions=fmean(run.preemptions for run in runs),
        prefetched_bytes=fmean(run.prefetched.prefetched_bytes for run in runs),
        prefetch_hits=fmean(run.prefetched.hits for run in runs),
        prefetch_wasted_bytes=fmean(run.prefetched.wasted_bytes for run in runs),
        copied_bytes=fmean(run.copied.prefetched_bytes for run in runs),
        copy_hits=fmean(run.copied.hits for run in runs),
        copy_wasted_bytes=fmean(run.copied.wasted_bytes for run in runs),
        requests=fmean(len(run.served) for run in runs),
        quantile_seconds=tuple(quantiles),
    )


def least_ratio(cells: Sequence[Cell], figure: str) -> float | None:
    """The smallest, over all workloads and models, of the best baseline's figure over the full policy's; none without
    both. Where the full policy needs no time at all there is no ratio: JSON has no infinity."""
    ratios = [_ratio(of_one, figure) for of_one in by_workload(cells)]
    known = [ratio for ratio in ratios if ratio is not None]
    return min(known, default=None)


def as_values(cells: Sequence[Cell], notes: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON: ``cells``, ``ratios`` and what they were taken with."""
    ratio = least_ratio(cells, "mean_seconds")
    ratios = {} if ratio is None else {"best_baseline_over_full_min": ratio}
    return {"ratios": ratios, "cells": [asdict(one) for one in cells], **notes}


def by_workload(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each workload and model."""
    keys = dict.fromkeys((one.workload, one.model) for one in cells)
    return [[one for one in cells if (one.workload, one.model) == key] for key in keys]


def _ratio(cells: Sequence[Cell], figure: str) -> float | None:
    full = next((getattr(one, figure) for one in cells if one.policy == PolicyName.FULL), None)
    baselines = [getattr(one, figure) for one in cells if one.is_baseline]
    return min(baselines) / full if full and baselines else None
