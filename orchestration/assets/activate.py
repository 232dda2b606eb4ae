"""What goes out: one asset per channel, then a copy of the ledger as a table.

Reads the send list, lets `activations` record, render and send it, and writes what
became of it. Only the newest run activates.
"""

from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from activations.channels import CHANNELS, Destination
from activations.channels.file import FileOptions
from activations.channels.rehearsal import RehearsalDestination
from activations.delivery import activate, assert_balanced
from activations.ledger import Ledger
from activations.reconcile import MAY_HAVE_BEEN_SENT
from activations.render import Renderer
from orchestration.charts import bar_chart, markdown_table
from orchestration.columns import documented
from orchestration.labels import Labels
from orchestration.links import links_of
from orchestration.resources import Home
from orchestration.settings import Settings, wall_clock
from orchestration.sources.guard import Guard
from orchestration.sources.run_inputs import destinations_in_use, surroundings
from orchestration.stopping import heeding_stops
from orchestration.warehouse import Connection, fetch_frame, replace_table

OWNERS = ["lifecycle@example.com"]

RUN = "select as_of, is_newest, base_currency from staging.stg_run"

# Each counts what must not be there before anything may be sent.
BALANCES = """
    with

    run as (select as_of from staging.stg_run),

    candidates as (
        select candidates.*
        from decisions.candidates
        inner join run on candidates.as_of = run.as_of
    ),

    -- a send whose decision was lost with the warehouse is in the ledger already
    sends as (
        select send_list.*
        from decisions.send_list
        inner join run on send_list.as_of = run.as_of
        where send_list.decision_id is not null
    ),

    verdicts as (
        select
            candidates.candidate_id,
            count(decisions.decision_id) as verdict_count
        from candidates
        left join decisions.decisions
            on
                candidates.decision_id = decisions.decision_id
                and candidates.enrollment_id = decisions.enrollment_id
                and candidates.step = decisions.step
                and candidates.channel = decisions.channel
        group by candidates.candidate_id
    )

    select
        'candidates without exactly one verdict' as rule,
        count(*) as broken_count
    from verdicts
    where verdict_count <> 1

    union all

    select
        'candidates listed twice' as rule,
        count(*) - count(distinct candidate_id) as broken_count
    from candidates

    union all

    select
        'sends without the verdict to send' as rule,
        count(*) as broken_count
    from sends
    left join decisions.decisions
        on
            sends.decision_id = decisions.decision_id
            and sends.enrollment_id = decisions.enrollment_id
            and sends.step = decisions.step
            and sends.channel = decisions.channel
    where decisions.verdict is distinct from 'send'

    union all

    select
        'sends of no candidate' as rule,
        count(*) as broken_count
    from sends
    left join candidates on sends.decision_id = candidates.decision_id
    where candidates.candidate_id is null

    union all

    select
        'sends listed twice' as rule,
        count(*) - count(distinct send_id) as broken_count
    from decisions.send_list
"""

# What the ledger has not settled. An earlier decision is carried out only if it was
# made again (the ledger never heard of it), or if the rules that judge candidates let
# it pass once more (the ledger could not deliver it). It then goes to the address that
# the person has by now, with what is true by now.
SEND_LIST = """
    with

    run as (select as_of from staging.stg_run),

    standing as (
        select distinct verdicts.send_id
        from decisions.verdicts
        inner join decisions.candidates
            on verdicts.candidate_id = candidates.candidate_id
        inner join decisions.decisions
            on candidates.decision_id = decisions.decision_id
        where verdicts.verdict = 'send' and decisions.verdict = 'send'
    ),

    judged as (
        select
            verdicts.send_id,
            coalesce(
                waiting.verdict,
                case
                    when verdicts.verdict = 'send' and standing.send_id is null
                        then 'held'
                    else verdicts.verdict
                end
            ) as verdict,
            coalesce(waiting.reason, verdicts.reason) as reason,
            verdicts.message_class
        from decisions.verdicts
        left join standing on verdicts.send_id = standing.send_id
        left join decisions.deliverable_sends as waiting
            on verdicts.send_id = waiting.send_id
    )

    select
        send_list.send_id,
        send_list.enrollment_id,
        send_list.journey,
        send_list.step,
        send_list.channel,
        send_list.profile_id,
        send_list.identifier_type,
        send_list.identifier,
        coalesce(payloads.address, send_list.address) as address,
        send_list.content_id,
        coalesce(judged.message_class, send_list.message_class) as message_class,
        cast(coalesce(payloads.payload, send_list.payload) as varchar) as payload,
        send_list.as_of,
        standing.send_id is not null as is_due,
        coalesce(judged.verdict, 'suppressed') <> 'suppressed' as is_wanted,
        judged.verdict,
        judged.reason
    from decisions.send_list
    cross join run
    left join standing on send_list.send_id = standing.send_id
    left join judged on send_list.send_id = judged.send_id
    left join decisions.send_payloads as payloads
        on send_list.send_id = payloads.send_id
    left join raw.sends as recorded on send_list.send_id = recorded.send_id
    where
        send_list.channel = $channel
        and send_list.as_of <= run.as_of
        and (recorded.send_id is null or recorded.state = 'pending')
    order by send_list.as_of, send_list.send_id
"""

