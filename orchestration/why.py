"""Why a person gets a message or none: what was recorded of them, in plain words.

Reads tables and decides nothing: phase and what it stands on, journeys entered or not,
and each decision with every rule that stood against it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestration.labels import Labels
from orchestration.warehouse import Connection, fetch_frame, require_table

Row = dict[str, Any]

NEWEST = "select max(as_of) from raw.runs"

PERSONS = """
    select distinct profile_id from identity.identity_map
    where
        lower($text) in (
            lower(identifier), lower(identifier_type || ':' || identifier), profile_id
        )
    union
    select aliases.profile_id from identity.profile_aliases as aliases
    where aliases.former_profile_id = lower($text)
    order by profile_id
"""

IDENTIFIERS = """
    select identifier_type, identifier from identity.identity_map
    where profile_id = $profile_id
    order by identifier_type, identifier
"""

PHASE = """
    select
        phase_names.phase_name as phase,
        was.phase_name as previous_phase,
        changes.changed_at as since,
        changes.reason,
        changes.evidence_message_id
    from decisions.phase_changes as changes
    inner join seeds.phase_names as phase_names on changes.phase = phase_names.phase
    left join seeds.phase_names as was on changes.previous_phase = was.phase
    where changes.profile_id = $profile_id and changes.changed_at <= $as_of
    order by changes.change_number desc
    limit 1
"""

# Entries and exits are recorded and name who entered; of today's profile by merges.
ENTERED = """
    select
        entries.enrollment_id,
        entries.journey,
        entries.entered_at,
        entries.entry_reason,
        entries.evidence_message_id,
        entries.assignment,
        exits.exited_at,
        exits.exit_reason
    from decisions.entries as entries
    inner join identity.identity_map as identity_map
        on
            entries.identifier_type = identity_map.identifier_type
            and entries.identifier = identity_map.identifier
    left join decisions.enrollment_exits as exits
        on
            entries.enrollment_id = exits.enrollment_id
            and coalesce(exits.as_of, exits.exited_at) <= $as_of
    where identity_map.profile_id = $profile_id and entries.entered_at <= $as_of
    order by entries.entered_at desc, entries.enrollment_id asc
"""

JOURNEYS = """
    select
        journeys.journey,
        journeys.minimum_order_count,
        journeys.re_eligible_after_seconds,
        journeys.entry_cap,
        (
            select count(*) from decisions.entries
            where
                entries.journey = journeys.journey
                and entries.entered_at
                > $as_of - to_seconds(journeys.entry_cap_seconds)
        ) as recent_entry_count,
        profiles.order_count
    from staging.stg_journeys as journeys
    inner join profiles.profiles as profiles on profiles.profile_id = $profile_id
    order by journeys.priority, journeys.journey
"""

# A way into a journey is open where each of its tests is passed, and no negated one.
CONDITIONS = """
    select
        conditions.journey,
        conditions.alternative,
        conditions.test,
        conditions.is_negated,
        conditions.kind,
        coalesce(conditions.name, array_to_string(conditions.names, ' or ')) as name,
        max(facts.triggered_at) as passed_at,
        max(facts.trigger_value) as passed_by
    from staging.stg_conditions as conditions
    left join decisions.condition_facts as facts
        on
            conditions.journey = facts.journey
            and conditions.place = facts.place
            and conditions.alternative = facts.alternative
            and conditions.test = facts.test
            and facts.profile_id = $profile_id
    where conditions.place = 'entry' and conditions.kind <> 'without'
    group by all
    order by conditions.journey, conditions.alternative, conditions.test
"""

# The verdict that holds is the last one on a step and channel.
DECISIONS = """
    select decision_id, as_of, journey, step, channel, verdict, reason
    from decisions.decisions
    where list_contains($enrollment_ids, enrollment_id) and as_of <= $as_of
    qualify row_number() over (
        partition by enrollment_id, step, channel order by as_of desc, decision_id asc
    ) = 1
    order by as_of desc, journey asc, step asc, channel asc
