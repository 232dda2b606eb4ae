"""Land: what arrived since the last run, and what this run is given."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from activations.blueprint import JOURNEY_SCHEMA, STEP_SCHEMA
from activations.conditions import CONDITION_SCHEMA
from activations.reading import Problem
from orchestration.columns import documented
from orchestration.erasures import read_erasures
from orchestration.moment import record_built
from orchestration.reconcile import assert_ledger_holds
from orchestration.resources import Home
from orchestration.retention import purge
from orchestration.settings import wall_clock
from orchestration.sources.authored import bring_authored, read_authored
from orchestration.sources.landing import land as land_files
from orchestration.sources.landing import unreadable_files
from orchestration.sources.receipts import land_bounces, land_receipts
from orchestration.sources.run_inputs import (
    DESTINATIONS,
    begin_run,
    bring_back_runs,
    bring_seeds,
    listed_sends,
    snapshot_sends,
)
from orchestration.stopping import STOPPED_CHANNELS
from orchestration.warehouse import fetch_frame

OWNERS = ["data@example.com"]

FILES = {
    "file_id": ("varchar", "Key: SHA-256 of its content; of its path if unread."),
    "path": (
        "varchar",
        "Where it was first found; bytes that are not UTF-8 are escaped.",
    ),
    "sha256": ("varchar", "The same hash, under its own name."),
    "row_count": ("bigint", "Lines read, good and bad; blank lines are none."),
    "rejected_count": ("bigint", "How many of them are in rejected_events."),
    "landed_at": ("timestamp", "Wall clock of the run that landed it."),
}
EVENTS = {
    "message_id": ("varchar", "Key: the message's own id."),
    "type": ("varchar", "track, identify, page, screen, alias or group."),
    "event": ("varchar", "Name of the track call, or of the page or screen."),
    "anonymous_id": ("varchar", "The browser's or device's id of the person."),
    "user_id": ("varchar", "The shop's id of the person."),
    "occurred_at": ("timestamp", "When it happened, UTC."),
    "received_at": ("timestamp", "When it was received: what a run may know, UTC."),
    "context": ("json", "The call's context object."),
    "properties": ("json", "The call's properties, with previousId of an alias."),
    "traits": ("json", "The call's traits."),
    "file_id": ("varchar", "The file it came from."),
    "landing_seq": ("bigint", "The landing that brought this copy, by its turn."),
}
REJECTED_EVENTS = {
    "file_id": ("varchar", "The file that holds the line."),
    "line_number": (
        "bigint",
        "Physical line, or element, from 1; null: the whole file; 0: of one erased.",
    ),
    "reason": ("varchar", "What is wrong with it."),
    "raw": ("varchar", "The line, of one too long its begin; escaped if not UTF-8."),
}
CURRENT_RUN = {
    "as_of": ("timestamp", "The moment the run looks from, UTC."),
    "is_newest": ("boolean", "Whether no later run was ever recorded."),
    "lookback_days": ("integer", "Attribution look-back over every channel's own."),
    "base_currency": ("varchar", "Currency of money sums; null: that of most orders."),
    "horizons_days": (
        "integer[]",
        "Days that propensity looks ahead, the leading first.",
    ),
    "training_cutoff_at": ("timestamp", "as_of floored to the retraining grid."),
    "is_matching": ("boolean", "Whether links on name and address are proposed."),
    "match_threshold": ("double", "Probability from which one is accepted."),
    "phone_region": ("varchar", "Region of phone numbers that name no country."),
    "identity_config_hash": ("varchar", "Changes when identity must start afresh."),
    "staging_hash": ("varchar", "Changes when messages must be read anew."),
    "run_seq": ("bigint", "The run's turn: greater than that of any before it."),
    "seeds_hash": ("varchar", "Changes when the seeds must be loaded anew."),
    "time_zone": ("varchar", "The shop's time zone."),
}
SUPERSEDED_MESSAGES = {
    "message_id": ("varchar", "The message."),
    "landed_at": ("timestamp", "Wall clock of the run that landed the earlier copy."),
}
RUNS = {"as_of": ("timestamp", "Key: the moment the run looked from, UTC.")}
BUILT_TABLES = {
    "table_name": ("varchar", "Key: the table, with its schema."),
    "as_of": ("timestamp", "The moment it was last built for, UTC."),
}
SENDS = {
    "send_id": ("varchar", "Key: one step of one enrollment on one channel."),
    "enrollment_id": ("varchar", "The enrollment it belongs to."),
    "journey": ("varchar", "Its journey."),
    "step": ("varchar", "Its step."),
    "channel": ("varchar", "Its channel."),
    "profile_id": ("varchar", "The profile when it was decided."),
    "identifier_type": ("varchar", "Kind of identifier its receipt carries."),
    "identifier": ("varchar", "Identifier its receipt carries."),
    "content_id": ("varchar", "What it says."),
    "message_class": ("varchar", "`marketing` or `transactional`."),
    "address": ("varchar", "Where it went: what is reported of it is about this."),
    "state": ("varchar", "What had become of it before this run."),
    "reason": ("varchar", "Why it was not sent."),
    "as_of": ("timestamp", "The run that decided it."),
    "waits_since": ("timestamp", "That run, or the last before it was tried again."),
    "is_in_doubt": ("boolean", "Whether it may have gone out although it waits."),
    "sent_at": ("timestamp", "The run that sent it."),
}
AUDIENCES = {
    "audience": ("varchar", "Key: its name."),
    "owner": ("varchar", "Who answers for it; null where it is set aside."),
    "description": ("varchar", "What it is for; null where it is set aside."),
    "mistake": ("varchar", "Where its mistakes stand and how to mend them; else null."),
}
JOURNEY_PROBLEMS = {
    "journey": ("varchar", "The journey that is set aside."),
    "file": ("varchar", "The file, as named in the folder of journeys or of content."),
    "line": ("bigint", "The line; null: the file as a whole."),
    "field": ("varchar", "The field."),
    "reason": ("varchar", "What is wrong with it, and how to mend it."),
    "code": ("varchar", "Which kind of mistake it is."),
    "witness": ("varchar", "A made-up customer who meets with it."),
}


def from_frame(schema: pl.Schema) -> dg.TableSchema:
    """The columns of a table that is written from a frame."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name, str(kind)) for name, kind in schema.items()]
    )


