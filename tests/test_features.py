"""Features know nothing of what comes at their cutoff or later; labels nothing else."""

import random
from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median, pstdev
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.dbt import DBT_FOLDER
from orchestration.warehouse import Warehouse, fetch_frame, replace_table
from tests.conftest import TestHome, moment
from tests.resolving import dbt

AS_OF = moment("2026-06-10T14:35:07")
TRAINED_AT = moment("2026-06-04")
HORIZONS = (30, 90)
HORIZON = timedelta(days=HORIZONS[0])
CUTOFFS = [AS_OF, *(TRAINED_AT - back * HORIZON for back in (1, 2, 3, 4, 6, 9))]
MODELS = (
    *("cutoffs", "activities", "activity_hours", "profile_cutoffs", "order_rhythms"),
    *("features", "labels"),
)
OLDEST_AT = CUTOFFS[-1] - HORIZON
PERSONS = ("ann", "bob", "hub")
STAGING: dict[str, dict[str, Any]] = {
    "stg_product_views": {"action": pl.String},
    "stg_cart_events": {"action": pl.String},
    "stg_checkout_events": {"action": pl.String},
    "stg_coupons": {"action": pl.String},
    "stg_message_events": {"interaction": pl.String, "is_machine": pl.Boolean},
    "stg_service_events": {"kind": pl.String},
    "stg_order_events": {"action": pl.String, "revenue_amount": pl.Int64},
    "stg_refunds": {"base_refund_amount": pl.Int64},
}
FACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "product_view": ("stg_product_views", {"action": "viewed"}),
    "cart_add": ("stg_cart_events", {"action": "added"}),
    "cart_remove": ("stg_cart_events", {"action": "removed"}),
    "checkout": ("stg_checkout_events", {"action": "started"}),
    "coupon": ("stg_coupons", {"action": "applied"}),
    "click": ("stg_message_events", {"interaction": "clicked", "is_machine": False}),
    "open": ("stg_message_events", {"interaction": "opened", "is_machine": False}),
    "scan": ("stg_message_events", {"interaction": "opened", "is_machine": True}),
    "issue": ("stg_service_events", {"kind": "ticket_opened"}),
    "order": ("stg_order_events", {"action": "completed"}),
    "refund": ("stg_order_events", {"action": "refunded"}),
    "cancellation": ("stg_order_events", {"action": "cancelled"}),
}


class Event(NamedTuple):
    """One thing that happened to one person."""

    kind: str
    person: str
    at: datetime
    amount: int


Build = Callable[[list[Event]], dict[str, pl.DataFrame]]

moments = st.one_of(
    st.integers(-3 * 86_400, 200 * 86_400).map(
        lambda seconds: AS_OF - timedelta(seconds=seconds)
    ),
    st.builds(
        lambda cutoff, shift: cutoff + timedelta(seconds=shift),
        st.sampled_from(CUTOFFS),
        st.integers(-1, 1),
    ),
)
histories = st.lists(
    st.builds(
        Event,
        st.sampled_from([*FACTS, "order", "order", "session", "identify"]),
        st.sampled_from(PERSONS),
        moments,
        st.integers(0, 90),
    ),
    unique=True,
    max_size=30,
)


def seed(name: str) -> pl.DataFrame:
    return pl.read_csv(DBT_FOLDER / "seeds" / f"{name}.csv")


RULES = seed("profile_rules").row(0, named=True)


