"""How events travel: most arrive at once, some late, twice, or out of order."""

import numpy as np
import polars as pl

from orchestration.sources.sample.dice import Dice, names
from orchestration.sources.sample.scene import EVENT_SCHEMA, HOUR, MINUTE, SECOND

QUEUE_SCHEMA = pl.Schema(
    {
        "message_id": pl.String(),
        **{name: kind for name, kind in EVENT_SCHEMA.items() if name != "key"},
        "sent_at": pl.Int64(),
        "received_at": pl.Int64(),
        #: by how much the device's clock is off; such an event has no `timestamp`
        "skew": pl.Int64(),
    }
)
SHORTLY_LATE, DAYS_LATE, TWICE, SKEWED = 0.02, 0.004, 0.008, 0.004


def send_off(dice: Dice, events: pl.DataFrame) -> pl.DataFrame:
    """Give every event its message id, its journey, and now and then a double."""
    key = events["key"].to_numpy()
    at = events["at"].to_numpy()
    held_back = np.where(
        dice.chance("shortly late", key, SHORTLY_LATE),
        dice.between("late by", key, MINUTE, 5 * HOUR),
        0,
    )
    held_back = np.where(
        dice.chance("days late", key, DAYS_LATE),
        dice.between("days late by", key, 10 * HOUR, 110 * HOUR),
        held_back,
    )
    sent_at = at + held_back.astype(np.int64)
    transit = dice.between("on the wire", key, 80, 2500).astype(np.int64)
    is_skewed = dice.chance("skewed", key, SKEWED)
    skew = np.where(is_skewed, dice.whole("skew", key, -50, 51) * 3 * MINUTE, 0)
    frame = events.drop("key").with_columns(
        message_id=pl.Series(names(key, "m-")),
        sent_at=pl.Series(sent_at),
        received_at=pl.Series(sent_at + transit),
        skew=pl.Series(skew),
    )
    again = dice.chance("twice", key, TWICE)
    wait = dice.between("again after", key[again], SECOND, 30 * HOUR).astype(np.int64)
    doubles = frame.filter(pl.Series(again)).with_columns(
        received_at=pl.col("received_at") + pl.Series(wait)
    )
    return pl.concat([frame, doubles]).select(
        pl.col(name).cast(kind) for name, kind in QUEUE_SCHEMA.items()
    )


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Events in the order of their arrival."""
    return events.sort("received_at", "message_id")