def table(name: str, description: str, columns: dg.TableSchema) -> dg.AssetSpec:
    """A table of the raw layer."""
    return dg.AssetSpec(
        ["raw", name],
        description=description,
        owners=OWNERS,
        group_name="raw",
        kinds={"duckdb"},
        metadata={"dagster/column_schema": columns},
    )


TABLES = (
    table("files", "One row per landed file, by its content.", documented(FILES)),
    table(
        "events",
        "One row per message: of several arrivals the first received.",
        documented(EVENTS),
    ),
    table(
        "superseded_messages",
        "One row per time that an earlier received copy, of other content or time, "
        "took a message's place.",
        documented(SUPERSEDED_MESSAGES),
    ),
    table(
        "rejected_events",
        "One row per line that is no event, with the reason.",
        documented(REJECTED_EVENTS),
    ),
    table(
        "current_run",
        "One row: the moment this run looks from and its settings.",
        documented(CURRENT_RUN),
    ),
    table("runs", "One row per moment that a run ever looked from.", documented(RUNS)),
    table(
        "built_tables",
        "One row per table that a run has built: the moment it was last built for.",
        documented(BUILT_TABLES),
    ),
    table(
        "sends",
        "One row per send of an earlier run, as the ledger held it when this began, or "
        "that a warehouse put back from an earlier time does not list.",
        documented(SENDS),
    ),
    table(
        "destinations",
        "One row per channel whose messages go somewhere in this run.",
        from_frame(DESTINATIONS),
    ),
    table(
        "stopped_channels",
        "One row per channel that somebody stopped.",
        from_frame(STOPPED_CHANNELS),
    ),
    table(
        "journeys",
        "One row per journey that can be used.",
        from_frame(JOURNEY_SCHEMA),
    ),
    table(
        "journey_steps",
        "One row per journey, step and channel.",
        from_frame(STEP_SCHEMA),
    ),
    table(
        "audiences",
        "One row per audience: its owner and what it is for, or the mistake that sets "
        "it aside until it is mended.",
        documented(AUDIENCES),
    ),
    table(
        "conditions",
        "One row per condition of a journey or an audience, way in which it holds, and "
        "test of that.",
        from_frame(CONDITION_SCHEMA),
    ),
    table(
        "journey_problems",
        "One row per mistake in a journey or its content, which sets the journey aside "
        "until it is mended: where it stands and how to mend it.",
        documented(JOURNEY_PROBLEMS),
    ),
)


