"""What goes out and what does not: today, journeys, reasons, the next run."""

from collections.abc import Sequence

from orchestration.doctor import find_troubles
from orchestration.labels import in_words
from orchestration.report.parts import (
    Cell,
    Figure,
    Page,
    Row,
    Section,
    Source,
    Table,
    clause,
    count,
    minute,
    percent,
    plural,
    with_bars,
)

LOOK = "look at the page Why nothing"
LAND_TO_BEGIN = (
    "Nobody has entered a journey yet: land events of people with an address and a "
    "consent, as the page for analytics engineers lists them."
)

SENT = """
    select channel, count(*) as sends, count(distinct profile_id) as people
    from activations.sends
    where sent_at = (select as_of from staging.stg_run)
    group by channel
    order by sends desc, channel asc
"""
SENT_PEOPLE = """
    select count(*) as sends, count(distinct profile_id) as people
    from activations.sends
    where sent_at = (select as_of from staging.stg_run)
"""
PHASES = """
    select phase_name, count(*) as people
    from decisions.phases
    group by phase, phase_name
    order by phase
"""
# What holds of each step and channel: the last verdict on it.
HOLDING = """
    holding as (
        select *
        from decisions.decisions
        qualify row_number() over (
            partition by enrollment_id, step, channel
            order by as_of desc, decision_id asc
        ) = 1
    ),

    went_out as (
        select distinct enrollment_id, step
        from activations.sends
        where state in ('sent', 'inflight', 'unknown')
    )
"""
STEPS = f"""
    with {HOLDING},

    reached as (
        select
            holding.journey,
            holding.step,
            count(distinct holding.enrollment_id) as people,
            count(distinct went_out.enrollment_id) as sent
        from holding
        left join went_out using (enrollment_id, step)
        group by all
    ),

    reasons as (
        select
            holding.journey,
            holding.step,
            holding.reason,
            count(distinct holding.enrollment_id) as people
        from holding
        anti join went_out using (enrollment_id, step)
        where holding.verdict <> 'send'
        group by holding.journey, holding.step, holding.reason
        qualify row_number() over (
            partition by holding.journey, holding.step
            order by count(distinct holding.enrollment_id) desc, holding.reason asc
        ) = 1
    ),

    steps as (
        select journey, step, min(step_position) as step_position
        from staging.stg_journey_steps
        group by all
    )

    select
        steps.journey,
        steps.step,
        steps.step_position,
        coalesce(reached.people, 0) as people,
        coalesce(reached.sent, 0) as sent,
        reasons.reason,
        coalesce(reasons.people, 0) as lost
    from steps
    left join reached using (journey, step)
    left join reasons using (journey, step)
    order by steps.journey, steps.step_position, steps.step
"""
REASONS = f"""
    with {HOLDING}

    select
        holding.verdict,
        holding.reason,
        count(distinct holding.profile_id) as people,
        count(distinct holding.enrollment_id || ' ' || holding.step) as messages
    from holding
    anti join went_out using (enrollment_id, step)
    where holding.verdict <> 'send'
    group by all
    order by people desc, verdict asc, reason asc
"""
NOTHING = f"""
    with {HOLDING},

    people as (
        select
            holding.profile_id,
            bool_or(went_out.enrollment_id is not null) as had_something
        from holding
        left join went_out using (enrollment_id, step)
        group by holding.profile_id
    ),

    reasons as (
        select holding.reason, count(distinct holding.profile_id) as people
        from holding
        inner join people using (profile_id)
        where not people.had_something and holding.verdict <> 'send'
        group by holding.reason
    )

    select
        (select count(*) from people) as due_count,
        (select count(*) from people where not had_something) as nothing_count,
        (select arg_max(reason, (people, reason)) from reasons) as reason
"""
ADDRESSES = """
    select points.channel, points.unreachable_reason as reason, count(*) as people
    from profiles.contact_points as points
    inner join profiles.profiles as profiles using (profile_id)
    where not points.is_reachable and not profiles.is_hub
    group by all
    order by people desc, points.channel asc, reason asc
"""
DUE = """
    select
        steps.journey,
        step_times.step,
        count(*) as messages,
        min(step_times.due_at) as first_at,
        max(step_times.due_at) as last_at
    from decisions.step_times as step_times
    inner join decisions.enrollments as steps using (enrollment_id)
    cross join staging.stg_run as run
    where
        step_times.is_next
        and step_times.due_at > run.as_of
        and step_times.due_at <= run.as_of + interval 24 hours
    group by all
    order by first_at asc, steps.journey asc, step_times.step asc
"""
HELD = """
    select
        decisions.reason,
        decisions.channel,
        count(*) as messages,
        count(distinct decisions.profile_id) as people
    from decisions.candidates as candidates
    inner join staging.stg_run as run on candidates.as_of = run.as_of
    inner join decisions.decisions as decisions
        on candidates.decision_id = decisions.decision_id
    where decisions.verdict = 'held' and decisions.reason <> 'another_channel'
    group by all
    order by messages desc, decisions.reason asc, decisions.channel asc
"""
WAITING = """
    select channel, count(*) as messages, min(as_of) as oldest_at
    from activations.sends
    where state = 'pending'
    group by channel
    order by messages desc, channel asc
"""


