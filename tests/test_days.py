"""Runs of day after day hold what one run over all of it holds, row for row."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from tests.conftest import Event, TestHome
from tests.resolving import Journal, assert_same_tables, resolve

START = datetime.fromisoformat("2026-03-01")
DAYS = int(os.environ.get("REKINDLE_TEST_DAYS", "6"))
"""Runs; each takes seconds."""
TAKES_IN = (
    *("config.materialized:by_message", "stg_run", "stg_event_names"),
    *("stg_phone_numbers", "stg_message_events", "stg_identity_rules", "identity"),
)
"""What a run adds to, and what that reads; all else is made anew by any run."""

SAYINGS: dict[str, dict[str, Any]] = {
    "Product Viewed": {"product_id": "p1", "sku": "s1", "price": "12,50"},
    "Product Added": {"cart_id": "c1", "product_id": "p2", "quantity": 2},
    "Checkout Started": {"order_id": "o1", "revenue": 20},
    "Order Completed": {"order_id": "o1", "total": 25, "products": [{"sku": "s1"}]},
    "Coupon Applied": {"coupon_id": "SPRING"},
    "Email Opened": {"campaign_id": "spring", "email": "who@days.example"},
    "Unsubscribed": {"channel": "email", "email": "who@days.example"},
    "SMS Reply": {"from": "+49 30 901820", "body": "stop"},
    "Experiment Viewed": {"experiment_id": "e1", "variation_id": "b"},
    "Ticket Opened": {"ticket_id": "t1", "score": "9"},
    "Something Odd": {"preferences": {"email": "no", "sms": True}},
}


def write_days(dice: np.random.Generator) -> list[list[Event]]:
    """What lands on each day: of that day, late, again, from clocks that are wrong."""
    log, lands_on = Journal("day"), list[int]()
    for day in range(DAYS):
        for _ in range(int(dice.integers(4, 9))):
            at = START + timedelta(days=day, minutes=int(dice.integers(0, 1440)))
            person = int(10 * dice.random() ** 2)
            who: dict[str, Any] = {"browser": f"browser-{person}"}
            if dice.random() < 0.4:
                who["user"] = f"user-{person // 2}"
            if dice.random() < 0.2:
                email = f"mail-{person // 3}@days.example"
                log.identify(
                    at, traits={"email": email, "phone": f"030 9018{person}2"}, **who
                )
            else:
                event = str(dice.choice(list(SAYINGS)))
                log.add(at, event, SAYINGS[event], **who)
            line = log.events[-1]
            wait = timedelta(days=float(dice.choice([0, 0, 0, 1.2, 6])))
            received_at = at + wait + timedelta(seconds=1)
            line["receivedAt"] = received_at.isoformat() + "Z"
            if dice.random() < 0.1:
                ahead = at + timedelta(days=float(dice.integers(1, 9)))
                line["timestamp"] = ahead.isoformat() + "Z"
            lands_on.append(day + int(dice.choice([0, 0, 0, 1, 4])))
    days: list[list[Event]] = [[] for _ in range(DAYS)]
    for line, day in zip(log.events, lands_on, strict=True):
        days[min(day, DAYS - 1)].append(line)
        if dice.random() < 0.15:
            again = dict(line)
            if dice.random() < 0.5:
                received_at = datetime.fromisoformat(line["receivedAt"][:-1])
                earlier = received_at - timedelta(milliseconds=400)
                again["receivedAt"] = earlier.isoformat() + "Z"
            days[min(day + int(dice.integers(0, 5)), DAYS - 1)].append(again)
    superseding = {**days[3][0], "userId": "user-9"}
    superseding["receivedAt"] = START.isoformat() + "Z"
    days[DAYS * 2 // 3].append(superseding)
    return days


def test_runs_of_many_days_hold_what_one_run_holds(
    new_home: Callable[[str], TestHome],
) -> None:
    home, other = new_home("days"), new_home("days_at_once")
    layers: tuple[str, ...] = ("path:seeds", *TAKES_IN)
    for day, events in enumerate(write_days(np.random.default_rng(20260301))):
        home.land(events, f"{day:02}.ndjson")
        as_of = START + timedelta(days=day + 1)
        if day in (DAYS // 3, DAYS // 2):
            home.settings.seeds.mkdir(parents=True, exist_ok=True)
            denied = "deny,user_id,user-1,anonymous_id,browser-2,\n" * (
                day == DAYS // 3
            )
            (home.settings.seeds / "identity_rules.csv").write_text(
                "rule,identifier_type,identifier,linked_identifier_type,"
                f"linked_identifier,reason\n{denied}"
            )
            layers = ("identity_rules", *TAKES_IN)
        resolve(home, as_of, layers)
        layers = TAKES_IN
    taken = home.read("select batch_seq, count(*) from staging.stg_events group by 1")
    assert taken.height > 1

    for folder in ("landing", "config"):
        shutil.copytree(
            home.settings.root / folder,
            other.settings.root / folder,
            dirs_exist_ok=True,
        )
    resolve(home, as_of)
    resolve(other, as_of)
    assert_same_tables(home, other, ("staging", "identity", "profiles"))
