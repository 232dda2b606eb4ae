"""What pages are made of: findings, charts, tables, and how numbers read.

Nothing here knows HTML; `orchestration.report.writing` makes it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from orchestration.labels import Labels
from orchestration.warehouse import Connection, fetch_frame, has_table

Row = dict[str, Any]
Number = int | float | Decimal

RUN = "select as_of, base_currency from staging.stg_run"


@dataclass(frozen=True)
class Source:
    """The warehouse that a report reads, and the words for what it holds."""

    connection: Connection
    labels: Labels

    def rows(self, query: str, **parameters: object) -> list[Row]:
        """The rows of a query."""
        return fetch_frame(self.connection, query, parameters or None).to_dicts()

    def has(self, address: str) -> bool:
        """Whether the warehouse holds a table of that address."""
        schema, _, table = address.partition(".")
        return has_table(self.connection, schema, table)

    @cached_property
    def _run(self) -> Row:
        return self.rows(RUN)[0]

    @property
    def as_of(self) -> datetime:
        """The moment that the run looked from."""
        moment: datetime = self._run["as_of"]
        return moment

    def money(self, amount: Number | None) -> str:
        """An amount in whole units of the currency that sums are in."""
        if amount is None:
            return "unknown"
        return f"{amount:,.0f}\N{NO-BREAK SPACE}{self.currency}".strip()

    @property
    def currency(self) -> str:
        """The currency of all sums, as its code; empty before the first order."""
        return str(self._run["base_currency"] or "")


@dataclass(frozen=True)
class Cell:
    """A value as people read it; `share` of the longest bar, where it has one."""

    text: str
    share: float | None = None
    second_share: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows under headings; `numeric` headings stand to the right, as their cells do."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart; `title` says in words what it shows."""

    title: str
    values: Sequence[Row]
    layers: Sequence[Mapping[str, Any]]
    height: int | Mapping[str, int]


@dataclass(frozen=True)
class Section:
    """A part of a page; where there is nothing to show, what to land for it."""

    heading: str
    note: str = ""
    chart: Chart | None = None
    table: Table | None = None
    if_empty: str = ""


@dataclass(frozen=True)
class Figure:
    """A number that stands for itself, with what it counts."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """One page: `finding` is its title, a sentence that says what to do."""

    slug: str
    name: str
    finding: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    sections: Sequence[Section] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the template of a page that has one of its own shows besides."""


def count(number: Number | None) -> str:
    """A number of things."""
    return f"{number or 0:,.0f}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number of things with their name in the right number."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def clause(advice: str, otherwise: str) -> str:
    """Advice as the end of a sentence, or other advice where none is given."""
    advice = advice or otherwise
    return advice[:1].lower() + advice[1:]


def percent(share: Number | None, places: int = 0) -> str:
    """A share as percent; what is not known as a dash."""
    return "–" if share is None else f"{share * 100:.{places}f} %"


def signed(number: Number | None, places: int = 1) -> str:
    """A difference with its sign; what is not known as a dash."""
    return "–" if number is None else f"{number:+.{places}f}".replace("-", "−")


def day(moment: datetime) -> str:
    """The day of a moment."""
    return f"{moment:%-d %B %Y}"


def minute(moment: datetime) -> str:
    """A moment to the minute, UTC."""
    return f"{moment:%-d %b %Y %H:%M}"


def likely(hits: int, trials: int) -> tuple[float, float]:
    """Between which shares the true one lies, 95 times of 100 (Wilson, 1927)."""
    if not trials:
        return 0.0, 1.0
    share, z = hits / trials, 1.959964
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + (z / trials) ** 2 / 4)
    whole = 1 + z * z / trials
    return (middle - spread) / whole, (middle + spread) / whole


def with_bars(numbers: Sequence[Number | None], texts: Sequence[str]) -> list[Cell]:
    """Cells whose bars compare them."""
    longest = max((float(number or 0) for number in numbers), default=0) or 1
    return [
        Cell(text, max(float(number or 0), 0) / longest)
        for number, text in zip(numbers, texts, strict=True)
    ]
