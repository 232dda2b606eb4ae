"""What happens to accounts: imports, sign-ups, permissions, service, rare events."""

from dataclasses import dataclass

import numpy as np

from orchestration.sources.sample.dice import Flags, Ints, Keys, names
from orchestration.sources.sample.fragments import (
    constant,
    digits,
    gather,
    join,
    json_object,
    text,
)
from orchestration.sources.sample.people import CHANNELS, IMPORTED, SERVER
from orchestration.sources.sample.scene import HOUR, MINUTE, Scene, in_milliseconds

HIGH_STAKES = ("Transfer Completed", "Loan Application Submitted", "Account Locked")
#: the law under which each channel's marketing goes out
BASES = ("consent", "consent", "consent", *["legitimate_interest"] * 3, "consent")
#: the day from which the shop asks under a new policy
NEW_POLICY_FROM = 60


def keep_accounts(scene: Scene, consents: Flags) -> Flags:
    """Take down the day's account events; returns the consents after it."""
    dice, people, day = scene.dice, scene.people, scene.day
    joins = people.joins_on == day
    at = scene.within("joined at", dice.child("account day", people.key, day), 20.5, 24)
    if day == 0:
        imported = people.joins_on == IMPORTED
        _import(scene, np.flatnonzero(imported))
        at = np.where(imported, scene.opens_at + HOUR, at)
        joins |= imported
    asked = np.flatnonzero(joins & ~dice.chance("never asked", people.key, 0.06))
    for column, channel in enumerate(CHANNELS):
        answers = Answers(asked, consents[asked, column], at[asked])
        _emit_answers(scene, answers, channel, "marketing", BASES[column])
    everyone = Answers(asked, np.ones(len(asked), dtype=bool), at[asked])
    _emit_answers(scene, everyone, "email", "transactional", "contract")
    _emit_answers(scene, everyone, "email", "analytics", "consent")

    today = dice.child("account day", people.key, day)
    member = people.is_member(np.arange(len(people)), day)
    consents = _change_minds(scene, consents, member, today)
    _rare_events(scene, member, today)
    return consents


@dataclass(frozen=True)
class Answers:
    """What persons answered when they were asked for permission."""

    person: Ints
    is_granted: Flags
    at: Ints


def _import(scene: Scene, rows: Ints) -> None:
    """The old customer file: who was a member before the world begins."""
    dice, people = scene.dice, scene.people
    key = people.key[rows]
    scene.log.add(
        dice.bits("event import", key),
        scene.within("import", key, 0, 0.5),
        "identify",
        None,
        user_id=gather(people.user_id, rows),
        context=join(gather(people.contexts[SERVER], rows), "}"),
        traits=gather(people.traits, rows),
    )
    rows = rows[people.household[rows] >= 0]
    scene.log.add(
        dice.bits("event group", people.key[rows]),
        scene.within("group", people.key[rows], 2, 3),
        "group",
        None,
        user_id=gather(people.user_id, rows),
        context=join(gather(people.contexts[SERVER], rows), "}"),
        properties=json_object(
            len(rows), groupId=join("household-", digits(people.household[rows]))
        ),
    )


def _emit_answers(
    scene: Scene, answers: Answers, channel: str, purpose: str, basis: str
) -> None:
    people, rows = scene.people, answers.person
    what = f"event consent {channel} {purpose}"
    key = scene.dice.child(what, people.key[rows], scene.day)
    pause = scene.dice.uniform("consent second", key)
    is_new = scene.day >= NEW_POLICY_FROM
    scene.log.add(
        key,
        answers.at + in_milliseconds(pause, MINUTE),
        "track",
        "Channel Consent Updated",
        user_id=gather(people.user_id, rows),
        context=join(gather(people.contexts[SERVER], rows), "}"),
        properties=json_object(
            len(rows),
            channel=channel,
            purpose=purpose,
            status=gather(text(["denied", "granted"]), answers.is_granted),
            lawful_basis=basis,
            policy_version="2026-04" if is_new else "2025-09",
        ),
    )


def _change_minds(scene: Scene, consents: Flags, member: Flags, today: Keys) -> Flags:
    """Now and then somebody allows or forbids a channel in the preference centre."""
    dice, consents = scene.dice, consents.copy()
    member = member & (scene.people.joins_on != scene.day) & (scene.day > 0)
    changes = member & dice.chance("changes mind", today, 0.0012)
    which = dice.whole("which channel", today, 0, 3)
    at = scene.within("changed at", today, 0, 24)
    for column in range(3):
        rows = np.flatnonzero(changes & (which == column))
        consents[rows, column] ^= True
        answers = Answers(rows, consents[rows, column], at[rows])
        _emit_answers(scene, answers, CHANNELS[column], "marketing", BASES[column])
    return consents


def _rare_events(scene: Scene, member: Flags, today: Keys) -> None:
    """High stakes now and then, and a call to support about something else."""
    dice, people = scene.dice, scene.people
    at = scene.within("rare at", today, 0, 24)
    strikes = member & dice.chance("rare", today, 0.0012)
    which = dice.whole("which rare", today, 0, len(HIGH_STAKES))
    calls = member & dice.chance("calls", today, 0.0008)
    solved = calls & dice.chance("call solved", today, 0.85)
    solved_at = at + in_milliseconds(dice.between("solved after", today, 3, 90), HOUR)
    ticket_id = names(dice.bits("account ticket", today), "tk-", 10)
    calls_and_tickets = [
        *((name, strikes & (which == n), at) for n, name in enumerate(HIGH_STAKES)),
        ("Support Ticket Opened", calls, at),
        ("Support Ticket Resolved", solved, solved_at),
    ]
    for event, mask, when in calls_and_tickets:
        rows = np.flatnonzero(mask)
        is_ticket = event not in HIGH_STAKES
        ticket = gather(ticket_id, rows) if is_ticket else constant(len(rows), None)
        scene.log.add(
            dice.bits(f"event account {event}", today[rows]),
            when[rows],
            "track",
            event,
            user_id=gather(people.user_id, rows),
            context=join(gather(people.contexts[SERVER], rows), "}"),
            properties=json_object(len(rows), source="account", ticket_id=ticket),
        )
