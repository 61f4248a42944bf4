"""A table that can be printed, and written as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class TextTable:
    """The first column names what a row is about, the others are figures. Headings may have several lines."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", box=None, header_style="bold dim", padding=(0, 2, 0, 0))
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        titles = [column.replace("\n", " ") for column in self.columns]
        lines = [f"| {' | '.join(row)} |" for row in (titles, ruler, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, ""])
