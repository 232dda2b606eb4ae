"""The events of a day while they are being made up, in columns."""

from typing import Any

import numpy as np
import polars as pl

from orchestration.sources.sample.dice import Keys

SCHEMA = {
    "key": pl.UInt64,
    "at": pl.Int64,
    "type": pl.String,
    "event": pl.String,
    "user_id": pl.String,
    "anonymous_id": pl.String,
    "context": pl.String,
    "properties": pl.String,
    "traits": pl.String,
    "previous_id": pl.String,
}


class EventLog:
    """Collects events kind by kind; times are milliseconds since 1970, UTC."""

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = []

    def add(
        self,
        key: Keys,
        at: Any,
        kind: str,
        event: str | pl.Series | None = None,
        **columns: pl.Series | None,
    ) -> None:
        """Take down one event per key; a column left out is null."""
        if len(key) == 0:
            return
        frame = pl.DataFrame({"key": key, "at": np.asarray(at, dtype=np.int64)})
        given = {name: column for name, column in columns.items() if column is not None}
        if isinstance(event, pl.Series):
            given["event"] = event
        frame = frame.with_columns(
            *(column.alias(name) for name, column in given.items()),
            type=pl.lit(kind),
        )
        if isinstance(event, str):
            frame = frame.with_columns(event=pl.lit(event))
        missing = [name for name in SCHEMA if name not in frame.columns]
        self._frames.append(
            frame.with_columns(
                pl.lit(None, dtype=SCHEMA[name]).alias(name) for name in missing
            ).select(pl.col(name).cast(SCHEMA[name]) for name in SCHEMA)
        )

    def frame(self) -> pl.DataFrame:
        """Everything taken down."""
        return pl.concat(self._frames) if self._frames else pl.DataFrame(schema=SCHEMA)
