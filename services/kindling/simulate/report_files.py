"""A report in a directory: what was simulated, tables, pictures."""

from collections.abc import Sequence
from pathlib import Path

from kindling.simulate.charts import draw_charts
from kindling.simulate.results import Cell
from kindling.simulate.text_table import TextTable


def write_report(
    directory: Path, cells: Sequence[Cell], tables: Sequence[TextTable], notes: Sequence[str], price: float
) -> None:
    """Write ``report.md`` and its pictures, into a directory that is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = draw_charts(cells, price, directory)
    parts = [
        "# Startup latency, simulated\n",
        *(f"- {note}" for note in notes),
        "",
        *(table.markdown() for table in tables),
        *(f"## {title}\n\n![{title}]({name})\n" for name, title in pictures.items()),
    ]
    (directory / "report.md").write_text("\n".join(parts))
