"""A channel that is stopped, by hand or by its breaker, sends and repeats nothing."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from activations.ledger import Ledger, Outcome
from activations.render import Message
from orchestration.stopping import (
    CHANNEL_STOPPED,
    StoppingError,
    heeding_stops,
    read_stopped,
    start_channel,
    stop_channel,
)
from tests.conftest import TestHome
from tests.deciding import DecisionLab
from tests.test_decisions import DAY, HOUR, NOON, Town
from tests.test_delivery import TUESDAY, Wire, a_send_list, reasons, run, states
from tests.test_send_policy import found
from tests.test_send_policy import town as town  # noqa: PLC0414, the fixture


class Stopped(Wire):
    """A destination on whose channel somebody gives the command after some messages."""

    def __init__(self, home: TestHome, after: int, batch_size: int) -> None:
        super().__init__(batch_size=batch_size)
        self.home, self.after = home, after

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        outcomes = super().send(messages)
        if len(self.taken) >= self.after:
            stop_channel(self.home.settings, "email", "a wrong price")
        return outcomes


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("after", [1, 4])
def test_a_stop_holds_from_the_next_batch_on_and_a_start_repeats_nothing(
    home: TestHome, after: int, batch_size: int
) -> None:
    numbers = range(10)
    wire = Stopped(home, after, batch_size)
    guard = heeding_stops(home.settings, "email", lambda send_ids: {})
    with Ledger(home.settings.ledger) as ledger:
        run(ledger, a_send_list(*numbers), wire, guard=guard)
        sent_count = -(-after // batch_size) * batch_size
        assert len(wire.taken) == sent_count
        assert Counter(states(ledger).values()) == {
            "sent": sent_count,
            "pending": 10 - sent_count,
        }
        waiting = {reason for reason in reasons(ledger).values() if reason}
        assert waiting == {CHANNEL_STOPPED}
        said = home.rekindle("stop", "email").stdout
        assert said == f"email is stopped: {10 - sent_count} wait, 0 in flight\n"
        run(ledger, a_send_list(*numbers), wire, as_of=TUESDAY, guard=guard)
        assert len(wire.taken) == sent_count
        said = home.rekindle("start", "email").stdout
        assert said.startswith(
            f"email goes on with the next run: {10 - sent_count} wait"
        )
        wire.after = 99
        run(ledger, a_send_list(*numbers), wire, as_of=TUESDAY, guard=guard)
    assert sorted(wire.taken) == [f"email{number:04d}" for number in numbers]


def test_a_mark_that_cannot_be_read_stops_its_channel(home: TestHome) -> None:
    stop_channel(home.settings, "sms", "why")
    stop_channel(home.settings, "sms", "another")
    assert read_stopped(home.settings)["reason"].to_list() == ["why"]
    (home.settings.stopped / "sms").write_bytes(b"\xff")
    assert read_stopped(home.settings)["channel"].to_list() == ["sms"]
    guard = heeding_stops(home.settings, "sms", lambda send_ids: {})
    assert guard(["a", "b"]) == {"a": CHANNEL_STOPPED, "b": CHANNEL_STOPPED}
    assert heeding_stops(home.settings, "push", lambda send_ids: {})(["a"]) == {}


def test_a_channel_that_there_is_not_is_named_with_those_that_there_are(
    home: TestHome,
) -> None:
    with pytest.raises(StoppingError, match="no channel emial; did you mean email"):
        stop_channel(home.settings, "emial", "")
    with pytest.raises(StoppingError, match="push is not stopped; stopped: none is"):
        start_channel(home.settings, "push")
    assert not home.settings.stopped.exists()


@pytest.mark.parametrize("message_class", ["marketing", "transactional"])
def test_what_is_decided_and_what_waits_is_held_while_the_channel_is_stopped(
    town: Town, message_class: str
) -> None:
    found(town, "hello", ["email"], message_class)
    found(town, "hi", ["sms"], message_class)
    for name in ("ann", "bob"):
        town.move_in(name)
    town.want("ann", "hello", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.want("bob", "hello", NOON)
    stopped = {"channel": "email", "stopped_at": NOON, "reason": "a wrong price"}
    town.lab.put("staging.stg_stopped_channels", [stopped])
    town.move_in("cy")
    town.want("cy", "hi", NOON)
    assert town.run(NOON + HOUR) == [("step_1", "sms")]
    assert town.verdicts("bob") == {("step_1", "email"): ("held", "channel_stopped")}
    waiting = "select verdict, reason from decisions.deliverable_sends"
    assert town.lab.read(waiting).rows() == [("held", "channel_stopped")]
    detail = town.lab.read(
        "select distinct value from decisions.rule_verdicts "
        "where rule = 'channel_stopped' and verdict = 'held'"
    )
    assert detail.item() == "a wrong price"
    town.lab.change("delete from staging.stg_stopped_channels")
    assert town.run(NOON + 2 * HOUR) == [("step_1", "email")]
    assert town.lab.read(waiting).rows() == [("send", "due")]


def report(lab: DecisionLab, channel: str, told: list[tuple[str, float]]) -> None:
    """Things that were reported of messages, each an interaction and hours ago."""
    lab.put(
        "staging.stg_message_events",
        [
            {
                "message_id": f"{channel}{number}",
                "channel": channel,
                "interaction": interaction,
                "effective_at": NOON - timedelta(hours=hours),
                "send_id": f"{channel}-{number % 997}" if number % 3 else None,
            }
            for number, (interaction, hours) in enumerate(told)
        ],
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_breaker_counts_messages_once_and_within_its_window(
    lab: DecisionLab, seed: int
) -> None:
    dice = random.Random(seed)
    kinds = ("sent", "delivered", "complained", "bounced", "failed", "clicked")
    weights = (500, 480, dice.choice((0, 1, 3)), dice.choice((2, 20, 60)), 50, 40)
    told = {
        channel: [
            (interaction, dice.choice((0.0, 1.5, 23.9, 24.0, 30.0, -1.0)))
            for interaction in dice.choices(kinds, weights, k=dice.choice((60, 3000)))
        ]
        for channel in ("email", "sms")
    }
    for channel, reports in told.items():
        report(lab, channel, reports)
    lab.build(NOON, only=("decisions.breakers",))
    rows = lab.read("from decisions.breakers").to_dicts()
    assert len(rows) == 4
    limits = {
        (row["channel"], row["interaction"]): row
        for row in lab.read("from seeds.channel_breakers").to_dicts()
    }
    for row in rows:
        ids: dict[str, set[str]] = {}
        for number, (interaction, hours) in enumerate(told[row["channel"]]):
            if 0 <= hours < 24:
                own = number % 997 if number % 3 else f"m{number}"
                ids.setdefault(interaction, set()).add(str(own))
        count = {kind: len(ids.get(kind, ())) for kind in kinds}
        messages = max(count["sent"], count["delivered"])
        events = count[row["interaction"]]
        limit = limits[row["channel"], row["interaction"]]
        state = "closed"
        if (
            events >= limit["minimum_count"]
            and messages >= limit["minimum_message_count"]
        ):
            rate = events / messages
            state = "warn" if rate >= limit["warn_rate"] else state
            state = "stop" if rate >= limit["stop_rate"] else state
        assert (row["event_count"], row["message_count"]) == (events, messages)
        assert row["state"] == state


def test_complaints_stop_marketing_alone_until_the_window_has_passed(
    town: Town,
) -> None:
    found(town, "offer", ["email"])
    found(town, "notice", ["email"], "transactional")
    for name, intent in (("ann", "offer"), ("bob", "notice")):
        town.move_in(name)
        town.want(name, intent, NOON - HOUR)
    report(
        town.lab,
        "email",
        [*[("sent", 2.0)] * 900, *[("complained", 1.0)] * 3],
    )
    assert town.run(NOON) == [("step_1", "email")]
    assert town.verdicts("ann") == {("step_1", "email"): ("held", "breaker")}
    value = town.lab.read(
        "select value from decisions.rule_verdicts "
        "where rule = 'breaker' and verdict = 'held'"
    )
    assert value.item().startswith("3 complained of 900 in 24 h")
    assert town.run(NOON + DAY) == [("step_1", "email")]


def test_one_complaint_of_ten_messages_stops_nobody(town: Town) -> None:
    found(town, "offer", ["email"])
    town.move_in("ann")
    town.want("ann", "offer", NOON - HOUR)
    report(town.lab, "email", [*[("sent", 2.0)] * 10, ("complained", 1.0)])
    assert town.run(NOON) == [("step_1", "email")]


def test_who_was_erased_is_written_to_on_no_channel_and_for_no_reason(
    town: Town,
) -> None:
    found(town, "offer", ["email", "sms"])
    found(town, "notice", ["push"], "transactional")
    for name in ("ann", "bob"):
        town.move_in(name)
        for intent in ("offer", "notice"):
            town.want(name, intent, NOON - HOUR)
    town.lab.put("identity.erased_profiles", [{"profile_id": "ann"}])
    town.run(NOON)
    assert set(town.verdicts("ann").values()) == {("suppressed", "erased")}
    listed = town.lab.read("select distinct profile_id from decisions.send_list")
    assert listed["profile_id"].to_list() == ["bob"]


def test_a_new_channel_carries_no_more_than_its_day_allows_the_foremost_first(
    town: Town,
) -> None:
    found(town, "offer", ["email"])
    found(town, "notice", ["email"], "transactional")
    for number in range(9):
        town.move_in(f"p{number}")
        town.want(f"p{number}", "offer", NOON - HOUR - number * HOUR / 60)
    town.move_in("served")
    town.want("served", "notice", NOON - HOUR)
    days = [(1, 2), (2, 4), (4, None)]
    town.lab.put(
        "seeds.warm_up_limits",
        [{"channel": "email", "day": day, "limit_value": limit} for day, limit in days],
    )
    sent = [len(town.run(NOON))]
    assert town.verdicts("p8") == {("step_1", "email"): ("held", "warm_up")}
    # the service message counts, and is not held
    assert sent == [3]
    for hours in (6, 23, 24, 30, 48, 71):
        sent.append(len(town.run(NOON + hours * HOUR)))
    assert sent[1:3] == [0, 0]
    # the second day: four in any 24 hours
    assert sent[3:] == [4, 0, 3, 0]
    assert sum(sent) == 10
    listed = town.lab.read("select profile_id from decisions.send_list")
    assert listed["profile_id"].is_unique().all()


def test_a_channel_that_is_not_warmed_up_carries_all(town: Town) -> None:
    found(town, "offer", ["email"])
    for name in ("ann", "bob", "cy"):
        town.move_in(name)
        town.want(name, "offer", NOON - HOUR)
    town.lab.put(
        "seeds.warm_up_limits", [{"channel": "sms", "day": 1, "limit_value": 1}]
    )
    assert len(town.run(NOON)) == 3