# Of whom the ledger, put back without what went out since, may know too little.
DOUBTFUL = """
    select enrollment_id
    from decisions.entries
    where evidence_at is null or evidence_at <= $doubt
"""

GUARD_STOPS = """
    create table if not exists activations.guard_stops (
        send_id varchar,
        channel varchar,
        message_id varchar,
        event varchar,
        landed_at timestamp,
        stopped_at timestamp,
        as_of timestamp
    )
"""

COLUMNS = {
    "send_id": ("varchar", "Hash of enrollment, step and channel."),
    "enrollment_id": ("varchar", "The person's run through the journey."),
    "journey": ("varchar", "The journey."),
    "step": ("varchar", "Its step."),
    "channel": ("varchar", "The channel."),
    "profile_id": ("varchar", "The profile when it was decided."),
    "destination": ("varchar", "The tool that took it, such as `smtp` or `file`."),
    "content_id": ("varchar", "What it said: see `activations/content`."),
    "message_class": ("varchar", "`marketing` or `transactional`."),
    "state": (
        "varchar",
        "`pending`, `inflight`, `sent`, `suppressed`, `dead` (cannot be sent) or "
        "`unknown` (may have been taken; never sent again).",
    ),
    "reason": ("varchar", "Why it is not sent; null where it is."),
    "as_of": ("timestamp", "The run that decided it, UTC."),
    "enqueued_at": ("timestamp", "The run that recorded it, its `as_of`, UTC."),
    "settled_at": ("timestamp", "The run that ended it, its `as_of`, UTC."),
    "sent_at": ("timestamp", "The run that sent it, its `as_of`, UTC."),
    "attempts": ("bigint", "How often it was tried."),
    "delivery_latency": ("double", "Wall-clock seconds that its batch took."),
}


def destinations(
    channel: str, settings: Settings, outbox: Path | None = None
) -> tuple[Destination | None, tuple[Destination, ...]]:
    """Where a channel's messages go, and who may still hold some of earlier runs.

    Files go into the home's outbox, or another one.
    """
    options = destinations_in_use(settings).get(channel)
    if settings.rehearsal_marker.exists():
        return (RehearsalDestination(options.destination) if options else None), ()
    around = surroundings(settings)
    if outbox:
        around = replace(around, outbox=outbox)
    files = FileOptions().open(around)
    return options.open(around) if options else None, (files,)


def reasons_of(send_list: pl.DataFrame, verdict: str) -> dict[str, str]:
    """Why the waiting sends of a verdict have it, by `send_id`."""
    judged = send_list.filter(pl.col("verdict") == verdict)
    return dict(judged.select("send_id", "reason").iter_rows())


def table_metadata(table: str) -> dict[str, Any]:
    """Where the rows are, and what their columns mean."""
    return {
        "dagster/table_name": f"activations.{table}",
        "dagster/column_schema": documented(COLUMNS),
    }


KINDS = {
    "journey": "journey",
    "step": "step",
    "channel": "channel",
    "state": "state",
    "reason": "reason",
}
"""What columns of sends name, which is shown by its label."""


def tally(rows: pl.DataFrame, labels: Labels) -> dict[str, Any]:
    """Counts by state, as numbers to plot over runs and as a table to read."""
    by_step = (
        rows.group_by("journey", "step", "state", "reason")
        .agg(pl.len().alias("send_count"))
        .sort("journey", "step", "state", "reason", nulls_last=True)
    )
    by_state = dict(rows.group_by("state").len().sort("state").iter_rows())
    return {
        "dagster/row_count": rows.height,
        **{f"{state}_count": count for state, count in by_state.items()},
        "table": markdown_table(labels.relabel(by_step, KINDS)),
    }


def record_stops(connection: Connection, stops: pl.DataFrame) -> None:
    """Add what the guard kept back, and when it landed and was seen."""
    connection.execute(GUARD_STOPS)
    connection.register("stops", stops.to_arrow())
    connection.execute(
        "insert into activations.guard_stops by name select * from stops"
    )
    connection.unregister("stops")


