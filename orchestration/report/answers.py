"""Whether to go on writing like this: pressure, and content that wears out."""

from orchestration.charts import NO_TOUCHES
from orchestration.report.drawing import LIGHT
from orchestration.report.parts import (
    Chart,
    Page,
    Row,
    Section,
    Source,
    Table,
    count,
    likely,
    percent,
    plural,
    with_bars,
)

ENOUGH_PEOPLE = 30
"""People of one pressure below whom a share is chance."""
ENOUGH_SENT = 50
"""Messages of a week below which its share of answers is chance."""
CAMPAIGNS_CHARTED = 4

# Messages that reached somebody in 30 days, and who said no or complained in them.
PRESSURE = """
    with

    run as (select as_of from staging.stg_run),

    contacts as (
        select touches.profile_id, count(*) as contact_count
        from attribution.message_touches as touches
        inner join seeds.channel_rules as rules on touches.channel = rules.channel
        cross join run
        where
            rules.counts_to_frequency_cap
            and touches.touched_at > run.as_of - interval 30 days
        group by touches.profile_id
    ),

    refusals as (
        select distinct threads.profile_id
        from staging.stg_message_events as events
        inner join profiles.message_threads as threads
            on events.message_id = threads.message_id
        cross join run
        where
            events.interaction in ('unsubscribed', 'complained')
            and events.occurred_at > run.as_of - interval 30 days
    ),

    people as (
        select
            profiles.profile_id,
            coalesce(contacts.contact_count, 0) as contact_count,
            refusals.profile_id is not null as has_refused
        from profiles.profiles as profiles
        left join contacts on profiles.profile_id = contacts.profile_id
        left join refusals on profiles.profile_id = refusals.profile_id
        where not profiles.is_hub
    )

    select
        case
            when contact_count = 0 then 0
            when contact_count <= 2 then 1
            when contact_count <= 5 then 3
            when contact_count <= 10 then 6
            when contact_count <= 20 then 11
            else 21
        end as from_count,
        count(*) as people,
        count(*) filter (has_refused) as refused
    from people
    group by all
    order by from_count
"""
PRESSURES = {
    0: "None",
    1: "1 or 2",
    3: "3 to 5",
    6: "6 to 10",
    11: "11 to 20",
    21: "21 or more",
}

# An answer is a click or a visit; an open is none.
CONTENT = """
    with

    messages as (
        select
            coalesce(journey, campaign) as content,
            journey,
            step,
            channel,
            touched_at,
            interaction in ('clicked', 'session') as is_answered
        from attribution.message_touches
        where coalesce(journey, campaign) is not null
    ),

    weeks as (
        select
            content,
            journey,
            step,
            channel,
            cast(floor(
                (epoch(touched_at) - epoch(min(touched_at) over (
                    partition by content, step, channel
                ))) / 604800
            ) as integer) as week,
            is_answered
        from messages
    )

    select
        content,
        journey,
        step,
        channel,
        week,
        count(*) as sent,
        count(*) filter (is_answered) as answered
    from weeks
    group by all
    order by content, step, channel, week
"""


def pressure(source: Source) -> Page:
    """How many messages people had in 30 days, and who said no by that."""
    rows = source.rows(PRESSURE)
    if not any(row["from_count"] for row in rows):
        return Page(
            "pressure",
            "Pressure",
            "Nobody had a message in 30 days: there is room to write",
            sections=[Section("Contacts", if_empty=NO_TOUCHES)],
        )
    for row in rows:
        row["share"] = row["refused"] / row["people"]
    written = [row for row in rows if row["from_count"]]
    people = sum(row["people"] for row in written)
    refused = sum(row["refused"] for row in written)
    known = [
        row
        for row in written
        if row["people"] >= ENOUGH_PEOPLE
        and likely(row["refused"], row["people"])[0]
        > likely(refused - row["refused"], people - row["people"])[1]
    ]
    worst = max(known, key=lambda row: (row["share"], row["from_count"]), default=None)
    said_no = (
        f"{count(refused)} of {plural(people, 'person', 'people')} who were written to "
        "in 30 days said no"
    )
    finding = (
        f"{said_no}, most often of those with {PRESSURES[worst['from_count']].lower()} "
        f"messages ({percent(worst['share'], 1)}): keep people below that"
        if worst
        else f"{said_no}, no oftener after more messages: leave the caps as they are"
    )
    return Page(
        "pressure",
        "Pressure",
        finding,
        "Messages that reached a person in 30 days on channels that count to the "
        "frequency cap, yours and those of other tools; who unsubscribed or complained "
        f"in that time. Below {ENOUGH_PEOPLE} people a share is chance.",
        sections=[
            Section(
                "Who says no, by messages in 30 days",
                chart=Chart(
                    "Share of people who said no, by messages in 30 days",
                    [
                        {
                            "messages": PRESSURES[row["from_count"]],
                            "share": row["share"] * 100,
                        }
                        for row in rows
                    ],
                    [
                        {
                            "mark": {"type": "bar", "color": LIGHT["accent"]},
                            "encoding": {
                                "y": {
                                    "field": "messages",
                                    "type": "nominal",
                                    "sort": None,
                                    "title": None,
                                },
                                "x": {
                                    "field": "share",
                                    "type": "quantitative",
                                    "title": "Said no, %",
                                },
                            },
                        }
                    ],
                    {"step": 30},
                ),
                table=Table(
                    "People by messages in 30 days, and who said no",
                    ("Messages in 30 days", "People", "Said no", "Share"),
                    [
                        (
                            PRESSURES[row["from_count"]],
                            bar,
                            count(row["refused"]),
                            percent(row["share"], 1)
                            if row["people"] >= ENOUGH_PEOPLE
                            else "too few",
                        )
                        for row, bar in zip(
                            rows,
                            with_bars(
                                [row["people"] for row in rows],
                                [count(row["people"]) for row in rows],
                            ),
                            strict=True,
                        )
                    ],
                    numeric=frozenset({1, 2, 3}),
                ),
            )
        ],
    )