def tables_of(events: list[Event]) -> dict[str, pl.DataFrame]:
    """What the feature models read, as staging and identity would hold it.

    As in staging, what an order is worth and whether it stands is known with
    hindsight: a cancellation of a person undoes all its orders here.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in STAGING}
    sessions, orders = [], []
    # old enough for every cutoff to have a horizon of history before it
    profile_events = [
        {"message_id": "oldest", "profile_id": "hub", "occurred_at": OLDEST_AT}
    ]
    undone = {event.person for event in events if event.kind == "cancellation"}
    for event in events:
        message_id = "/".join(map(str, event))
        if event.kind == "session":
            sessions.append({"profile_id": event.person, "started_at": event.at})
            continue
        profile_events.append(
            {
                "message_id": message_id,
                "profile_id": event.person,
                "occurred_at": event.at,
            }
        )
        if event.kind in FACTS:
            table, fact = FACTS[event.kind]
            rows[table].append(
                {"message_id": message_id, "revenue_amount": event.amount, **fact}
            )
        if event.kind == "refund":
            rows["stg_refunds"].append(
                {"message_id": message_id, "base_refund_amount": event.amount}
            )
        if event.kind == "order":
            orders.append(
                {
                    "message_id": message_id,
                    "ordered_at": event.at,
                    "source": "store" if event.amount % 2 else "online",
                    "status": "cancelled" if event.person in undone else "completed",
                    "currency": "USD",
                }
            )
    stamp = pl.Datetime("us")
    text = pl.String
    return {
        "staging.stg_run": pl.DataFrame(
            {
                "as_of": [AS_OF],
                "training_cutoff_at": [TRAINED_AT],
                "horizons_days": [list(HORIZONS)],
            }
        ),
        "staging.stg_exchange_rates": pl.DataFrame({"currency": ["USD"], "rate": [1]}),
        "identity.profile_events": pl.DataFrame(
            profile_events,
            {"message_id": text, "profile_id": text, "occurred_at": stamp},
        ),
        "profiles.sessions": pl.DataFrame(
            sessions, {"profile_id": text, "started_at": stamp}
        ),
        "profiles.profiles": pl.DataFrame(
            {"profile_id": PERSONS, "is_hub": [name == "hub" for name in PERSONS]}
        ),
        "staging.stg_orders": pl.DataFrame(
            orders,
            {
                "message_id": text,
                "ordered_at": stamp,
                "source": text,
                "status": text,
                "currency": text,
            },
        ),
        **{
            f"staging.{name}": pl.DataFrame(rows[name], {"message_id": text, **columns})
            for name, columns in STAGING.items()
        },
        **{
            f"seeds.{name}": seed(name)
            for name in ("training_cutoffs", "profile_rules")
        },
    }


@pytest.fixture(scope="module")
def build(new_home: Callable[[str], TestHome]) -> Build:
    """Runs the compiled models over made-up events and reads what they hold."""
    home = new_home("features")
    compiled = dbt(home, "compile", "--select", *MODELS) / "profiles"
    queries = {name: (compiled / f"{name}.sql").read_text() for name in MODELS}
    warehouse = Warehouse(home.settings.warehouse)

    def build_models(events: list[Event]) -> dict[str, pl.DataFrame]:
        with warehouse.connect() as connection:
            connection.execute("create schema if not exists seeds")
            for table, frame in tables_of(events).items():
                replace_table(connection, table, frame)
            for name, query in queries.items():
                connection.execute(
                    f"create or replace table profiles.{name} as {query}"
                )
            return {
                name: fetch_frame(
                    connection,
                    f"select * from profiles.{name} order by all",
                )
                for name in ("features", "labels")
            }

    return build_models


def around(cutoff_at: datetime, *, before: bool) -> st.SearchStrategy[list[Event]]:
    """Some events of two persons, all before a cutoff or all from it on."""
    seconds = st.one_of(st.integers(0, 2), st.integers(0, 120 * 86_400))
    return st.lists(
        st.builds(
            Event,
            st.sampled_from(["order", "order", "cancellation", "session", *FACTS]),
            st.sampled_from(["ann", "ann", "bob"]),
            seconds.map(
                lambda passed: (
                    cutoff_at - timedelta(seconds=passed + 1)
                    if before
                    else cutoff_at + timedelta(seconds=passed)
                )
            ),
            st.integers(0, 90),
        ),
        unique=True,
        min_size=3,
        max_size=12,
    )


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(CUTOFFS))
def test_what_happens_from_a_cutoff_on_changes_no_feature_of_it(
    build: Build, data: st.DataObject, cutoff_at: datetime
) -> None:
    past = data.draw(around(cutoff_at, before=True))
    future = data.draw(around(cutoff_at, before=False))
    at_cutoff = pl.col("cutoff_at") == cutoff_at
    with_future = build(past + future)["features"].filter(at_cutoff)
    known = {event.person for event in past}
    assert set(with_future["profile_id"]) == known
    assert with_future.equals(build(past)["features"].filter(at_cutoff))


@settings(max_examples=5, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_the_order_of_events_changes_no_feature_and_no_label(
    build: Build, history: list[Event], dice: random.Random
) -> None:
    built = build(history)
    again = build(dice.sample(history, len(history)))
    assert all(built[name].equals(again[name]) for name in built)


@settings(max_examples=25, deadline=None)
@given(histories)
def test_features_and_labels_equal_a_count_by_hand(
    build: Build, history: list[Event]
) -> None:
    built = build(history)
    features = {
        (row["profile_id"], row["cutoff_at"]): row
        for row in built["features"].iter_rows(named=True)
    }
    expected = {
        (person, cutoff_at): describe(history, person, cutoff_at)
        for person in PERSONS[:-1]
        for cutoff_at in CUTOFFS
        if any(event.person == person and event.at < cutoff_at for event in history)
    }
    assert features.keys() == expected.keys()
    for key, row in expected.items():
        assert {name: features[key][name] for name in row} == row
    labels = {
        (row["profile_id"], row["cutoff_at"], row["target"]): row["has_happened"]
        for row in built["labels"].iter_rows(named=True)
    }
    assert labels == {
        (person, cutoff_at, target): has_happened
        for (person, cutoff_at), row in expected.items()
        if cutoff_at != AS_OF
        for target, has_happened in label(
            history, person, cutoff_at, row["churn_cycle_days"]
        )
    }


def near(number: float, most: str = "0.0001") -> Any:
    """A decimal that differs by rounding alone."""
    return pytest.approx(Decimal(str(number)), abs=Decimal(most))


def describe(history: list[Event], person: str, cutoff_at: datetime) -> dict[str, Any]:
    """Features of one person at one cutoff, counted in plain Python."""
    past = [event for event in history if event.person == person]
    past = [event for event in past if event.at < cutoff_at]

    def of(*kinds: str) -> list[Event]:
        return [event for event in past if event.kind in kinds]

    def since(days: int, *kinds: str) -> int:
        begins_at = cutoff_at - timedelta(days=days)
        return sum(
            event.at.replace(minute=0, second=0) >= begins_at for event in of(*kinds)
        )

    def age(found: list[Event], choose: Callable[[Any], datetime] = max) -> int | None:
        if not found:
            return None
        return (cutoff_at - choose(event.at for event in found)).days

    orders = of("order")
    days: dict[datetime, int] = {}
    for event in sorted(orders, key=lambda order: order.at):
        day = datetime.combine(event.at, time())
        days[day] = days.get(day, 0) + event.amount
    gaps = [(later - earlier).days for earlier, later in pairwise(days)]
    first, last = (min(days), max(days)) if days else (None, None)
    spent = sum(event.amount for event in orders)
    cycle = RULES["churn_cycle_default_days"]
    if gaps:
        cycle = -(-RULES["churn_cycle_gap_multiple"] * median(gaps) // 1)
        cycle = max(cycle, RULES["churn_cycle_min_days"])
        cycle = min(cycle, RULES["churn_cycle_max_days"])
    return {
        "days_since_first_seen": age(past, min),
        "days_since_last_seen": age(past),
        "days_since_last_session": age(of("session")),
        "days_since_last_order": age(orders),
        "order_count": len(orders),
        "store_order_count": sum(event.amount % 2 for event in orders),
        "refund_count": len(of("refund")),
        "cancellation_count": len(of("cancellation")),
        "coupon_count": len(of("coupon")),
        "revenue_amount": spent - sum(event.amount for event in of("refund")),
        "order_day_count": len(days),
        "order_month_count": len({(day.year, day.month) for day in days}),
        "orders_per_30d": near(
            30 * len(days) / ((cutoff_at - first).days + 30) if first else 0
        ),
        "overdue_ratio": near((age(orders) or 0) / (median(gaps) + 1))
        if gaps
        else None,
        "days_since_first_order": (cutoff_at - first).days if first else None,
        "days_from_first_to_last_order": (last - first).days if first else None,
        "days_between_orders": median(gaps) if gaps else None,
        "last_days_between_orders": gaps[-1] if gaps else None,
        "longest_days_between_orders": max(gaps, default=None),
        "spread_days_between_orders": near(pstdev(gaps), "0.051") if gaps else None,
        "first_order_amount": days.get(first),
        "last_order_amount": days.get(last),
        "largest_order_amount": max(days.values(), default=None),
        **{
            f"order_{window}d_{unit}": sum(
                amount if unit == "amount" else 1
                for day, amount in days.items()
                if day >= cutoff_at - timedelta(days=window)
            )
            for window in (7, 14, 30, 60, 90, 180, 365)
            for unit in ("count", "amount")
        },
        "churn_cycle_days": cycle,
        **{
            f"{kind}_{days}d_count": since(days, kind)
            for kind in ("session", "product_view", "cart_add", "checkout")
            for days in (7, 30, 90)
        },
        "online_order_90d_count": since(90, "order")
        - sum(
            event.amount % 2
            for event in orders
            if event.at.replace(minute=0, second=0) >= cutoff_at - timedelta(days=90)
        ),
        "message_click_90d_count": since(90, "click"),
        "message_open_90d_count": since(90, "open"),
        "service_issue_90d_count": since(90, "issue"),
    }


def label(
    history: list[Event], person: str, cutoff_at: datetime, cycle_days: int
) -> list[tuple[str, bool]]:
    """What one person did from a cutoff on, as far as it was known when training."""
    mine = [event for event in history if event.person == person]
    stands = not any(event.kind == "cancellation" for event in mine)
    windows = [(f"purchase_{days}d", days) for days in HORIZONS]
    outcomes = []
    for target, days in (*windows, ("churn", cycle_days)):
        end = cutoff_at + timedelta(days=int(days))
        has_ordered = stands and any(
            event.kind == "order" and cutoff_at <= event.at < end for event in mine
        )
        if end <= TRAINED_AT:
            outcomes.append((target, has_ordered != (target == "churn")))
    return outcomes
