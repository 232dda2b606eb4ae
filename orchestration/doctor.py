"""`rekindle doctor`: three questions answered in numbers, and what needs a hand.

Reads the published copy and the home's files, and changes nothing.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestration.labels import Labels
from orchestration.settings import Settings, wall_clock
from orchestration.warehouse import (
    Connection,
    Warehouse,
    fetch_frame,
    has_table,
    require_table,
)

Row = dict[str, Any]

LAST_ORDERS = 5
PENDING_FOR = timedelta(hours=24)
"""Longer than this no message waits to be delivered, the rule `expired` says."""
SILENT_FOR = 3
"""So many times its longest usual gap, and a source is silent."""
SMALLEST_GAP = timedelta(days=1)
NO_RUN_FOR = timedelta(days=2)
ROOM_FOR_COPIES = 3
"""A run may need the size of the warehouse so many times over, free on the disk."""
BLOCKED_COUNT = 20
"""So many people due a journey's messages, none of whom was sent one."""

# A run decides on all channels from one set of tables: the first one that looks from
# after an order was received is when each of them knows of it.
KNOWN = """
    with

    known as (
        select
            conversions.converted_at,
            greatest(conversions.converted_at, events.received_at) as received_at,
            files.landed_at,
            epoch_ms(landing_paths.modified_ns // 1000000) as written_at
        from attribution.conversions as conversions
        inner join staging.stg_orders as orders
            on conversions.order_id = orders.order_id
        inner join raw.events as events on orders.message_id = events.message_id
        left join raw.files as files on events.file_id = files.file_id
        left join raw.landing_paths as landing_paths
            on files.path = landing_paths.path
        where events.received_at > (select min(as_of) from raw.runs)
    ),

    meet_runs as (
        select
            known.*,
            (
                select min(runs.as_of) from raw.runs as runs
                where runs.as_of >= known.received_at
            ) as known_at
        from known
    )

    select
        epoch(received_at) - epoch(converted_at) as received_after,
        epoch(known_at) - epoch(received_at) as taken_in_after,
        epoch(known_at) - epoch(converted_at) as known_after,
        greatest(epoch(landed_at) - epoch(written_at), 0) as landed_after
    from meet_runs
    where known_at is not null
"""
SPANS = {
    "received_after": "From the order until it is received",
    "taken_in_after": "From receipt until a run takes it in",
    "known_after": "From the order until every channel knows",
    "landed_after": "From a file's arrival until it is read",
}

FOLLOWED = """
    with sent as (
        select
            sends.enrollment_id,
            sends.journey,
            sends.step,
            sends.channel,
            sends.sent_at,
            steps.is_escalation,
            lag(sends.step) over in_order as previous_step,
            lag(sends.channel) over in_order as previous_channel,
            lag(sends.sent_at) over in_order as previous_sent_at,
            lag(coalesce(touchpoints.interaction, 'sent')) over in_order
                as previous_interaction
        from activations.sends as sends
        inner join (
            select distinct journey, step, is_escalation
            from staging.stg_journey_steps
        ) as steps using (journey, step)
        left join attribution.touchpoints as touchpoints
            on sends.send_id = touchpoints.send_id
        where sends.state = 'sent'
        window in_order as (
            partition by sends.enrollment_id order by sends.sent_at, sends.send_id
        )
    )

    select * from sent
    where is_escalation and previous_step is not null
    order by sent_at desc, enrollment_id asc
    limit 1
"""
BRANCHING = """
    select count(distinct journey) as journeys
    from (
        select journey from staging.stg_journey_steps where is_escalation
        union
        select journey from staging.stg_conditions
        where place <> 'entry' and kind in ('sent', 'opened', 'clicked')
    )
"""

DROVE = """
    with last_orders as (
        select conversion_id, profile_id, converted_at, revenue_amount
        from attribution.conversions
        order by converted_at desc, conversion_id asc
        limit $orders
    )

    select
        last_orders.conversion_id,
        last_orders.profile_id,
        last_orders.converted_at,
        last_orders.revenue_amount,
        credits.channel,
        coalesce(touchpoints.journey, credits.campaign) as campaign,
        touchpoints.journey,
        credits.credit,
        touchpoints.touched_at,
        touchpoints.interaction
    from last_orders
    left join attribution.credits as credits
        on
            last_orders.conversion_id = credits.conversion_id
            and credits.attribution_model = 'markov'
    left join attribution.touchpoints as touchpoints
        on credits.touchpoint_id = touchpoints.touchpoint_id
    order by
        last_orders.converted_at desc, last_orders.conversion_id asc,
        touchpoints.touched_at asc nulls first, credits.touchpoint_id asc
"""

