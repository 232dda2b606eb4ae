"""Whether to believe it: scores and what they promised, and how fresh all of it is."""

import re

from orchestration.doctor import SPANS, read_latencies, span
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
    minute,
    percent,
    plural,
)

VALUES_SHOWN = 20

ESTIMATORS = """
    select target, scored_by, refusal_reason, verdict, auc, example_count
    from ml.estimators
    where is_in_use
    order by target
"""
CALIBRATION = """
    select calibration.*
    from ml.calibration as calibration
    order by target, scored_by, bin
"""
DRIFT = """
    select kind, name, stability_index, is_drifted
    from ml.drift
    order by is_drifted desc, stability_index desc, name
"""
# Names that tools give; other values may be of a person, and this page may be shared.
NOT_UNDERSTOOD = """
    select
        kind,
        case when kind in ('event_name', 'channel') then value end as name,
        event,
        count(*) as values,
        sum(count)::bigint as times,
        suggestion
    from staging.not_understood
    group by all
    order by times desc, kind asc, name asc, event asc, suggestion asc
"""
REJECTED = """
    select regexp_replace(reason, ' at [0-9]+$', '') as reason, count(*) as lines
    from raw.rejected_events
    group by all
    order by lines desc, reason asc
"""
LINES = "select coalesce(sum(row_count), 0)::bigint as lines from raw.files"


def target_in_words(source: Source, target: str) -> str:
    """What an estimator foretells: `purchase_30d` as buying within 30 days."""
    head, _, days = target.partition("_")
    if head == "purchase" and days.removesuffix("d").isdigit():
        return f"Buys within {days.removesuffix('d')} days"
    return source.labels.of("target", target)


def feature_in_words(source: Source, name: str) -> str:
    """What a feature holds: `session_30d_count` as sessions in 30 days."""
    words = re.sub(r"_(\d+)d(?=_|$)", r" in \1 days", name.removesuffix("_count"))
    return source.labels.of("feature", words)


def trust(source: Source) -> Page:
    """Whether to believe the scores, and what was not understood."""
    estimators = source.rows(ESTIMATORS)
    calibration = source.rows(CALIBRATION)
    drift = source.rows(DRIFT)
    unknown = source.rows(NOT_UNDERSTOOD)
    rejected = source.rows(REJECTED)
    lines = source.rows(LINES)[0]["lines"]
    refused = [row for row in estimators if row["scored_by"] != "estimator"]
    drifted = [row for row in drift if row["is_drifted"]]
    if not estimators:
        finding = "No score is known yet: land orders of some months to learn from"
    elif refused:
        finding = (
            f"{count(len(estimators) - len(refused))} of "
            f"{plural(len(estimators), 'score')} comes from a tested estimator: read "
            "the others as plain counts"
        )
    else:
        scores = plural(len(estimators), "score")
        finding = f"All {scores} come from tested estimators: use them"
    targets: dict[str, list[Row]] = {}
    for row in calibration:
        targets.setdefault(row["target"], []).append(row)
    rejected_count = sum(row["lines"] for row in rejected)
    return Page(
        "trust",
        "Trust",
        finding,
        "A score of 0.30 promises that of a hundred such people thirty do it. Promises "
        "are set beside what came true, tenth by tenth of the people.",
        figures=[
            Figure(
                "Things that have drifted",
                count(len(drifted)),
                f"of {count(len(drift))} watched",
            ),
            Figure(
                "Values not understood", count(sum(row["values"] for row in unknown))
            ),
            Figure(
                "Lines rejected", count(rejected_count), f"of {count(lines)} landed"
            ),
        ],
        sections=[
            Section(
                "Scores, and who speaks",
                table=Table(
                    "Scores: where each comes from",
                    ("Score", "Comes from", "Why", "What to do"),
                    [
                        (
                            target_in_words(source, row["target"]),
                            "A tested estimator"
                            if row["scored_by"] == "estimator"
                            else "Three plain numbers",
                            source.labels.of("refusal", row["refusal_reason"]),
                            source.labels.advice("refusal", row["refusal_reason"]),
                        )
                        for row in estimators
                    ],
                )
                if estimators
                else None,
                if_empty="Estimators learn from orders: land some months of them.",
            ),
            *(
                Section(
                    f"{target_in_words(source, target)}: promised and come true",
                    chart=calibration_chart(target_in_words(source, target), rows),
                    table=Table(
                        f"{target_in_words(source, target)}: tenths of people",
                        ("Tenth", "People", "Promised", "Came true"),
                        [
                            (
                                count(row["bin"]),
                                count(row["profile_count"]),
                                percent(row["predicted_rate"], 1),
                                percent(row["observed_rate"], 1),
                            )
                            for row in rows
                        ],
                        numeric=frozenset({1, 2, 3}),
                    ),
                )
                for target, rows in targets.items()
            ),
            Section(
                "What has changed since estimators learned",
                table=Table(
                    "Features and scores that differ most from when estimators learned",
                    ("What", "Stability index", "Verdict"),
                    [
                        (
                            feature_in_words(source, row["name"]),
                            f"{row['stability_index']:.2f}",
                            "Drifted" if row["is_drifted"] else "Stable",
                        )
                        for row in drift[:VALUES_SHOWN]
                    ],
                    numeric=frozenset({1}),
                )
                if drift
                else None,
                if_empty="Drift is measured once an estimator is in use.",
            ),
            Section(
                "Values that were not understood",
                table=Table(
                    "Values that arrived and were not understood",
                    ("Kind", "Name", "Event", "Values", "Times", "What to do"),
                    [
                        (
                            source.labels.of("kind", row["kind"]),
                            row["name"] or "",
                            row["event"] or "",
                            count(row["values"]),
                            count(row["times"]),
                            f"Is it {row['suggestion']}? Name it in the seeds"
                            if row["suggestion"]
                            else "Name it in the seeds",
                        )
                        for row in unknown[:VALUES_SHOWN]
                    ],
                    numeric=frozenset({3, 4}),
                )
                if unknown
                else None,
                if_empty="Everything that arrived was understood.",
            ),
            Section(
                "Lines that are no events",
                table=Table(
                    "Lines that were rejected, by reason",
                    ("Reason", "Lines"),
                    [
                        (row["reason"], count(row["lines"]))
                        for row in rejected[:VALUES_SHOWN]
                    ],
                    numeric=frozenset({1}),
                )
                if rejected
                else None,
                if_empty="Every line that landed is an event.",
            ),
        ],
    )