"""

RULES = """
    select
        verdicts.decision_id,
        verdicts.rule,
        verdicts.verdict,
        rules.description,
        verdicts.value,
        verdicts.limit_value,
        verdicts.window_hours,
        verdicts.evidence_message_id,
        verdicts.counterfactual
    from decisions.rule_verdicts as verdicts
    left join seeds.decision_rules as rules on verdicts.rule = rules.rule
    where list_contains($decision_ids, verdicts.decision_id)
    order by rules.rule_order, verdicts.rule
"""


class WhyError(Exception):
    """Nobody, or more than one person, is meant."""


@dataclass(frozen=True)
class Answer:
    """What is known of one person at `as_of`, as rows of the tables it is read from.

    `journeys` hold `state` and, of those not entered, `why_not`; each of the
    `decisions` holds its `rules`, those that passed included.
    """

    profile_id: str
    as_of: datetime
    identifiers: list[Row]
    phase: Row | None
    journeys: list[Row]
    decisions: list[Row]
    labels: Labels

    def as_dict(self) -> Row:
        """For JSON: names as tables hold them."""
        return {key: value for key, value in asdict(self).items() if key != "labels"}


def explain(
    connection: Connection, person: str, as_of: datetime | None = None
) -> Answer:
    """What was decided for a person up to a moment, by default that of the newest run.

    `person` is any identifier, as `value` or `type:value`, or a profile's id, also one
    that it had. Why a journey was not entered is known of the newest run alone.

    Raises:
        WhyError: if there is no such person, or several.
        DatabaseError: if no run has decided anything yet.
    """
    require_table(connection, "decisions", "rule_verdicts")
    newest: datetime = fetch_frame(connection, NEWEST).item()
    moment = newest if as_of is None else as_of
    who = {"profile_id": find_profile(connection, person)}
    at = {**who, "as_of": moment}
    phases = fetch_frame(connection, PHASE, at).to_dicts()
    entered = fetch_frame(connection, ENTERED, at).to_dicts()
    decisions = fetch_frame(
        connection,
        DECISIONS,
        {"enrollment_ids": [row["enrollment_id"] for row in entered], "as_of": moment},
    ).to_dicts()
    rules = fetch_frame(
        connection,
        RULES,
        {"decision_ids": [row["decision_id"] for row in decisions]},
    ).to_dicts()
    for decision in decisions:
        decision["rules"] = [
            {key: value for key, value in rule.items() if key != "decision_id"}
            for rule in rules
            if rule["decision_id"] == decision["decision_id"]
        ]
    all_journeys, conditions = (
        fetch_frame(connection, query, parameters).to_dicts()
        if moment >= newest
        else []
        for query, parameters in ((JOURNEYS, at), (CONDITIONS, who))
    )
    return Answer(
        profile_id=who["profile_id"],
        as_of=moment,
        identifiers=fetch_frame(connection, IDENTIFIERS, who).to_dicts(),
        phase=phases[0] if phases else None,
        journeys=list(describe_journeys(entered, all_journeys, conditions, moment)),
        decisions=decisions,
        labels=Labels.read(connection),
    )


def find_profile(connection: Connection, person: str) -> str:
    """The id of the profile that is meant by any identifier, or by a profile's id.

    Raises:
        WhyError: if there is no such person, or several.
    """
    found = fetch_frame(connection, PERSONS, {"text": person.strip()})["profile_id"]
    if found.is_empty():
        raise WhyError(f"no run knows {person!r} as an identifier or a profile")
    if len(found) > 1:
        raise WhyError(
            f"{person!r} is {len(found)} persons, of several types of identifier: say "
            f"type:value, or one of {', '.join(found)}"
        )
    return str(found.item())


def describe_journeys(
    entered: list[Row], journeys: list[Row], conditions: list[Row], as_of: datetime
) -> Iterator[Row]:
    """Each entry with its state; each journey the person is not in, with why not."""
    last: dict[str, Row] = {}
    for entry in entered:
        last.setdefault(entry["journey"], entry)
        yield {
            **entry,
            "state": "active" if entry["exited_at"] is None else "exited",
            "why_not": None,
        }
    for journey in journeys:
        former = last.get(journey["journey"])
        if former is None or former["exited_at"] is not None:
            asked = [row for row in conditions if row["journey"] == journey["journey"]]
            yield {
                "journey": journey["journey"],
                "state": "not entered" if former is None else "not entered again",
                "why_not": "; ".join(obstacles(journey, asked, former, as_of))
                or "every condition holds, or did too long ago: the next run decides",
            }


def obstacles(
    journey: Row, conditions: list[Row], entry: Row | None, as_of: datetime
) -> Iterator[str]:
    """What keeps a person from a journey, on the way in that lacks least."""
    ways: dict[int, list[str]] = {}
    for test in conditions:
        lacking = ways.setdefault(test["alternative"], [])
        what = " ".join(filter(None, (test["kind"], test["name"])))
        if test["is_negated"] and test["passed_at"] is not None:
            lacking.append(f"{test['passed_by']} since {minute(test['passed_at'])}")
        elif not test["is_negated"] and test["passed_at"] is None:
            lacking.append(f"no {what}")
    yield from min(ways.values(), key=len, default=[])
    if journey["order_count"] < journey["minimum_order_count"]:
        yield f"{journey['order_count']} orders, not {journey['minimum_order_count']}"
    cap = journey["entry_cap"]
    if cap is not None and journey["recent_entry_count"] >= cap:
        yield f"{cap} people, as many as may begin in this time, began already"
    if entry is not None:
        pause = timedelta(seconds=journey["re_eligible_after_seconds"] or 0)
        if entry["entered_at"] + pause > as_of:
            yield f"again from {minute(entry['entered_at'] + pause)} on"


def in_words(answer: Answer) -> Iterator[str]:
    """The answer, line by line."""
    labels = answer.labels
    names = ", ".join(
        f"{row['identifier_type']} {row['identifier']}" for row in answer.identifiers
    )
    yield f"Profile {answer.profile_id} as of {minute(answer.as_of)} UTC: {names}"
    if answer.phase is None:
        yield "Phase: none yet"
    else:
        before = answer.phase["previous_phase"]
        yield (
            f"Phase: {labels.of('phase', answer.phase['phase'])} since "
            f"{minute(answer.phase['since'])}: "
            f"{labels.of('phase_reason', answer.phase['reason'])}"
            f"{evidence(answer.phase)}"
            + (f", before that {labels.of('phase', before)}" if before else "")
        )
    yield "Journeys:"
    for row in answer.journeys:
        journey = labels.of("journey", row["journey"])
        if row["why_not"] is not None:
            yield f"  {journey}: {row['state']}: {row['why_not']}"
            continue
        left = (
            f", left {minute(row['exited_at'])}: "
            f"{labels.of('exit', row['exit_reason'])}"
            if row["exited_at"]
            else ""
        )
        yield (
            f"  {journey}: entered {minute(row['entered_at'])} for "
            f"{labels.of('entry', row['entry_reason'])}{evidence(row)}, "
            f"{labels.of('assignment', row['assignment'])}{left}"
        )
    yield "Decisions:" if answer.decisions else "Decisions: none"
    for decision in answer.decisions:
        where = (
            f"{labels.of('journey', decision['journey'])}, "
            f"{labels.of('step', decision['step'])} by "
            f"{labels.of('channel', decision['channel'])}"
        )
        said = labels.of("verdict", decision["verdict"])
        if decision["reason"] != "due":
            said += f": {labels.of('reason', decision['reason'])}"
        yield f"  {minute(decision['as_of'])} {where}: {said}"
        for rule in decision["rules"]:
            if rule["verdict"] != "passed":
                yield f"    {describe_rule(rule, labels)}"


def describe_rule(rule: Row, labels: Labels) -> str:
    """A rule that stands against a message, by what, and what would hold without it."""
    saw = f" ({rule['value']})" if rule["value"] else ""
    otherwise = rule["counterfactual"]
    without = {
        None: "the step would choose its channel anew",
        "due": "it would go",
    }.get(otherwise, f"it would be “{labels.of('reason', otherwise)}”")
    return (
        f"{labels.of('reason', rule['rule'])}: "
        f"{rule['description'] or 'a rule of earlier runs'}{saw}"
        f"{evidence(rule)}; without it {without}"
    )


def minute(moment: datetime) -> str:
    """A moment as people read it."""
    return f"{moment:%Y-%m-%d %H:%M}"


def evidence(row: Row) -> str:
    """The message that proves it, if one does."""
    message_id = row["evidence_message_id"]
    return f" [{message_id}]" if message_id else ""