@dg.multi_asset(name="land", specs=TABLES)
def land(
    context: dg.AssetExecutionContext, home: Home
) -> Iterator[dg.MaterializeResult[None]]:
    """Land new files and lay out what else the run at `as_of` is given."""
    started_at, as_of = wall_clock(), home.moment
    with (
        home.warehouse.connect() as connection,
        home.ledger() as ledger,
    ):
        if home.is_aside:
            sends = ledger.rows_before(as_of)
        else:
            assert_ledger_holds(home.settings, ledger, connection)
            land_receipts(ledger.receipts_before(as_of), home.settings.landing)
            land_bounces(ledger.bounces_before(as_of), home.settings.landing)
            listed = listed_sends(connection)
            lost = bring_back_runs(connection, ledger, listed)
            if lost:
                context.log.warning(lost)
            sends = ledger.rows_before(as_of, listed)
        erasures = read_erasures(home.settings.erasures)
        landed = land_files(connection, home.settings.landing, started_at, erasures)
        bring_seeds(connection, home.settings)
        begin_run(connection, as_of, home.settings)
        snapshot_sends(connection, sends)
        if not home.is_aside:
            purged = purge(home.settings, connection, as_of)
            context.log.info(f"{purged}")
        authored = read_authored(home.settings, as_of)
        bring_authored(connection, authored)
        for kind, problems in (
            ("audience", authored.audience_problems),
            ("journey", authored.journey_problems),
        ):
            for problem in problems:
                context.log.warning(f"{kind} {problem.name} is set aside: {problem}")
        context.log.info(f"{landed}")
        record_built(connection, context.selected_asset_keys, as_of)
        for spec in TABLES:
            address = ".".join(spec.key.path)
            count = fetch_frame(connection, f"select count(*) from {address}").item()
            yield dg.MaterializeResult(
                asset_key=spec.key, metadata={"dagster/row_count": count}
            )


@dg.asset_check(asset=dg.AssetKey(["raw", "journey_problems"]))
def every_journey_is_usable(home: Home) -> dg.AssetCheckResult:
    """Warns of each journey that is set aside, with its mistakes."""
    with home.warehouse.connect(read_only=True) as connection:
        problems = fetch_frame(connection, "from raw.journey_problems")
    rows = problems.rename({"journey": "name"}).to_dicts()
    listing = "\n".join(f"- {Problem(**row)}" for row in rows)
    count = problems["journey"].n_unique()
    return dg.AssetCheckResult(
        passed=problems.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"journeys set aside until they are mended: {count}",
        metadata={
            "journey_count": count,
            "problems": dg.MetadataValue.md(listing),
        },
    )


@dg.asset_check(asset=dg.AssetKey(["raw", "audiences"]))
def every_audience_is_usable(home: Home) -> dg.AssetCheckResult:
    """Warns of each audience that is set aside, with its mistakes."""
    with home.warehouse.connect(read_only=True) as connection:
        mistakes = fetch_frame(
            connection, "select mistake from raw.audiences where mistake is not null"
        )["mistake"]
    return dg.AssetCheckResult(
        passed=mistakes.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"audiences set aside until they are mended: {len(mistakes)}",
        metadata={
            "audience_count": len(mistakes),
            "problems": dg.MetadataValue.md(
                "\n".join(f"- {line}" for line in mistakes)
            ),
        },
    )


@dg.asset_check(asset=dg.AssetKey(["raw", "rejected_events"]))
def every_file_is_readable(home: Home) -> dg.AssetCheckResult:
    """Warns of all that lies in the landing folder and could not be read."""
    with home.warehouse.connect(read_only=True) as connection:
        files = unreadable_files(connection)
    # A name may hold line feeds.
    listing = "\n".join(f"- `{path!r}`: {reason}" for path, reason in files.rows())
    return dg.AssetCheckResult(
        passed=files.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"file_count": files.height, "files": dg.MetadataValue.md(listing)},
    )
