"""What a journey would have done: past runs made again, in a home that sends nothing.

The home of rehearsals begins as the real one stood before the first of these runs: what
had landed, was decided and had gone out. Each run then lands what had been received by
its moment, decides by the journey that is tried, and takes for sent what it lists. What
became of a real send becomes of the same send here. The real home is only read.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from filelock import FileLock

from activations.blueprint import JOURNEYS
from activations.ledger import Ledger, opened_copy
from activations.parts import nearest
from activations.reading import AuthoredError, authored_files
from orchestration.past import copy_past
from orchestration.recovery import home_at_rest
from orchestration.settings import Settings
from orchestration.sources.authored import read_authored
from orchestration.sources.landing import take_turn
from orchestration.sources.receipts import RECEIPTS
from orchestration.warehouse import (
    Connection,
    Warehouse,
    fetch_frame,
    quoted,
    require_table,
)

INSTANT = timedelta(microseconds=1)
WINDOW = timedelta(days=7)

# What the runs before left there is known; of the real sends since, nothing.
BEGIN = f"""
    delete from raw.runs where as_of >= $since;
    delete from raw.sends where as_of >= $since;
    delete from raw.landing_paths;
    delete from raw.files
    where file_id not in (select file_id from raw.events);
    delete from raw.files
    where starts_with(path, '{RECEIPTS}/')
    and file_id not in (
        select file_id from raw.events where received_at < $since
    )
"""
RECEIVED = """
    insert into raw.events by name
    select events.* replace (cast($turn as bigint) as landing_seq)
    from current.raw.events as events
    where
        events.received_at <= $as_of
        and events.message_id not in (select message_id from raw.events)
        and events.file_id not in (
            select file_id from current.raw.files where starts_with(path, $receipts)
        )
        and coalesce(events.properties ->> '$.send_id', '') not in (
            select unnest($unmade)
        )
"""

ENTRIES = """
    select assignment, count(*) as people
    from decisions.entries
    where journey = $journey and entered_at between $since and $until
    group by assignment
    order by assignment
"""
SENDS = """
    select
        cast(as_of as date) as day,
        channel,
        count(*) as messages
    from decisions.send_list
    where journey = $journey and as_of between $since and $until
    group by all
    order by day, channel
"""
UNSENT = """
    with latest as (
        select * from decisions.decisions
        where journey = $journey and as_of between $since and $until
        qualify row_number() over (
            partition by enrollment_id, step, channel
            order by as_of desc, decision_id asc
        ) = 1
    )
    select step, channel, verdict, reason, count(*) as messages
    from latest
    where verdict <> 'send'
    group by all
    order by step, channel, messages desc, reason
"""
# of all journeys: what one sends more, another may hold back
PRESSURE = """
    with contacts as (
        select profile_id, count(*) as messages
        from decisions.send_list
        where as_of between $since and $until
        group by profile_id
    )
    select
        count(*) as people,
        coalesce(round(avg(messages), 2), 0) as mean_messages,
        coalesce(max(messages), 0) as most_messages,
        count(case when messages > 3 then 1 end) as over_3_messages
    from contacts
"""
DECISIONS = """
    select enrollment_id, step, channel, as_of, verdict, reason
    from decisions.decisions
    where as_of between $since and $until
