"""All that a home holds of one person, as JSON for programs and as a page to read.

Every table that names people is in `SECTIONS`, or in `NOT_GIVEN` with the reason.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from activations.ledger import opened_copy
from orchestration.backup import write_private
from orchestration.erasure_plan import (
    IDENTIFIERS,
    PROFILE_IDS,
    spellings_of,
    tables_of,
)
from orchestration.settings import Settings
from orchestration.sources.redaction import Person
from orchestration.warehouse import (
    Connection,
    Warehouse,
    fetch_frame,
    has_table,
    require_table,
)
from orchestration.why import NEWEST, Answer, explain, find_profile, in_words

Row = dict[str, Any]

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Who you are": {
        "identity.identity_map": "Identifiers that are taken for yours.",
        "profiles.profiles": "What they add up to.",
        "profiles.stated_traits": "What you, or a shop for you, stated of yourself.",
        "profiles.addresses": "Where messages could reach you.",
        "profiles.app_devices": "Devices with the app.",
        "profiles.habits": "Where and on what you are usually.",
        "identity.identity_merges": "When identifiers were found to be of one person.",
        "identity.identity_conflicts": "Links between identifiers that were refused.",
    },
    "What you allowed": {
        "profiles.consents": "Each permission, its lawful basis and its message.",
        "profiles.contact_points": "Whether each address may and can be used.",
        "profiles.delivery_problems": "Addresses that took no message.",
        "profiles.overrides": "What somebody decided for a group that you are in.",
        "profiles.audience_members": "Groups that you are in.",
    },
    "What you did": {
        "raw.events": "Each event as it was received.",
        "raw.rejected_events": "Lines that name you and could not be read.",
        "profiles.sessions": "Visits.",
        "profiles.cart_items": "What is in your cart.",
    },
    "What you ordered": {
        "staging.stg_orders": "Orders.",
        "staging.stg_order_lines": "Their products.",
        "staging.stg_refunds": "Refunds.",
        "profiles.purchase_histories": "What the orders come to.",
        "profiles.order_rhythms": "How often you order.",
        "profiles.order_cycles": "When you may order next.",
        "profiles.missteps": "What went wrong, and whether it was put right.",
    },
    "What was concluded": {
        "profiles.rfm": "How lately, how often and for how much you ordered.",
        "profiles.rfm_changes": "How that changed.",
        "profiles.intents": "What you seem to be about to do.",
        "profiles.active_intents": "All of these.",
        "profiles.considerations": "Products that you compared.",
        "profiles.affinities": "Categories that you like.",
        "profiles.brand_affinities": "Brands that you like.",
        "profiles.product_affinities": "Products that you like.",
        "profiles.interests": "What this was read from.",
        "profiles.next_products": "Products that would be suggested.",
        "profiles.channel_engagements": "Where you answer messages.",
        "profiles.channel_features": "The same in numbers.",
        "profiles.send_time_engagements": "When you answer messages.",
        "profiles.features": "What scores are computed from.",
        "profiles.labels": "What scores were learnt from.",
    },
    "Scores, and why": {
        "ml.scores": "How likely you are to buy and to leave.",
        "ml.horizon_scores": "The same by days ahead.",
        "ml.score_reasons": "What raised and lowered them.",
        "ml.channel_scores": "Where you are likely to answer.",
        "ml.send_time_scores": "When you are likely to answer.",
    },
    "Where you stand": {
        "decisions.phases": "The phase of the relationship.",
        "decisions.phase_changes": "How it changed, and by what.",
    },
    "Journeys and decisions": {
        "decisions.enrollments": "Flows of messages that you are or were in.",
        "decisions.entries": "How each began.",
        "decisions.enrollment_exits": "How each ended.",
        "decisions.decisions": "Each message that was decided on.",
        "decisions.rule_verdicts": "The rules that looked at it, and what they saw.",
        "attribution.experiment_exposures": "Experiments that you were part of.",
        "attribution.lift_entries": "Whether you were in a control group.",
    },
    "What was sent, and what you answered": {
        "decisions.send_list": "Each message that was to go out, and what with.",
        "activations.sends": "What became of it.",
        "activations.guard_stops": "What was kept back in the last moment.",
        "profiles.message_threads": "What came back of it.",
    },
    "What messages are held to have earned": {
        "attribution.touchpoints": "Contacts by message or campaign.",
        "attribution.conversions": "Orders that they are held against.",
        "attribution.credits": "Which is given how much of which order.",
        "attribution.paths": "The contacts before an order, in their order.",
        "attribution.profile_performance": "The sum of it.",
        "attribution.lift_outcomes": "What you did after an experiment began.",
    },
}
NOT_GIVEN: Mapping[str, tuple[str, ...]] = {
    "reads what raw.events holds, word for word": (
        *("staging.stg_cart_events", "staging.stg_checkout_events"),
        *("staging.stg_consent_updates", "staging.stg_coupons", "staging.stg_events"),
        *("staging.stg_experiments", "staging.stg_high_stakes_events"),
        *("staging.stg_identifiers", "staging.stg_identify_calls"),
        *("staging.stg_message_events", "staging.stg_order_completions"),
        *("staging.stg_order_events", "staging.stg_page_views"),
        *("staging.stg_phone_numbers", "staging.stg_product_views"),
        *("staging.stg_service_events", "profiles.activity_hours"),
        *("profiles.cart_messages", "profiles.product_interactions"),
        "profiles.session_events",
        *("profiles.session_campaigns", "identity.profile_events"),
        "profiles.intent_signals",
    ),
    "says the same of identifiers as identity.identity_map": (
        *("identity.identifier_activity", "identity.identifier_set_members"),
        *("identity.identifiers", "identity.profile_aliases"),
        *("profiles.profile_identifiers", "profiles.mail_addresses"),
        "identity.erased_profiles",
    ),
    "compares what is said of names and addresses, of people who may be others": (
        *("identity.match_candidates", "identity.match_records"),
    ),
    "is written by people of the shop, not learnt of anybody": (
        *("staging.stg_identity_rules", "seeds.identity_rules"),
        "raw.own_identity_rules",
    ),
    "says of sends what activations.sends does, channel by channel or as a run began": (
        *("activations.direct_mail", "activations.email", "activations.in_app"),
        *("activations.onsite", "activations.paid_retargeting", "activations.push"),
        *("activations.sms", "raw.sends", "staging.stg_sends"),
    ),
    "is what a run computes on its way to the decisions, and forgets": (
        *("decisions.candidates", "decisions.condition_facts"),
        *("decisions.consent_blocks", "decisions.deliverable_sends"),
        *("decisions.due_steps", "decisions.enrollment_progress"),
        *("decisions.entry_matches", "decisions.local_zones", "decisions.open_steps"),
        *("decisions.possible_sends", "decisions.reach_blocks"),
        *("decisions.recent_contacts", "decisions.send_payloads"),
        *("decisions.send_products", "decisions.verdicts"),
        *("profiles.condition_events", "profiles.condition_traits"),
        "profiles.profile_cutoffs",
    ),
    "is what a run computes on its way to the phases": (
        *("decisions.derived_phase_signals", "decisions.inactivity_timers"),
        *("decisions.phase_evidence", "decisions.phase_inputs"),
    ),
    "is what a run computes on its way to the touchpoints": (
        *("attribution.message_interactions", "attribution.message_touches"),
        *("attribution.session_touches", "attribution.paths_to_conversion"),
        "attribution.paths_to_non_conversion",
    ),
}
PERSON_COLUMNS = frozenset(
    {
        *("identifier", "linked_identifier", "refused_identifier", "user_id"),
        *("anonymous_id", "device_id", "device_token", "advertising_id", "email"),
        *("phone", "address"),
    }
)
"""Columns by which a table names a person, beside all that end in `profile_id`."""

# How the rows of a table are found, by the first of these columns that it has.
ROWS_BY = {
    "profile_id": "list_contains($profile_ids, profile_id)",
    "winner_profile_id": (
        "list_contains($profile_ids, winner_profile_id) "
        "or list_contains($profile_ids, loser_profile_id)"
    ),
    "entry_profile_id": (
        "(identifier_type, identifier) in (select (identifier_type, identifier) "
        "from identity.identity_map where list_contains($profile_ids, profile_id))"
    ),
    "identifier": (
        "(identifier_type, identifier) in (select (identifier_type, identifier) "
        "from identity.identity_map where list_contains($profile_ids, profile_id))"
    ),
    "message_id": (
        "message_id in (select message_id from identity.profile_events "
        "where list_contains($profile_ids, profile_id))"
    ),
    "enrollment_id": (
        "enrollment_id in (select enrollment_id from decisions.enrollments "
        "where list_contains($profile_ids, profile_id))"
    ),
    "decision_id": (
        "decision_id in (select decision_id from decisions.decisions "
        "where list_contains($profile_ids, profile_id))"
    ),
}
BY_SEND = """
    send_id in (
        select send_id from decisions.send_list
        where list_contains($profile_ids, profile_id)
    )
