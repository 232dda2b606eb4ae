"""What earned it: channels, sequences of channels, and what was caused."""

from typing import Any

from orchestration.charts import NO_CONVERSIONS, NO_CREDITS, NO_TOUCHES
from orchestration.report.drawing import LIGHT
from orchestration.report.parts import (
    Cell,
    Chart,
    Figure,
    Page,
    Row,
    Section,
    Source,
    Table,
    count,
    day,
    likely,
    percent,
    plural,
    signed,
    with_bars,
)

ENOUGH_PATHS = 20
"""Paths along a sequence below which its share of orders is chance."""
SEQUENCES_SHOWN = 15

CHANNELS = """
    select
        channel,
        sum(revenue_amount) filter (attribution_model = 'last_touch') as last_touch,
        sum(revenue_amount) filter (attribution_model = 'markov') as markov,
        sum(conversion_count) filter (attribution_model = 'markov') as orders
    from attribution.channel_performance
    group by channel
    order by markov desc nulls last, channel asc
"""
SEQUENCES = """
    select
        path,
        cast(conversion_count as bigint) as orders,
        revenue_amount,
        cast(conversion_count as bigint) + non_conversion_count as paths
    from attribution.path_performance
    where attribution_model = 'markov' and path <> 'none'
    order by orders desc, path asc
"""
LIFT = """
    select lift.*, comparisons.incremental_share
    from attribution.lift as lift
    left join attribution.lift_comparisons as comparisons
        on
            comparisons.trial_type = 'journey'
            and comparisons.metric = 'spend'
            and lift.journey = comparisons.trial
    order by lift.journey <> 'all', lift.incremental_lift desc nulls last, lift.journey
"""
EXPERIMENTS = """
    select experiment || ': ' || variation as name, *
    from attribution.experiment_lift
    where metric = 'conversion'
    order by incremental_lift desc nulls last, experiment asc, variation asc
"""
NEXT_END = """
    select min(horizon_ends_at) as ends_at
    from attribution.lift_entries
    where trial_type = 'journey' and exclusion_reason = 'horizon_open'
"""


def channels(source: Source) -> Page:
    """Which channels earned the orders, by the last touch beside all touches."""
    rows = source.rows(CHANNELS)
    touched = [row for row in rows if row["channel"] != "none"]
    untouched = next((row for row in rows if row["channel"] == "none"), None)
    lead = (
        "Each line joins two ways of counting. Where they lie far apart, the channel "
        "opens more sales than it closes, or the other way round. Credit is not proof: "
        "what was caused stands on the page Caused."
    )
    if not touched:
        return Page(
            "channels",
            "Channels",
            "No channel has earned an order yet: land what your tools report",
            sections=[Section("Credited revenue", if_empty=NO_CREDITS)],
        )
    names = {
        row["channel"]: source.labels.of("channel", row["channel"]) for row in rows
    }
    return Page(
        "channels",
        "Channels",
        channels_finding(source, touched, names),
        lead,
        figures=[
            Figure(
                "Credited to messages",
                source.money(sum(row["markov"] or 0 for row in touched)),
            ),
            Figure(
                "Without any message",
                source.money(untouched["markov"] if untouched else 0),
                "nobody had written within the look-back",
            ),
        ],
        sections=[
            Section(
                "Credited revenue by channel",
                chart=dumbbell(source, touched, names),
                table=Table(
                    "Credited revenue by channel, in " + source.currency,
                    ("Channel", "Last touch", "All touches (Markov)", "Orders"),
                    [
                        (
                            names[row["channel"]],
                            source.money(row["last_touch"]),
                            source.money(row["markov"]),
                            count(row["orders"]),
                        )
                        for row in rows
                    ],
                    numeric=frozenset({1, 2, 3}),
                ),
            )
        ],
    )


def channels_finding(source: Source, touched: list[Row], names: dict[str, str]) -> str:
    """Who leads, and whether both ways of counting agree on it."""
    first = touched[0]
    closing = max(touched, key=lambda row: (row["last_touch"] or 0, row["channel"]))
    name, amount = names[first["channel"]], source.money(first["markov"])
    if closing["channel"] == first["channel"]:
        return (
            f"{name} earned the most whichever way you count, {amount}: keep it first"
        )
    return (
        f"{name} earned the most over all touches, {amount}, though "
        f"{names[closing['channel']]} closes more sales: judge {name} by all touches"
    )


