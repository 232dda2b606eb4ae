"""The sample world: the same for the same seed, true to its truth, complete in kind."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration.sources.sample import SEND_SCHEMA, World, write_sample
from orchestration.sources.sample.landing import envelope
from orchestration.sources.sample.people import CHANNELS

SEMANTIC_EVENTS = {
    "browse": "Products Searched, Product List Viewed, Product Clicked, Product Viewed",
    "cart": "Product Added, Product Removed, Cart Viewed, Checkout Started, "
    "Checkout Step Viewed, Checkout Step Completed, Payment Info Entered, "
    "Product Added to Wishlist, Price Checked",
    "order": "Order Completed, Order Updated, Order Refunded, Order Cancelled",
    "coupon, mail, review": "Coupon Applied, Coupon Redeemed, Direct Mail Delivered, "
    "Product Reviewed, Product Shared",
    "email": "Email Sent, Email Delivered, Email Opened, Email Link Clicked, "
    "Email Bounced, Email Marked as Spam, Unsubscribed",
    "push": "Push Notification Sent, Push Notification Received, "
    "Push Notification Tapped, Push Notification Bounced",
    "sms": "SMS Sent, SMS Delivered, SMS Link Clicked, SMS Failed, SMS Stopped",
    "in-app, onsite": "In-App Message Shown, In-App Message Clicked, Ad Impression, "
    "Ad Clicked",
    "consent": "Segment Consent Preference Updated, Channel Consent Updated",
    "service": "Support Ticket Opened, Support Ticket Resolved, Delivery Delayed, "
    "NPS Submitted, Referral Sent, Referral Converted",
    "high stakes": "Transfer Completed, Loan Application Submitted, Account Locked",
    "experiment": "Experiment Viewed",
}


@dataclass(frozen=True)
class History:
    """Some weeks of the world: the events that arrived, and the truth about them."""

    world: World
    events: pl.DataFrame
    orders: pl.DataFrame
    messages: pl.DataFrame

    def named(self, event: str) -> pl.DataFrame:
        return self.events.filter(pl.col("event") == event)

    def properties(self, event: str) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.named(event)["properties"]]


@pytest.fixture(scope="module")
def history() -> History:
    world = World.create(seed=11, customers=6_000, start=date(2026, 3, 28))
    events, orders, messages = [], [], []
    for day in range(28):
        events.append(world.step(day, broadcasts=True))
        orders.append(world.orders)
        messages.append(world.messages)
    return History(world, pl.concat(events), pl.concat(orders), pl.concat(messages))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, customers=150, days=11, seed=3)
    return out


def read_landing(landing: Path) -> Iterator[dict[str, Any]]:
    """Every good line, with the names of the spec."""
    for path in sorted(landing.rglob("*.*")):
        if path.suffix == ".parquet":
            for row in pl.read_parquet(path).iter_rows(named=True):
                nested = ("context", "properties", "traits")
                yield row | {name: json.loads(row[name] or "null") for name in nested}
            continue
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for line in content.splitlines():
            try:
                row = json.loads(line.decode())
            except ValueError:
                continue
            if path.suffix == ".jsonl":
                row = {camel(name): value for name, value in row.items()}
            if "messageId" in row and ("userId" in row or "anonymousId" in row):
                yield row


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


def sends_to(world: World, persons: list[int], channel: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "send_id": [f"send-{channel}-{person}" for person in persons],
            "channel": channel,
            "journey": "cart_recovery",
            "step": "push",
            "content_id": "cart-1",
            "identifier_type": "user_id",
            "identifier": [f"u-{person:06d}" for person in persons],
            "sent_at": world.as_of(world.day - 1).replace(tzinfo=None),
        },
        schema=SEND_SCHEMA,
    )


def live(
    world: World, days: int, persons: list[int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and order truth of some days; the persons get everything on the first."""
    events, orders = [], []
    for day in range(days):
        parts = [sends_to(world, persons, channel) for channel in CHANNELS]
        sends = pl.concat(parts) if persons and day == 0 else None
        events.append(world.step(world.day, sends))
        orders.append(world.orders)
    return pl.concat(events), pl.concat(orders)