"""
OTHER_ROWS = {"activations.guard_stops": BY_SEND}
REJECTED = "raw.rejected_events"


class ExportError(Exception):
    """What a person is to be given cannot be written, said in one line."""


@dataclass(frozen=True)
class Export:
    """All of one person: rows by table, in sections; the ledger; why, in words."""

    profile_id: str
    as_of: datetime
    sections: dict[str, dict[str, list[Row]]]
    ledger: list[Row]
    why: Answer

    def __repr__(self) -> str:
        return f"Export({self.row_count} rows)"

    @property
    def row_count(self) -> int:
        """How many rows it holds."""
        return len(self.ledger) + sum(
            len(rows) for tables in self.sections.values() for rows in tables.values()
        )

    def as_dict(self) -> Row:
        """For JSON."""
        return {
            "profile_id": self.profile_id,
            "as_of": f"{self.as_of.isoformat()}Z",
            "tables": {
                table: rows
                for tables in self.sections.values()
                for table, rows in tables.items()
            },
            "ledger": self.ledger,
            "why": self.why.as_dict(),
            "left_out": {
                table: reason
                for reason, tables in NOT_GIVEN.items()
                for table in tables
            },
        }


def export(settings: Settings, person: str) -> Export:
    """All that the home holds of the person that an identifier or profile id names.

    Raises:
        WhyError: if there is no such person, or several.
        DatabaseError: if no run has decided anything yet.
    """
    with Warehouse.of(settings).connect(read_only=True) as connection:
        require_table(connection, "decisions", "rule_verdicts")
        profile_id = find_profile(connection, person)
        who = {"profile_id": profile_id}
        profile_ids = fetch_frame(connection, PROFILE_IDS, who)["profile_id"].to_list()
        identifiers = set(fetch_frame(connection, IDENTIFIERS, who).rows())
        known = Person(frozenset(spellings_of(connection, profile_id)))
        columns = tables_of(connection)
        sections = {
            title: {
                table: rows_of(connection, table, columns[table], profile_ids, known)
                for table in tables
                if has_table(connection, *table.split(".")) and table in columns
            }
            for title, tables in SECTIONS.items()
        }
        as_of = fetch_frame(connection, NEWEST).item()
        answer = explain(connection, profile_id)
    return Export(
        profile_id,
        as_of,
        sections,
        sends_of(settings, profile_ids, identifiers),
        answer,
    )


def rows_of(
    connection: Connection,
    table: str,
    columns: Mapping[str, str],
    profile_ids: list[str],
    known: Person,
) -> list[Row]:
    """The rows of a table that are the person's."""
    if table == REJECTED:
        rows = fetch_frame(
            connection,
            f"select * from {table} where regexp_matches(raw, $hint, 'i')",
            {"hint": known.hint.pattern},
        )
        return [row for row in rows.to_dicts() if known.forget_line(row["raw"]) is None]
    condition = OTHER_ROWS.get(table) or next(
        rule for column, rule in ROWS_BY.items() if column in columns
    )
    return fetch_frame(
        connection,
        f"select * from {table} where {condition} order by all",
        {"profile_ids": profile_ids},
    ).to_dicts()


