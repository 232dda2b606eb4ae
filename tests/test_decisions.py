"""Journeys over several runs: who is due what, what stands against it, what goes."""

import random
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from tests.deciding import DecisionLab

NOON = datetime.fromisoformat("2026-05-04T12:00:00")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CHANNELS = ("email", "sms", "push", "in_app", "onsite", "direct_mail")
GLOBAL_CONTROL = """
    update seeds.decision_rules set limit_value = {share} where rule = 'global_control'
"""


class Town:
    """People a lab knows, told in a few words."""

    def __init__(self, lab: DecisionLab) -> None:
        self.lab = lab
        self.message_count = 0

    def move_in(
        self,
        name: str,
        *,
        channels: Iterable[str] = CHANNELS,
        consents: Iterable[str] = CHANNELS,
        timezone: str = "UTC",
        is_hub: bool = False,
    ) -> None:
        """Somebody who can be reached on these channels and agreed to those."""
        person: dict[str, Any] = {"profile_id": name}
        identifier = {"identifier_type": "user_id", "identifier": f"user-{name}"}
        self.lab.put(
            "profiles.profiles",
            [
                {
                    **person,
                    **identifier,
                    "is_hub": is_hub,
                    "first_name": name.title(),
                    "timezone": timezone,
                    "order_count": 0,
                    "churn_cycle_days": 60,
                }
            ],
        )
        self.lab.put("identity.identity_map", [{**person, **identifier}])
        self.lab.put(
            "profiles.contact_points",
            [
                {
                    **person,
                    "channel": channel,
                    "address": f"{channel}:{name}",
                    "is_reachable": True,
                }
                for channel in channels
            ],
        )
        for channel in consents:
            self.state_consent(name, channel, "granted", NOON - 90 * DAY)
        self.say(name, NOON - 90 * DAY)

    def say(self, name: str, at: datetime) -> str:
        """A message of somebody; returns its id."""
        self.message_count += 1
        message_id = f"m{self.message_count:03}"
        self.lab.put(
            "identity.profile_events",
            [{"message_id": message_id, "profile_id": name, "occurred_at": at}],
        )
        return message_id

    def state_consent(self, name: str, channel: str, status: str, at: datetime) -> None:
        """Say yes or no to marketing on a channel."""
        self.lab.put(
            "profiles.consents",
            [
                {
                    "profile_id": name,
                    "channel": channel,
                    "purpose": "marketing",
                    "status": status,
                    "message_id": self.say(name, at),
                    "updated_at": at,
                }
            ],
        )

    def want(self, name: str, intent: str, at: datetime) -> str:
        """Show an intent; returns the evidence."""
        evidence = self.say(name, at)
        self.lab.put(
            "profiles.intents",
            [
                {
                    "profile_id": name,
                    "intent": intent,
                    "evidence_message_id": evidence,
                    "intent_at": at,
                    "product_id": "lamp",
                    "cart_value_amount": 80,
                }
            ],
        )
        return evidence

    def leave_cart(self, name: str, at: datetime) -> str:
        """Put a lamp in the cart and go."""
        return self.want(name, "cart_abandoned", at)

    def order(self, name: str, at: datetime) -> str:
        """Buy something."""
        message_id = self.say(name, at)
        self.lab.put(
            "staging.stg_orders",
            [
                {
                    "order_id": f"o-{message_id}",
                    "message_id": message_id,
                    "ordered_at": at,
                    "status": "completed",
                }
            ],
        )
        return message_id

    def visit(self, name: str, at: datetime) -> None:
        """Open the site or the app."""
        message_id = self.say(name, at)
        self.lab.put(
            "profiles.sessions",
            [
                {
                    "session_id": f"s-{message_id}",
                    "profile_id": name,
                    "started_at": at,
                    "ended_at": at,
                    "product_view_count": 0,
                    "order_count": 0,
                    "first_message_id": message_id,
                    "last_message_id": message_id,
                    "max_category_views": 0,
                    "is_store": False,
                }
            ],
        )

    def suffer(self, name: str, at: datetime) -> str:
        """Meet with a misstep that stays open; returns its evidence."""
        evidence = self.say(name, at)
        self.lab.put(
            "profiles.missteps",
            [
                {
                    "profile_id": name,
                    "kind": "delay",
                    "opened_at": at,
                    "evidence_message_id": evidence,
                    "is_open": True,
                }
            ],
        )
        return evidence

    def put_right(self, name: str, at: datetime) -> None:
        """Make good whatever went wrong."""
        self.lab.change(f"""
            update profiles.missteps
            set is_open = false, resolved_at = '{at.isoformat()}'
            where profile_id = '{name}'
        """)

    def meet_message(
        self, name: str, interaction: str, at: datetime, **facts: Any
    ) -> str:
        """Something that happens to a message."""
        message_id = self.say(name, at)
        self.lab.put(
            "staging.stg_message_events",
            [
                {
                    "message_id": message_id,
                    "occurred_at": at,
                    "effective_at": at,
                    "channel": "email",
                    "interaction": interaction,
                    "is_machine": False,
                    **facts,
                }
            ],
        )
        return message_id

    def run(self, as_of: datetime) -> list[tuple[str, str]]:
        """One run of the loop; returns the (step, channel) of what it sent."""
        self.lab.build(as_of)
        self.lab.send(as_of)
        return self.lab.read(
            "select step, channel from decisions.send_list "
            f"where as_of = '{as_of.isoformat()}' order by all"
        ).rows()

    def verdicts(self, name: str) -> dict[tuple[str, str], tuple[str, str]]:
        """What holds for somebody now, by step and channel."""
        rows = self.lab.read(f"""
            select candidates.step, candidates.channel, verdict, reason
            from decisions.candidates
            inner join decisions.decisions using (decision_id)
            where candidates.profile_id = '{name}'
        """).rows()
        return {
            (step, channel): (verdict, reason)
            for step, channel, verdict, reason in rows
        }

    def enrollment(self, name: str) -> dict[str, Any]:
        """The one enrollment of somebody."""
        rows = self.lab.read(
            f"select * from decisions.enrollments where profile_id = '{name}'"
        )
        return rows.row(0, named=True)