def today(source: Source, pages: Sequence[Page]) -> Page:
    """What the last run did, and what each of the other pages found."""
    total = source.rows(SENT_PEOPLE)[0]
    by_channel = source.rows(SENT)
    phases = source.rows(PHASES)
    nothing = source.rows(NOTHING)[0]
    advice = source.labels.advice("reason", nothing["reason"])
    sent = (
        f"{plural(total['sends'], 'message')} went out to "
        f"{plural(total['people'], 'person', 'people')}"
    )
    return Page(
        "index",
        "Today",
        f"{sent}; for the {count(nothing['nothing_count'])} left out, "
        f"{clause(advice, LOOK)}"
        if nothing["reason"]
        else sent,
        f"The run of {minute(source.as_of)} UTC. Every page begins with what it found.",
        figures=[
            Figure(
                "Sent in this run",
                count(total["sends"]),
                f"to {count(total['people'])} people",
            ),
            Figure(
                "Due and got nothing",
                count(nothing["nothing_count"]),
                f"of {count(nothing['due_count'])} people who were ever due a message",
            ),
            Figure("People known", count(sum(row["people"] for row in phases))),
        ],
        sections=[
            Section(
                "What needs a hand",
                table=trouble_table(source),
                if_empty="Nothing needs a hand.",
            ),
            Section(
                "What went out",
                table=Table(
                    "Messages of this run by channel",
                    ("Channel", "Messages", "People"),
                    [
                        (
                            source.labels.of("channel", row["channel"]),
                            bar,
                            count(row["people"]),
                        )
                        for row, bar in zip(
                            by_channel,
                            with_bars(
                                [row["sends"] for row in by_channel],
                                [count(row["sends"]) for row in by_channel],
                            ),
                            strict=True,
                        )
                    ],
                    numeric=frozenset({1, 2}),
                )
                if by_channel
                else None,
                if_empty="This run sent nothing: see the page Why people got nothing.",
            ),
            Section(
                "Where people are",
                "Everybody is in one of seven phases, by what they did.",
                table=Table(
                    "People by phase of the relationship",
                    ("Phase", "People"),
                    [
                        (source.labels.of("phase", row["phase_name"]), bar)
                        for row, bar in zip(
                            phases,
                            with_bars(
                                [row["people"] for row in phases],
                                [count(row["people"]) for row in phases],
                            ),
                            strict=True,
                        )
                    ],
                    numeric=frozenset({1}),
                )
                if phases
                else None,
                if_empty="Nobody is known yet: land events in the folder `landing`.",
            ),
        ],
        extra={"findings": pages},
    )


def trouble_table(source: Source) -> Table | None:
    """What the doctor finds in tables, each with what to do."""
    troubles = list(find_troubles(source.connection, source.labels))
    if not troubles:
        return None
    return Table(
        "What needs a hand",
        ("What", "Found", "What to do"),
        [
            (in_words(trouble.topic), trouble.found, trouble.advice)
            for trouble in troubles
        ],
    )


def journeys(source: Source) -> Page:
    """How far people come in each journey, and what keeps messages from them."""
    rows = source.rows(STEPS)
    reached = [row for row in rows if row["people"]]
    if not reached:
        return Page(
            "journeys",
            "Journeys",
            "Nobody has reached a step of a journey yet: land events to begin",
            sections=[Section("Steps", if_empty=LAND_TO_BEGIN)],
        )
    worst = max(reached, key=lambda row: (row["people"] - row["sent"], row["journey"]))
    lost = worst["people"] - worst["sent"]
    longest = max(row["people"] for row in rows)
    advice = source.labels.advice("reason", worst["reason"])
    finding = (
        f"{source.labels.of('journey', worst['journey'])} loses the most people at "
        f"{source.labels.of('step', worst['step'])}, {count(lost)} of "
        f"{count(worst['people'])}: {clause(advice, LOOK)}"
        if lost
        else "Every step reached everybody who was due it: leave journeys as they are"
    )
    return Page(
        "journeys",
        "Journeys",
        finding,
        "Of each step, how many were due it and how many were sent it on any channel. "
        "The pale bar is who was due, the strong one who was sent something.",
        sections=[
            Section(
                source.labels.of("journey", journey),
                table=Table(
                    f"Steps of {source.labels.of('journey', journey)}",
                    ("Step", "Due", "Sent", "Share", "Main reason for no message"),
                    [
                        step_row(source, number, row, longest)
                        for number, row in enumerate(
                            (row for row in rows if row["journey"] == journey), start=1
                        )
                    ],
                    numeric=frozenset({1, 2, 3}),
                ),
            )
            for journey in dict.fromkeys(row["journey"] for row in rows)
        ],
    )