# Of what customers do; messages come when we send them.
SILENT = """
    with

    days as (
        select
            events.event,
            cast(events.received_at as date) as on_day,
            max(events.received_at) as last_at
        from raw.events as events
        inner join staging.stg_event_names as names on events.event = names.event
        cross join staging.stg_run as run
        where
            names.kind in ('order', 'cart', 'checkout', 'product_view', 'activity')
            and events.received_at > run.as_of - interval 60 days
            and events.received_at <= run.as_of
        group by all
    ),

    gaps as (
        select
            event,
            last_at,
            last_at - lag(last_at) over (partition by event order by on_day) as gap
        from days
    )

    select
        gaps.event,
        max(gaps.last_at) as last_at,
        epoch(any_value(run.as_of)) - epoch(max(gaps.last_at)) as silent_seconds,
        max(epoch(gaps.gap)) as usual_seconds
    from gaps
    cross join staging.stg_run as run
    group by gaps.event
    having count(*) >= 10
    order by gaps.event
"""
SET_ASIDE = """
    select journey, count(*) as mistakes, min(file || ': ' || reason) as first_mistake
    from staging.stg_journey_problems
    group by journey
    order by journey
"""
BLOCKED = """
    select
        decisions.journey,
        count(distinct decisions.enrollment_id) as due,
        mode(decisions.reason) as reason
    from decisions.decisions as decisions
    anti join (select distinct journey from activations.sends) as sent
        using (journey)
    inner join staging.stg_journeys as journeys using (journey)
    group by decisions.journey
    order by decisions.journey
"""
AUDIENCES = """
    select audience, mistake from staging.stg_audiences
    where mistake is not null
    order by audience
"""
# Of values, only names that tools give are shown: others may be of a person.
UNKNOWN = """
    select
        count(*) as values,
        max_by(kind, (count, kind, value)) as kind,
        max_by(
            case when kind in ('event_name', 'channel') then ' ' || value else '' end,
            (count, kind, value)
        ) as name,
        max(count) as times,
        max_by(suggestion, (count, kind, value)) as suggestion
    from staging.not_understood
    having count(*) > 0
"""
UNSETTLED = """
    select state, count(*) as sends, min(as_of) as oldest_at
    from activations.sends
    where state in ('pending', 'unknown', 'dead')
    group by state
"""
NEWEST = "select as_of from staging.stg_run"


@dataclass(frozen=True)
class Trouble:
    """Something that needs a hand: what it is, and what to do."""

    topic: str
    found: str
    advice: str


@dataclass(frozen=True)
class Health:
    """The answers to the three questions, and what needs a hand."""

    as_of: datetime
    latencies: dict[str, Row]
    branches: Row
    drivers: list[Row]
    troubles: list[Trouble]
    disk: Row
    labels: Labels

    def as_dict(self) -> Row:
        """For JSON: names as tables hold them."""
        return {key: value for key, value in asdict(self).items() if key != "labels"}


def examine(settings: Settings) -> Health:
    """The health of a home, by its published copy and the disk that it lies on.

    Raises:
        DatabaseError: if no run has published anything yet.
    """
    with Warehouse(settings.published).connect(read_only=True) as connection:
        require_table(connection, "staging", "stg_run")
        as_of: datetime = fetch_frame(connection, NEWEST).item()
        labels = Labels.read(connection)
        disk = measure_disk(settings)
        return Health(
            as_of=as_of,
            latencies=read_latencies(connection),
            branches=read_branches(connection),
            drivers=read_drivers(connection),
            troubles=[
                *find_troubles(connection, labels),
                *home_troubles(settings, as_of, disk),
            ],
            disk=disk,
            labels=labels,
        )


def read_latencies(connection: Connection) -> dict[str, Row]:
    """Of each span the count, median, 95th percentile and maximum, in seconds."""
    frame = fetch_frame(connection, KNOWN)
    return {
        name: {
            "count": frame[name].drop_nulls().len(),
            "p50": frame[name].quantile(0.5, "linear"),
            "p95": frame[name].quantile(0.95, "linear"),
            "max": frame[name].max(),
        }
        for name in SPANS
    }