def sends_of(
    settings: Settings, profile_ids: list[str], identifiers: set[tuple[str, str]]
) -> list[Row]:
    """The rows of the ledger, with addresses and what waits to be said."""
    if not settings.ledger.exists():
        return []
    with opened_copy(settings.ledger) as ledger:
        return ledger.rows(set(ledger.sends_of(set(profile_ids), identifiers)))


def write_export(settings: Settings, exported: Export, folder: Path) -> list[Path]:
    """Write `person.json` and `person.html` into a new folder, for its owner alone.

    Raises:
        ExportError: if the folder lies in the home, is not empty or cannot be written.
    """
    folder = folder.expanduser().resolve()
    if folder.is_relative_to(settings.root):
        raise ExportError(f"{folder} lies in the home; name a folder outside")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is not empty; name a new folder")
    content = json.dumps(exported.as_dict(), default=str, ensure_ascii=False, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        written = [folder / "person.json", folder / "person.html"]
        write_private(written[0], content.encode())
        write_private(written[1], page(exported).encode())
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}") from None
    return written


STYLE = """
    body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
        padding: 0 1rem; color-scheme: light dark }
    table { border-collapse: collapse; font-size: 13px }
    th, td { border: 1px solid #8886; padding: .2rem .5rem; text-align: left;
        vertical-align: top; overflow-wrap: anywhere }
    div { overflow-x: auto } code, pre { font-size: 12px } pre { white-space: pre-wrap }
"""


