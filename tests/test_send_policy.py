"""One policy: what judges a candidate judges every send that waits, by present facts.

Also what is recorded once and never told anew: ends, places, one enrollment a person.
"""

import itertools
import json
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from activations.channels import CHANNELS
from orchestration.settings import PROJECT
from orchestration.warehouse import DatabaseError
from tests.deciding import DecisionLab, keep_audience
from tests.test_decisions import DAY, GLOBAL_CONTROL, HOUR, NOON, Town

RULE_FILES = PROJECT / "models" / "decisions" / "rules"
FAMILY = "family@mail.example"


@pytest.fixture
def town(lab: DecisionLab) -> Town:
    """A town in which nobody is held out and no human has decided anything."""
    lab.change("update staging.stg_journeys set holdout_rate = 0")
    lab.change(GLOBAL_CONTROL.format(share=0))
    lab.change("delete from seeds.override_rules")
    return Town(lab)


def found(
    town: Town,
    name: str,
    channels: list[str],
    message_class: str = "marketing",
    steps: int = 1,
    **journey: Any,
) -> None:
    """Begin a journey for who shows the intent of its name, a step a day."""
    town.lab.put(
        "staging.stg_journeys",
        [
            {
                "journey": name,
                "version": 1,
                "definition_hash": name,
                "description": name,
                "message_class": message_class,
                "priority": 50,
                "holdout_rate": 0,
                "minimum_order_count": 0,
                "exits_on_order": True,
                "exits_on_misstep": False,
                "exits_on_resolved": False,
                "expires_after_seconds": 20 * 86400,
                "re_eligible_after_seconds": 30 * 86400,
                "step_count": steps,
                **journey,
            }
        ],
    )
    town.lab.put(
        "staging.stg_conditions",
        [
            {
                "journey": name,
                "place": "entry",
                "alternative": 1,
                "test": 1,
                "is_negated": False,
                "kind": "intent",
                "names": [name],
            }
        ],
    )
    town.lab.put(
        "staging.stg_journey_steps",
        [
            {
                "journey": name,
                "step": f"step_{step}",
                "step_position": step,
                "channel": channel,
                "channel_position": place,
                "uses_next_best_channel": False,
                "is_escalation": False,
                "delay_seconds": 0 if step == 1 else 86400,
                "is_delayed_from_entry": False,
                "content_ids": ["words"] * 7,
            }
            for step in range(1, steps + 1)
            for place, channel in enumerate(channels, start=1)
        ],
    )


def update(town: Town, table: str, name: str, **facts: Any) -> None:
    """Change what is known of somebody."""
    for fact, value in facts.items():
        town.lab.connection.execute(
            f"update {table} set {fact} = ? where profile_id = ?", [value, name]
        )


def rename(town: Town, **changes: tuple[str, str]) -> None:
    """Give journeys or steps another name, as an author would in the file."""
    for field, (old, new) in changes.items():
        others = ["journeys", "conditions"] if field == "journey" else []
        tables = ["journey_steps", *others]
        for table in tables:
            town.lab.connection.execute(
                f"update staging.stg_{table} set {field} = ? where {field} = ?",
                [new, old],
            )


def merge(town: Town, gone: str, into: str) -> None:
    """Two profiles turn out to be one person."""
    for table in ("identity.identity_map", "identity.profile_events"):
        town.lab.change(
            f"update {table} set profile_id = '{into}' where profile_id = '{gone}'"
        )
    for table in ("profiles", "contact_points", "consents", "intents"):
        town.lab.change(f"delete from profiles.{table} where profile_id = '{gone}'")


def ends(town: Town) -> dict[str, str | None]:
    """Why each enrollment has ended, by the profile that began it."""
    rows = town.lab.read("""
        select entries.entry_profile_id, enrollments.exit_reason
        from decisions.enrollments
        inner join decisions.entries using (enrollment_id)
    """).rows()
    return dict(rows)


# What may happen to somebody between two runs, told to the town under a name.
def silence(town: Town, name: str, channel: str, at: datetime) -> None:
    town.meet_message(name, "unsubscribed", at, channel=channel)


def refuse(purpose: str, everywhere: bool) -> Callable[..., None]:
    def say_no(town: Town, name: str, channel: str, at: datetime) -> None:
        town.lab.put(
            "profiles.consents",
            [
                {
                    "profile_id": name,
                    "channel": "all" if everywhere else channel,
                    "purpose": purpose,
                    "status": "denied",
                    "message_id": town.say(name, at),
                    "updated_at": at,
                }
            ],
        )

    return say_no


def forget_consent(town: Town, name: str, channel: str, at: datetime) -> None:
    town.lab.change(f"delete from profiles.consents where profile_id = '{name}'")


def lose_address(reason: str) -> Callable[..., None]:
    def become_unreachable(town: Town, name: str, channel: str, at: datetime) -> None:
        update(
            town,
            "profiles.contact_points",
            name,
            is_reachable=False,
            unreachable_reason=reason,
        )

    return become_unreachable


def move_to(zone: str | None, country: str | None = None) -> Callable[..., None]:
    def move(town: Town, name: str, channel: str, at: datetime) -> None:
        update(town, "profiles.profiles", name, timezone=zone, country=country)

    return move


def become_hub(town: Town, name: str, channel: str, at: datetime) -> None:
    update(town, "profiles.profiles", name, is_hub=True)


def aim_at(goal: str) -> Callable[..., None]:
    def aim(town: Town, name: str, channel: str, at: datetime) -> None:
        update(town, "profiles.profiles", name, goal=goal)

    return aim


def take_a_loan(town: Town, name: str, channel: str, at: datetime) -> None:
    town.lab.put(
        "staging.stg_high_stakes_events",
        [{"message_id": town.say(name, at), "occurred_at": at}],
    )


def have_ordered(town: Town, name: str, channel: str, at: datetime) -> None:
    town.order(name, NOON - 2 * HOUR)