def record_doubtful(
    home: Home, ledger: Ledger, send_list: pl.DataFrame, as_of: datetime
) -> None:
    """Record as unknown what may have gone out since the ledger that was put back."""
    doubt = ledger.doubt(as_of)
    if doubt is None or send_list.is_empty():
        return
    with home.warehouse.connect(read_only=True) as connection:
        doubtful = fetch_frame(connection, DOUBTFUL, {"doubt": doubt})
    ledger.enqueue(
        send_list.join(doubtful, on="enrollment_id", how="semi").to_dicts(),
        destination="unknown",
        as_of=as_of,
        unknown_for=MAY_HAVE_BEEN_SENT,
    )


def channel_asset(channel: str) -> dg.AssetsDefinition:
    """The asset that pushes one channel's part of the send list."""

    @dg.asset(
        key=["activations", channel],
        group_name="activations",
        description=(
            f"One row per send that this run recorded on `{channel}`, and what became "
            "of it. Pushes this channel's part of the send list to its destination, "
            "each send at most once."
        ),
        owners=OWNERS,
        kinds={"python", "sqlite", "duckdb"},
        deps=[
            dg.AssetKey(["raw", "sends"]),
            dg.AssetKey(["staging", "stg_run"]),
            dg.AssetKey(["decisions", "entries"]),
            dg.AssetKey(["decisions", "candidates"]),
            dg.AssetKey(["decisions", "verdicts"]),
            dg.AssetKey(["decisions", "decisions"]),
            dg.AssetKey(["decisions", "send_list"]),
            dg.AssetKey(["decisions", "send_payloads"]),
            dg.AssetKey(["decisions", "deliverable_sends"]),
        ],
        metadata=table_metadata(channel),
    )
    def push(
        context: dg.AssetExecutionContext, home: Home
    ) -> dg.MaterializeResult[None]:
        settings = home.settings
        with home.warehouse.connect(read_only=True) as connection:
            run = fetch_frame(connection, RUN).row(0, named=True)
            balances = fetch_frame(connection, BALANCES)
            send_list = fetch_frame(connection, SEND_LIST, {"channel": channel})
        guard = Guard(
            home.warehouse,
            settings.landing,
            send_list.select(
                *("send_id", "enrollment_id", "profile_id", "identifier", "address")
            ),
            since=None if home.as_of else run["as_of"],
        )
        with home.ledger() as ledger:
            if run["is_newest"] and not home.is_aside:
                assert_balanced(balances)
                record_doubtful(home, ledger, send_list, run["as_of"])
                destination, others = destinations(channel, settings)
                with closing(destination) if destination else nullcontext():
                    activate(
                        ledger,
                        send_list,
                        channel=channel,
                        destination=destination,
                        others=others,
                        held=reasons_of(send_list, "held"),
                        unwanted=reasons_of(send_list, "suppressed"),
                        renderer=Renderer(
                            shop_url=settings.shop_url,
                            links=links_of(settings),
                            currency=run["base_currency"],
                            content=settings.content,
                            needs_postal_address=settings.live,
                        ),
                        guard=heeding_stops(settings, channel, guard),
                        as_of=run["as_of"],
                        clock=wall_clock,
                    )
            else:
                context.log.info("A dry run, or one of the past: nothing is activated.")
            rows = ledger.run_rows(run["as_of"], channel)
        with home.warehouse.connect() as connection:
            labels = Labels.read(connection)
            replace_table(connection, f"activations.{channel}", rows)
            record_stops(
                connection,
                guard.stops().with_columns(
                    channel=pl.lit(channel), as_of=pl.lit(run["as_of"], pl.Datetime)
                ),
            )
        home.record(context)
        unsent = rows.filter(pl.col("state") != "sent")
        if not unsent.is_empty():
            context.log.warning(f"{unsent.height} of {rows.height} sends not sent")
        return dg.MaterializeResult(metadata=tally(rows, labels))

    return push


@dg.asset(
    key=["activations", "sends"],
    group_name="activations",
    description=(
        "One row per send that was ever recorded, in its last state: a copy of the "
        "ledger, which is the truth."
    ),
    owners=OWNERS,
    kinds={"python", "sqlite", "duckdb"},
    deps=[dg.AssetKey(["activations", channel]) for channel in CHANNELS],
    metadata=table_metadata("sends"),
)
def sends(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult[None]:
    """Copy the ledger into the warehouse."""
    with home.ledger() as ledger:
        rows = ledger.copy()
    if home.is_aside:
        rows = rows.filter(pl.col("as_of") <= home.moment)
    with home.warehouse.connect() as connection:
        labels = Labels.read(connection)
        replace_table(connection, "activations.sends", rows)
    home.record(context)
    by_channel = rows.group_by("channel", "state").len("send_count")
    return dg.MaterializeResult(
        metadata={
            **tally(rows, labels),
            "chart": bar_chart(
                labels.relabel(by_channel.sort("channel", "state"), KINDS),
                title="Sends by channel and state",
                label="channel",
                value="send_count",
                series="state",
            ),
        }
    )


channels = [channel_asset(channel) for channel in CHANNELS]
