"""What happens to accounts: imports, sign-ups, permissions, service, rare events."""

import numpy as np
import polars as pl

from orchestration.sources.sample.dice import Dice, Flags, Ints, names
from orchestration.sources.sample.event_log import EventLog
from orchestration.sources.sample.fragments import gather, join, json_object
from orchestration.sources.sample.people import CHANNELS, IMPORTED, SERVER, People

HOUR = 3_600_000
HIGH_STAKES = ("Transfer Completed", "Loan Application Submitted", "Account Locked")
#: the law under which each channel's marketing goes out
BASES = ("consent", "consent", "consent", *["legitimate_interest"] * 3, "consent")


def keep_accounts(
    log: EventLog,
    dice: Dice,
    people: People,
    consents: Flags,
    day: int,
    opens_at: Ints | int,
) -> Flags:
    """Take down the day's account events; returns the consents after it."""
    persons = np.arange(len(people))
    today = dice.child("account day", people.key, day)
    consents = consents.copy()
    if day == 0:
        imported = np.flatnonzero(people.joins_on == IMPORTED)
        _import(log, dice, people, imported, opens_at)
    joining = people.joins_on == (IMPORTED if day == 0 else day)
    if day == 0:
        joining |= people.joins_on == 0
    asked = joining & ~dice.chance("never asked", people.key, 0.06)
    at = opens_at + (dice.between("joined at", today, 20.5, 23.9) * HOUR).astype(int)
    at = np.where(people.joins_on == IMPORTED, opens_at + HOUR, at)
    for column in range(len(CHANNELS)):
        rows = np.flatnonzero(asked)
        granted = consents[rows, column]
        _consent(log, dice, people, "joins", rows, column, granted, at[rows], day)
    rows = np.flatnonzero(asked)
    for purpose, basis in (
        ("transactional", "contract"),
        ("analytics", "consent"),
    ):
        _tell_consent(
            log, dice, people, purpose, rows, "email", purpose,
            np.ones(len(rows), dtype=bool), basis, at[rows], day,
        )  # fmt: skip

    member = people.is_member(persons, day)
    changes = member & dice.chance("changes mind", today, 0.0012)
    column = dice.whole("which channel", today, 0, 3)
    for channel in range(3):
        rows = np.flatnonzero(changes & (column == channel))
        granted = ~consents[rows, channel]
        consents[rows, channel] = granted
        at = opens_at + (dice.between("changed at", today, 0, 24) * HOUR).astype(int)
        _consent(log, dice, people, "changes", rows, channel, granted, at[rows], day)

    _rare_events(log, dice, people, member, today, opens_at)
    return consents


def _import(
    log: EventLog, dice: Dice, people: People, rows: Ints, opens_at: Ints | int
) -> None:
    """The old customer file: who was a member before the world begins."""
    context = join(gather(people.contexts[SERVER], rows), "}")
    spread = dice.between("import", people.key[rows], 0, 0.5) * HOUR
    user_id = gather(people.user_id, rows)
    log.add(
        dice.bits("event import", people.key[rows]),
        opens_at + spread.astype(np.int64),
        "identify",
        user_id=user_id,
        context=context,
        traits=gather(people.traits, rows),
    )
    in_household = people.household[rows] >= 0
    rows, user_id = rows[in_household], user_id.filter(pl.Series(in_household))
    group = join("household-", pl.Series(people.household[rows].astype(str)))
    log.add(
        dice.bits("event group", people.key[rows]),
        opens_at + np.full(len(rows), HOUR * 2),
        "group",
        user_id=user_id,
        context=context.filter(pl.Series(in_household)),
        properties=json_object(len(rows), groupId=group),
    )


def _consent(
    log: EventLog,
    dice: Dice,
    people: People,
    why: str,
    rows: Ints,
    column: int,
    granted: Flags,
    at: Ints,
    day: int,
) -> None:
    channel = CHANNELS[column]
    _tell_consent(
        log, dice, people, f"{why} {channel}", rows, channel, "marketing", granted,
        BASES[column], at, day,
    )  # fmt: skip


def _tell_consent(
    log: EventLog,
    dice: Dice,
    people: People,
    what: str,
    rows: Ints,
    channel: str,
    purpose: str,
    granted: Flags,
    basis: str,
    at: Ints,
    day: int,
) -> None:
    key = dice.child(f"event consent {what}", people.key[rows], day)
    log.add(
        key,
        at + (dice.uniform("consent second", key) * 60_000).astype(np.int64),
        "track",
        "Channel Consent Updated",
        user_id=gather(people.user_id, rows),
        context=join(gather(people.contexts[SERVER], rows), "}"),
        properties=json_object(
            len(rows),
            channel=channel,
            purpose=purpose,
            status=gather(pl.Series(["denied", "granted"]), granted),
            lawful_basis=basis,
            policy_version="2026-04" if day >= 60 else "2025-09",
        ),
    )


def _rare_events(
    log: EventLog,
    dice: Dice,
    people: People,
    member: Flags,
    today: Ints,
    opens_at: Ints | int,
) -> None:
    """High stakes now and then, and a call to support about something else."""
    at = opens_at + (dice.between("rare at", today, 0, 24) * HOUR).astype(np.int64)
    which = dice.whole("which rare", today, 0, len(HIGH_STAKES))
    strikes = member & dice.chance("rare", today, 0.0012)
    ticket = names(dice.bits("account ticket", today), "tk-", 10)
    calls = member & dice.chance("calls", today, 0.0008)
    solved = calls & dice.chance("call solved", today, 0.85)
    solved_at = at + (dice.between("solved after", today, 3, 90) * HOUR).astype(
        np.int64
    )
    for event, mask, when, is_ticket in (
        *(
            (name, strikes & (which == n), at, False)
            for n, name in enumerate(HIGH_STAKES)
        ),
        ("Support Ticket Opened", calls, at, True),
        ("Support Ticket Resolved", solved, solved_at, True),
    ):
        rows = np.flatnonzero(mask)
        properties = (
            json_object(len(rows), ticket_id=gather(ticket, rows), topic="account")
            if is_ticket
            else json_object(len(rows), source="gift_card_account")
        )
        log.add(
            dice.bits(f"event account {event}", today[rows]),
            when[rows],
            "track",
            event,
            user_id=gather(people.user_id, rows),
            context=join(gather(people.contexts[SERVER], rows), "}"),
            properties=properties,
        )
