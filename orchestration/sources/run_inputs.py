"""What a run is given besides events: its moment, its ledger rows, its journeys.

Each is replaced by every run, so that models read tables and never the clock, the
ledger or a file.
"""

from datetime import datetime

import polars as pl

from orchestration.settings import Settings
from orchestration.warehouse import Connection, replace_table

CURRENT_RUN: dict[str, pl.DataType] = {
    "as_of": pl.Datetime("us"),
    "is_newest": pl.Boolean(),
    "lookback_days": pl.Int32(),
    "base_currency": pl.String(),
    "horizon_days": pl.Int32(),
    "training_cutoff_at": pl.Datetime("us"),
}


def begin_run(connection: Connection, as_of: datetime, settings: Settings) -> bool:
    """Record the run at `as_of`; returns whether none newer was ever recorded."""
    connection.execute("create table if not exists raw.runs (as_of timestamp)")
    newer = connection.execute(
        "select count(*) from raw.runs where as_of > ?", [as_of]
    ).fetchall()
    is_newest = bool(newer[0][0] == 0)
    connection.execute(
        "insert into raw.runs select * from (values (cast(? as timestamp))) as run "
        "(as_of) anti join raw.runs using (as_of)",
        [as_of],
    )
    run = {
        "as_of": as_of,
        "is_newest": is_newest,
        "lookback_days": settings.lookback_days,
        "base_currency": settings.base_currency,
        "horizon_days": settings.horizon_days,
        "training_cutoff_at": settings.training_cutoff(as_of),
    }
    replace_table(
        connection, "raw.current_run", pl.DataFrame([run], schema=CURRENT_RUN)
    )
    return is_newest


def bring_sends(connection: Connection, sends: pl.DataFrame) -> None:
    """Replace `raw.sends` by the ledger's rows of earlier runs."""
    replace_table(connection, "raw.sends", sends)


def bring_journeys(
    connection: Connection, journeys: pl.DataFrame, steps: pl.DataFrame
) -> None:
    """Replace the blueprint's tables by what the journey files say now."""
    replace_table(connection, "raw.journeys", journeys)
    replace_table(connection, "raw.journey_steps", steps)
