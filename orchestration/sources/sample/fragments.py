"""JSON text built column by column, which is what makes the sample world fast.

Text values come from the world itself and hold nothing that JSON must escape.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Raw:
    """A column that is JSON text already: an object, a list."""

    text: pl.Series


@dataclass(frozen=True)
class Members:
    """A column of members of an object, without braces: `"a": 1, "b": 2`."""

    text: pl.Series


def gather(column: pl.Series, rows: Any) -> pl.Series:
    """The values of a column at the given positions."""
    return column.gather(pl.Series(np.asarray(rows, dtype=np.uint32)))


def money(cents: Any) -> pl.Series:
    """Whole cents as an amount."""
    return pl.Series(np.asarray(cents, dtype=np.float64) / 100.0)


def members(count: int, **fields: Any) -> pl.Series:
    """`"name": value, …` for each of `count` rows; null values are left out."""
    columns: dict[str, pl.Series] = {}
    pieces: list[pl.Expr] = []
    for name, value in fields.items():
        if value is None:
            continue
        lead = "," if pieces else ""
        label = "" if isinstance(value, Members) else f"{json.dumps(name)}:"
        if not isinstance(value, pl.Series | np.ndarray | Raw | Members):
            pieces.append(pl.lit(f"{lead}{label}{json.dumps(value)}"))
            continue
        raw = isinstance(value, Raw | Members)
        column = value.text if raw else pl.Series(value)
        quote = '"' if column.dtype == pl.String and not raw else ""
        columns[name] = column
        field = [pl.lit(f"{lead}{label}{quote}"), pl.col(name), pl.lit(quote)]
        if column.null_count():
            field = [pl.concat_str(field).fill_null("")]
        pieces += field
    if not columns:
        columns["row"] = pl.Series([""] * count, dtype=pl.String)
        pieces.append(pl.col("row"))
    return pl.DataFrame(columns).select(pl.concat_str(pieces)).to_series()


def json_object(count: int, **fields: Any) -> pl.Series:
    """`{"name": value, …}` for each of `count` rows; null values are left out.

    The first field must have no null.
    """
    return join("{", members(count, **fields), "}")


def join(*parts: pl.Series | str) -> pl.Series:
    """Text columns and constants, put together row by row."""
    columns = {
        str(i): part for i, part in enumerate(parts) if not isinstance(part, str)
    }
    pieces = [
        pl.lit(part) if isinstance(part, str) else pl.col(str(i))
        for i, part in enumerate(parts)
    ]
    return pl.DataFrame(columns).select(pl.concat_str(pieces)).to_series()