def order_now(town: Town, name: str, channel: str, at: datetime) -> None:
    town.order(name, at)


def suffer(town: Town, name: str, channel: str, at: datetime) -> None:
    town.suffer(name, at)


def hear_from_others(count: int, **facts: Any) -> Callable[..., None]:
    def hear(town: Town, name: str, channel: str, at: datetime) -> None:
        for number in range(count):
            town.meet_message(
                name, "delivered", at, email_id=f"{name}-{number}", **facts
            )

    return hear


def prefer_evenings(town: Town, name: str, channel: str, at: datetime) -> None:
    town.lab.put(
        "ml.send_time_scores",
        [
            {
                "profile_id": name,
                "weekday_group": "weekday",
                "slot": slot,
                "send_time_propensity": share,
            }
            for slot, share in ((11, 0.4), (9, 0.3), (6, 0.1))
        ],
    )


def join_family(town: Town, name: str, channel: str, at: datetime) -> None:
    update(town, "profiles.contact_points", name, address=FAMILY)


EVENTS = (
    *(silence, forget_consent, become_hub, take_a_loan, have_ordered, order_now),
    *(suffer, prefer_evenings, join_family),
    *(refuse("marketing", False), refuse("marketing", True)),
    *(refuse("transactional", False), refuse("transactional", True)),
    *(lose_address("bounced"), lose_address("no_address"), lose_address("stopped")),
    *(move_to("Asia/Tokyo"), move_to("America/New_York"), move_to("Mars/Olympus")),
    *(move_to(None, "AU"), move_to(None, "Atlantis"), move_to(None)),
    *(aim_at("silence"), aim_at("peace"), aim_at("texts")),
    *(hear_from_others(1), hear_from_others(2)),
    hear_from_others(3, message_class="transactional"),
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_waiting_send_may_go_exactly_if_a_candidate_like_it_might(
    town: Town, tmp_path: Path, seed: int
) -> None:
    """Twins live through the same; one has a send that waits, the other has none."""
    dice = random.Random(seed)
    kinds = [
        ([channel], message_class)
        for channel in CHANNELS
        for message_class in ("marketing", "transactional")
    ] + [(["email", "sms"], "marketing")]
    for priority, goal, override, particulars in (
        (1, "silence", "never_contact", {}),
        (2, "peace", "never_contact", {"message_class": "all"}),
        (3, "texts", "force_channel", {"channel": "sms"}),
    ):
        keep_audience(tmp_path / "audiences", goal, f"{{trait: goal, is: {goal}}}")
        town.lab.put(
            "seeds.override_rules",
            [
                {
                    "priority": priority,
                    "audience": goal,
                    "override": override,
                    "decided_by": "crm",
                    "reason": "they asked",
                    **particulars,
                }
            ],
        )
    town.lab.keep_audiences(tmp_path / "audiences")
    lives: dict[str, tuple[str, list[Callable[..., None]]]] = {}
    for number, (channels, message_class) in enumerate(kinds):
        journey = f"word_{number}"
        found(town, journey, channels, message_class)
        town.move_in(f"c{number}", channels=CHANNELS, consents=CHANNELS)
        update(town, "profiles.contact_points", f"c{number}", address=FAMILY)
        town.want(f"c{number}", journey, NOON - HOUR)
        for copy in range(12):
            what = dice.sample(EVENTS, dice.choice((0, 1, 1, 2, 3)))
            for twin in "ab":
                name = f"{twin}{number}_{copy}"
                town.move_in(name, channels=CHANNELS, consents=CHANNELS)
                town.want(name, journey, NOON - HOUR)
                lives[name] = (channels[0], what)
    if dice.random() < 0.5:
        town.lab.change(
            "update staging.stg_journey_steps set send_time_seconds = 86400"
        )
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.lab.change("delete from staging.stg_sends where profile_id like 'b%'")
    town.lab.change(
        "update staging.stg_sends set state = 'sent' where profile_id like 'c%'"
    )
    later = NOON + dice.choice((1, 4, 9, 13, 20)) * HOUR
    for name, (channel, what) in lives.items():
        for happen in what:
            happen(town, name, channel, later - HOUR / 2)
    closed = dice.choice(list(CHANNELS))
    town.lab.change(f"delete from staging.stg_destinations where channel = '{closed}'")
    town.lab.put("staging.stg_journey_problems", [{"journey": "word_3"}])
    for table in ("journeys", "journey_steps"):
        town.lab.change(f"delete from staging.stg_{table} where journey = 'word_3'")
    town.lab.build(later)
    waiting = dict(
        town.lab.read("""
            select send_list.profile_id, deliverable_sends.reason
            from decisions.deliverable_sends
            inner join decisions.send_list using (send_id)
        """).iter_rows()
    )
    judged = {
        (name, channel): reason
        for name, channel, reason in town.lab.read("""
            select profile_id, channel, reason from decisions.verdicts
            where journey like 'word%' and not is_waiting
        """).iter_rows()
    }
    assert set(waiting) == {name for name in lives if name.startswith("a")}
    for name, reason in waiting.items():
        twin = judged.get((f"b{name[1:]}", lives[name][0]))
        if twin is None:
            assert reason != "due", name
        else:
            assert reason == twin, (name, [what.__name__ for what in lives[name][1]])
    reasons = set(waiting.values())
    assert {"due", "journey_set_aside", "no_destination"} <= reasons
    assert len(reasons) > 8


def test_of_two_waiting_sends_to_one_person_one_goes_first(town: Town) -> None:
    for name in ("word_1", "word_2"):
        found(town, name, ["push"])
    town.move_in("ann")
    town.move_in("anna")
    town.want("ann", "word_1", NOON - HOUR)
    town.want("anna", "word_2", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    merge(town, "ann", into="anna")
    town.lab.build(NOON + HOUR)
    reasons = town.lab.read("select reason from decisions.deliverable_sends")
    assert sorted(reasons["reason"]) == ["arbitration", "due"]


def test_a_waiting_send_keeps_the_next_message_of_its_journey_waiting(
    town: Town,
) -> None:
    found(town, "word", ["push"], steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.lab.build(NOON + DAY)
    rows = town.lab.read("select step, is_waiting, reason from decisions.verdicts")
    assert sorted(rows.rows()) == [
        ("step_1", True, "due"),
        ("step_2", False, "arbitration"),
    ]


def test_what_waited_too_long_keeps_nothing_else_waiting(town: Town) -> None:
    found(town, "word", ["push"], steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.lab.build(NOON + DAY + HOUR)
    rows = town.lab.read("select step, reason from decisions.verdicts")
    assert sorted(rows.rows()) == [("step_1", "expired"), ("step_2", "due")]
    # somebody has it tried again
    moment = NOON + DAY + HOUR
    town.lab.change(f"update staging.stg_sends set waits_since = '{moment}'")
    town.lab.change("delete from decisions.decisions where step = 'step_2'")
    town.lab.change("delete from decisions.send_list where step = 'step_2'")
    town.lab.build(moment + HOUR)
    rows = town.lab.read("select step, reason from decisions.verdicts")
    assert sorted(rows.rows()) == [("step_1", "due"), ("step_2", "arbitration")]


def test_what_waits_has_reached_nobody_yet(town: Town) -> None:
    """It counts to the cap once it goes out, not while it is held."""
    for name in ("word_1", "word_2", "word_3"):
        found(town, name, ["onsite"])
    town.move_in("ann")
    for name in ("word_1", "word_2"):
        town.lab.change("delete from profiles.intents")
        town.want("ann", name, NOON - HOUR)
        town.lab.build(NOON + (HOUR if name == "word_2" else 0 * HOUR))
        town.lab.change("""
            insert into staging.stg_sends by name
            select
                send_id, enrollment_id, journey, step, channel, profile_id,
                message_class, as_of, as_of as waits_since, 'pending' as state
            from decisions.send_list
            where send_id not in (select send_id from staging.stg_sends)
        """)
    town.lab.change("delete from profiles.intents")
    town.want("ann", "word_3", NOON - HOUR)
    town.lab.build(NOON + 2 * HOUR)
    reasons = town.lab.read("select reason from decisions.verdicts")["reason"]
    assert "frequency_cap" not in set(reasons)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "delete from seeds.decision_rules where rule = 'unsubscribed'",
            "decision_rules.csv, unsubscribed: the rule has no row",
        ),
        (
            "update seeds.decision_rules set rule = 'unsubscribd' "
            "where rule = 'unsubscribed'",
            "decision_rules.csv, unsubscribd: there is no such rule",
        ),
        (
            "insert into seeds.decision_rules select * from seeds.decision_rules "
            "where rule = 'quiet_hours'",
            "decision_rules.csv, quiet_hours: more than one row has it",
        ),
        (
            "update seeds.decision_rules set verdict = 'hold' "
            "where rule = 'quiet_hours'",
            "decision_rules.csv, quiet_hours: a verdict is held or suppressed",
        ),
        (
            "update seeds.decision_rules set for_marketing = null "
            "where rule = 'quiet_hours'",
            "decision_rules.csv, quiet_hours: for_marketing and for_transactional are",
        ),
        (
            "update seeds.decision_rules set window_hours = null "
            "where rule = 'post_purchase'",
            "decision_rules.csv, post_purchase: window_hours is missing",
        ),
        (
            "update seeds.decision_rules set limit_value = null "
            "where rule = 'global_control'",
            "decision_rules.csv, global_control: limit_value is missing",
        ),
        (
            "insert into seeds.frequency_caps values ('fax', null, 24, 2)",
            "frequency_caps.csv, fax: the channel is one of channel_rules.csv",
        ),
        (
            "insert into seeds.frequency_caps values (null, null, 24, null)",
            "frequency_caps.csv, all channels: the channel is one of",
        ),
        (
            "delete from seeds.channel_rules where channel = 'sms'",
            "channel_rules.csv: the channel sms has no row",
        ),
        (
            "update seeds.channel_rules set needs_opt_in = null where channel = 'sms'",
            "channel_rules.csv, sms: needs_opt_in and counts_to_frequency_cap are",
        ),
    ],
)
def test_no_mistake_in_a_seed_lets_a_rule_pass_in_silence(
    town: Town, change: str, told: str
) -> None:
    town.lab.change(change)
    with pytest.raises(DatabaseError, match=re.escape(told)):
        town.lab.build(NOON, only="decisions.rules")


def test_each_rule_is_stated_by_the_one_model_that_is_to_state_it() -> None:
    macro = (PROJECT / "dbt_project" / "macros" / "decision_rule.sql").read_text()
    (lines,) = re.findall(r"macro rule_names\(\) -%}\n(.*?)\n{%-", macro, re.DOTALL)
    stated = [
        set(re.findall(r"stated_rule\('(\w+)'\)", path.read_text()))
        for path in RULE_FILES.glob("*_blocks.sql")
    ]
    named = [set(line.split()) for line in lines.splitlines()]
    assert sorted(map(sorted, stated)) == sorted(map(sorted, named))


def test_a_journey_that_ended_never_begins_again(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    order = town.order("ann", NOON + HOUR)
    town.run(NOON + 2 * HOUR)
    town.lab.change(
        "update staging.stg_orders set status = 'cancelled' "
        f"where message_id = '{order}'"
    )
    for hours in (24, 72, 96):
        assert town.run(NOON + hours * HOUR) == []
    assert town.enrollment("ann")["exit_reason"] == "converted"
    assert town.enrollment("ann")["exited_at"] == NOON + HOUR


def test_an_order_that_was_cancelled_before_anybody_looked_was_made_all_the_same(
    town: Town,
) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    town.order("ann", NOON + HOUR)
    town.lab.change("update staging.stg_orders set status = 'cancelled'")
    assert town.run(NOON + 4 * DAY) == []
    assert town.enrollment("ann")["exit_reason"] == "converted"


def test_who_completed_a_journey_is_sent_no_step_that_is_added_later(
    town: Town,
) -> None:
    found(town, "word", ["push"])
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "push")]
    town.run(NOON + HOUR)
    town.lab.change("""
        insert into staging.stg_journey_steps by name
        select * replace ('late_idea' as step, 2 as step_position)
        from staging.stg_journey_steps where journey = 'word'
    """)
    town.lab.change(
        "update staging.stg_journeys set step_count = 2 where journey = 'word'"
    )
    assert town.run(NOON + DAY) == []
    assert town.enrollment("ann")["state"] == "completed"