def grown_world(customers: int = 800) -> World:
    world = World.create(seed=5, customers=customers)
    for day in range(3):
        world.step(day, broadcasts=True)
    return world


def members(world: World) -> list[int]:
    return [
        person
        for person in range(world.customers)
        if world.people.joins_on[person] < world.day
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, customers=150, days=11, seed=3)
    assert files_of(tmp_path) == files_of(sample)


def test_another_seed_gives_another_world(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_sample(tmp_path / str(seed), customers=50, days=2, seed=seed)
    one, other = (
        files_of(tmp_path / str(seed) / "landing").values() for seed in (1, 2)
    )
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_the_calendar_is_an_argument(tmp_path: Path) -> None:
    write_sample(tmp_path, customers=50, days=3, seed=1, end=date(2025, 1, 2))
    times = [row["receivedAt"] for row in read_landing(tmp_path / "landing")]
    assert min(times) >= "2024-12-30T20:00:00.000Z"
    assert "2025-01-02T00:00:00.000Z" <= max(times) < "2025-01-02T20:00:00.000Z"


def test_a_saved_world_goes_on_as_if_it_had_never_been_saved(tmp_path: Path) -> None:
    world = grown_world(400)
    live(world, 2, members(world))
    world.save(tmp_path / "world.npz")
    saved = World.load(tmp_path / "world.npz")
    for _ in range(3):
        sends = sends_to(world, members(world)[:100], "push")
        assert saved.step(saved.day, sends).equals(world.step(world.day, sends))
        assert saved.orders.equals(world.orders)
        assert saved.messages.equals(world.messages)


def test_days_follow_one_another() -> None:
    world = World.create(seed=1, customers=20)
    with pytest.raises(ValueError, match="at day 0, not at day 3"):
        world.step(3)


def test_sends_without_their_columns_are_refused() -> None:
    world = World.create(seed=1, customers=20)
    with pytest.raises(ValueError, match="identifier_type"):
        world.step(0, pl.DataFrame({"send_id": ["a"]}))


def test_whom_nobody_messages_lives_the_same_life_whoever_else_is_messaged() -> None:
    quiet, busy = grown_world(), grown_world()
    messaged = members(busy)[::2]
    ids = busy.people.identifiers(busy.dice, busy.day + 6).filter(
        pl.col("person").is_in(messaged)
    )["identifier"]
    is_other = ~pl.col("user_id").fill_null("").is_in(ids.implode()) & ~pl.col(
        "anonymous_id"
    ).fill_null("").is_in(ids.implode())
    before, _ = live(quiet, 6, [])
    after, _ = live(busy, 6, messaged)
    assert after.height > before.height
    assert after.filter(is_other).equals(before.filter(is_other))


def test_messages_add_exactly_what_the_truth_says_they_cause() -> None:
    quiet, busy = grown_world(), grown_world()
    messaged = members(busy)
    _, before = live(quiet, 6, [])
    _, after = live(busy, 6, messaged)
    lived = after.filter(pl.col("outcome") != "displaced")
    added = set(lived["order_id"]) - set(before["order_id"])
    caused = lived.filter(pl.col("caused_by").str.starts_with("send-"))
    assert added == set(caused["order_id"]) != set()
    lost = set(before["order_id"]) - set(lived["order_id"])
    displaced = set(after.filter(pl.col("outcome") == "displaced")["order_id"])
    assert lost == displaced & set(before["order_id"])


def test_a_cart_that_a_message_sold_is_not_bought_again() -> None:
    world = World.create(seed=2, customers=3_000)
    for day in range(3):
        world.step(day)
    owners = world.carts.filter(pl.col("returns_at") > 0)["person"].to_list()
    owners = sorted(set(owners) & set(members(world)))
    _, orders = live(world, 3, owners)
    displaced = orders.filter(pl.col("outcome") == "displaced")
    assert displaced.height > 0
    placed = orders.filter(pl.col("outcome") != "displaced")
    assert not set(displaced["order_id"]) & set(placed["order_id"])
    assert set(displaced["caused_by"]) <= set(placed["caused_by"])


def test_reactions_name_the_send_they_answer_and_its_step() -> None:
    world = grown_world()
    events, _ = live(world, 6, members(world))
    answers = events.filter(pl.col("properties").str.contains('"send_id"'))
    seen = [json.loads(text) for text in answers["properties"]]
    assert {row["channel"] for row in seen} == set(CHANNELS)
    for row in seen:
        assert row["send_id"].startswith(f"send-{row['channel']}-")
        assert (row["campaign_id"], row["step"]) == ("cart_recovery", "push")
    campaigns = events.filter(pl.col("context").str.contains('"source":"rekindle"'))
    assert campaigns.height > 0
    sent = events.filter(pl.col("event").str.ends_with("Sent"))
    assert not sent["properties"].str.contains('"send_id"').any()


def test_history_and_the_closed_loop_react_in_the_same_events(history: History) -> None:
    world = grown_world()
    live(world, 1, members(world))
    events, _ = live(world, 5, [])
    answers = events.filter(pl.col("properties").str.contains('"send_id"'))
    assert set(answers["event"]) <= set(history.events["event"])


def test_unsubscribed_persons_no_longer_answer() -> None:
    world = grown_world()
    world.consents[:] = False
    world.step(world.day, sends_to(world, members(world), "email"))
    assert world.messages.filter(pl.col("campaign_id") == "cart_recovery").height > 0
    assert not world.messages["has_engaged"].any()


@pytest.mark.parametrize("group", SEMANTIC_EVENTS)
def test_every_semantic_event_occurs(history: History, group: str) -> None:
    wanted = set(SEMANTIC_EVENTS[group].split(", "))
    assert wanted <= set(history.events["event"].drop_nulls())


def test_every_kind_of_call_occurs(history: History) -> None:
    kinds = {"track", "identify", "page", "screen", "alias", "group"}
    assert set(history.events["type"]) == kinds


def test_broadcasts_name_their_campaign_and_no_send(history: History) -> None:
    for row in history.properties("Email Delivered"):
        assert row.keys() >= {"email_id", "campaign_id", "campaign_name", "channel"}
        assert "send_id" not in row


def test_a_fifth_is_held_out_of_each_broadcast_at_random(history: History) -> None:
    people = history.world.people
    could = people.has_email & people.consents[:, 0]
    could &= ~people.is_never_messaged & (people.joins_on < 0)
    email = history.messages.filter(pl.col("channel") == "email")
    for _, campaign in email.group_by("campaign_id"):
        share = could[campaign["person_id"].to_numpy()].sum() / could.sum()
        assert 0.75 < share < 0.83


def test_some_mail_is_opened_by_machines(history: History) -> None:
    opens = history.named("Email Opened")
    says_so = opens["properties"].str.contains('"machine_open":true').sum()
    by_proxy = opens["context"].str.contains('"userAgent":"Mozilla/5.0"').sum()
    assert 0.2 < says_so / opens.height < by_proxy / opens.height < 0.8


def test_some_events_arrive_twice_some_late_and_some_without_a_time(
    history: History,
) -> None:
    events = history.events
    doubles = events.height - events["message_id"].n_unique()
    assert 0.004 < doubles / events.height < 0.012
    delay = events["received_at"] - events["at"]
    assert 0.015 < (delay > 60_000).sum() / events.height < 0.04
    assert (delay > 24 * 3_600_000).sum() > 0
    assert (delay < 0).sum() == 0
    timeless = envelope(events)["timestamp"].is_null().sum()
    assert 0.001 < timeless / events.height < 0.01


def test_a_skewed_clock_can_be_set_right(history: History) -> None:
    skewed = history.events.filter(pl.col("skew") != 0)
    times = envelope(skewed).with_columns(
        pl.col("originalTimestamp", "sentAt", "receivedAt").str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms"
        )
    )
    elapsed = pl.col("sentAt") - pl.col("originalTimestamp")
    real = times.select((pl.col("receivedAt") - elapsed).dt.epoch("ms")).to_series()
    assert real.to_list() == skewed["at"].to_list()