def dumbbell(source: Source, touched: list[Row], names: dict[str, str]) -> Chart:
    """Both ways of counting as two marks on a line for each channel."""
    values = [
        {
            "channel": names[row["channel"]],
            "way": way,
            "amount": float(row[column] or 0),
            "low": float(min(row["last_touch"] or 0, row["markov"] or 0)),
            "high": float(max(row["last_touch"] or 0, row["markov"] or 0)),
        }
        for row in touched
        for way, column in (("Last touch", "last_touch"), ("All touches", "markov"))
    ]
    y = {"field": "channel", "type": "nominal", "sort": None, "title": None}
    amount = {
        "type": "quantitative",
        "title": f"Credited revenue, {source.currency}",
        "axis": {"format": "~s"},
    }
    return Chart(
        "Credited revenue of each channel by last touch and by all touches",
        values,
        [
            {
                "mark": {"type": "rule", "strokeWidth": 3, "color": LIGHT["line"]},
                "encoding": {
                    "y": y,
                    "x": {"field": "low", **amount},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
                "encoding": {
                    "y": y,
                    "x": {"field": "amount", **amount},
                    "color": {"field": "way", "type": "nominal", "sort": None},
                    "shape": {
                        "field": "way",
                        "type": "nominal",
                        "sort": None,
                        "scale": {"range": ["circle", "square"]},
                    },
                },
            },
        ],
        {"step": 34},
    )


def sequences(source: Source) -> Page:
    """Which sequences of channels end in orders."""
    rows = source.rows(SEQUENCES)
    if not rows:
        return Page(
            "sequences",
            "Sequences",
            "No sequence has ended in an order yet: land what your tools report",
            sections=[Section("Sequences", if_empty=f"{NO_CONVERSIONS} {NO_TOUCHES}")],
        )
    known = [row for row in rows if row["paths"] >= ENOUGH_PATHS]
    several = [row for row in known if " > " in row["path"]]
    best = max(
        several or known or rows,
        key=lambda row: (likely(row["orders"], row["paths"]), row["path"]),
    )
    shown = rows[:SEQUENCES_SHOWN]
    return Page(
        "sequences",
        "Sequences",
        f"Plan more of {source.labels.path(best['path'])}: {count(best['orders'])} of "
        f"{plural(best['paths'], 'such sequence')} ended in an order",
        "A sequence is what one person met before an order, or without one. The share "
        f"says how often it ended in an order; below {ENOUGH_PATHS} sequences it is "
        "chance. What came after is no proof: that stands on the page Caused.",
        sections=[
            Section(
                "Sequences with the most orders",
                table=Table(
                    "Sequences of messages before an order",
                    ("Sequence", "Orders", "Revenue", "Ended in an order"),
                    [
                        (
                            source.labels.path(row["path"]),
                            bar,
                            source.money(row["revenue_amount"]),
                            percent(row["orders"] / row["paths"])
                            if row["paths"] >= ENOUGH_PATHS
                            else "too few",
                        )
                        for row, bar in zip(
                            shown,
                            with_bars(
                                [row["orders"] for row in shown],
                                [count(row["orders"]) for row in shown],
                            ),
                            strict=True,
                        )
                    ],
                    numeric=frozenset({1, 2, 3}),
                ),
            )
        ],
    )


def caused(source: Source) -> Page:
    """What was caused, by who was written to against who was not."""
    rows = source.rows(LIFT)
    trials = [
        *({**row, "name": source.labels.of("journey", row["journey"])} for row in rows),
        *source.rows(EXPERIMENTS),
    ]
    return Page(
        "caused",
        "Caused",
        caused_finding(source, rows),
        "People who were written to are set against those whom chance left out. A line "
        "that crosses zero is no proof. Credit says what came after a message; caused "
        "says what would not have come without it.",
        sections=[
            Section(
                "More buyers per 100 people, with what is likely",
                chart=forest([row for row in trials if row["lift_low"] is not None]),
                if_empty=(
                    "Nothing can be drawn yet: no group has both people who were "
                    "written to and people who were not, with their waiting time over."
                ),
            ),
            Section(
                "Attributed and caused, side by side",
                table=Table(
                    "Journeys: what credits claim and what was caused",
                    (
                        "Journey",
                        "Written to",
                        "Left out",
                        "More buyers per 100",
                        "Attributed",
                        "Caused",
                        "Caused of attributed",
                        "Verdict",
                    ),
                    [lift_row(source, row) for row in rows],
                    numeric=frozenset({1, 2, 3, 4, 5, 6}),
                )
                if rows
                else None,
                if_empty="Nobody has entered a journey yet: land events to begin.",
            ),
            Section(
                "Experiments of other tools",
                table=experiment_table(source),
                if_empty=(
                    "No experiment is known: land `Experiment Viewed` events with "
                    "`experiment_id` and `variation_id`."
                ),
            ),
        ],
    )


def caused_finding(source: Source, rows: list[Row]) -> str:
    """What is proved; where nothing is, until when to wait."""
    proved = [row for row in rows if row["finding"] in ("more", "less")]
    if proved:
        row = max(
            proved, key=lambda row: (row["finding"] == "less", row["journey"] == "all")
        )
        what = source.labels.of("journey", row["journey"])
        people = f"{signed(row['incremental_lift'] * 100)} buyers per 100 people"
        if row["finding"] == "less":
            return f"{what} is proved to sell less, {people}: stop it and find out why"
        return (
            f"{what} is proved to sell more, {people} and "
            f"{source.money(row['incremental_revenue_amount'])} caused: go on with it"
        )
    if any(row["finding"] == "not_proved" for row in rows):
        missing = [
            row["still_needed_count"] for row in rows if row["still_needed_count"]
        ]
        wait = (
            f": about {count(min(missing))} more people are needed" if missing else ""
        )
        return f"No journey is proved to sell more yet{wait}"
    ends_at = source.rows(NEXT_END)[0]["ends_at"]
    waiting = sum(row["waiting_count"] for row in rows if row["journey"] != "all")
    if ends_at is None:
        return "Nothing is proved yet: start a journey that leaves out a control group"
    return (
        f"Nothing is proved yet: wait until {day(ends_at)}, when the first of "
        f"{plural(waiting, 'entry', 'entries')} may be counted"
    )


def lift_row(source: Source, row: Row) -> tuple[str | Cell, ...]:
    """A journey's line in the table of what was caused."""
    name = source.labels.of("journey", row["journey"])
    verdict = (
        source.labels.of("finding", row["finding"])
        if row["finding"]
        else source.labels.of("lift_reason", row["unknown_reason"])
    )
    lift = row["incremental_lift"]
    between = (
        f"{signed(lift * 100)} ({signed(row['lift_low'] * 100)} to "
        f"{signed(row['lift_high'] * 100)})"
        if row["lift_low"] is not None
        else "–"
    )
    incremental = row["incremental_revenue_amount"]
    return (
        name,
        count(row["treated_count"]),
        count(row["control_count"]),
        between,
        source.money(row["attributed_revenue_amount"]),
        "–" if incremental is None else source.money(incremental),
        percent(row["incremental_share"]),
        verdict,
    )


def experiment_table(source: Source) -> Table | None:
    """Experiments that other tools run, each variation against its control."""
    rows = source.rows(EXPERIMENTS)
    if not rows:
        return None
    return Table(
        "Experiments: buyers in each variation against its control",
        (
            "Experiment and variation",
            "Shown",
            "Control",
            "More buyers per 100",
            "Verdict",
        ),
        [
            (
                row["name"],
                count(row["treated_count"]),
                count(row["control_count"]),
                signed(row["incremental_lift"] * 100)
                if row["incremental_lift"] is not None
                else "–",
                source.labels.of("finding", row["finding"])
                if row["finding"]
                else source.labels.of("lift_reason", row["unknown_reason"]),
            )
            for row in rows
        ],
        numeric=frozenset({1, 2, 3}),
    )


def forest(trials: list[Row]) -> Chart | None:
    """An interval for each trial, and the line of no effect."""
    if not trials:
        return None
    values = [
        {
            "name": row["name"],
            "lift": row["incremental_lift"] * 100,
            "low": row["lift_low"] * 100,
            "high": row["lift_high"] * 100,
        }
        for row in trials
    ]
    y: dict[str, Any] = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "title": None,
    }
    x = {"type": "quantitative", "title": "More buyers per 100 people (95 % interval)"}
    return Chart(
        "More buyers per 100 people, with the interval in which the truth likely lies",
        values,
        [
            {
                "mark": {"type": "rule", "color": LIGHT["muted"], "strokeDash": [4, 4]},
                "encoding": {"x": {"datum": 0, **x}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 3, "color": LIGHT["accent"]},
                "encoding": {
                    "y": y,
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 110,
                    "opacity": 1,
                    "color": LIGHT["accent"],
                },
                "encoding": {"y": y, "x": {"field": "lift", **x}},
            },
        ],
        {"step": 34},
    )
