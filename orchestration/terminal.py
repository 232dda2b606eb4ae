"""How frames look on a terminal."""

import polars as pl
from rich.console import Console
from rich.table import Table


def print_frame(console: Console, title: str, frame: pl.DataFrame) -> None:
    """Print a frame as a table under its title; numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, kind in frame.schema.items():
        table.add_column(column, justify="right" if kind.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*("–" if cell is None else str(cell) for cell in row))
    console.print(table)