def test_message_ids_differ_but_for_doubles(history: History) -> None:
    facts = history.events.drop("sent_at", "received_at", "skew").unique()
    assert facts.height == history.events["message_id"].n_unique()


def test_every_line_is_read_back_and_broken_ones_are_extra(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, customers=1_500, days=10, seed=4)
    assert summary.broken_lines > 3
    assert sum(1 for _ in read_landing(tmp_path / "landing")) == summary.events
    suffixes = {path.suffix for path in (tmp_path / "landing").rglob("*.*")}
    assert suffixes == {".gz", ".ndjson", ".jsonl", ".parquet"}
    assert (summary.customers, summary.days) == (1_500, 10)


def test_orders_in_the_truth_are_the_orders_that_arrive(history: History) -> None:
    lived = history.orders.filter(pl.col("outcome") != "displaced")
    revenue = dict(lived.select("order_id", "revenue_amount").iter_rows())
    told = {
        row["order_id"]: row["revenue"] for row in history.properties("Order Completed")
    }
    assert told.items() <= revenue.items()
    assert len(told) > 0.98 * len(revenue)
    caused = set(history.orders["caused_by"].drop_nulls())
    assert caused
    assert caused <= set(history.messages["message"])


def test_a_households_tablet_is_seen_with_two_users(history: History) -> None:
    users = (
        history.events.filter(pl.col("anonymous_id").str.starts_with("h-"))
        .drop_nulls("user_id")
        .group_by("anonymous_id")
        .agg(pl.col("user_id").n_unique())
    )
    assert users["user_id"].max() == 2