"""


class BacktestError(Exception):
    """A journey cannot be tried on these runs: in one line, with the mend."""


@dataclass(frozen=True)
class Record:
    """What runs decided for one journey in a window."""

    name: str
    entries: pl.DataFrame
    sends: pl.DataFrame
    unsent: pl.DataFrame
    pressure: pl.DataFrame
    decisions: pl.DataFrame

    @classmethod
    def read(
        cls,
        name: str,
        connection: Connection,
        journey: str,
        between: tuple[datetime, datetime],
    ) -> "Record":
        """The record that a warehouse holds."""
        window = dict(zip(("since", "until"), between, strict=True))
        of_journey = {**window, "journey": journey}
        return cls(
            name=name,
            entries=fetch_frame(connection, ENTRIES, of_journey),
            sends=fetch_frame(connection, SENDS, of_journey),
            unsent=fetch_frame(connection, UNSENT, of_journey),
            pressure=fetch_frame(connection, PRESSURE, window),
            decisions=fetch_frame(connection, DECISIONS, window),
        )


@dataclass(frozen=True)
class Backtest:
    """A journey tried on past runs, beside what it is compared with."""

    journey: str
    moments: Sequence[datetime]
    tried: Record
    compared: Record
    costs: pl.DataFrame

    @property
    def different_decisions(self) -> int:
        """How many decisions, of all journeys, are in one of the records alone."""
        one, other = self.tried.decisions, self.compared.decisions
        keys = one.columns
        alone = (
            mine.join(others, on=keys, how="anti", nulls_equal=True).height
            for mine, others in ((one, other), (other, one))
        )
        return sum(alone)

    def as_dict(self) -> dict[str, object]:
        """All of it, for programs."""
        return {
            "journey": self.journey,
            "runs": list(self.moments),
            "different_decisions": self.different_decisions,
            **{
                part: {
                    "name": record.name,
                    "costs": self.costs_of(record),
                    "entries": record.entries.to_dicts(),
                    "sends": record.sends.to_dicts(),
                    "unsent": record.unsent.to_dicts(),
                    "pressure": record.pressure.row(0, named=True),
                }
                for part, record in (
                    ("tried", self.tried),
                    ("compared", self.compared),
                )
            },
        }

    def lines(self) -> Iterator[str]:
        """The comparison as Markdown, for a pull request."""
        first, last = self.moments[0], self.moments[-1]
        yield f"## {self.journey}: {self.tried.name}, against {self.compared.name}"
        yield ""
        yield (
            f"{len(self.moments)} runs, {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M} UTC. "
            + (
                f"{self.different_decisions} decisions differ."
                if self.different_decisions
                else "Every decision is the same."
            )
        )
        for title, field, keys in (
            ("People who begin", "entries", ["assignment"]),
            ("Messages", "sends", ["day", "channel"]),
            ("Not sent", "unsent", ["step", "channel", "verdict", "reason"]),
        ):
            yield from self._table(title, field, keys)
        costs = [self.costs_of(record) for record in (self.tried, self.compared)]
        for currency in sorted(costs[0].keys() | costs[1].keys()):
            yield ""
            yield (
                f"Cost: {costs[0].get(currency, 0):.2f} against "
                f"{costs[1].get(currency, 0):.2f} {currency}."
            )
        yield ""
        yield "**Pressure**, all journeys"
        yield ""
        yield f"| | {self.tried.name} | {self.compared.name} |"
        yield "|---|--:|--:|"
        for column in self.tried.pressure.columns:
            one, other = self.tried.pressure, self.compared.pressure
            said = column.replace("_", " ")
            yield f"| {said} | {one[column][0]} | {other[column][0]} |"

    def _table(self, title: str, field: str, keys: list[str]) -> Iterator[str]:
        counts = {"assignment": "people"}.get(keys[0], "messages")
        one, other = (
            getattr(record, field).select(*keys, counts)
            for record in (self.tried, self.compared)
        )
        if one.is_empty() and other.is_empty():
            return
        both = one.join(
            other, on=keys, how="full", coalesce=True, suffix="_other"
        ).sort(keys)
        yield ""
        yield f"**{title}**"
        yield ""
        heads = [*keys, self.tried.name, self.compared.name, "difference"]
        yield f"| {' | '.join(heads)} |"
        yield f"|{'---|' * len(keys)}--:|--:|--:|"
        for *values, tried, compared in both.iter_rows():
            cells = [*values, tried or 0, compared or 0]
            more = (tried or 0) - (compared or 0)
            yield f"| {' | '.join(map(str, cells))} | {f'{more:+}' if more else ''} |"

    def costs_of(self, record: Record) -> dict[str, float]:
        """What the messages of a record cost, by currency, where costs are stated."""
        priced = record.sends.join(self.costs, on="channel")
        return dict(
            priced.group_by("currency")
            .agg(pl.col("messages").dot(pl.col("cost_amount")))
            .iter_rows()
        )


def backtest(
    settings: Settings,
    journey: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    against: str | None = None,
    every: timedelta | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Backtest:
    """Try a journey, by its name or a file of it, on the runs of a window.

    It is compared with what was really decided; with its file as of the git revision
    `against`, tried on the same runs; and where `every` leaves runs out, with the
    journey as it is in use.

    Raises:
        BacktestError: if there is no such journey or run, or a file has mistakes.
    """
    with Warehouse.of(settings).connect(read_only=True) as connection:
        require_table(connection, "raw", "runs")
        moments = choose_moments(connection, since, until, every)
    file = find_file(settings, journey)
    name = JOURNEYS.read_file(file).journey
    live = find_live(settings, name)
    with rehearsal_home(settings) as home:
        compared = None
        runs = Rehearsals(settings, home, name, moments, report)
        if against:
            earlier = at_revision(live or file, against)
            compared = runs.make(against, file.name, earlier)
        elif every and live:
            compared = runs.make("in use", live.name, live.read_bytes())
        tried = runs.make("tried", file.name, file.read_bytes())
    if compared is None:
        with Warehouse.of(settings).connect(read_only=True) as connection:
            window = moments[0], moments[-1]
            compared = Record.read("decided", connection, name, window)
    costs = pl.read_csv(
        settings.seed("channel_costs"),
        schema={"channel": pl.String, "cost_amount": pl.Float64, "currency": pl.String},
    )
    return Backtest(name, moments, tried, compared, costs)


def choose_moments(
    connection: Connection,
    since: datetime | None,
    until: datetime | None,
    every: timedelta | None,
) -> list[datetime]:
    """The moments of the runs of a window, by default of the last seven days.

    Raises:
        BacktestError: if there was no run.
    """
    runs = fetch_frame(connection, "select as_of from raw.runs order by as_of")["as_of"]
    if runs.is_empty():
        raise BacktestError("nothing ran here yet; `rekindle run` first")
    last = until or runs[-1]
    first = since or last - WINDOW
    moments: list[datetime] = runs.filter((runs >= first) & (runs <= last)).to_list()
    if not moments:
        raise BacktestError(
            f"no run between {first} and {last}; runs are from {runs[0]} to {runs[-1]}"
        )
    if every is None:
        return moments
    # the last run of each period
    by_period = {(moment - moments[0]) // every: moment for moment in moments}
    return sorted(by_period.values())


def find_file(settings: Settings, journey: str) -> Path:
    """The file of a journey that is named, or the file that was given.

    Raises:
        BacktestError: if there is none.
    """
    path = Path(journey)
    if path.suffix in {".yml", ".yaml"}:
        if not path.is_file():
            raise BacktestError(f"{path} is not there")
        return path
    found = find_live(settings, journey)
    if found is None:
        names = sorted(path.stem for path in authored_files(settings.journeys))
        raise BacktestError(f"there is no journey {journey}; {nearest(journey, names)}")
    return found


def find_live(settings: Settings, journey: str) -> Path | None:
    """The file of a journey in use."""
    for path in authored_files(settings.journeys):
        try:
            if JOURNEYS.read_file(path).journey == journey:
                return path
        except AuthoredError:
            continue
    return None


def at_revision(file: Path, revision: str) -> bytes:
    """What git has of a file at a revision.

    Raises:
        BacktestError: if git has none.
    """
    shown = subprocess.run(
        ["git", "show", f"{revision}:./{file.name}"],
        cwd=file.resolve().parent,
        capture_output=True,
        check=False,
    )
    if shown.returncode:
        said = " ".join(shown.stderr.decode(errors="replace").split())
        raise BacktestError(f"no {file.name} at {revision}: {said}")
    return shown.stdout


@contextmanager
def rehearsal_home(settings: Settings) -> Iterator[Settings]:
    """The home of rehearsals, gone afterwards; one at a time."""
    home = Settings(home=settings.rehearsal / "home")
    settings.rehearsal.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.rehearsal / "lock"):
        shutil.rmtree(home.root, ignore_errors=True)
        try:
            yield home
        finally:
            shutil.rmtree(home.root, ignore_errors=True)


@dataclass(frozen=True)
class Rehearsals:
    """The runs that are made again with a journey, in a home of their own."""

    settings: Settings
    home: Settings
    journey: str
    moments: Sequence[datetime]
    report: Callable[[str], None]

    def make(self, name: str, file_name: str, text: bytes) -> Record:
        """Make the runs with the journey as a text of its file has it.

        Raises:
            BacktestError: if the file has mistakes, or a run fails.
        """
        shutil.rmtree(self.home.root, ignore_errors=True)
        self._set_up(file_name, text)
        since, until = self.moments[0], self.moments[-1]
        for number, as_of in enumerate(self.moments, start=1):
            place = f"run {number} of {len(self.moments)}"
            self.report(f"{name}: {place}, {as_of:%Y-%m-%d %H:%M} UTC")
            receive(self.settings, self.home, since, as_of)
            run(self.home, as_of)
            settle(self.settings, self.home, as_of)
        with Warehouse.of(self.home).connect(read_only=True) as connection:
            return Record.read(name, connection, self.journey, (since, until))

    def _set_up(self, file_name: str, text: bytes) -> None:
        """Set up the home as the real one stood before the first of the runs."""
        settings, home, since = self.settings, self.home, self.moments[0]
        home.root.mkdir(parents=True)
        home.rehearsal_marker.touch()
        if settings.demo_marker.exists():
            home.demo_marker.touch()
        for folder in ("config", "erasures"):
            if (settings.root / folder).is_dir():
                shutil.copytree(settings.root / folder, home.root / folder)
        own = home.config / "journeys"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        live = find_live(settings, self.journey)
        for path in authored_files(settings.journeys):
            if path != live:
                shutil.copyfile(path, own / path.name)
        (own / file_name).write_bytes(text)
        problems = [
            problem
            for problem in read_authored(home, since).journey_problems
            if problem.name == self.journey
        ]
        if problems:
            raise BacktestError("; ".join(map(str, problems)))
        with home_at_rest(settings):
            warehouse = copy_past(settings, home.root, since - INSTANT)
            with opened_copy(settings.ledger) as real, Ledger(home.ledger) as ledger:
                ledger.adopt(real.path, before=since)
        with warehouse.connect() as connection:
            for statement in BEGIN.split(";"):
                parameters = {"since": since} if "$since" in statement else None
                connection.execute(statement, parameters)


def receive(
    settings: Settings, home: Settings, since: datetime, as_of: datetime
) -> None:
    """Bring what was received by a moment, but answers to what was not sent here."""
    with Ledger(home.ledger) as ledger, opened_copy(settings.ledger) as real:
        sent = real.copy().filter(pl.col("as_of") >= since)["send_id"]
        unmade = set(sent).difference(ledger.known())
    with home_at_rest(settings), Warehouse.of(home).connect() as connection:
        connection.execute(
            f"attach '{quoted(settings.warehouse)}' as current (read_only)"
        )
        connection.execute(
            RECEIVED,
            {
                "turn": take_turn(connection),
                "as_of": as_of,
                "receipts": f"{RECEIPTS}/",
                "unmade": sorted(unmade),
            },
        )


def run(home: Settings, as_of: datetime) -> None:
    """Make one run.

    Raises:
        BacktestError: if it fails.
    """
    command = ["run", "--as-of", as_of.isoformat(), "--allow-future"]
    finished = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *command],
        env={**os.environ, "REKINDLE_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise BacktestError(finished.stderr.strip().splitlines()[-1])


def settle(settings: Settings, home: Settings, as_of: datetime) -> None:
    """Let what became of the real sends become of the same ones here."""
    with opened_copy(settings.ledger) as real, Ledger(home.ledger) as ledger:
        ledger.adopt(real.path, before=as_of + INSTANT, is_known_only=True)
    # it would bear witness to what was settled otherwise
    with Warehouse.of(home).connect() as connection:
        connection.execute("drop table if exists activations.sends")
