"""The benchmark's picture."""

import statistics
from pathlib import Path

from kindling.bench.load.results import Results
from kindling.bench.load.rows import MEMCPY, ROWS, Kind

_COLORS = {Kind.OURS: "#d9480f", Kind.PEER: "#868e96", Kind.FLOOR: "#1c7ed6", Kind.REMOTE_FLOOR: "#74c0fc"}


def draw(results: Results, path: Path) -> None:
    """Save a picture: one bar a row, as long as its rate, with the range of the rounds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import patches
    from matplotlib import pyplot as plt

    rows = [row for row in ROWS if row.key in results.seconds and not row.in_milliseconds and row.key != MEMCPY]
    rows.sort(key=lambda row: results.rate(row.key) or 0.0)
    figure, axes = plt.subplots(figsize=(10, 0.32 * len(rows) + 1.6), layout="constrained")
    for place, row in enumerate(rows):
        rates = _rates(results, row.key)
        middle = statistics.median(rates)
        axes.barh(place, middle, color=_COLORS[row.kind], alpha=1.0 if row.state == "cold" else 0.55)
        axes.plot([rates[0], rates[-1]], [place, place], color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{row.label} ({row.state})" for row in rows])
    axes.set_xlabel("GB/s, median; black: lowest to highest round")
    axes.set_title("Loading a checkpoint into CPU memory, every page touched")
    handles = [patches.Rectangle((0, 0), 1, 1, color=color) for color in _COLORS.values()]
    axes.legend(handles, list(_COLORS), loc="lower right")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _rates(results: Results, key: str) -> list[float]:
    return sorted(results.bytes_by_row[key] / seconds / 1e9 for seconds in results.seconds[key])
