"""The benchmark's picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kindling.bench.load.results import Results
from kindling.bench.load.rows import MEMCPY, ROWS, Kind, Row, State

_COLORS = {
    Kind.OURS: "#d9480f",
    Kind.PEER: "#868e96",
    Kind.STREAMED: "#ced4da",
    Kind.FLOOR: "#1c7ed6",
    Kind.REMOTE_FLOOR: "#74c0fc",
}
_INCHES_PER_ROW = 0.3


def draw(results: Results, path: Path) -> None:
    """Save a picture: cold loads by their rate, warm ones by their time; a line from the best to the worst round."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cold, warm = (_rows(results, state) for state in (State.COLD, State.WARM))
    heights = [max(1, len(rows)) for rows in (cold, warm)]
    size = (10, _INCHES_PER_ROW * sum(heights) + 2.5)
    figure, (above, below) = plt.subplots(2, 1, figsize=size, layout="constrained", height_ratios=heights)
    cold.sort(key=lambda row: results.rate(row.key) or 0.0)
    _bars(above, cold, [_rates(results, row) for row in cold])
    above.set_xlabel("GB/s")
    above.set_title("A cold checkpoint into CPU memory, every page touched: more is better")
    warm.sort(key=lambda row: results.median_seconds(row.key) or 0.0, reverse=True)
    _bars(below, warm, [[1e3 * seconds for seconds in results.seconds[row.key]] for row in warm])
    below.set_xscale("log")
    below.set_xlabel("milliseconds")
    below.set_title("A warm one: less is better")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _rows(results: Results, state: State) -> list[Row]:
    return [row for row in ROWS if row.state is state and row.key in results.seconds and row.key != MEMCPY]


def _bars(axes: Any, rows: Sequence[Row], values: Sequence[Sequence[float]]) -> None:
    from matplotlib import patches

    for place, (row, samples) in enumerate(zip(rows, values, strict=True)):
        middle = statistics.median(samples)
        axes.barh(place, middle, color=_COLORS[row.kind])
        axes.plot([min(samples), max(samples)], [place, place], color="black", linewidth=1)
        axes.text(max(samples), place, f" {middle:.3g}", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.margins(y=0.01)
    kinds = list(dict.fromkeys(row.kind for row in rows))
    axes.legend([patches.Patch(color=_COLORS[kind]) for kind in kinds], [str(kind) for kind in kinds])


def _rates(results: Results, row: Row) -> list[float]:
    return [results.bytes_by_row[row.key] / seconds / 1e9 for seconds in results.seconds[row.key]]
