"""The doctor's numbers are those of the tables, and each trouble is found."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from orchestration import doctor
from orchestration.doctor import Health, examine, find_troubles, in_words, span
from orchestration.labels import Labels
from orchestration.settings import Settings
from orchestration.warehouse import Connection, Warehouse
from tests.conftest import TestHome


@pytest.fixture
def health(demo_home: TestHome) -> Health:
    return examine(demo_home.settings)


@pytest.fixture(scope="module")
def spoilt(demo_home: TestHome, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A copy of the demo's tables; each test takes back what it changes."""
    path = tmp_path_factory.mktemp("doctor") / "warehouse.duckdb"
    shutil.copyfile(demo_home.settings.published, path)
    return Warehouse(path)


def test_every_channel_knows_of_an_order_with_the_first_run_after_it(
    demo_home: TestHome, health: Health
) -> None:
    runs = sorted(demo_home.read("select as_of from raw.runs")["as_of"])
    orders = demo_home.read("""
        select conversions.converted_at, events.received_at
        from attribution.conversions
        inner join staging.stg_orders as orders using (order_id)
        inner join raw.events as events on orders.message_id = events.message_id
    """)
    spans = pl.Series(
        [
            (next(run for run in runs if run >= received) - happened).total_seconds()
            for happened, received in orders.iter_rows()
            if received > runs[0]
        ]
    )
    known = health.latencies["known_after"]
    assert known["count"] == len(spans) > 0
    for name, value in (
        ("p50", spans.median()),
        ("p95", spans.quantile(0.95, "linear")),
        ("max", spans.max()),
    ):
        assert known[name] == pytest.approx(value, abs=1e-3)
    assert health.latencies["landed_after"]["count"] == len(spans)


def test_the_example_of_a_branch_is_a_message_that_nobody_answered(
    demo_home: TestHome, health: Health
) -> None:
    example = health.branches["example"]
    sends = demo_home.read("select * from activations.sends where state = 'sent'")
    both = sends.filter(
        (pl.col("enrollment_id") == example["enrollment_id"])
        & pl.col("step").is_in([example["previous_step"], example["step"]])
    ).sort("sent_at")
    assert both["step"].to_list() == [example["previous_step"], example["step"]]
    touch = demo_home.read("select send_id, interaction from attribution.touchpoints")
    met = dict(touch.iter_rows()).get(both["send_id"][0], "sent")
    assert met == example["previous_interaction"] not in ("clicked", "session")
    steps = demo_home.read("select * from staging.stg_journey_steps")
    assert health.branches["journey_count"] == (
        steps.filter("is_escalation")["journey"].n_unique()
    )


def test_the_touches_of_the_last_orders_share_each_of_them_whole(
    demo_home: TestHome, health: Health
) -> None:
    newest = demo_home.read("select * from attribution.conversions").sort(
        "converted_at", descending=True
    )
    last = newest.head(doctor.LAST_ORDERS)
    assert {order["conversion_id"] for order in health.drivers} == set(
        last["conversion_id"]
    )
    for order in health.drivers:
        credit = sum(touch["credit"] for touch in order["touches"])
        assert credit == pytest.approx(1) or not order["touches"]
    assert any(order["touches"] for order in health.drivers)


def test_the_demo_needs_no_hand_and_both_outputs_say_the_same(
    demo_home: TestHome, health: Health
) -> None:
    words = demo_home.rekindle("doctor").stdout
    assert words.splitlines() == [
        line
        if not line.startswith("Disk:")
        else next(shown for shown in words.splitlines() if shown.startswith("Disk:"))
        for line in in_words(health)
    ]
    assert "Needs a hand: nothing" in words
    told = json.loads(demo_home.rekindle("doctor", "--json").stdout)
    assert told["troubles"] == []
    assert told["latencies"] == health.latencies
    assert told["branches"]["journey_count"] == health.branches["journey_count"]


def pending(connection: Connection) -> None:
    connection.execute(
        "update activations.sends set state = 'pending' where send_id in "
        "(select send_id from activations.sends order by as_of, send_id limit 3)"
    )