def test_people_use_several_devices_and_browse_before_they_log_in(
    history: History,
) -> None:
    known = history.events.drop_nulls(["user_id", "anonymous_id"])
    devices = known.group_by("user_id").agg(
        pl.col("anonymous_id").str.slice(0, 2).n_unique()
    )
    assert (devices["anonymous_id"] > 1).sum() > 0.1 * devices.height
    before = history.events.filter(pl.col("user_id").is_null()).join(
        known, on="anonymous_id", how="semi"
    )
    assert before.height > 0


def test_a_story_is_told_in_order(history: History) -> None:
    """Cart, checkout, payment, order: nobody pays before there is a cart."""
    steps = ["Product Added", "Checkout Started", "Payment Info Entered"]
    session = pl.col("context").str.extract('"sessionId":"([^"]+)"')
    first = (
        history.events.filter(pl.col("event").is_in([*steps, "Order Completed"]))
        .with_columns(session=session)
        .drop_nulls("session")
        .group_by("session")
        .agg(
            pl.col("at").filter(pl.col("event") == name).min().alias(name)
            for name in (*steps, "Order Completed")
        )
    )
    for earlier, later in pairwise([*steps, "Order Completed"]):
        both = first.drop_nulls([earlier, later])
        assert both.height > 0
        assert (both[earlier] < both[later]).all()


def test_carts_are_left_shortly_before_the_day_ends_and_some_are_bought_later(
    history: History,
) -> None:
    world = history.world
    ends_at = int(world.as_of(world.day - 1).timestamp() * 1000)
    fresh = world.carts.filter(pl.col("left_at") > ends_at - 12 * 3_600_000)
    assert fresh.height > 10
    assert 0.1 < (world.carts["returns_at"] > 0).sum() / world.carts.height < 0.5


def test_the_truth_lies_beside_the_landing_folder(sample: Path) -> None:
    assert {path.name for path in sample.iterdir()} == {"landing", "truth"}
    kinds = {"persons.parquet", "identifiers.parquet", "effects.parquet"}
    assert {path.name for path in (sample / "truth").iterdir()} == kinds | {
        "orders",
        "messages",
    }
    assert not [path for path in sample.rglob("*") if path.name.startswith(".")]
