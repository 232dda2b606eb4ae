"""What a run is given besides events and journeys: its moment, ledger rows, seeds.

Each is replaced by every run, so that models read tables and never the clock, the
ledger or a file.
"""

import hashlib
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import polars as pl

from activations.channels import CHANNELS
from activations.channels.file import FileOptions
from activations.channels.options import Options, Surroundings
from activations.channels.smtp import SmtpServer
from activations.destinations import read_destinations, require_secrets
from activations.ledger import Ledger
from activations.parts import nearest
from orchestration.fingerprint import fingerprint
from orchestration.settings import PROJECT, SEEDS, Settings, environment, wall_clock
from orchestration.sources.landing import take_turn
from orchestration.stopping import read_stopped
from orchestration.warehouse import (
    Connection,
    fetch_frame,
    has_table,
    replace_table,
)

RUNS = "create table if not exists raw.runs (as_of timestamp)"
# What turns messages into identifiers, links and profiles. Denied and allowed pairs are
# not among it: identity takes a change of these in without starting afresh.
EVIDENCE_SOURCES = (
    PROJECT / "models" / "identity",
    *(
        PROJECT / "models" / "staging" / f"stg_{name}"
        for name in (
            "events.sql",
            "identifiers.sql",
            "identify_calls.sql",
            "identity_rules.sql",
            "phone_numbers.py",
        )
    ),
    *sorted((PROJECT / "ml").glob("graph*.py")),
    PROJECT / "ml" / "matching.py",
    PROJECT / "ml" / "union_find.py",
    PROJECT / "dbt_project" / "macros",
)
EVIDENCE_SEEDS = ("identifier_types", "match_fields", "placeholders", "spellings")

LOADED_SEEDS = "create table if not exists raw.loaded_seeds (seeds_hash varchar)"
SEED_SOURCES = tuple(
    PROJECT / "dbt_project" / name for name in ("seeds", "macros", "dbt_project.yml")
)
"""All that decides what the seeds' tables hold, but for the brand's own."""

CURRENT_RUN: dict[str, pl.DataType] = {
    "as_of": pl.Datetime("us"),
    "is_newest": pl.Boolean(),
    "lookback_days": pl.Int32(),
    "base_currency": pl.String(),
    "horizons_days": pl.List(pl.Int32()),
    "training_cutoff_at": pl.Datetime("us"),
    "is_matching": pl.Boolean(),
    "match_threshold": pl.Float64(),
    "phone_region": pl.String(),
    "identity_config_hash": pl.String(),
    "staging_hash": pl.String(),
    "run_seq": pl.Int64(),
    "seeds_hash": pl.String(),
    "time_zone": pl.String(),
}
DESTINATIONS = pl.Schema({"channel": pl.String(), "destination": pl.String()})


class FutureError(Exception):
    """A run was asked for that looks from a moment to come."""


class SeedError(ValueError):
    """A seed of the brand cannot stand in place of the checkout's."""


def refuse_future(settings: Settings, as_of: datetime) -> None:
    """Let no slip of a date make every run until then one of the past.

    A demo home lives in a calendar of its own.

    Raises:
        FutureError: if `as_of` is later than the clock.
    """
    if as_of > wall_clock() and not settings.demo_marker.exists():
        raise FutureError(
            f"{as_of.isoformat()}Z is to come: every run until then would send "
            "nothing; if that is meant, say --allow-future"
        )


def begin_run(connection: Connection, as_of: datetime, settings: Settings) -> bool:
    """Record the run at `as_of`, its settings and where its messages go.

    Returns whether none newer was ever recorded.
    """
    connection.execute(RUNS)
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
        "horizons_days": list(settings.horizon_days),
        "training_cutoff_at": settings.training_cutoff(as_of),
        "is_matching": settings.matching,
        "match_threshold": settings.match_threshold,
        "phone_region": settings.phone_region,
        "identity_config_hash": identity_config_hash(connection, settings),
        "staging_hash": staging_hash(connection, settings),
        "run_seq": take_turn(connection),
        "seeds_hash": seeds_hash(settings),
        "time_zone": settings.time_zone,
    }
    replace_table(
        connection, "raw.current_run", pl.DataFrame([run], schema=CURRENT_RUN)
    )
    replace_table(connection, "raw.stopped_channels", read_stopped(settings))
    routes = [
        (channel, options.destination)
        for channel, options in destinations_in_use(settings).items()
    ]
    replace_table(
        connection,
        "raw.destinations",
        pl.DataFrame(routes, schema=DESTINATIONS, orient="row"),
    )
    return is_newest