def read_branches(connection: Connection) -> Row:
    """How many journeys look at the last message, and a person of whom one did."""
    shown = fetch_frame(connection, FOLLOWED).to_dicts()
    return {
        "journey_count": fetch_frame(connection, BRANCHING).item(),
        "example": shown[0] if shown else None,
    }


def read_drivers(connection: Connection) -> list[Row]:
    """The newest orders, each with the touches that drove it."""
    orders: dict[str, Row] = {}
    for row in fetch_frame(connection, DROVE, {"orders": LAST_ORDERS}).to_dicts():
        order = orders.setdefault(
            row["conversion_id"],
            {
                "conversion_id": row["conversion_id"],
                "profile_id": row["profile_id"],
                "converted_at": row["converted_at"],
                "revenue_amount": row["revenue_amount"],
                "touches": [],
            },
        )
        if row["touched_at"] is not None:
            order["touches"].append(
                {
                    "channel": row["channel"],
                    "campaign": row["campaign"],
                    "journey": row["journey"],
                    "touched_at": row["touched_at"],
                    "interaction": row["interaction"],
                    "credit": float(row["credit"]),
                }
            )
    return list(orders.values())


def find_troubles(connection: Connection, labels: Labels) -> Iterator[Trouble]:
    """What needs a hand, as far as tables show it."""
    for row in fetch_frame(connection, SILENT).to_dicts():
        usual = max(row["usual_seconds"] or 0, SMALLEST_GAP.total_seconds())
        if row["silent_seconds"] > SILENT_FOR * usual:
            yield Trouble(
                "silent source",
                f"no {row['event']} since {row['last_at']:%Y-%m-%d %H:%M}",
                "Look whether the tool that reports it still writes into landing",
            )
    for row in fetch_frame(connection, SET_ASIDE).to_dicts():
        yield Trouble(
            "blocked journey",
            f"{labels.of('journey', row['journey'])} is set aside: "
            f"{row['first_mistake']}",
            "Run `rekindle check` and mend the file",
        )
    for row in fetch_frame(connection, BLOCKED).to_dicts():
        if row["due"] >= BLOCKED_COUNT:
            yield Trouble(
                "blocked journey",
                f"{labels.of('journey', row['journey'])} has sent nothing to "
                f"{row['due']} people: {labels.of('reason', row['reason'])}",
                labels.advice("reason", row["reason"]) or "Look at `rekindle why`",
            )
    for row in fetch_frame(connection, AUDIENCES).to_dicts():
        yield Trouble(
            "blocked audience",
            f"{row['audience']} is set aside: {row['mistake']}",
            "Run `rekindle check` and mend the file",
        )
    for row in fetch_frame(connection, UNKNOWN).to_dicts():
        yield Trouble(
            "unknown values",
            f"{row['values']} "
            f"{'value was' if row['values'] == 1 else 'values were'} not understood, "
            "most often "
            f"{row['kind']}{row['name']} ({row['times']} times)",
            f"Is it {row['suggestion']}? Name it in the seeds"
            if row["suggestion"]
            else "Look at staging.not_understood, and name them in the seeds",
        )
    if has_table(connection, "activations", "sends"):
        yield from unsettled_sends(connection)


def unsettled_sends(connection: Connection) -> Iterator[Trouble]:
    """Sends that wait too long, cannot be sent, or may have been."""
    as_of: datetime = fetch_frame(connection, NEWEST).item()
    for row in fetch_frame(connection, UNSETTLED).to_dicts():
        sends, oldest_at = row["sends"], row["oldest_at"]
        if row["state"] == "pending" and as_of - oldest_at >= PENDING_FOR:
            yield Trouble(
                "pending sends",
                f"{sends} wait, the oldest since {oldest_at:%Y-%m-%d %H:%M}",
                "Look at the destination of their channel in destinations.yml",
            )
        elif row["state"] == "dead":
            yield Trouble(
                "dead sends",
                f"{sends} could not be sent",
                "`rekindle retry` lists why, and tries them again",
            )
        elif row["state"] == "unknown":
            yield Trouble(
                "doubtful sends",
                f"{sends} may have gone out when a run died",
                "Nothing repeats them; ask the destination whether they arrived",
            )