def calibration_chart(name: str, rows: list[Row]) -> Chart:
    """Promised beside observed rates, and the line on which they would be alike."""
    values = [
        {
            "promised": row["predicted_rate"] * 100,
            "observed": row["observed_rate"] * 100,
        }
        for row in rows
    ]
    whole = {"type": "quantitative", "scale": {"domain": [0, 100]}}
    x = {"field": "promised", "title": "Promised, %", **whole}
    y = {"field": "observed", "title": "Came true, %", "axis": {"grid": True}, **whole}
    return Chart(
        f"{name}: promised and observed rate of each tenth of people; on the dashed "
        "line both are alike",
        values,
        [
            {
                "data": {
                    "values": [{"promised": at, "observed": at} for at in (0, 100)]
                },
                "mark": {"type": "line", "color": LIGHT["muted"], "strokeDash": [4, 4]},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 90,
                    "opacity": 1,
                    "color": LIGHT["accent"],
                },
                "encoding": {"x": x, "y": y},
            },
        ],
        240,
    )


def freshness(source: Source) -> Page:
    """How long it takes until every channel knows what a customer did."""
    spans = read_latencies(source.connection)
    known = spans["known_after"]
    if not known["count"]:
        return Page(
            "freshness",
            "Freshness",
            "No order was received between two runs yet: run again once one has landed",
            sections=[
                Section("Spans", if_empty="Land `Order Completed` events, then run.")
            ],
        )
    half, most = (span(known[at]) for at in ("p50", "max"))
    return Page(
        "freshness",
        "Freshness",
        f"Every channel knows of an order after {half}, at the latest after {most}: "
        "run oftener to know sooner",
        "A run decides on all channels from the same tables, so the first run after an "
        "order is received is when each channel knows of it. Before anything leaves, "
        "what has landed since is looked at once more.",
        figures=[
            Figure("Half of all orders", half, "until every channel knows"),
            Figure("Orders looked at", count(known["count"])),
        ],
        sections=[
            Section(
                "From what happened to known everywhere",
                table=Table(
                    "Time from an order to every channel's knowing of it",
                    ("Span", "Half within", "95 of 100 within", "All within"),
                    [
                        (
                            words,
                            *(span(spans[name][at]) for at in ("p50", "p95", "max")),
                        )
                        for name, words in SPANS.items()
                    ],
                    numeric=frozenset({1, 2, 3}),
                ),
            ),
            Section(
                "Newest of each kind of file",
                table=arrivals(source),
                if_empty="Nothing has landed yet.",
            ),
        ],
    )


ARRIVALS = """
    select events.type, max(events.received_at) as last_at, count(*) as events
    from raw.events as events
    group by events.type
    order by last_at desc, events.type asc
"""


def arrivals(source: Source) -> Table | None:
    """The newest event of each type, and how many there are."""
    rows: list[Row] = source.rows(ARRIVALS)
    if not rows:
        return None
    cells: list[tuple[str | Cell, ...]] = [
        (
            source.labels.of("type", row["type"]),
            minute(row["last_at"]),
            count(row["events"]),
        )
        for row in rows
    ]
    return Table(
        "The newest event of each type",
        ("Type of event", "Newest, UTC", "Events"),
        cells,
        numeric=frozenset({2}),
    )