def destinations_in_use(settings: Settings) -> dict[str, Options]:
    """The destination of each channel that has one; without `live` all write files.

    Raises:
        DestinationsError: if the file that says so cannot be used, or a secret that it
            names is not there.
    """
    if not settings.live:
        return dict.fromkeys(CHANNELS, FileOptions())
    stated = {
        channel: options
        for channel, options in read_destinations().items()
        if settings.smtp_host or options.destination != "smtp"
    }
    require_secrets(stated, surroundings(settings))
    return stated


def surroundings(settings: Settings) -> Surroundings:
    """What destinations are opened with besides their options."""
    password = settings.smtp_password
    return Surroundings(
        outbox=settings.outbox,
        email_from=settings.email_from,
        smtp=SmtpServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            user=settings.smtp_user,
            password=password.get_secret_value() if password else None,
            starttls=settings.smtp_starttls,
        )
        if settings.smtp_host
        else None,
        environment=environment(),
        clock=wall_clock,
    )


def listed_sends(connection: Connection) -> list[str]:
    """Every send on the send list, which a new warehouse does not have yet."""
    if not has_table(connection, "decisions", "send_list"):
        return []
    return fetch_frame(connection, "select send_id from decisions.send_list")[
        "send_id"
    ].to_list()


def bring_back_runs(
    connection: Connection, ledger: Ledger, listed: Collection[str]
) -> str | None:
    """Record the runs that the ledger knows and the warehouse does not.

    `listed` are the sends that the warehouse knows. Returns what is lost with the runs,
    in words; nothing where the warehouse is as new as the ledger.
    """
    lost_count = len(ledger.known().difference(listed))
    if not lost_count:
        return None
    connection.execute(RUNS)
    connection.executemany(
        "insert into raw.runs select * from (values (cast(? as timestamp))) as run "
        "(as_of) anti join raw.runs using (as_of)",
        [[moment] for moment in ledger.moments()],
    )
    return (
        f"The warehouse is older than the ledger: {lost_count} sends come back into "
        "decisions.send_list, none is sent again. Lost with the runs that made them: "
        "their rows of decisions.entries, decisions.enrollment_exits, "
        "decisions.journey_versions, decisions.decisions, decisions.rule_verdicts, "
        "decisions.send_choices, "
        "profiles.rfm_changes and identity.identity_merges."
    )


def seeds_hash(settings: Settings) -> str:
    """A name that changes whenever a seed's table would hold something else."""
    sources = (*SEED_SOURCES, settings.seeds)
    return fingerprint(sources, frozenset({".csv", ".yml", ".sql"}))


