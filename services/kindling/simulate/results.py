"""Figures of each policy over several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from kindling.scheduler.domain.values import Tier
from kindling.simulate.experiment import Run
from kindling.simulate.policies import PolicyName


@dataclass(frozen=True, slots=True)
class Cell:
    """A policy on a workload: startup seconds, averaged over seeds, of all requests, those that gave up included.

    A request's startup is the time from its arrival until it began in an instance that was ready, or gave up.
    """

    policy: PolicyName
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

    def cost_per_thousand(self, requests: float, price_per_device_hour: float) -> float:
        """What a thousand requests cost at a price per device and hour."""
        return self.device_seconds / 3600 * price_per_device_hour / requests * 1000


def cell(policy: PolicyName, workload: str, model: str, runs: Sequence[Run]) -> Cell:
    """Sum runs up that differ in their seeds alone; each has requests."""
    startups = [np.array([one.startup_seconds for one in run.served]) for run in runs]

    def quantile(part: float) -> float:
        return fmean(float(np.quantile(seconds, part)) for seconds in startups)

    return Cell(
        policy=policy,
        workload=workload,
        model=model,
        seeds=len(runs),
        mean_seconds=fmean(float(seconds.mean()) for seconds in startups),
        p50_seconds=quantile(0.5),
        p95_seconds=quantile(0.95),
        p99_seconds=quantile(0.99),
        refused=fmean(sum(one.refused for one in run.served) for run in runs),
        starts_by_tier={
            tier.name: fmean(run.starts_by_tier[tier] for run in runs) for tier in (Tier.DRAM, Tier.SSD, Tier.REMOTE)
        },
        device_seconds=fmean(run.device_seconds for run in runs),
    )


def best_baseline_over_full(cells: Sequence[Cell]) -> float | None:
    """The smallest, over all workloads and models, of the best baseline's mean over the full policy's; none without
    both. Where the full policy needs no time at all there is no ratio: JSON has no infinity."""
    ratios = [_ratio(of_one) for of_one in _by_workload(cells)]
    known = [ratio for ratio in ratios if ratio is not None]
    return min(known, default=None)


def as_values(cells: Sequence[Cell], notes: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON: ``cells``, ``ratios`` and what they were taken with."""
    ratio = best_baseline_over_full(cells)
    ratios = {} if ratio is None else {"best_baseline_over_full_min": ratio}
    return {"ratios": ratios, "cells": [asdict(one) for one in cells], **notes}


def _by_workload(cells: Sequence[Cell]) -> list[list[Cell]]:
    keys = dict.fromkeys((one.workload, one.model) for one in cells)
    return [[one for one in cells if (one.workload, one.model) == key] for key in keys]


def _ratio(cells: Sequence[Cell]) -> float | None:
    full = next((one.mean_seconds for one in cells if not one.policy.is_baseline), None)
    baselines = [one.mean_seconds for one in cells if one.policy.is_baseline]
    return min(baselines) / full if full and baselines else None