def measure_disk(settings: Settings) -> Row:
    """What is free on the disk of the home, and what the warehouse takes."""
    usage = shutil.disk_usage(settings.root)
    warehouse = settings.warehouse
    return {
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "warehouse_bytes": warehouse.stat().st_size if warehouse.exists() else 0,
    }


def home_troubles(settings: Settings, as_of: datetime, disk: Row) -> Iterator[Trouble]:
    """What needs a hand, as far as the disk and the clock show it."""
    if disk["free_bytes"] < ROOM_FOR_COPIES * disk["warehouse_bytes"]:
        yield Trouble(
            "disk",
            f"{size(disk['free_bytes'])} are free, the warehouse has "
            f"{size(disk['warehouse_bytes'])}",
            "Free some space, or set REKINDLE_TEMP_FOLDER to another disk",
        )
    is_old = wall_clock() - as_of > NO_RUN_FOR
    if is_old and not settings.demo_marker.exists():
        yield Trouble(
            "no run",
            f"the newest run looked from {as_of:%Y-%m-%d %H:%M} UTC",
            "Start `rekindle ui`, whose schedule runs the loop, or `rekindle run`",
        )


def size(byte_count: int) -> str:
    """Bytes as people read them."""
    return (
        f"{byte_count / 1e9:,.1f} GB"
        if byte_count >= 1e9
        else f"{byte_count / 1e6:,.0f} MB"
    )


def span(seconds: float | None) -> str:
    """Seconds by their two largest units; what is not known as a dash."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for unit, length in units:
        amount, whole = divmod(whole, length)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or "0 s"


def in_words(health: Health) -> Iterator[str]:
    """The answers and what needs a hand, line by line."""
    labels = health.labels
    yield f"As of {health.as_of:%Y-%m-%d %H:%M} UTC"
    yield "How long until every channel knows of an order?"
    for name, words in SPANS.items():
        row = health.latencies[name]
        if not row["count"]:
            yield f"  {words}: no order was received between two runs yet"
            continue
        yield (
            f"  {words}: half within {span(row['p50'])}, 95 of 100 within "
            f"{span(row['p95'])}, all within {span(row['max'])} ({row['count']})"
        )
    yield "Can a journey branch on the last message?"
    yield f"  {branch_in_words(health.branches, labels)}"
    yield "Which touches drove the last orders?"
    for order in health.drivers:
        touches = ", ".join(
            f"{touch_in_words(touch, labels)} {touch['credit'] * 100:.0f} %"
            for touch in order["touches"]
        )
        yield (
            f"  {order['converted_at']:%Y-%m-%d %H:%M} {order['profile_id']}: "
            f"{touches or 'none within look-back'}"
        )
    if not health.drivers:
        yield "  No order yet: land `Order Completed` events"
    yield (
        f"Disk: {size(health.disk['free_bytes'])} free, the warehouse has "
        f"{size(health.disk['warehouse_bytes'])}"
    )
    yield f"Needs a hand: {len(health.troubles) or 'nothing'}"
    for trouble in health.troubles:
        yield f"  {trouble.topic}: {trouble.found}"
        yield f"    {trouble.advice}"


def touch_in_words(touch: Row, labels: Labels) -> str:
    """The channel of a touch and what it was part of."""
    channel = labels.of("channel", touch["channel"])
    if touch["journey"]:
        return f"{channel} ({labels.of('journey', touch['journey'])})"
    return f"{channel} ({touch['campaign']})" if touch["campaign"] else channel


def branch_in_words(branches: Row, labels: Labels) -> str:
    """A person whose next message followed from what became of the last."""
    example = branches["example"]
    if not branches["journey_count"]:
        return "No journey does: give a step `escalation: true`, or a branch"
    how_many = f"{branches['journey_count']} journeys do"
    if example is None:
        return f"{how_many}; nobody has come so far yet"
    return (
        f"{how_many}. In {labels.of('journey', example['journey'])}, enrollment "
        f"{example['enrollment_id']}: "
        f"{labels.of('step', example['previous_step'])} by "
        f"{labels.of('channel', example['previous_channel'])} on "
        f"{example['previous_sent_at']:%Y-%m-%d %H:%M} "
        f"{labels.of('interaction', example['previous_interaction'])}, and nothing "
        f"more, so {labels.of('step', example['step'])} followed by "
        f"{labels.of('channel', example['channel'])} on "
        f"{example['sent_at']:%Y-%m-%d %H:%M}"
    )