@pytest.fixture
def town(lab: DecisionLab) -> Town:
    """An empty town in which nobody is held out."""
    lab.change("update staging.stg_journeys set holdout_rate = 0")
    lab.change(GLOBAL_CONTROL.format(share=0))
    return Town(lab)


def test_cart_recovery_goes_from_push_to_in_app_to_email_to_sms(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("push_reminder", "push")]
    assert town.run(NOON + HOUR) == []
    town.visit("ann", NOON + 2 * HOUR)
    assert town.run(NOON + 3 * HOUR) == [("in_app_proof", "in_app")]
    assert town.run(NOON + 4 * HOUR) == []
    assert town.run(NOON + DAY) == [("email_offer", "email")]
    assert town.run(NOON + 2 * DAY) == [("sms_last_call", "sms")]
    assert town.run(NOON + 3 * DAY) == []
    assert town.enrollment("ann")["state"] == "completed"
    assert town.enrollment("ann")["escalation_count"] == 3


def test_who_does_not_come_back_gets_the_email_without_the_in_app(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    assert town.run(NOON + 23 * HOUR) == []
    assert town.run(NOON + DAY) == [("email_offer", "email")]


def test_who_bought_between_two_steps_gets_no_further_cart_message(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    town.order("ann", NOON + HOUR)
    assert town.run(NOON + DAY) == []
    assert town.run(NOON + 4 * DAY) == []
    assert town.enrollment("ann")["exit_reason"] == "converted"


def test_who_clicked_is_not_asked_again(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    send_id = town.lab.read("select send_id from decisions.send_list").item()
    town.meet_message("ann", "clicked", NOON + HOUR, channel="push", send_id=send_id)
    assert town.run(NOON + DAY) == []
    assert town.enrollment("ann")["is_engaged"]


def test_a_machine_open_is_no_answer(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    send_id = town.lab.read("select send_id from decisions.send_list").item()
    town.meet_message(
        "ann", "opened", NOON + HOUR, channel="push", send_id=send_id, is_machine=True
    )
    assert town.run(NOON + DAY) == [("email_offer", "email")]


def test_a_step_that_cannot_be_sent_is_skipped_with_its_reason(town: Town) -> None:
    town.move_in("bob", channels=["email"])
    town.leave_cart("bob", NOON - HOUR)
    assert town.run(NOON) == []
    assert town.verdicts("bob") == {
        ("push_reminder", "push"): ("suppressed", "unreachable"),
        ("in_app_proof", "in_app"): ("suppressed", "unreachable"),
    }
    assert town.run(NOON + DAY) == [("email_offer", "email")]


def test_a_failed_send_lets_the_journey_go_on(town: Town) -> None:
    town.move_in("bob")
    town.leave_cart("bob", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.send(NOON, state="dead")
    assert town.run(NOON + DAY) == [("email_offer", "email")]


def test_the_same_as_of_twice_changes_nothing(town: Town) -> None:
    town.move_in("ann")
    town.move_in("bob", channels=["email"])
    town.leave_cart("ann", NOON - HOUR)
    town.leave_cart("bob", NOON - HOUR)
    town.run(NOON)
    town.lab.build(NOON + HOUR)
    tables = [*town.lab.models]
    before = {table: contents(town, table) for table in tables}
    town.lab.build(NOON + HOUR)
    assert {table: contents(town, table) for table in tables} == before


def test_what_lands_between_two_runs_at_one_as_of_sends_no_second_message(
    town: Town,
) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("push_reminder", "push")]
    town.lab.change("delete from staging.stg_sends")
    town.suffer("ann", NOON - HOUR)
    town.lab.build(NOON)
    sends = town.lab.read("select step from decisions.send_list")
    assert sends["step"].to_list() == ["push_reminder"]
    assert town.verdicts("ann")["apology", "email"] == ("held", "arbitration")


def test_looking_at_an_older_moment_decides_nothing(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.lab.build(NOON, is_newest=False)
    for table in ("entries", "candidates", "decisions", "send_list"):
        assert town.lab.read(f"from decisions.{table}").is_empty()


def test_a_decision_is_written_again_only_when_it_changes(town: Town) -> None:
    town.move_in("ann")
    town.suffer("ann", NOON - HOUR)
    town.leave_cart("ann", NOON - HOUR)
    for hours in range(3):
        town.lab.build(NOON + hours * HOUR)
    history = "select verdict, reason from decisions.decisions where channel = 'push'"
    cart = f"{history} and journey = 'cart_recovery' order by as_of"
    assert town.lab.read(cart).rows() == [("held", "restoration")]
    town.put_right("ann", NOON + 2 * HOUR)
    town.lab.build(NOON + 3 * HOUR)
    assert town.lab.read(cart).rows() == [("held", "restoration"), ("send", "due")]


def test_a_run_that_died_before_sending_decides_the_same_send_once(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.lab.build(NOON)
    town.lab.build(NOON + HOUR)
    assert town.verdicts("ann")["push_reminder", "push"] == ("send", "due")
    assert town.lab.read("from decisions.send_list").height == 1


def test_a_misstep_holds_back_promotion_but_not_the_apology(town: Town) -> None:
    town.move_in("ann")
    town.suffer("ann", NOON - HOUR)
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("apology", "email")]
    assert town.verdicts("ann")["push_reminder", "push"] == ("held", "restoration")


def test_an_order_and_a_high_stakes_event_begin_a_quiet_period(town: Town) -> None:
    for name in ("ann", "bob"):
        town.move_in(name)
        town.leave_cart(name, NOON - HOUR)
    town.order("ann", NOON - 2 * HOUR)
    loan = town.say("bob", NOON - 2 * DAY)
    town.lab.put(
        "staging.stg_high_stakes_events",
        [{"message_id": loan, "occurred_at": NOON - 2 * DAY}],
    )
    assert town.run(NOON) == []
    assert town.verdicts("ann")["push_reminder", "push"] == ("held", "post_purchase")
    assert town.verdicts("bob")["push_reminder", "push"] == ("held", "high_stakes")
    later = NOON + 2 * DAY - 2 * HOUR
    assert ("push_reminder", "push") in town.run(later)


def test_other_tools_count_to_the_frequency_cap(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    for hours in (2, 20):
        at = NOON - hours * HOUR
        town.meet_message("ann", "delivered", at, email_id=f"newsletter-{hours}")
    assert town.run(NOON) == []
    assert town.verdicts("ann")["push_reminder", "push"] == ("held", "frequency_cap")
    assert town.run(NOON + 4 * HOUR) == [("push_reminder", "push")]


@pytest.mark.parametrize(
    ("as_of", "is_night"),
    [
        # push is quiet from 21 to 8 on the clock of the person
        ("2026-01-15T06:30:00", True),  # 07:30 in Berlin in winter
        ("2026-01-15T07:00:00", False),  # 08:00
        ("2026-07-15T05:59:00", True),  # 07:59 in Berlin in summer
        ("2026-07-15T06:00:00", False),  # 08:00
        ("2026-03-29T06:00:00", False),  # 08:00 on the day the clocks went forward
        ("2026-07-15T18:59:00", False),  # 20:59
        ("2026-07-15T19:00:00", True),  # 21:00
    ],
)
def test_quiet_hours_follow_the_clock_of_the_person(
    town: Town, as_of: str, is_night: bool
) -> None:
    moment = datetime.fromisoformat(as_of)
    town.move_in("ann", timezone="Europe/Berlin")
    town.leave_cart("ann", moment - HOUR)
    town.run(moment)
    expected = ("held", "quiet_hours") if is_night else ("send", "due")
    assert town.verdicts("ann")["push_reminder", "push"] == expected


def test_a_time_zone_nobody_knows_leaves_the_clock_of_the_shop(town: Town) -> None:
    town.move_in("ann", timezone="Mars/Olympus")
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("push_reminder", "push")]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([("email", "denied")], "consent_denied"),
        ([("all", "denied")], "consent_denied"),
        ([], "consent_missing"),
    ],
)
def test_marketing_needs_consent_and_service_does_not(
    town: Town, said: list[tuple[str, str]], reason: str
) -> None:
    town.move_in("ann", channels=["email"], consents=[])
    for channel, status in said:
        town.state_consent("ann", channel, status, NOON - DAY)
    town.suffer("ann", NOON - HOUR)
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("apology", "email")]
    town.put_right("ann", NOON + HOUR)
    town.run(NOON + DAY)
    assert town.verdicts("ann")["email_offer", "email"] == ("suppressed", reason)


def test_who_unsubscribed_is_never_sent_email_until_they_come_back(town: Town) -> None:
    town.move_in("ann", channels=["email"])
    town.leave_cart("ann", NOON - HOUR)
    town.meet_message("ann", "unsubscribed", NOON - DAY)
    town.run(NOON)
    assert town.run(NOON + DAY) == []
    verdict = town.verdicts("ann")["email_offer", "email"]
    assert verdict == ("suppressed", "unsubscribed")
    town.lab.change("delete from profiles.consents where channel = 'email'")
    town.state_consent("ann", "email", "granted", NOON + DAY)
    assert town.run(NOON + DAY + HOUR) == [("email_offer", "email")]


def test_an_unsubscribe_from_an_address_holds_for_whoever_has_it(town: Town) -> None:
    for name in ("ann", "bob"):
        town.move_in(name, channels=["email"])
        town.leave_cart(name, NOON - HOUR)
    town.lab.change("""
        update profiles.contact_points set unsubscribe_message_id = 'of-another'
        where profile_id = 'ann'
    """)
    town.run(NOON)
    town.run(NOON + DAY)
    assert town.verdicts("ann")["email_offer", "email"] == (
        *("suppressed", "unsubscribed"),
    )
    assert town.verdicts("bob")["email_offer", "email"] == ("send", "due")


def test_who_complained_gets_no_more_marketing_at_a_new_address(town: Town) -> None:
    town.move_in("ann", channels=["email"])
    town.leave_cart("ann", NOON - HOUR)
    town.meet_message("ann", "complained", NOON - DAY)
    town.run(NOON)
    assert town.run(NOON + DAY) == []
    verdict = town.verdicts("ann")["email_offer", "email"]
    assert verdict == ("suppressed", "unsubscribed")


def test_a_journey_set_aside_waits_and_goes_on_once_it_is_mended(town: Town) -> None:
    for name in ("ann", "bob"):
        town.move_in(name)
    town.leave_cart("ann", NOON - HOUR)
    assert town.run(NOON) == [("push_reminder", "push")]
    town.suffer("bob", NOON + 20 * HOUR)
    for table in ("journeys", "journey_steps"):
        town.lab.change(f"""
            create table kept_{table} as
            select * from staging.stg_{table} where journey = 'cart_recovery'
        """)
        town.lab.change(
            f"delete from staging.stg_{table} where journey = 'cart_recovery'"
        )
    town.lab.put("staging.stg_journey_problems", [{"journey": "cart_recovery"}])
    # the other journeys go on
    assert town.run(NOON + DAY) == [("apology", "email")]
    assert town.enrollment("ann")["state"] == "active"
    for table in ("journeys", "journey_steps"):
        town.lab.change(f"insert into staging.stg_{table} select * from kept_{table}")
    town.lab.change("delete from staging.stg_journey_problems")
    assert town.run(NOON + DAY + HOUR) == [("email_offer", "email")]


def test_a_send_that_waits_is_judged_again_by_the_rules_of_its_class(
    town: Town,
) -> None:
    names = ("calm", "asleep", "angry", "gone", "wronged")
    for name in (*names, "apologised"):
        zone = "Asia/Tokyo" if name == "asleep" else "UTC"
        town.move_in(name, channels=["push"], timezone=zone)
    for name in names:
        town.leave_cart(name, NOON - 4 * HOUR)
    town.suffer("apologised", NOON - 4 * HOUR)
    town.lab.build(NOON - 2 * HOUR)
    town.lab.send(NOON - 2 * HOUR, state="pending")
    waiting = town.lab.read("select profile_id from decisions.send_list")
    town.suffer("wronged", NOON - HOUR)
    town.meet_message("gone", "unsubscribed", NOON - HOUR, channel="push")
    town.lab.change("""
        update profiles.contact_points
        set is_reachable = false, unreachable_reason = 'complained'
        where profile_id = 'angry'
    """)
    town.lab.put("staging.stg_journey_problems", [{"journey": "restoration"}])
    town.lab.build(NOON + 2 * HOUR)
    blocks = town.lab.read("""
        select profile_id, reason, verdict
        from decisions.deliverable_sends
        where not is_deliverable
        order by all
    """).rows()
    assert set(waiting["profile_id"]) == {*names, "apologised"}
    assert blocks == [
        ("angry", "suppression_list", "suppressed"),
        ("apologised", "journey_set_aside", "held"),
        ("asleep", "quiet_hours", "held"),
        ("gone", "unsubscribed", "suppressed"),
        ("wronged", "restoration", "held"),
    ]


def test_an_address_that_bounced_is_on_the_suppression_list(town: Town) -> None:
    town.move_in("ann", channels=["push"])
    town.leave_cart("ann", NOON - HOUR)
    town.lab.change("""
        update profiles.contact_points
        set is_reachable = false, unreachable_reason = 'bounced'
    """)
    town.run(NOON)
    verdict = town.verdicts("ann")["push_reminder", "push"]
    assert verdict == ("suppressed", "suppression_list")


def test_holdout_and_global_control_are_never_sent_marketing(town: Town) -> None:
    for name in ("ann", "bob"):
        town.move_in(name)
    town.leave_cart("ann", NOON - HOUR)
    town.lab.change("update staging.stg_journeys set holdout_rate = 1")
    assert town.run(NOON) == []
    town.lab.change(GLOBAL_CONTROL.format(share=1))
    town.leave_cart("bob", NOON - HOUR)
    assert town.run(NOON + HOUR) == []
    assert town.enrollment("ann")["assignment"] == "holdout"
    assert town.enrollment("bob")["assignment"] == "global_control"
    assert set(town.verdicts("ann").values()) == {("suppressed", "holdout")}
    assert set(town.verdicts("bob").values()) == {("suppressed", "global_control")}


def test_what_the_control_group_alone_keeps_back_is_recorded_once_it_does(
    town: Town,
) -> None:
    """Whom nothing else kept back is the control of those who were written to."""
    for name, consents in (("ann", ["push", "email"]), ("bob", ())):
        town.move_in(name, channels=["push", "email"], consents=consents)
        town.leave_cart(name, NOON - HOUR)
    town.order("ann", NOON - HOUR)
    town.lab.change("update staging.stg_journeys set holdout_rate = 1")
    withheld = """
        select as_of, profile_id, step, channel
        from decisions.decisions where is_withheld order by all
    """
    # a quiet period after the order keeps Ann's back too
    assert town.run(NOON) == []
    assert town.lab.read(withheld).is_empty()
    for later in (3 * DAY, 3 * DAY + HOUR):
        assert town.run(NOON + later) == []
    told = town.lab.read(withheld)
    assert set(told["profile_id"]) == {"ann"}
    assert set(told["as_of"]) == {NOON + 3 * DAY}
    assert not told.select("step", "channel").is_duplicated().any()


def test_a_hub_is_never_messaged(town: Town) -> None:
    town.move_in("kiosk", is_hub=True)
    town.leave_cart("kiosk", NOON - HOUR)
    assert town.run(NOON) == []
    verdict = town.verdicts("kiosk")["push_reminder", "push"]
    assert verdict == ("suppressed", "hub_profile")


def test_the_channel_that_answers_best_goes_first(town: Town) -> None:
    town.move_in("ann")
    town.order("ann", NOON - HOUR)
    town.want("ann", "converted", NOON - HOUR)
    town.lab.put(
        "ml.channel_scores",
        [
            {"profile_id": "ann", "channel": "sms", "channel_propensity": 0.6},
            {"profile_id": "ann", "channel": "email", "channel_propensity": 0.2},
        ],
    )
    assert town.run(NOON) == [("thanks", "sms")]
    assert town.verdicts("ann")["thanks", "email"] == ("held", "another_channel")


def test_a_small_share_of_steps_tries_another_channel_and_logs_how_likely(
    town: Town,
) -> None:
    town.lab.change(
        "update seeds.decision_rules set limit_value = 0.3 "
        "where rule = 'another_channel'"
    )
    town.lab.change(
        "update staging.stg_journeys set message_class = 'marketing' "
        "where journey = 'post_purchase_care'"
    )
    propensities = {"email": 0.2, "sms": 0.6, "push": 0.1}
    for number in range(100):
        name = f"p{number}"
        town.move_in(name, channels=propensities, consents=propensities)
        town.want(name, "converted", NOON - HOUR)
        town.lab.put(
            "ml.channel_scores",
            [
                {"profile_id": name, "channel": channel, "channel_propensity": chance}
                for channel, chance in propensities.items()
            ],
        )
    sent = Counter(channel for _, channel in town.run(NOON))
    assert sent["sms"] == pytest.approx(70, abs=4 * (100 * 0.3 * 0.7) ** 0.5)
    assert sent["email"] == pytest.approx(sent["push"], abs=4 * 30**0.5)
    logged = town.lab.read("""
        select send_list.channel, send_list.choice_probability, decisions.rule_version
        from decisions.send_list
        inner join decisions.decisions using (decision_id)
        where decisions.choice_probability = send_list.choice_probability
    """)
    assert logged.height == 100
    assert logged["rule_version"].is_not_null().all()
    chances = {(row[0], round(row[1], 9)) for row in logged.rows()}
    assert chances == {("sms", 0.7), ("email", 0.15), ("push", 0.15)}
    choices = town.lab.read("from decisions.send_choices")
    assert choices.height == 300
    for _, send in choices.group_by("send_id"):
        assert send["choice_probability"].sum() == pytest.approx(1)
        assert send["is_chosen"].sum() == 1
        assert dict(send.select("channel", "channel_propensity").rows()) == propensities


def test_a_step_with_one_way_to_go_logs_certainty(town: Town) -> None:
    town.move_in("ann", channels=["email"])
    town.suffer("ann", NOON - HOUR)
    assert town.run(NOON) == [("apology", "email")]
    chances = town.lab.read(
        "select channel, choice_probability from decisions.decisions"
    )
    assert set(chances.rows()) == {("email", 1.0), ("sms", None), ("push", None)}


def wait_for_evening(town: Town) -> None:
    """Ann left a cart; the push may wait a day, and she is there in the evening."""
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.lab.change(
        "update staging.stg_journey_steps set send_time_seconds = 86400 "
        "where step = 'push_reminder'"
    )
    town.lab.put(
        "ml.send_time_scores",
        [
            {
                "profile_id": "ann",
                "weekday_group": group,
                "slot": slot,
                "send_time_propensity": share,
            }
            for group, slot, share in (("weekday", 9, 0.4), ("weekday", 6, 0.1))
        ],
    )


def test_a_step_waits_for_the_hours_of_the_person(town: Town) -> None:
    wait_for_evening(town)
    assert town.run(NOON) == []
    assert town.verdicts("ann")["push_reminder", "push"] == ("held", "better_send_time")
    assert town.run(NOON + 5 * HOUR) == []
    assert town.run(NOON + 6 * HOUR) == [("push_reminder", "push")]


def test_a_step_waits_no_longer_than_it_may(town: Town) -> None:
    wait_for_evening(town)
    assert town.run(NOON) == []
    assert town.run(NOON + DAY) == [("push_reminder", "push")]


def test_who_waits_for_an_hour_keeps_nobody_else_waiting(town: Town) -> None:
    wait_for_evening(town)
    town.want("ann", "considering", NOON - HOUR)
    assert town.run(NOON) == [("onsite_guide", "onsite")]


def test_machine_opens_leave_escalation_as_it_was(town: Town) -> None:
    """Escalated though they had answered, or not though they had not.

    Half of the people read an email and half of those click; six in a hundred come back
    without a click, which nothing proves. In the other half of the town, the same
    happens and four in ten emails are opened by machines besides, half of which
    neither say so nor come too soon to be people.
    """
    dice = random.Random(1)
    people = [
        {act: dice.random() < chance for act, chance in acts.items()}
        for acts in [
            {
                "reads": 0.5,
                "clicks": 0.5,
                "returns": 0.06,
                "fetches": 0.4,
                "admits": 0.5,
            }
        ]
        * 60
    ]
    for number in range(len(people)):
        for place in ("quiet", "noisy"):
            name = f"{place}{number}"
            town.move_in(name, channels=["email", "sms"], consents=["email", "sms"])
            town.leave_cart(name, NOON - HOUR)
    town.run(NOON)
    assert len(town.run(NOON + DAY)) == 120
    sent = dict(
        town.lab.read("select profile_id, send_id from decisions.send_list").rows()
    )
    for number, acts in enumerate(people):
        for place in ("quiet", "noisy"):
            name = f"{place}{number}"
            opened = {"send_id": sent[name]}
            if acts["fetches"] and place == "noisy":
                at, admits = NOON + DAY + HOUR / 2, acts["admits"]
                town.meet_message(name, "opened", at, **opened, is_machine=admits)
            if acts["reads"]:
                town.meet_message(name, "opened", NOON + DAY + 2 * HOUR, **opened)
            if acts["reads"] and acts["clicks"]:
                town.meet_message(name, "clicked", NOON + DAY + 2 * HOUR, **opened)
            if acts["returns"]:
                town.visit(name, NOON + DAY + 3 * HOUR)
    town.run(NOON + 2 * DAY)
    escalated = set(
        town.lab.read(
            "select profile_id from decisions.send_list where step = 'sms_last_call'"
        )["profile_id"]
    )

    def error(place: str) -> float:
        wrong = [
            ((acts["reads"] and acts["clicks"]) or acts["returns"])
            == (f"{place}{number}" in escalated)
            for number, acts in enumerate(people)
        ]
        return sum(wrong) / len(wrong)

    assert 0 < error("quiet") < 0.1
    assert error("noisy") <= 1.1 * error("quiet")


def test_the_journey_of_higher_priority_wins(town: Town) -> None:
    town.move_in("ann")
    town.suffer("ann", NOON - HOUR)
    town.want("ann", "converted", NOON - HOUR)
    assert town.run(NOON) == [("apology", "email")]
    assert town.verdicts("ann")["thanks", "email"] == ("held", "arbitration")


def test_nobody_comes_back_before_they_are_eligible_again(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    town.lab.change("delete from profiles.intents")
    town.leave_cart("ann", NOON + 6 * DAY)
    town.run(NOON + 6 * DAY)
    assert town.lab.read("from decisions.entries").height == 1
    town.run(NOON + 7 * DAY)
    assert town.lab.read("from decisions.entries").height == 2


def test_an_enrollment_survives_a_merge(town: Town) -> None:
    town.move_in("ann")
    town.leave_cart("ann", NOON - HOUR)
    town.run(NOON)
    enrollment = town.enrollment("ann")
    town.move_in("anna")
    town.lab.change("""
        update identity.identity_map set profile_id = 'anna'
        where profile_id = 'ann'
    """)
    assert town.run(NOON + DAY) == [("email_offer", "email")]
    assert town.enrollment("anna")["enrollment_id"] == enrollment["enrollment_id"]


def test_nobody_who_would_buy_anyway_is_given_an_incentive(town: Town) -> None:
    for name, propensity in (("ann", 0.1), ("bob", 0.95)):
        town.move_in(name, channels=["email"])
        town.leave_cart(name, NOON - HOUR)
        town.lab.put(
            "ml.scores", [{"profile_id": name, "purchase_propensity": propensity}]
        )
    town.run(NOON)
    town.run(NOON + DAY)
    offers = town.lab.read("""
        select profile_id, payload ->> 'incentive_code' as code
        from decisions.send_list
        order by profile_id
    """)
    assert offers.rows() == [("ann", "BACK10"), ("bob", None)]


def contents(town: Town, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table in some fixed order."""
    rows: pl.DataFrame = town.lab.read(f"from {table} order by all")
    return rows.rows()
