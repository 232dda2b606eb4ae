"""One person, looked up: what they did, how they stand, why they got what they got.

Holds personal data, so that its page lies apart from those that may be shared.
"""

import base64
import gzip
import json
from collections.abc import Iterable
from typing import Any

from orchestration.report.health import target_in_words
from orchestration.report.parts import (
    Page,
    Row,
    Section,
    Source,
    count,
    minute,
    percent,
    plural,
)

PEOPLE_LIMIT = 10_000
"""Above that, a page of everybody serves nobody: `rekindle why` answers."""
NEWEST = 25
"""Moments of a person that are shown, the newest first."""

COUNT = "select count(*) as people from profiles.profiles where not is_hub"
PEOPLE = """
    select
        profiles.profile_id,
        profiles.first_name,
        profiles.last_name,
        profiles.email,
        profiles.phone,
        profiles.user_id,
        phases.phase_name,
        phases.entered_at,
        phases.reason,
        rfm.rfm_segment,
        profiles.order_count,
        profiles.revenue_amount
    from profiles.profiles as profiles
    left join decisions.phases as phases using (profile_id)
    left join profiles.rfm as rfm using (profile_id)
    where not profiles.is_hub
    order by profiles.profile_id
"""
SCORES = """
    select profile_id, purchase_propensity, churn_propensity,
        purchase_scored_by, churn_scored_by
    from ml.scores
    order by profile_id
"""
REASONS = """
    select profile_id, target, reason
    from ml.score_reasons
    order by profile_id, target, rank
"""
TIMELINE = f"""
    with

    moments as (
        select profile_id, changed_at as moment_at, 'phase' as kind,
            phase_names.phase_name as name, changes.reason as detail, null as place
        from decisions.phase_changes as changes
        inner join seeds.phase_names as phase_names using (phase)
        union all
        select profile_id, converted_at, 'order', null,
            cast(revenue_amount as varchar), null
        from attribution.conversions
        union all
        select profile_id, touched_at, 'touch', channel, interaction,
            coalesce(journey, campaign)
        from attribution.touchpoints
        union all
        select profile_id, entered_at, 'entry', journey, entry_reason, assignment
        from decisions.enrollments
        union all
        select profile_id, exited_at, 'exit', journey, exit_reason, null
        from decisions.enrollments
        where exited_at is not null
    )

    select *
    from moments
    qualify row_number() over (
        partition by profile_id order by moment_at desc, kind, name, detail, place
    ) <= {NEWEST}
    order by profile_id, moment_at desc, kind, name, detail, place
"""
VERDICTS = """
    select
        decisions.profile_id,
        decisions.as_of,
        decisions.journey,
        decisions.step,
        decisions.channel,
        decisions.verdict,
        decisions.reason,
        rules.value
    from decisions.decisions as decisions
    left join decisions.rule_verdicts as rules
        on
            decisions.decision_id = rules.decision_id
            and decisions.reason = rules.rule
    order by
        decisions.profile_id, decisions.as_of desc, decisions.journey,
        decisions.step, decisions.channel
"""


def people(source: Source) -> Page:
    """Everybody who is known, to be looked up by name, address or id."""
    total = source.rows(COUNT)[0]["people"]
    page = Page(
        "person",
        "One person",
        f"Look up one of {count(total)} people, and read why each message went out or "
        "not",
        "This page holds personal data and stays on this machine.",
    )
    if not total:
        section = Section("People", if_empty="Nobody is known yet: land events.")
        return Page(page.slug, page.name, page.finding, page.lead, sections=[section])
    if total > PEOPLE_LIMIT:
        section = Section(
            "People",
            if_empty=(
                f"Above {count(PEOPLE_LIMIT)} people, ask on the command line: "
                "`rekindle why PERSON`, by any identifier."
            ),
        )
        return Page(page.slug, page.name, page.finding, page.lead, sections=[section])
    return Page(
        page.slug,
        page.name,
        page.finding,
        page.lead,
        extra={"people": packed(list(describe(source)))},
    )


