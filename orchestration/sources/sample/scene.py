"""One day of the world: what everything that happens on it draws from and adds to."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from orchestration.sources.sample.catalogue import CURRENCIES, Catalogue
from orchestration.sources.sample.dice import Dice, Ints, Keys, Text
from orchestration.sources.sample.fragments import column, constant, gather, text
from orchestration.sources.sample.people import People

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

EVENT_SCHEMA = pl.Schema(
    {
        "key": pl.UInt64(),
        "at": pl.Int64(),
        "type": pl.String(),
        "event": pl.String(),
        "user_id": pl.String(),
        "anonymous_id": pl.String(),
        "context": pl.String(),
        "properties": pl.String(),
        "traits": pl.String(),
        "previous_id": pl.String(),
    }
)


class EventLog:
    """Collects a day's events kind by kind; times are milliseconds since 1970, UTC."""

    def __init__(self) -> None:
        self._columns: dict[str, list[pa.Array]] = {name: [] for name in EVENT_SCHEMA}

    def add(
        self, key: Keys, at: Ints, kind: str, event: str | Text | None, **texts: Text
    ) -> None:
        """Take down one event per key; a column left out is null."""
        count = len(key)
        if count == 0:
            return
        given = {
            "key": column(key),
            "at": column(at),
            "type": constant(count, kind),
            "event": event if isinstance(event, pa.Array) else constant(count, event),
            **texts,
        }
        for name, parts in self._columns.items():
            texts = given.pop(name, None)
            parts.append(constant(count, None) if texts is None else texts)
        if given:
            raise ValueError(f"events have no columns {sorted(given)}")

    def frame(self) -> pl.DataFrame:
        """Everything taken down."""
        if not self._columns["key"]:
            return pl.DataFrame(schema=EVENT_SCHEMA)
        columns = {
            name: pa.chunked_array(parts) for name, parts in self._columns.items()
        }
        frame = pl.DataFrame(pl.from_arrow(pa.table(columns), rechunk=True))
        return frame.cast(EVENT_SCHEMA)


@dataclass(frozen=True)
class Scene:
    """A day of the world, from `opens_at` to `closes_at`."""

    dice: Dice
    people: People
    catalogue: Catalogue
    day: int
    opens_at: int
    #: hours by which each person's clock is ahead of UTC today
    clock: Ints
    log: EventLog = field(default_factory=EventLog)

    @property
    def closes_at(self) -> int:
        """The end of the day."""
        return self.opens_at + DAY

    def within(self, purpose: str, keys: Keys, first: float, last: float) -> Ints:
        """A moment between two hours of the day for each key."""
        hours = self.dice.between(purpose, keys, first, last)
        return self.opens_at + in_milliseconds(hours, HOUR)

    def currency(self, persons: Ints) -> Text:
        """What each person pays in."""
        return gather(text(CURRENCIES), self.people.city[persons])

    def unread(self) -> "Scene":
        """The same day with a log that nobody reads: for what might have been."""
        return Scene(
            self.dice, self.people, self.catalogue, self.day, self.opens_at, self.clock
        )


def in_milliseconds(amount: Any, unit: int) -> Ints:
    """So many units of time, in whole milliseconds."""
    return (np.asarray(amount) * unit).astype(np.int64)