def step_row(
    source: Source, number: int, row: Row, longest: int
) -> tuple[str | Cell, ...]:
    """A step's line: who was due it, who was sent it, why the others were not."""
    reason = (
        f"{source.labels.of('reason', row['reason'])} ({count(row['lost'])})"
        if row["reason"]
        else ""
    )
    return (
        f"{number}. {source.labels.of('step', row['step'])}",
        Cell(count(row["people"]), row["people"] / longest, row["sent"] / longest),
        count(row["sent"]),
        percent(row["sent"] / row["people"]) if row["people"] else "–",
        reason,
    )


def reasons(source: Source) -> Page:
    """Why people who were due a message got none."""
    rows = source.rows(REASONS)
    nothing = source.rows(NOTHING)[0]
    if not rows:
        return Page(
            "reasons",
            "Why nothing",
            "Everybody who was due a message got it: nothing needs a hand",
            sections=[Section("Reasons", if_empty=LAND_TO_BEGIN)],
        )
    worst = nothing["reason"] or rows[0]["reason"]
    advice = source.labels.advice("reason", worst)
    return Page(
        "reasons",
        "Why nothing",
        f"{count(nothing['nothing_count'])} of {count(nothing['due_count'])} people "
        "who were due a message got none, most for "
        f"“{source.labels.of('reason', worst)}”: {clause(advice, LOOK)}",
        "A message has one verdict: sent, not now, or not at all, by the first rule "
        "that stood against it. Each person counts once for a reason, and may have "
        "several. `rekindle why` says it of one person, with evidence.",
        sections=[
            Section(
                "Reasons, and what to do about each",
                table=Table(
                    "Why messages did not go out",
                    ("Reason", "Verdict", "People", "Messages", "What to do"),
                    [
                        (
                            source.labels.of("reason", row["reason"]),
                            source.labels.of("verdict", row["verdict"]),
                            bar,
                            count(row["messages"]),
                            source.labels.advice("reason", row["reason"]),
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
                    numeric=frozenset({2, 3}),
                ),
            ),
            address_section(source),
        ],
    )


def address_section(source: Source) -> Section:
    """Why channels do not reach people, whether or not a message was due."""
    rows = source.rows(ADDRESSES)
    bars = with_bars(
        [row["people"] for row in rows], [count(row["people"]) for row in rows]
    )
    return Section(
        "Who cannot be reached, and why",
        "Everybody who is known, on each channel.",
        table=Table(
            "People without a working address, by channel and reason",
            ("Channel", "Reason", "People", "What to do"),
            [
                (
                    source.labels.of("channel", row["channel"]),
                    source.labels.of("address", row["reason"]),
                    bar,
                    source.labels.advice("address", row["reason"]),
                )
                for row, bar in zip(rows, bars, strict=True)
            ],
            numeric=frozenset({2}),
        )
        if rows
        else None,
        if_empty="Everybody can be reached on every channel.",
    )


def outbox(source: Source) -> Page:
    """What the next run may send: steps that fall due, and what waits."""
    due, held, waiting = source.rows(DUE), source.rows(HELD), source.rows(WAITING)
    due_count = sum(row["messages"] for row in due)
    held_count = sum(row["messages"] for row in held)
    return Page(
        "outbox",
        "Next run",
        f"{plural(due_count, 'step falls', 'steps fall')} due within a day and "
        f"{plural(held_count, 'message waits', 'messages wait')}: "
        + (
            "read them on the page Messages first"
            if due_count or held_count
            else "land new events to begin journeys"
        ),
        "Rules are asked again when a message falls due, so fewer may go out. "
        "`rekindle dry-run` decides as the next run would, and sends nothing.",
        sections=[
            Section(
                "Falls due within 24 hours",
                table=Table(
                    "Steps that fall due within 24 hours of this run",
                    ("Journey", "Step", "People", "From", "Until"),
                    [
                        (
                            source.labels.of("journey", row["journey"]),
                            source.labels.of("step", row["step"]),
                            count(row["messages"]),
                            minute(row["first_at"]),
                            minute(row["last_at"]),
                        )
                        for row in due
                    ],
                    numeric=frozenset({2}),
                )
                if due
                else None,
                if_empty="No step of a journey falls due within a day.",
            ),
            Section(
                "Waits for its moment",
                table=Table(
                    "Messages that are held for now, by reason and channel",
                    ("Reason", "Channel", "Messages", "People"),
                    [
                        (
                            source.labels.of("reason", row["reason"]),
                            source.labels.of("channel", row["channel"]),
                            count(row["messages"]),
                            count(row["people"]),
                        )
                        for row in held
                    ],
                    numeric=frozenset({2, 3}),
                )
                if held
                else None,
                if_empty="No message is held.",
            ),
            Section(
                "Was decided and could not be delivered yet",
                table=Table(
                    "Messages that wait to be delivered",
                    ("Channel", "Messages", "Oldest"),
                    [
                        (
                            source.labels.of("channel", row["channel"]),
                            count(row["messages"]),
                            minute(row["oldest_at"]),
                        )
                        for row in waiting
                    ],
                    numeric=frozenset({1}),
                )
                if waiting
                else None,
                if_empty="Everything that was decided has been delivered.",
            ),
        ],
    )