TROUBLES: dict[str, tuple[str | Callable[[Connection], None], str, str]] = {
    "silent source": (
        "delete from raw.events where event = 'Order Completed' and received_at > "
        "(select as_of - interval 5 days from staging.stg_run)",
        "no Order Completed since 2026-06-2",
        "landing",
    ),
    "blocked journey": (
        "insert into raw.journey_problems (journey, file, reason) "
        "values ('win_back', 'win_back.yml', 'it has a slip')",
        "Win back is set aside: win_back.yml: it has a slip",
        "rekindle check",
    ),
    "mute journey": (
        "delete from activations.sends where journey = 'win_back'",
        "Win back has sent nothing to ",
        "Ask for an address",
    ),
    "blocked audience": (
        "update raw.audiences set mistake = 'no such trait'",
        "staff is set aside: no such trait",
        "rekindle check",
    ),
    "unknown values": (
        "insert into staging.not_understood (kind, value, count, suggestion) values "
        "('event_name', 'Ordr Completed', 3, 'Order Completed'), "
        "('order_id', 'jane@example.com', 2, null)",
        "2 values were not understood, most often event_name Ordr Completed (3 times)",
        "Is it Order Completed?",
    ),
    "unknown values of somebody": (
        "insert into staging.not_understood (kind, value, count) "
        "values ('order_id', 'jane@example.com', 2)",
        "1 value was not understood, most often order_id (2 times)",
        "staging.not_understood",
    ),
    "pending sends": (
        pending,
        "3 wait, the oldest since 2026-06-29 20:00",
        "destination",
    ),
    "dead sends": (
        "update activations.sends set state = 'dead', reason = 'gave_up'",
        "could not be sent",
        "rekindle retry",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_trouble_is_found_with_what_to_do(spoilt: Warehouse, name: str) -> None:
    change, found, advice = TROUBLES[name]
    with spoilt.connect() as connection:
        if isinstance(change, str):
            connection.execute(change)
        else:
            change(connection)
        troubles = list(find_troubles(connection, Labels.read(connection)))
        connection.execute("rollback")
        connection.execute("begin")
    assert "jane" not in str(troubles)
    assert [
        trouble
        for trouble in troubles
        if found in trouble.found and advice in trouble.advice
    ], troubles


def test_a_full_disk_and_a_clock_that_nobody_winds_need_a_hand(
    demo_home: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, _env_file=None)
    settings.published.parent.mkdir()
    settings.published.symlink_to(demo_home.settings.published)
    as_of = examine(demo_home.settings).as_of
    disk = {"free_bytes": 2, "total_bytes": 9, "warehouse_bytes": 1}
    monkeypatch.setattr(doctor, "measure_disk", lambda _settings: disk)
    monkeypatch.setattr(doctor, "wall_clock", lambda: as_of + timedelta(days=3))
    topics = [trouble.topic for trouble in examine(settings).troubles]
    assert topics == ["disk", "no run"]
    monkeypatch.setattr(doctor, "wall_clock", lambda: as_of)
    disk["free_bytes"] = 3
    assert not examine(settings).troubles


def test_a_home_that_needs_a_hand_ends_the_command_with_one(
    demo_home: TestHome, home: TestHome
) -> None:
    refused = home.rekindle("doctor", check=False)
    assert refused.returncode
    assert "`rekindle run` makes it" in refused.stderr
    home.settings.published.parent.mkdir(parents=True)
    home.settings.published.symlink_to(demo_home.settings.published)
    old = home.rekindle("doctor", check=False)
    assert old.returncode == 1
    assert "no run: the newest run looked from 2026-07-01 20:00 UTC" in old.stdout
    assert old.stderr == "rekindle: needs a hand: 1\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0, "0 s"), (59.6, "1 min"), (3725, "1 h 2 min"), (90061, "1 d 1 h")],
)
def test_a_span_is_read_by_its_two_largest_units(
    seconds: float | None, words: str
) -> None:
    assert span(seconds) == words