def test_what_may_have_gone_out_counts_and_does_not_hold_itself(town: Town) -> None:
    found(town, "word", ["push"])
    found(town, "tale", ["email"])
    town.lab.change("delete from seeds.frequency_caps")
    town.lab.change("insert into seeds.frequency_caps values (null, null, 24, 1)")
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.lab.change("update staging.stg_sends set is_in_doubt = true")
    town.want("ann", "tale", NOON)
    town.lab.build(NOON + HOUR)
    assert town.verdicts("ann")["step_1", "email"] == ("held", "frequency_cap")
    waiting = town.lab.read("select verdict, reason from decisions.deliverable_sends")
    assert waiting.rows() == [("send", "due")]


def test_a_journey_is_not_completed_by_what_still_waits(town: Town) -> None:
    found(town, "word", ["push", "email"])
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    town.lab.build(NOON + HOUR)
    assert town.enrollment("ann")["state"] == "active"
    town.lab.change("update staging.stg_sends set state = 'dead'")
    assert town.run(NOON + 2 * HOUR) == [("step_1", "email")]
    town.run(NOON + 3 * HOUR)
    assert town.enrollment("ann")["state"] == "completed"


def test_what_began_with_an_order_ends_when_it_is_cancelled(town: Town) -> None:
    town.move_in("ann")
    order = town.order("ann", NOON - HOUR)
    town.lab.put(
        "profiles.intents",
        [
            {
                "profile_id": "ann",
                "intent": "converted",
                "evidence_message_id": order,
                "intent_at": NOON - HOUR,
            }
        ],
    )
    assert [step for step, _ in town.run(NOON)] == ["thanks"]
    town.lab.change("update staging.stg_orders set status = 'cancelled'")
    assert town.run(NOON + 6 * DAY) == []
    assert town.enrollment("ann")["exit_reason"] == "cancelled"