def page(exported: Export) -> str:
    """The export as one HTML page that needs nothing else."""
    parts = [
        Markup(
            "<h1>What we hold of you</h1><p>Profile <code>{}</code>, {} UTC.</p>"
        ).format(exported.profile_id, f"{exported.as_of:%Y-%m-%d %H:%M}"),
    ]
    for title, tables in exported.sections.items():
        parts.append(Markup("<h2>{}</h2>").format(title))
        for table, rows in tables.items():
            described = SECTIONS[title][table]
            parts.append(
                Markup("<h3>{} <code>{}</code></h3>").format(described, table)
                + as_table(rows)
            )
    parts += [
        Markup("<h2>The ledger of what was sent</h2>") + as_table(exported.ledger),
        Markup("<h2>Why, in words</h2><pre>{}</pre>").format(
            "\n".join(in_words(exported.why))
        ),
        Markup("<h2>What is not repeated here</h2><ul>"),
        *(
            Markup("<li><code>{}</code>: {}</li>").format(table, reason)
            for reason, tables in NOT_GIVEN.items()
            for table in tables
        ),
        Markup("</ul>"),
    ]
    return Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<title>What we hold of you</title><style>{}</style>{}</html>\n"
    ).format(Markup(STYLE), Markup("\n").join(parts))


def as_table(rows: list[Row]) -> Markup:
    """Rows as an HTML table, without the columns that are empty in all of them."""
    names = [
        name
        for name in (rows[0] if rows else ())
        if any(row[name] is not None for row in rows)
    ]
    if not names:
        return Markup("<p>Nothing.</p>")
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td>{}</td>").format("" if row[name] is None else row[name])
                for name in names
            )
        )
        for row in rows
    )
    return Markup("<div><table><tr>{}</tr>{}</table></div>").format(head, body)
