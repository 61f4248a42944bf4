"""Chooses tokens from logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kindling.worker.adapters.transformers_engine.noise import gumbel
from kindling.worker.domain.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Choice:
    """A token, and the log-probabilities that were asked for."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose the token at a position."""

    sampling: SamplingParams
    position: int


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Choice]:
    """Choose one token per row of ``logits`` (float32 [draws, vocabulary]); rows do not influence each other."""
    likeliest = logits.argmax(dim=-1).tolist()
    choices = []
    for row, draw, greedy_id in zip(logits, draws, likeliest, strict=True):
        token_id = greedy_id if draw.sampling.greedy else sample(row, draw)
        top = draw.sampling.top_logprobs
        choices.append(Choice(token_id) if top is None else _report(row, token_id, top))
    return choices


def sample(row: torch.Tensor, draw: Draw) -> int:
    """Draw a token from softmax(row / temperature), filtered by top-k, then top-p.

    By the Gumbel-max trick: argmax(logit + Gumbel noise) is distributed as softmax(logits) (Gumbel 1954; Maddison et
    al., "A* sampling", NeurIPS 2014).
    """
    sampling = draw.sampling
    scaled = row / sampling.temperature
    token_ids = torch.arange(len(row), dtype=torch.int32, device=row.device)
    noisy = gumbel(sampling.seed, draw.position, token_ids).add_(scaled)
    if sampling.top_k or sampling.top_p < 1:
        noisy.masked_fill_(scaled < filter_threshold(scaled, sampling.top_k, sampling.top_p), float("-inf"))
    return int(noisy.argmax())


def filter_threshold(scaled: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Return the least logit that survives; tokens that tie with it survive, too, so that no order among them matters.

    Top-k keeps the k likeliest (Fan et al., ACL 2018); top-p the smallest set of those whose probability, renormalised,
    is at least p (Holtzman et al., "The curious case of neural text degeneration", ICLR 2020). One token always stays.
    """
    threshold = scaled.new_full((), float("-inf"))
    if 0 < top_k < len(scaled):
        threshold = scaled.topk(top_k).values[-1]
    if top_p < 1:
        threshold = torch.maximum(threshold, _nucleus_threshold(scaled, threshold, top_p))
    return threshold


def _nucleus_threshold(scaled: torch.Tensor, threshold: torch.Tensor, top_p: float) -> torch.Tensor:
    total = scaled.masked_fill(scaled < threshold, float("-inf")).logsumexp(dim=-1)
    ordered = _descending(scaled)
    before = int(((ordered - total).exp().cumsum(dim=-1) < top_p).sum())
    return ordered[min(before, len(ordered) - 1)]


def _descending(values: torch.Tensor) -> torch.Tensor:
    """Sort a vector; on a CPU by numpy, whose vectorised sort is some thirty times faster than torch's."""
    if values.device.type != "cpu":
        return values.sort(descending=True).values
    return torch.from_numpy(np.sort(values.numpy())).flip(0)


def _report(row: torch.Tensor, token_id: int, top: int) -> Choice:
    logprobs = row.log_softmax(dim=-1)
    values, token_ids = logprobs.topk(min(top, len(row)))
    pairs = tuple(zip(token_ids.tolist(), values.tolist(), strict=True))
    return Choice(token_id, float(logprobs[token_id]), pairs)