def test_an_older_moment_shows_an_enrollment_that_ended_later_as_it_was(
    town: Town,
) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    town.order("ann", NOON + HOUR)
    town.run(NOON + 2 * HOUR)
    town.lab.build(NOON, is_newest=False)
    assert town.enrollment("ann")["state"] == "active"
    town.lab.build(NOON + 3 * HOUR)
    assert town.enrollment("ann")["exit_reason"] == "converted"


def test_two_people_who_turn_out_to_be_one_go_on_where_they_had_come_furthest(
    town: Town,
) -> None:
    found(town, "word", ["push"], steps=3)
    for name in ("ann", "anna"):
        town.move_in(name)
    town.want("anna", "word", NOON - 2 * DAY - HOUR)
    town.run(NOON - 2 * DAY)
    town.want("ann", "word", NOON - DAY - HOUR)
    assert town.run(NOON - DAY) == [("step_1", "push"), ("step_2", "push")]
    merge(town, "ann", into="anna")
    assert town.run(NOON) == [("step_3", "push")]
    town.run(NOON + DAY)
    assert ends(town) == {"ann": "merged", "anna": "completed"}


@pytest.mark.parametrize("is_first", [True, False])
def test_two_people_of_whom_one_had_ended_are_not_told_the_same_again(
    town: Town, is_first: bool
) -> None:
    found(town, "word", ["push"], steps=2)
    for name in ("ann", "anna"):
        town.move_in(name)
    ended, other = ("ann", "anna") if is_first else ("anna", "ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    town.want("anna", "word", NOON)
    town.run(NOON + HOUR)
    town.order(ended, NOON + 2 * HOUR)
    town.run(NOON + 3 * HOUR)
    # the order is not the other's reason to end: what it was is forgotten
    town.lab.change("delete from staging.stg_orders")
    merge(town, "ann", into="anna")
    assert town.run(NOON + 5 * DAY) == []
    assert ends(town) == {ended: "converted", other: "merged"}


def test_who_was_one_all_along_keeps_what_they_began(town: Town) -> None:
    """A longer re-eligibility, written later, ends nobody's second enrollment."""
    found(town, "word", ["push"], re_eligible_after_seconds=86400, steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    town.order("ann", NOON + HOUR)
    town.run(NOON + 2 * HOUR)
    town.lab.change("delete from profiles.intents")
    town.want("ann", "word", NOON + 4 * DAY)
    assert town.run(NOON + 4 * DAY) == [("step_1", "push")]
    town.lab.change(
        "update staging.stg_journeys set re_eligible_after_seconds = 9e6 "
        "where journey = 'word'"
    )
    assert town.run(NOON + 5 * DAY) == [("step_2", "push")]


def test_a_renamed_step_is_sent_to_nobody_twice(town: Town) -> None:
    found(town, "word", ["push"], steps=3)
    for name in ("ann", "bob"):
        town.move_in(name)
    town.want("ann", "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "push")]
    rename(town, step=("step_1", "hello"))
    town.want("bob", "word", NOON)
    assert town.run(NOON + HOUR) == [("hello", "push")]
    rename(town, step=("step_2", "second"))
    assert town.run(NOON + DAY) == [("second", "push")]
    rename(town, step=("hello", "first"))
    rename(town, step=("step_3", "last"))
    assert sorted(town.run(NOON + 2 * DAY)) == [("last", "push"), ("second", "push")]
    assert town.run(NOON + 3 * DAY) == [("last", "push")]
    town.run(NOON + 4 * DAY)
    assert set(ends(town).values()) == {"completed"}


def test_a_step_of_which_only_the_ledger_knows_moves_nobody_back(town: Town) -> None:
    """A warehouse was put back, and the step has another name by now."""
    found(town, "word", ["push"], steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    rename(town, step=("step_1", "hello"))
    for table in ("journey_versions", "decisions", "send_list"):
        town.lab.change(f"delete from decisions.{table}")
    assert town.run(NOON + HOUR) == []
    assert town.run(NOON + DAY) == [("step_2", "push")]


def test_a_renamed_journey_keeps_its_people_where_they_are(town: Town) -> None:
    found(town, "word", ["push"], steps=2)
    for name in ("ann", "bob"):
        town.move_in(name)
    town.want("ann", "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "push")]
    rename(town, journey=("word", "letter"))
    town.lab.change(
        "update staging.stg_conditions set names = ['word'] where journey = 'letter'"
    )
    # still within the time in which nobody may begin again
    assert town.run(NOON + HOUR) == []
    assert town.run(NOON + DAY) == [("step_2", "push")]
    town.want("bob", "word", NOON + DAY)
    assert town.run(NOON + DAY + HOUR) == [("step_1", "push")]
    town.run(NOON + 2 * DAY)
    assert town.enrollment("ann")["state"] == "completed"
    assert town.lab.read("from decisions.entries").height == 2


def test_a_name_that_is_used_again_means_what_it_meant_to_those_of_then(
    town: Town,
) -> None:
    found(town, "word", ["push"], steps=2)
    for name in ("ann", "bob"):
        town.move_in(name)
    town.want("ann", "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "push")]
    rename(town, journey=("word", "letter"))
    town.lab.change(
        "update staging.stg_conditions set names = ['letter'] where journey = 'letter'"
    )
    town.run(NOON + HOUR)
    # another journey of the same steps takes the name that is free
    found(town, "word", ["onsite"], steps=2)
    town.lab.change("delete from profiles.intents")
    town.want("bob", "word", NOON + 2 * HOUR)
    assert town.run(NOON + 2 * HOUR) == [("step_1", "onsite")]
    assert sorted(town.run(NOON + DAY + 2 * HOUR)) == [
        ("step_2", "onsite"),
        ("step_2", "push"),
    ]
    town.run(NOON + 2 * DAY)
    journeys = town.lab.read("""
        select entries.entry_profile_id, enrollments.journey, enrollments.exit_reason
        from decisions.enrollments
        inner join decisions.entries using (enrollment_id)
        order by all
    """)
    assert journeys.rows() == [
        ("ann", "letter", "completed"),
        ("bob", "word", "completed"),
    ]


def test_a_step_that_takes_the_old_name_of_another_is_a_new_one(town: Town) -> None:
    found(town, "word", ["push"], steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "push")]
    rename(town, step=("step_1", "hello"))
    town.run(NOON + HOUR)
    town.lab.change("""
        insert into staging.stg_journey_steps by name
        select * replace ('step_3' as step, 3 as step_position)
        from staging.stg_journey_steps where journey = 'word' and step = 'step_2'
    """)
    town.lab.change(
        "update staging.stg_journeys set step_count = 3 where journey = 'word'"
    )
    assert town.run(NOON + DAY) == [("step_2", "push")]
    rename(town, step=("step_3", "step_1"))
    assert town.run(NOON + 2 * DAY) == []


def test_a_step_that_is_taken_out_or_put_in_moves_nobody(town: Town) -> None:
    found(town, "word", ["push"], steps=3)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    assert town.run(NOON + DAY) == [("step_2", "push")]
    town.lab.change("delete from staging.stg_journey_steps where step = 'step_2'")
    town.lab.change(
        "update staging.stg_journey_steps set step_position = 2 where step = 'step_3'"
    )
    town.lab.change(
        "update staging.stg_journeys set step_count = 2 where journey = 'word'"
    )
    assert town.run(NOON + DAY + HOUR) == []
    assert town.run(NOON + 2 * DAY) == [("step_3", "push")]
    town.run(NOON + 3 * DAY)
    assert town.enrollment("ann")["state"] == "completed"


def test_a_journey_that_is_taken_away_and_brought_back_goes_on(town: Town) -> None:
    found(town, "word", ["push"], steps=2)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    for table in ("journeys", "journey_steps"):
        town.lab.change(f"create table kept_{table} as from staging.stg_{table}")
        town.lab.change(f"delete from staging.stg_{table} where journey = 'word'")
    assert town.run(NOON + DAY) == []
    assert town.enrollment("ann")["exit_reason"] == "withdrawn"
    for table in ("journeys", "journey_steps"):
        town.lab.change(
            f"insert into staging.stg_{table} from kept_{table} where journey = 'word'"
        )
    assert town.run(NOON + 2 * DAY) == [("step_2", "push")]


def fill_cart(
    town: Town, name: str, product: str, price: int, at: datetime, currency: str = "USD"
) -> None:
    """Put a product into the cart; it lies there until it is taken out."""
    interaction = {
        "message_id": town.say(name, at),
        "profile_id": name,
        "product_id": product,
        "price": price,
        "currency": currency,
    }
    town.lab.put(
        "profiles.product_interactions",
        [
            {
                **interaction,
                "occurred_at": at,
                "action": "added",
                "product_name": product.title(),
            }
        ],
    )
    town.lab.put(
        "profiles.cart_items", [{**interaction, "quantity": 1, "added_at": at}]
    )


def empty_cart(town: Town, name: str, product: str, at: datetime) -> None:
    """Take a product out of the cart."""
    town.lab.put(
        "profiles.product_interactions",
        [
            {
                "message_id": town.say(name, at),
                "profile_id": name,
                "occurred_at": at,
                "action": "removed",
                "product_id": product,
            }
        ],
    )
    town.lab.change(f"""
        delete from profiles.cart_items
        where profile_id = '{name}' and product_id = '{product}'
    """)


def words(town: Town) -> dict[str, dict[str, Any]]:
    """What the messages of the last run may speak of, by person."""
    rows = town.lab.read("""
        select verdicts.profile_id, send_payloads.payload
        from decisions.send_payloads
        inner join decisions.verdicts using (send_id)
    """).rows()
    return {name: json.loads(payload) for name, payload in rows}


def test_who_emptied_the_cart_is_reminded_of_nothing_until_it_fills_again(
    town: Town,
) -> None:
    town.move_in("ann", channels=["push", "email"])
    fill_cart(town, "ann", "lamp", 80, NOON - HOUR)
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("push_reminder", "push")]
    empty_cart(town, "ann", "lamp", NOON + HOUR)
    assert town.run(NOON + DAY) == []
    assert town.verdicts("ann")["email_offer", "email"] == ("held", "cart_emptied")
    fill_cart(town, "ann", "chair", 150, NOON + DAY)
    assert town.run(NOON + DAY + HOUR) == [("email_offer", "email")]
    told = words(town)["ann"]
    assert (told["product_id"], told["product_price"]) == ("chair", 150)
    assert told["cart_value_amount"] == 150


def test_a_send_that_waited_speaks_of_what_is_true_by_then(town: Town) -> None:
    town.move_in("ann", channels=["push"])
    fill_cart(town, "ann", "lamp", 80, NOON - HOUR)
    town.leave_cart("ann", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="pending")
    empty_cart(town, "ann", "lamp", NOON + HOUR)
    fill_cart(town, "ann", "chair", 150, NOON + HOUR, "EUR")
    update(town, "profiles.profiles", "ann", first_name="Anna", timezone="Asia/Kolkata")
    update(town, "profiles.contact_points", "ann", address="new")
    town.lab.build(NOON + 2 * HOUR)
    told = words(town)["ann"]
    expected = {
        "first_name": "Anna",
        "timezone": "Asia/Kolkata",
        "product_name": "Chair",
        "product_price": 150,
        "cart_value_amount": 150,
        "currency": "EUR",
    }
    assert told | expected == told
    assert town.lab.read("select address from decisions.send_payloads").item() == "new"


def test_a_price_is_the_one_that_this_person_was_shown(town: Town) -> None:
    """What others saw or paid of the same product, in whatever currency, is theirs."""
    for name in ("ann", "ben", "cho", "dot"):
        town.move_in(name, channels=["push"])
    fill_cart(town, "ann", "lamp", 80, NOON - 3 * HOUR)
    fill_cart(town, "ben", "lamp", 75, NOON - 3 * HOUR, "EUR")
    for name in ("ann", "ben", "cho"):
        town.leave_cart(name, NOON - HOUR)
    town.lab.put(
        "profiles.product_prices",
        [
            {"product_id": "lamp", "currency": "JPY", "price": 9000}
            | {"product_name": "ランプ"},
            {"product_id": "lamp", "currency": "USD", "price": 82}
            | {"product_name": "Reading Lamp"},
            {"product_id": "bulb", "currency": "USD", "price": 5}
            | {"product_name": "Bulb"},
        ],
    )
    town.lab.put(
        "profiles.product_stats",
        [{"product_id": "lamp", "product_name": "ランプ", "price": 9000}],
    )
    town.lab.put(
        "profiles.related_products",
        [
            {
                "product_id": "lamp",
                "related_product_id": "bulb",
                "related_product_name": "Birne",
                "related_price": 4,
                "rank": 1,
            }
        ],
    )
    town.run(NOON)
    told = words(town)
    names = ("product_name", "product_price", "currency")
    assert {name: tuple(told[name][word] for word in names) for name in told} == {
        "ann": ("Lamp", 80, "USD"),
        "ben": ("Lamp", 75, "EUR"),
        "cho": ("Reading Lamp", 82, "USD"),
    }
    related = {name: told[name]["related_products"][0] for name in told}
    assert related["ann"] == {"product_id": "bulb", "product_name": "Bulb", "price": 5}
    assert related["ben"]["price"] is None


@pytest.mark.parametrize(
    ("region", "phone", "zone", "at", "reason"),
    [
        # Monday 2026-05-04 in Chicago, five hours behind
        ("Texas", None, "America/Chicago", "2026-05-04T14:00:00", "due"),
        ("Texas", None, "America/Chicago", "2026-05-04T13:59:00", "quiet_hours"),
        ("US-KY", None, "America/Chicago", "2026-05-04T14:00:00", "quiet_hours"),
        ("ky", None, "America/Chicago", "2026-05-04T15:00:00", "due"),
        # Sunday: Texas begins at noon, Alabama never, Florida as on other days
        ("TX", None, "America/Chicago", "2026-05-03T16:59:00", "quiet_hours"),
        ("TX", None, "America/Chicago", "2026-05-03T17:00:00", "due"),
        ("Alabama", None, "America/Chicago", "2026-05-03T17:00:00", "quiet_hours"),
        ("Florida", None, "America/Chicago", "2026-05-03T14:00:00", "due"),
        # Rhode Island ends at 18, and where the state is unknown it may be there
        (None, None, "America/Chicago", "2026-05-04T22:59:00", "due"),
        (None, None, "America/Chicago", "2026-05-04T23:00:00", "quiet_hours"),
        ("Oregon", None, "America/Chicago", "2026-05-04T23:00:00", "due"),
        # a clock of no country is one of any; a number counts beside the clock
        (None, None, "UTC", "2026-05-04T18:00:00", "quiet_hours"),
        (None, None, "Europe/Berlin", "2026-05-04T16:00:00", "due"),
        (None, "+14015550100", "Europe/Berlin", "2026-05-04T16:00:00", "quiet_hours"),
    ],
)
def test_a_text_keeps_the_hours_of_the_law_where_the_person_may_be(
    town: Town, region: str | None, phone: str | None, zone: str, at: str, reason: str
) -> None:
    moment = datetime.fromisoformat(at)
    found(town, "word", ["sms"])
    town.move_in("ann")
    update(town, "profiles.profiles", "ann", timezone=zone, region=region, phone=phone)
    town.want("ann", "word", moment - HOUR)
    town.run(moment)
    assert town.verdicts("ann")["step_1", "sms"][1] == reason


def test_a_law_holds_from_its_first_day_until_before_its_last(town: Town) -> None:
    law = "update seeds.legal_rules set valid_{} = date '2026-05-04' "
    found(town, "word", ["sms"])
    town.move_in("ann")
    update(
        town,
        "profiles.profiles",
        "ann",
        timezone="America/New_York",
        region="Rhode Island",
    )
    town.want("ann", "word", NOON)
    evening = datetime.fromisoformat("2026-05-04T22:30:00")
    for bound, reason in (("to", "due"), ("from", "quiet_hours")):
        town.lab.change("update seeds.legal_rules set valid_from = null")
        town.lab.change("update seeds.legal_rules set valid_to = null")
        town.lab.change(law.format(bound) + "where jurisdiction = 'US-RI'")
        town.lab.build(evening)
        assert town.lab.read(
            "select rule from decisions.quiet_hour_blocks"
        ).is_empty() == (reason == "due")


def test_a_shop_has_a_clock_for_who_has_none(town: Town) -> None:
    found(town, "word", ["sms"])
    for name, zone, country in (
        ("known", "America/New_York", None),
        ("sydney", None, "AU"),
        ("shop", None, None),
    ):
        town.move_in(name)
        update(town, "profiles.profiles", name, timezone=zone, country=country)
        town.want(name, "word", NOON)
    update(town, "profiles.profiles", "known", region="New York")
    # 13:00 in UTC, which is the shop's; 21:00 in Perth, 9:00 in New York
    town.run(NOON + HOUR)
    verdicts = {
        name: town.verdicts(name)["step_1", "sms"][1]
        for name in ("known", "sydney", "shop")
    }
    assert verdicts == {"known": "due", "sydney": "quiet_hours", "shop": "due"}


def test_no_channel_without_a_destination_is_chosen(town: Town) -> None:
    found(town, "word", ["sms", "push"])
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.lab.change("delete from staging.stg_destinations where channel = 'sms'")
    assert town.run(NOON) == [("step_1", "push")]
    assert town.verdicts("ann")["step_1", "sms"] == ("suppressed", "no_destination")


def test_two_people_at_one_address_are_told_a_thing_once(town: Town) -> None:
    found(town, "word", ["email"], steps=2)
    for name in ("ann", "ben"):
        town.move_in(name)
        update(town, "profiles.contact_points", name, address=FAMILY)
        town.want(name, "word", NOON - HOUR)
    assert town.run(NOON) == [("step_1", "email")]
    # nor the next thing, to whom of them soever
    assert town.run(NOON + DAY) == [("step_2", "email")]
    assert town.run(NOON + 2 * DAY) == []
    suppressed = town.lab.read("""
        select distinct step, reason from decisions.decisions
        where verdict = 'suppressed' and journey = 'word' and channel = 'email'
    """)
    assert ("step_1", "shared_address") in suppressed.rows()


def test_who_begins_again_shares_an_address_with_nobody(town: Town) -> None:
    found(town, "word", ["email"], steps=2, re_eligible_after_seconds=3 * 86400)
    town.move_in("ann")
    town.want("ann", "word", NOON - HOUR)
    town.run(NOON)
    # held for so long that the next time comes less than the same time later
    assert town.run(NOON + 2 * DAY) == [("step_2", "email")]
    town.lab.change("delete from profiles.intents")
    town.want("ann", "word", NOON + 3 * DAY)
    assert town.run(NOON + 3 * DAY) == [("step_1", "email")]
    assert town.run(NOON + 4 * DAY) == [("step_2", "email")]


def test_who_shares_an_address_with_a_failed_send_still_gets_theirs(
    town: Town,
) -> None:
    found(town, "word", ["email"])
    for name in ("ann", "ben"):
        town.move_in(name)
        update(town, "profiles.contact_points", name, address=FAMILY)
        town.want(name, "word", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="dead")
    assert town.run(NOON + HOUR) == [("step_1", "email")]


def test_receipts_and_own_service_leave_room_for_marketing(town: Town) -> None:
    found(town, "service", ["email"], "transactional")
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    for number, kind in itertools.product(range(2), ("transactional", "marketing")):
        if (number, kind) != (1, "marketing"):
            town.meet_message(
                "ann",
                "delivered",
                NOON - 2 * HOUR,
                email_id=f"{kind}-{number}",
                message_class=kind,
            )
    assert town.run(NOON) == [("push_reminder", "push")]


def test_two_messages_of_one_campaign_are_two(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    for hours in (3, 2):
        for interaction in ("sent", "delivered"):
            at = NOON - hours * HOUR + timedelta(seconds=interaction == "delivered")
            town.meet_message("ann", interaction, at, campaign_id="june", channel="sms")
    assert town.run(NOON) == []
    contacts: pl.DataFrame = town.lab.read("from decisions.recent_contacts")
    assert contacts.height == 2
    assert town.verdicts("ann")["push_reminder", "push"] == ("held", "frequency_cap")


@pytest.mark.parametrize("seed", [1, 2])
def test_no_window_holds_more_messages_than_a_cap_allows(town: Town, seed: int) -> None:
    """Caps by channel, by class and of one message, which is a gap between two."""
    chance = random.Random(seed)
    caps = [
        (None, "marketing", 24, 3),
        (None, "marketing", 1.5, 1),
        ("sms", None, 60, 1),
        (None, "transactional", 12, 1),
    ]
    town.lab.change("delete from seeds.frequency_caps")
    for cap in caps:
        town.lab.connection.execute(
            "insert into seeds.frequency_caps values (?, ?, ?, ?)", cap
        )
    words = {
        "mail": (["email"], "marketing"),
        "text": (["sms"], "marketing"),
        "push": (["push"], "marketing"),
        "receipt": (["email"], "transactional"),
        "code": (["sms"], "transactional"),
    }
    for word, (channels, message_class) in words.items():
        found(town, word, channels, message_class, steps=4)
    people = [f"p{number}" for number in range(6)]
    foreign = []
    for name in people:
        town.move_in(name, channels=CHANNELS, consents=CHANNELS)
        for number in range(4):
            at = NOON + chance.uniform(-30, 0) * HOUR
            message_class = chance.choice(["marketing", "transactional"])
            foreign.append((name, "email", message_class, at))
            town.meet_message(
                name,
                "delivered",
                at,
                email_id=f"{name}-{number}",
                message_class=message_class,
            )
    now = NOON
    for name in people:
        for word in words:
            town.want(name, word, NOON - chance.uniform(1, 20) * HOUR)
    while now < NOON + 2 * DAY:
        town.run(now)
        now += chance.choice([0.4, 1, 1.6, 3, 6, 11]) * HOUR
    sent = town.lab.read(
        "select profile_id, channel, message_class, as_of from decisions.send_list"
    ).rows()
    assert len(sent) > 15
    held = town.lab.read(
        "select distinct reason from decisions.decisions where verdict = 'held'"
    )
    assert "frequency_cap" in held["reason"]
    for channel, message_class, hours, limit in caps:
        for name, its_channel, its_class, at in sent:
            if channel not in (None, its_channel):
                continue
            if message_class not in (None, its_class):
                continue
            window = [
                1
                for other, other_channel, other_class, then in [*sent, *foreign]
                if other == name
                and channel in (None, other_channel)
                and message_class in (None, other_class)
                and at - hours * HOUR < then <= at
            ]
            assert len(window) <= limit, (channel, message_class, hours, name, at)


def consent(town: Town, name: str, channel: str, purpose: str, status: str) -> None:
    """A permission, or a no."""
    town.lab.put(
        "profiles.consents",
        [
            {
                "profile_id": name,
                "channel": channel,
                "purpose": purpose,
                "status": status,
                "message_id": f"{name}-{channel}-{purpose}",
                "updated_at": NOON - 2 * HOUR,
            }
        ],
    )


def test_a_no_to_one_topic_stops_its_journeys_alone(town: Town) -> None:
    found(town, "letter", ["email"], purpose="Newsletter")
    found(town, "word", ["email"])
    people = {
        "ann": ("marketing:newsletter", "denied"),
        "bob": ("newsletter", "denied"),
        "cem": ("marketing:drops", "denied"),
        # said yes to this alone
        "dee": ("newsletter", "granted"),
    }
    for name, (purpose, status) in people.items():
        consents = [] if status == "granted" else CHANNELS
        town.move_in(name, channels=CHANNELS, consents=consents)
        consent(town, name, "email", purpose, status)
    verdicts = {}
    for word in ("letter", "word"):
        for name in people:
            town.want(name, word, NOON - HOUR)
    town.run(NOON)
    verdicts = {
        (name, journey): (verdict, reason)
        for name, journey, verdict, reason in town.lab.read("""
            select profile_id, journey, verdict, reason from decisions.decisions
        """).rows()
    }
    due, late = ("send", "due"), ("held", "arbitration")
    assert verdicts == {
        ("ann", "word"): due,
        ("bob", "word"): due,
        ("cem", "letter"): due,
        ("cem", "word"): late,
        ("dee", "letter"): due,
        ("ann", "letter"): ("suppressed", "consent_denied"),
        ("bob", "letter"): ("suppressed", "consent_denied"),
        ("dee", "word"): ("suppressed", "consent_missing"),
    }


def test_however_often_somebody_refused_one_reason_is_said(town: Town) -> None:
    found(town, "letter", ["email"], purpose="newsletter")
    topics = ("marketing", "newsletter", "marketing:newsletter", "drops")
    refusals = {
        f"p{number}": chosen
        for number, chosen in enumerate(
            itertools.chain.from_iterable(
                itertools.combinations(topics, size) for size in range(5)
            )
        )
    }
    for name, chosen in refusals.items():
        town.move_in(name, channels=["email"], consents=["email"])
        town.want(name, "letter", NOON - HOUR)
        for topic in chosen:
            consent(town, name, "email", topic, "denied")
    town.run(NOON)
    verdicts = town.lab.read("select profile_id, reason from decisions.decisions")
    assert dict(verdicts.rows()) == {
        name: "consent_denied" if {*chosen} - {"drops"} else "due"
        for name, chosen in refusals.items()
    }


def test_who_complained_is_written_to_only_where_they_said_yes(town: Town) -> None:
    found(town, "sorry", ["in_app"], "transactional")
    found(town, "text", ["sms"], "transactional")
    for name, word, channel, status in (
        ("ann", "sorry", None, None),
        ("bob", "sorry", "in_app", "granted"),
        ("cem", "text", "sms", "granted"),
        ("dee", "text", None, None),
        ("eve", "text", None, None),
    ):
        town.move_in(name, channels=CHANNELS, consents=[])
        if channel:
            consent(town, name, channel, "marketing", status)
        if name != "eve":
            town.meet_message(name, "complained", NOON - DAY, channel="email")
        town.want(name, word, NOON - HOUR)
    town.run(NOON)
    verdicts = town.lab.read(
        "select profile_id, verdict, reason from decisions.decisions order by all"
    ).rows()
    assert verdicts == [
        ("ann", "suppressed", "consent_missing"),
        ("bob", "send", "due"),
        ("cem", "send", "due"),
        ("dee", "suppressed", "consent_missing"),
        ("eve", "send", "due"),
    ]
