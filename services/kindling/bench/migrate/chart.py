"""The benchmark's picture."""

import itertools
import statistics
from pathlib import Path
from typing import Any

from kindling.bench.migrate.goals import p99
from kindling.bench.migrate.results import Results
from kindling.bench.migrate.stream import Answer

_COLORS = ("#1c7ed6", "#d9480f", "#2b8a3e", "#862e9c")
_GOAL = 3


def draw(results: Results, path: Path) -> None:
    """Save a picture: the tokens of a stream that moved, and how long streams under load paused."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 8), layout="constrained")
    if results.timeline is not None and results.timeline.migrations:
        _timeline(above, results.timeline)
    if results.load_pauses:
        _pauses(below, results)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _timeline(axes: Any, answer: Answer) -> None:
    """One dot per token, coloured by the worker that it comes from."""
    start = answer.times[0]
    seconds = [moment - start for moment in answer.times]
    bounds = [0, *(move.position for move in answer.migrations), len(seconds)]
    for number, (begins, ends) in enumerate(itertools.pairwise(bounds)):
        color = _COLORS[number % len(_COLORS)]
        label = "source" if number == 0 else "target"
        axes.plot(seconds[begins:ends], range(begins, ends), ".", color=color, markersize=4, label=label)
    for move in answer.migrations:
        axes.axvspan(seconds[move.position - 1], seconds[move.position], color="#ffd43b", alpha=0.6, linewidth=0)
        text = f" pause {1e3 * answer.pause(move):.0f} ms"
        axes.annotate(text, (seconds[move.position], move.position), va="top", fontsize=8)
    axes.set_xlabel("seconds since the first token")
    axes.set_ylabel("position of the token")
    axes.set_title(f"A stream with a prompt of {len(answer.prompt)} tokens, as its client sees it")
    axes.legend()


def _pauses(axes: Any, results: Results) -> None:
    median = 1e3 * statistics.median(results.load_gaps)
    axes.hist([1e3 * pause for pause in results.load_pauses], bins=40, color=_COLORS[0])
    lines = {"median gap": median, f"goal: {_GOAL} × that": _GOAL * median, "P99": 1e3 * p99(results.load_pauses)}
    for (name, place), color in zip(lines.items(), ("#868e96", "#2b8a3e", "#d9480f"), strict=True):
        axes.axvline(place, color=color, linestyle="--", label=f"{name}: {place:.0f} ms")
    axes.set_xlabel("pause at the handover, milliseconds")
    axes.set_ylabel("migrations")
    axes.set_title(f"{len(results.load_pauses)} migrations under load")
    axes.legend()
