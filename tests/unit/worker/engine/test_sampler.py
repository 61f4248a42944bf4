"""Sampling: the right distribution, the same draw everywhere, filters as in the papers."""

import itertools
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from kindling.worker.adapters.transformers_engine.noise import gumbel
from kindling.worker.adapters.transformers_engine.sampler import Draw, choose, filter_threshold
from kindling.worker.domain.sampling import SamplingParams

VOCAB = 40
CRITICAL_CHI_SQUARE = 72.06
"""Of 39 degrees of freedom at p = 0.001; the draws are fixed, so the tests cannot flicker."""

EDGE_SEEDS = (0, 1, 2**32, 2**63, 2**64 - 1)


def draw(position: int = 0, **sampling: Any) -> Draw:
    return Draw(SamplingParams(**{"max_tokens": 1, "temperature": 1.0, **sampling}), position)


def logits_of(seed: int, rows: int = 1, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 1.5


def naive_kept(logits: list[float], top_k: int, top_p: float) -> set[int]:
    """Top-k, then top-p, one token at a time, in double precision."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    kept = order[:top_k] if top_k else order
    weights = torch.tensor([logits[token] for token in kept], dtype=torch.float64).softmax(0).tolist()
    before = [0.0, *itertools.accumulate(weights)]
    return {token for token, mass in zip(kept, before, strict=False) if mass < top_p or token == kept[0]}


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.7, 1.8])
@pytest.mark.parametrize("vary", ["position", "seed"])
def test_draws_follow_the_softmax(temperature: float, vary: str) -> None:
    logits = logits_of(1)
    many = [
        draw(n, temperature=temperature, seed=9) if vary == "position" else draw(3, temperature=temperature, seed=n)
        for n in range(4000)
    ]
    chosen = [choice.token_id for choice in choose(logits.expand(len(many), -1), many)]
    counts = torch.bincount(torch.tensor(chosen), minlength=VOCAB).double()
    assert chi_square(counts, (logits[0].double() / temperature).softmax(0)) < CRITICAL_CHI_SQUARE


def test_successive_draws_are_independent() -> None:
    logits = torch.zeros(1, 6).expand(6000, -1)
    chosen = [choice.token_id for choice in choose(logits, [draw(n, seed=4) for n in range(6000)])]
    pairs = torch.tensor([6 * first + second for first, second in itertools.pairwise(chosen)])
    counts = torch.bincount(pairs, minlength=36).double()
    assert chi_square(counts, torch.full((36,), 1 / 36, dtype=torch.float64)) < CRITICAL_CHI_SQUARE


@pytest.mark.parametrize("seed", EDGE_SEEDS)
def test_noise_is_finite_bounded_and_gumbel(seed: int) -> None:
    noise = gumbel(seed, 2**31, torch.arange(200_000, dtype=torch.int32)).double()
    assert noise.isfinite().all()
    assert noise.abs().max() < 17
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(1.6449, abs=0.04)


def test_noise_is_a_function_of_its_arguments_alone() -> None:
    token_ids = torch.arange(1000, dtype=torch.int32)
    whole = gumbel(3, 4, token_ids)
    assert torch.equal(gumbel(3, 4, token_ids[500:]), whole[500:])
    assert torch.equal(gumbel(3, 4, token_ids.flip(0)), whole.flip(0))
    assert torch.equal(token_ids, torch.arange(1000, dtype=torch.int32)), "the argument is left alone"
    assert gumbel(3, 4, torch.tensor([7], dtype=torch.int32)).item() == pytest.approx(0.92611754, abs=1e-6)


@pytest.mark.parametrize("sampling", [{}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 0.0}])
def test_a_draw_does_not_depend_on_the_batch(sampling: dict[str, Any]) -> None:
    logits = logits_of(2, rows=9)
    draws = [draw(5 * row, seed=row, **sampling) for row in range(9)]
    together = choose(logits, draws)
    alone = [choose(logits[row : row + 1], [draws[row]])[0] for row in range(9)]
    assert together == alone
    assert choose(logits.flip(0), draws[::-1]) == together[::-1]


@given(
    logits=st.lists(st.integers(-800, 800), min_size=1, max_size=60, unique=True),
    top_k=st.integers(0, 70),
    top_p=st.sampled_from([0.0, 0.05, 0.31, 0.5, 0.777, 0.93, 0.999, 1.0]),
)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_filters_keep_what_the_papers_keep(logits: list[int], top_k: int, top_p: float) -> None:
    values = [logit / 97 for logit in logits]
    scaled = torch.tensor(values)
    kept = set((scaled >= filter_threshold(scaled, top_k, top_p)).nonzero()[:, 0].tolist())
    assert kept == naive_kept(values, top_k, top_p)


def test_a_large_nucleus_is_found() -> None:
    scaled = torch.linspace(0, 0.5, 4096)
    kept = set((scaled >= filter_threshold(scaled, 0, 0.75)).nonzero()[:, 0].tolist())
    assert abs(len(kept) - len(naive_kept(scaled.tolist(), 0, 0.75))) <= 2
    assert len(kept) > 2048


def test_tokens_that_tie_at_the_border_are_all_kept() -> None:
    scaled = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert filter_threshold(scaled, 2, 1.0) == 2.0
    assert filter_threshold(scaled, 0, 0.7) == 2.0


@pytest.mark.parametrize("sampling", [{"top_k": 4}, {"top_p": 0.4}, {"top_k": 6, "top_p": 0.5}])
def test_filtered_draws_follow_the_renormalised_softmax(sampling: dict[str, Any]) -> None:
    logits = logits_of(3)
    kept = sorted(naive_kept(logits[0].tolist(), sampling.get("top_k", 0), sampling.get("top_p", 1.0)))
    many = [draw(n, seed=2, **sampling) for n in range(2000)]
    chosen = [choice.token_id for choice in choose(logits.expand(len(many), -1), many)]
    assert set(chosen) == set(kept)
    counts = torch.bincount(torch.tensor(chosen), minlength=VOCAB)[kept].double()
    assert chi_square(counts, logits[0, kept].double().softmax(0)) < CRITICAL_CHI_SQUARE


def test_no_temperature_is_too_low() -> None:
    logits = logits_of(4)
    best = int(logits.argmax())
    for temperature in (5e-324, 1e-30, 1e-5, 1e-4):
        assert choose(logits, [draw(temperature=temperature, seed=1)])[0].token_id == best


def test_logprobs_come_from_the_unfiltered_softmax() -> None:
    logits = logits_of(5)
    expected = logits[0].log_softmax(0)
    choice = choose(logits, [draw(temperature=0.3, top_k=2, top_logprobs=20)])[0]
    assert choice.logprob == pytest.approx(expected[choice.token_id].item())
    assert [token_id for token_id, _ in choice.top_logprobs] == expected.topk(20).indices.tolist()
    few = choose(logits[:, :3], [draw(top_logprobs=20)])[0]
    assert len(few.top_logprobs) == 3