def content(source: Source) -> Page:
    """Whether what is said wears out: answers by week since it first went out."""
    series: dict[tuple[str, str, str], list[Row]] = {}
    for row in source.rows(CONTENT):
        key = (row["content"], row["step"] or "", row["channel"])
        series.setdefault(key, []).append(row)
    if not series:
        return Page(
            "content",
            "Content",
            "No message has reached anybody yet: there is nothing to judge",
            sections=[Section("Answers", if_empty=NO_TOUCHES)],
        )
    contents = sorted(
        (summarise(source, rows) for rows in series.values()),
        key=lambda one: (-one["sent"], one["name"]),
    )
    worn = [one for one in contents if one["late"] is not None]
    most = min(
        (one for one in worn if one["is_worn"]),
        key=lambda one: (one["late"] / one["early"], one["name"]),
        default=None,
    )
    charted = [one for one in contents if len(one["weeks"]) > 1][:CAMPAIGNS_CHARTED]
    if most:
        finding = (
            f"{most['name']} wears out, from {percent(most['early'], 1)} answered in "
            f"its first weeks to {percent(most['late'], 1)} in its last: give it new "
            "words"
        )
    elif worn:
        judged = plural(len(worn), "content")
        finding = f"None of {judged} is seen to wear out: keep the words"
    else:
        finding = (
            f"It is too early to judge {plural(len(contents), 'content')}: look again "
            f"once each has had weeks of {ENOUGH_SENT} messages"
        )
    return Page(
        "content",
        "Content",
        finding,
        "An answer is a click or a visit; an open is none. Weeks count from the first "
        f"time that it went out; weeks below {ENOUGH_SENT} messages are left out of "
        "the comparison.",
        sections=[
            Section(
                "Answers by week since it first went out",
                chart=weeks_chart(charted),
                if_empty="A line needs two weeks of messages.",
            ),
            Section(
                "All contents",
                table=Table(
                    "Contents: how many went out and how many were answered",
                    (
                        "Content",
                        "Channel",
                        "Reached",
                        "Answered",
                        "First weeks",
                        "Last weeks",
                    ),
                    [
                        (
                            one["name"],
                            source.labels.of("channel", one["channel"]),
                            count(one["sent"]),
                            percent(one["answered"] / one["sent"], 1),
                            percent(one["early"], 1),
                            percent(one["late"], 1),
                        )
                        for one in contents
                    ],
                    numeric=frozenset({2, 3, 4, 5}),
                ),
            ),
        ],
    )


def summarise(source: Source, rows: list[Row]) -> Row:
    """A content over all its weeks; early and late are the first and last third."""
    first = rows[0]
    name = (
        f"{source.labels.of('journey', first['journey'])}, "
        f"{source.labels.of('step', first['step'])}"
        if first["journey"]
        else first["content"]
    )
    large = [row for row in rows if row["sent"] >= ENOUGH_SENT]
    third = len(large) // 3 or 1
    early, late = large[:third], large[-third:]
    return {
        "name": name,
        "channel": first["channel"],
        "sent": sum(row["sent"] for row in rows),
        "answered": sum(row["answered"] for row in rows),
        "early": answer_rate(early) if len(large) > 1 else None,
        "late": answer_rate(late) if len(large) > 1 else None,
        "is_worn": answers(late)[1] < answers(early)[0],
        "weeks": [row for row in rows if row["sent"] >= ENOUGH_SENT],
    }


def answer_rate(rows: list[Row]) -> float:
    """Answers of the messages of some weeks."""
    return float(
        sum(row["answered"] for row in rows) / sum(row["sent"] for row in rows)
    )


def answers(rows: list[Row]) -> tuple[float, float]:
    """Between which shares answers of some weeks likely lie."""
    return likely(
        sum(row["answered"] for row in rows), sum(row["sent"] for row in rows)
    )


def weeks_chart(contents: list[Row]) -> Chart | None:
    """A line of answers by week for each of the largest contents."""
    if not contents:
        return None
    content = {"field": "content", "type": "nominal", "sort": None}
    week = {
        "field": "week",
        "type": "quantitative",
        "title": "Week since it first went out",
        "axis": {"tickMinStep": 1, "format": "d"},
    }
    share = {
        "field": "share",
        "type": "quantitative",
        "title": "Answered, %",
        "axis": {"grid": True},
    }
    return Chart(
        "Share of messages answered, by week since the content first went out",
        [
            {
                "content": one["name"],
                "week": row["week"] + 1,
                "share": row["answered"] / row["sent"] * 100,
            }
            for one in contents
            for row in one["weeks"]
        ],
        [
            {
                "mark": {"type": "line", "strokeWidth": 2},
                # a scale of its own: beside that of the points, it would be drawn twice
                "encoding": {
                    "x": week,
                    "y": share,
                    "stroke": {**content, "legend": None},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": week, "y": share, "color": content, "shape": content},
            },
        ],
        260,
    )