def staging_hash(connection: Connection, settings: Settings) -> str:
    """A name that changes whenever what was read from messages may not hold.

    That is when a message was superseded by an earlier received copy that says
    something else, and when a macro or a seed changed. The models know of their own.
    """
    parts = (
        seeds_hash(settings),
        str(superseded_count(connection)),
        settings.phone_region,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def superseded_count(connection: Connection) -> int:
    """How often a message was superseded by a copy that says something else."""
    counted = connection.execute("select count(*) from raw.superseded_messages")
    return int(counted.fetchall()[0][0])


def identity_config_hash(connection: Connection, settings: Settings) -> str:
    """A name that changes whenever evidence that identity took in may not hold.

    That is when a message was superseded by an earlier received copy that says
    something else, and when the way from messages to profiles, a blocked value or the
    matching of records changed.
    """
    rules = pl.read_csv(settings.seed("identity_rules"), infer_schema=False)
    sources = (*EVIDENCE_SOURCES, *map(settings.seed, EVIDENCE_SEEDS))
    blocked = rules.filter(rule="block").sort(pl.all()).write_csv()
    parts = (
        fingerprint(sources, frozenset({".sql", ".py", ".csv"})),
        blocked,
        str(superseded_count(connection)),
        f"{settings.matching} {settings.match_threshold} {settings.phone_region}",
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def invalidate_identity_state(connection: Connection) -> bool:
    """Whether identity must start afresh: its state is of a later moment or no more.

    The state is gone then until all of it is built anew, so that a run that breaks off
    in between is followed by one that starts afresh too.
    """
    tables = connection.execute(
        "select count(*) from information_schema.tables "
        "where table_schema = 'identity' and table_name = 'identity_state'"
    ).fetchall()
    holds = (
        tables[0][0]
        and connection.execute(
            """
        select count(*)
        from identity.identity_state as state
        inner join raw.current_run as run
            on state.identity_config_hash = run.identity_config_hash
        where state.as_of <= run.as_of
        """
        ).fetchall()
    )
    is_stale = not holds or not holds[0][0]
    if is_stale:
        connection.execute("drop table if exists identity.identity_state")
    return is_stale


def invalidate_seeds(connection: Connection, *, is_subset: bool) -> bool:
    """Whether the seeds must be loaded: they are not those of the run in progress.

    What is known of them is forgotten then until all are, and in a run of a subset of
    the tables, which may load some.
    """
    connection.execute(LOADED_SEEDS)
    same = connection.execute(
        "select count(*) from raw.loaded_seeds semi join raw.current_run "
        "using (seeds_hash)"
    ).fetchall()
    are_stale = is_subset or not same[0][0]
    if are_stale:
        connection.execute("delete from raw.loaded_seeds")
    return are_stale


def note_loaded_seeds(connection: Connection) -> None:
    """Remember which seeds the run in progress has loaded, once all are."""
    connection.execute(
        "insert into raw.loaded_seeds select seeds_hash from raw.current_run"
    )


def snapshot_sends(connection: Connection, sends: pl.DataFrame) -> None:
    """Replace `raw.sends` by the ledger's rows of earlier runs."""
    replace_table(connection, "raw.sends", sends)


def bring_seeds(connection: Connection, settings: Settings) -> None:
    """Replace the `raw.own_…` tables by the seeds that the brand keeps in the home.

    When dbt has loaded a seed, it puts the rows of such a table in place of its own.

    Raises:
        SeedError: if a file is no seed or cannot be read as the one that it replaces.
    """
    own = {path.stem: path for path in sorted(settings.seeds.glob("[!.]*"))}
    former = fetch_frame(
        connection,
        "select table_name from information_schema.tables "
        "where table_schema = 'raw' and starts_with(table_name, 'own_')",
    )
    for table in former["table_name"]:
        if table.removeprefix("own_") not in own:
            connection.execute(f"drop table raw.{table}")
    for name, path in own.items():
        replace_table(connection, f"raw.own_{name}", read_seed(path))


def read_seed(path: Path) -> pl.DataFrame:
    """The rows of a brand's seed as text, with the columns of the one it replaces.

    Raises:
        SeedError: naming the file, what is wrong and the mend.
    """
    standard = SEEDS / path.name
    if not standard.is_file() or path.suffix != ".csv":
        known = sorted(seed.name for seed in SEEDS.glob("*.csv"))
        raise SeedError(f"{path} is no seed: {nearest(path.name, known)}")
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise SeedError(f"{path} cannot be read as CSV: {reason}") from None
    columns = pl.read_csv(standard, infer_schema=False, n_rows=0).columns
    if sorted(rows.columns) != sorted(columns):
        raise SeedError(
            f"{path}, line 1: its columns are {', '.join(rows.columns)}; "
            f"{path.name} has {', '.join(columns)}"
        )
    return rows