def packed(people: list[Row]) -> str:
    """People as the page unpacks them: JSON, gzip, base64; always the same bytes."""
    content = json.dumps(people, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def describe(source: Source) -> Iterable[Row]:
    """Each person in words."""
    scores = {row["profile_id"]: row for row in optional(source, "ml.scores", SCORES)}
    reasons = grouped(optional(source, "ml.score_reasons", REASONS))
    moments = grouped(source.rows(TIMELINE))
    verdicts = grouped(source.rows(VERDICTS))
    for row in source.rows(PEOPLE):
        profile_id = row["profile_id"]
        name = " ".join(filter(None, (row["first_name"], row["last_name"])))
        yield {
            "id": profile_id,
            "name": name,
            "who": [row[key] for key in ("email", "phone", "user_id") if row[key]],
            "facts": list(facts(source, row)),
            "scores": score_lines(
                source, scores.get(profile_id), reasons.get(profile_id, [])
            ),
            "moments": [
                [minute(moment["moment_at"]), moment_in_words(source, moment)]
                for moment in moments.get(profile_id, [])
            ],
            "verdicts": [
                verdict_cells(source, verdict)
                for verdict in verdicts.get(profile_id, [])
            ],
        }


def optional(source: Source, address: str, query: str) -> list[Row]:
    """The rows of a query on a table that not every home has."""
    return source.rows(query) if source.has(address) else []


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by profile, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["profile_id"], []).append(row)
    return groups


def facts(source: Source, row: Row) -> Iterable[str]:
    """How a person stands, a sentence each."""
    labels = source.labels
    if row["phase_name"]:
        yield (
            f"Phase {labels.of('phase', row['phase_name'])} since "
            f"{minute(row['entered_at'])}: {labels.of('phase_reason', row['reason'])}"
        )
    if row["rfm_segment"]:
        yield f"Segment {labels.of('segment', row['rfm_segment'])}"
    spent = source.money(row["revenue_amount"] or 0)
    yield f"{plural(row['order_count'] or 0, 'order')}, {spent}"


def score_lines(source: Source, scores: Row | None, reasons: list[Row]) -> list[Any]:
    """What a person is likely to do, who says so, and why."""
    if scores is None:
        return []
    lines = []
    for head in ("purchase", "churn"):
        value = scores[f"{head}_propensity"]
        if value is None:
            continue
        why = [row for row in reasons if row["target"].startswith(head)]
        target = why[0]["target"] if why else head
        by = "" if scores[f"{head}_scored_by"] == "estimator" else ", by plain numbers"
        lines.append(
            [
                f"{target_in_words(source, target)}: {percent(value)}{by}",
                [row["reason"] for row in why],
            ]
        )
    return lines


def moment_in_words(source: Source, moment: Row) -> str:
    """What happened, as a clause."""
    labels, kind, name, detail = (
        source.labels,
        moment["kind"],
        moment["name"],
        moment["detail"],
    )
    if kind == "phase":
        return f"Phase {labels.of('phase', name)}: {labels.of('phase_reason', detail)}"
    if kind == "order":
        return f"Ordered for {source.money(float(detail) if detail else None)}"
    if kind == "touch":
        about = f" ({labels.of('journey', moment['place'])})" if moment["place"] else ""
        return f"{labels.of('channel', name)}{about} {labels.of('interaction', detail)}"
    if kind == "entry":
        return (
            f"Entered {labels.of('journey', name)} for {labels.of('entry', detail)}; "
            f"{labels.of('assignment', moment['place'])}"
        )
    return f"Left {labels.of('journey', name)}: {labels.of('exit', detail)}"


def verdict_cells(source: Source, verdict: Row) -> list[str]:
    """A verdict as the cells of its line."""
    labels = source.labels
    reason = labels.of("reason", verdict["reason"])
    return [
        minute(verdict["as_of"]),
        labels.of("journey", verdict["journey"]),
        labels.of("step", verdict["step"]),
        labels.of("channel", verdict["channel"]),
        labels.of("verdict", verdict["verdict"]),
        f"{reason} ({verdict['value']})" if verdict["value"] else reason,
    ]
