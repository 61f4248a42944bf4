"""The pictures of a report: one panel per workload."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kindling.simulate.policies import PolicyName
from kindling.simulate.results import Cell, by_workload

_OURS, _PLAIN = "#1c7ed6", "#74b9f5"
_BASELINES: Final = dict(
    zip(
        (name for name in PolicyName if name is not PolicyName.FULL),
        ("#868e96", "#2b8a3e", "#9c6644", "#c92a2a", "#f59f00", "#212529", "#ced4da"),
        strict=True,
    )
)
_TIERS: Final = {"GPU": "#2b8a3e", "DRAM": "#74b9f5", "SSD": "#f59f00", "REMOTE": "#c92a2a"}
_LEAST_SECONDS = 0.01
"""Where a logarithmic axis begins: what takes less is drawn there."""
_ROOM_FOR_TEXT_SECONDS = 0.05
"""What a bar reaches whose text stands within it."""
Draw = Callable[[Any, Sequence[Cell]], None]


def draw_charts(cells: Sequence[Cell], price_per_device_hour: float, directory: Path) -> Mapping[str, str]:
    """Save the pictures into a directory; returns their names and what they show."""

    def cost(axes: Any, of_one: Sequence[Cell]) -> None:
        _cost(axes, of_one, price_per_device_hour)

    charts: dict[str, tuple[str, Draw]] = {
        "startup.png": ("Startup latency by policy", _startup),
        "cdf.png": ("How many requests have waited no longer", _cdf),
        "starts.png": ("Starts by the slowest tier that they came from, and migrations", _starts),
        "cost.png": (
            f"Device hours, and dollars per 1,000 requests at ${price_per_device_hour:g} per device hour",
            cost,
        ),
    }
    for name, (title, draw) in charts.items():
        _save(by_workload(cells), title, draw, directory / name)
    return {name: title for name, (title, _) in charts.items()}


def _save(workloads: Sequence[Sequence[Cell]], title: str, draw: Draw, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(2, len(workloads))
    rows = -(-len(workloads) // columns)
    size = (8 * columns, 1.6 + 3.6 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes, of_one in zip(grid.flat, workloads, strict=False):
        draw(axes, of_one)
        axes.set_title(f"{of_one[0].model}, {of_one[0].workload}", fontsize=10)
    for axes in grid.flat[len(workloads) :]:
        axes.set_axis_off()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _color(one: Cell) -> str:
    if one.policy == PolicyName.FULL:
        return _OURS
    return next((color for name, color in _BASELINES.items() if name == one.policy), _PLAIN)


def _names(axes: Any, cells: Sequence[Cell]) -> list[int]:
    places = list(range(len(cells)))
    axes.set_yticks(places, [one.policy for one in cells], fontsize=8)
    axes.invert_yaxis()
    return places


def _startup(axes: Any, cells: Sequence[Cell]) -> None:
    """A bar up to the mean, a dot at the 99th percentile."""
    places = _names(axes, cells)
    means, p99s = ([max(_LEAST_SECONDS, value) for value in of] for of in zip(*map(_mean_and_p99, cells), strict=True))
    axes.barh(places, means, color=[_color(one) for one in cells])
    axes.plot(p99s, places, "k.", label="P99")
    for place, one in zip(places, cells, strict=True):
        color = "white" if one.mean_seconds > _ROOM_FOR_TEXT_SECONDS else "black"
        axes.annotate(f" {one.mean_seconds:.2f} s", (_LEAST_SECONDS, place), va="center", fontsize=8, color=color)
    axes.set_xscale("log")
    axes.set_xlim(left=_LEAST_SECONDS)
    axes.set_xlabel("seconds: bar to the mean, dot at P99")


def _mean_and_p99(one: Cell) -> tuple[float, float]:
    return one.mean_seconds, one.p99_seconds


def _cdf(axes: Any, cells: Sequence[Cell]) -> None:
    for one in cells:
        is_full = one.policy == PolicyName.FULL
        style = "--" if _color(one) == _PLAIN else "-"
        seconds = [max(_LEAST_SECONDS, value) for value in one.quantile_seconds]
        axes.plot(seconds, range(101), style, color=_color(one), linewidth=2.5 if is_full else 1.2, label=one.policy)
    axes.set_xscale("log")
    axes.set_ylim(0, 101)
    axes.set_xlabel("startup latency, seconds")
    axes.set_ylabel("% of the requests")


def _starts(axes: Any, cells: Sequence[Cell]) -> None:
    places, begins = _names(axes, cells), [0.0] * len(cells)
    for tier, color in _TIERS.items():
        counts = [one.starts_by_tier[tier] for one in cells]
        axes.barh(places, counts, left=begins, color=color, label=tier)
        begins = [begin + count for begin, count in zip(begins, counts, strict=True)]
    for place, end, one in zip(places, begins, cells, strict=True):
        if one.migrations:
            axes.annotate(f" {one.migrations:,.0f} moved", (end, place), va="center", fontsize=7)
    axes.set_xlabel("starts")


def _cost(axes: Any, cells: Sequence[Cell], price_per_device_hour: float) -> None:
    places = _names(axes, cells)
    hours = [one.device_seconds / 3600 for one in cells]
    axes.barh(places, hours, color=[_color(one) for one in cells])
    for place, end, one in zip(places, hours, cells, strict=True):
        text = f" ${one.cost_per_thousand(price_per_device_hour):,.2f}"
        axes.annotate(text, (end, place), va="center", fontsize=7)
    axes.margins(x=0.12)
    axes.set_xlabel("device hours")
