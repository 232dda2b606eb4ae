"""Journeys do what their conditions, branches, waits and goals say."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from activations.conditions import Condition, alternatives
from tests.deciding import DecisionLab, keep_audience
from tests.test_decisions import DAY, GLOBAL_CONTROL, HOUR, NOON, Town

WEEK = 7 * DAY
HELLO = "{step: hello, channels: [in_app], content: words}"


class Village(Town):
    """A town with one journey, written in YAML, and whatever events people send."""

    def __init__(self, lab: DecisionLab, folder: Path) -> None:
        super().__init__(lab)
        self.folder = folder

    def begin(self, text: str) -> None:
        """Keep no journey but this one; what it leaves out is the usual."""
        journey: dict[str, Any] = {
            "journey": "story",
            "version": 1,
            "description": "A story.",
            "message_class": "marketing",
            "priority": 10,
            "exit": {"when": [], "after": "30d"},
            "re_eligibility": "never",
            "steps": [yaml.safe_load(HELLO)],
            **yaml.safe_load(text),
        }
        path = self.folder / "story.yml"
        path.write_text(yaml.safe_dump(journey, sort_keys=False))
        self.lab.keep_journeys(self.folder)

    def group(self, audience: str, when: str) -> None:
        """Keep this audience beside the others."""
        folder = self.folder / "audiences"
        keep_audience(folder, audience, when)
        self.lab.keep_audiences(folder)

    def do(
        self,
        name: str,
        event: str,
        at: datetime,
        *,
        traits: str = "",
        **properties: Any,
    ) -> str:
        """Send an event; returns its message id."""
        message_id = self.say(name, at)
        self.lab.put(
            "staging.stg_events",
            [
                {
                    "message_id": message_id,
                    "type": "identify" if traits else "track",
                    "event": event,
                    "occurred_at": at,
                    "properties": json.dumps(properties),
                    "traits": traits or None,
                }
            ],
        )
        return message_id

    def live_in(self, city: str, *names: str) -> None:
        """Move people to a city."""
        self.lab.connection.execute(
            "update profiles.profiles set city = ? where list_contains(?, profile_id)",
            [city, names],
        )

    def touch(
        self, name: str, action: str, product: str, at: datetime, price: float = 100
    ) -> str:
        """View or order a product; returns the message id."""
        message_id = self.say(name, at)
        self.lab.put(
            "profiles.product_interactions",
            [
                {
                    "message_id": message_id,
                    "profile_id": name,
                    "occurred_at": at,
                    "action": action,
                    "product_id": product,
                    "price": price,
                    "currency": "USD",
                }
            ],
        )
        return message_id

    def entered(self) -> list[str]:
        """Who has ever begun, once per enrollment."""
        return self.lab.read(
            "select entry_profile_id from decisions.entries order by all"
        )["entry_profile_id"].to_list()


@pytest.fixture
def village(lab: DecisionLab, tmp_path: Path) -> Village:
    """A village in which nobody is held out."""
    lab.change(GLOBAL_CONTROL.format(share=0))
    lab.change("delete from seeds.override_rules")
    folder = tmp_path / "journeys"
    folder.mkdir()
    return Village(lab, folder)


def test_an_event_begins_a_journey_by_its_name_properties_and_count(
    village: Village,
) -> None:
    village.begin("""
        entry:
          when:
            event: Loan Viewed
            where: {kind: [car, home], amount: {at_least: 1000}, broker.id: {is_not: x}}
            at_least: 2
            within: 7d
    """)
    for name in ("ann", "bob", "cem", "dan", "eve"):
        village.move_in(name)
    for hours in (1, 2):
        at = NOON - hours * HOUR
        # however the tracker spells the name
        village.do("ann", "loan_viewed", at, kind="Car", amount="1500")
        village.do("bob", "Loan Viewed", at, kind="boat", amount=1500)
        village.do("cem", "Loan Viewed", at, kind="car", amount=999.5)
        village.do("dan", "Loan Viewed", NOON - hours * 5 * DAY, kind="car", amount=1e4)
        village.do("eve", "Loan Viewed", at, kind="car", amount=1e4, broker={"id": "x"})
    village.run(NOON)
    assert village.entered() == ["ann"]


def test_who_did_one_thing_and_not_the_other_in_time(village: Village) -> None:
    village.begin("""
        entry:
          when:
            event: Application Started
            within: 2d
            without: {event: Application Sent, within: 4h}
    """)
    for name in ("ann", "bob", "cem"):
        village.move_in(name)
        village.do(name, "Application Started", NOON)
    village.do("bob", "Application Sent", NOON + 3 * HOUR)
    village.do("cem", "Application Sent", NOON + 5 * HOUR)
    village.run(NOON + 3 * HOUR)
    assert village.entered() == []
    village.run(NOON + 6 * HOUR)
    assert village.entered() == ["ann", "cem"]


def test_an_event_is_known_by_every_name_that_tools_give_it(village: Village) -> None:
    village.begin("""
        entry:
          when:
            event: Product Viewed
            within: 2d
            without: {event: Order Completed, within: 2h}
    """)
    for name, event in (("ann", "Placed Order"), ("bob", "Viewed Cart")):
        village.move_in(name)
        village.do(name, "view_item", NOON - 3 * HOUR)
        village.do(name, event, NOON - 2 * HOUR)
    meanings = "seeds.semantic_events as known where known.event = stg_events.event"
    village.lab.change(
        f"update staging.stg_events set kind = (select kind from {meanings}), "
        f"action = (select action from {meanings})"
    )
    village.run(NOON)
    assert village.entered() == ["bob"]


def test_a_goal_ends_the_journey_at_once(village: Village) -> None:
    village.begin("""
        entry: {when: {event: Loan Viewed}}
        exit:
          when: []
          goals: [{event: Application Sent, where: {product: loan}}]
          after: 10d
        steps:
          - {step: table, channels: [in_app], content: words}
          - {step: help, channels: [in_app], delay: 2d, content: words}
    """)
    for name in ("ann", "bob"):
        village.move_in(name)
        village.do(name, "Loan Viewed", NOON - HOUR)
    assert len(village.run(NOON)) == 2
    # another product's application is no goal, and shortens no wait
    village.do("ann", "Application Sent", NOON + HOUR, product="loan")
    village.do("bob", "Application Sent", NOON + HOUR, product="card")
    assert village.run(NOON + DAY) == []
    assert village.enrollment("ann")["exit_reason"] == "goal"
    assert village.enrollment("ann")["exited_at"] == NOON + HOUR
    assert village.run(NOON + 2 * DAY) == [("help", "in_app")]


@pytest.mark.parametrize(
    ("birthday", "days", "as_of", "zone", "begins"),
    [
        ("1990-05-04", 0, "2026-05-04T12:00", "UTC", True),
        ("1990-05-05", 0, "2026-05-04T12:00", "UTC", False),
        # the day has begun in Auckland and not yet in Los Angeles
        ("1990-05-05", 0, "2026-05-04T14:00", "Pacific/Auckland", True),
        ("1990-05-04", 0, "2026-05-04T03:00", "America/Los_Angeles", False),
        ("1990-05-07", -3, "2026-05-04T12:00", "UTC", True),
        ("1990-01-01", -3, "2026-12-29T12:00", "UTC", True),
        ("1990-12-30", 3, "2027-01-02T12:00", "UTC", True),
        ("1992-02-29", 0, "2027-02-28T12:00", "UTC", True),
        ("1992-02-29", 0, "2028-02-28T12:00", "UTC", False),
        ("1992-02-29", 0, "2028-02-29T12:00", "UTC", True),
        ("no date", 0, "2026-05-04T12:00", "UTC", False),
    ],
)
def test_a_birthday_comes_on_the_day_of_the_person(
    village: Village, birthday: str, days: int, as_of: str, zone: str, begins: bool
) -> None:
    village.begin(
        f"entry: {{when: {{date: birthday, yearly: true, days: {days}}}}}\n"
        "re_eligibility: 300d"
    )
    village.move_in("ann", timezone=zone)
    village.do("ann", "", NOON - WEEK, traits=json.dumps({"birthday": birthday}))
    now = datetime.fromisoformat(as_of)
    village.run(now)
    village.run(now + HOUR)
    assert village.entered() == (["ann"] if begins else [])
    if begins and "02-29" not in birthday:
        again = now.replace(year=now.year + 1)
        village.do("ann", "", again - DAY, traits=json.dumps({"name": "Ann"}))
        village.run(again)
        assert village.entered() == ["ann", "ann"]


def test_a_broadcast_comes_once_to_an_audience_without_who_considers(
    village: Village,
) -> None:
    village.begin("""
        entry:
          when:
            all:
              - {at: 2026-05-04T12:00, within: 6h}
              - {audience: winter}
              - not: {intent: [considering]}
    """)
    village.group("winter", "{trait: city, is: Oslo}")
    for name, zone in (("ann", "UTC"), ("bob", "UTC"), ("cem", "Asia/Tokyo")):
        village.move_in(name, timezone=zone)
    village.move_in("dan")
    village.lab.change(
        "update profiles.profiles set city = 'Oslo' where profile_id <> 'dan'"
    )
    village.want("bob", "considering", NOON - HOUR)
    village.run(NOON - 9 * HOUR)
    assert village.entered() == ["cem"]
    village.run(NOON)
    village.run(NOON + HOUR)
    village.run(NOON + 7 * HOUR)
    assert village.entered() == ["ann", "cem"]


def test_each_order_is_reminded_of_once_before_it_runs_out(village: Village) -> None:
    village.begin("""
        entry: {when: {replenishment: 30d, before: 5d, minimum_reorders: 2}}
        re_eligibility: per_evidence
    """)
    village.move_in("ann")
    village.move_in("bob")
    village.touch("ann", "ordered", "coffee", NOON)
    village.touch("ann", "ordered", "tea", NOON + 10 * DAY)
    village.run(NOON + 24 * DAY)
    assert village.entered() == []
    village.run(NOON + 26 * DAY)
    village.run(NOON + 27 * DAY)
    assert village.entered() == ["ann"]
    village.run(NOON + 36 * DAY)
    assert village.entered() == ["ann", "ann"]
    # two people who bought it again each after ten days: that is how long it lasts
    for name in ("cem", "dan"):
        village.touch(name, "ordered", "soap", NOON)
        village.touch(name, "ordered", "soap", NOON + 10 * DAY)
    village.touch("bob", "ordered", "soap", NOON + 40 * DAY)
    village.run(NOON + 46 * DAY)
    assert village.entered() == ["ann", "ann", "bob"]


@pytest.mark.parametrize(
    ("condition", "event", "properties", "begins"),
    [
        ("price_drop: 10", "Product Price Changed", {"price": 90}, True),
        ("price_drop: 10", "Product Price Changed", {"price": 91}, False),
        (
            "price_drop: 10",
            "Product Price Changed",
            {"price": 50, "currency": "EUR"},
            False,
        ),
        ("price_drop: 10", "Product Restocked", {}, False),
        ("back_in_stock: true", "Product Restocked", {}, True),
    ],
)
def test_what_was_viewed_becomes_cheaper_or_comes_back(
    village: Village, condition: str, event: str, properties: Any, begins: bool
) -> None:
    village.begin(f"entry: {{when: {{{condition}, viewed_within: 30d}}}}")
    for name in ("ann", "bob", "cem", "dan"):
        village.move_in(name)
    village.touch("ann", "viewed", "lamp", NOON - DAY)
    village.touch("bob", "viewed", "lamp", NOON - 40 * DAY)
    village.touch("cem", "viewed", "chair", NOON - DAY)
    village.touch("dan", "viewed", "lamp", NOON - DAY)
    village.touch("dan", "ordered", "lamp", NOON - HOUR)
    village.do("shop", event, NOON, product_id="lamp", **properties)
    village.run(NOON + HOUR)
    village.run(NOON + 2 * HOUR)
    assert village.entered() == (["ann"] if begins else [])


BRANCH = """
    entry: {when: {event: Begun}}
    steps:
      - {step: hello, channels: [in_app], content: words}
      - branch: answered
        if: {message: hello, was: clicked}
        then: [{step: more, channels: [in_app], delay: 1d, content: words}]
        else: [{step: again, channels: [in_app], delay: 1d, content: words}]
      - {step: bye, channels: [in_app], delay: 2d, content: words}
"""


def react(village: Village, name: str, interaction: str, at: datetime) -> None:
    """Click or open what was sent first."""
    send_id = village.lab.read(
        f"select send_id from staging.stg_sends where profile_id = '{name}' limit 1"
    ).item()
    village.meet_message(name, interaction, at, send_id=send_id, channel="in_app")


def sent(village: Village, name: str) -> list[str]:
    """The steps that somebody was sent."""
    return village.lab.read(
        f"select step from staging.stg_sends where profile_id = '{name}' order by as_of"
    )["step"].to_list()


def test_a_branch_follows_what_an_earlier_message_met_and_stays(
    village: Village,
) -> None:
    village.begin(BRANCH)
    for name in ("ann", "bob"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    village.run(NOON)
    react(village, "ann", "clicked", NOON + HOUR)
    village.run(NOON + DAY)
    # who answers only now has had the other side
    react(village, "bob", "clicked", NOON + DAY + HOUR)
    for days in (2, 3, 4):
        village.run(NOON + days * DAY)
    assert sent(village, "ann") == ["hello", "more", "bye"]
    assert sent(village, "bob") == ["hello", "again", "bye"]


def test_what_waits_is_withdrawn_where_its_step_asks_for_something_else_by_then(
    village: Village,
) -> None:
    village.begin(BRANCH)
    for name in ("ann", "bob"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    village.run(NOON)
    village.lab.build(NOON + DAY)
    village.lab.send(NOON + DAY, state="pending")
    react(village, "ann", "clicked", NOON + DAY + HOUR)
    village.lab.build(NOON + DAY + 2 * HOUR)
    reasons = village.lab.read("""
        select send_list.profile_id, deliverable_sends.reason
        from decisions.deliverable_sends
        inner join decisions.send_list using (send_id)
        where send_list.step = 'again'
    """)
    assert dict(reasons.iter_rows()) == {"ann": "no_longer_due", "bob": "due"}


def test_an_open_is_read_only_of_who_agreed_to_that(village: Village) -> None:
    village.begin(BRANCH.replace("was: clicked", "was: opened"))
    for name in ("ann", "bob"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    village.lab.put(
        "profiles.consents",
        [{"profile_id": "ann", "purpose": "open_tracking", "status": "granted"}],
    )
    village.run(NOON)
    for name in ("ann", "bob"):
        react(village, name, "opened", NOON + HOUR)
    village.run(NOON + DAY)
    assert sent(village, "ann") == ["hello", "more"]
    assert sent(village, "bob") == ["hello", "again"]


EXITS = """
    entry: {when: {event: Begun}}
    steps:
      - {step: hello, channels: [in_app], content: words}
      - branch: bought
        if: {event: Bought}
        then: [{step: thanks, channels: [in_app], content: words}, {exit: done}]
        else:
          - {exit: romans, only_if: {trait: city, is: Rome}}
          - {step: ask, channels: [in_app], content: words}
      - {step: more, channels: [in_app], delay: 1d, content: words}
"""


def test_nobody_hears_more_after_an_exit(village: Village) -> None:
    village.begin(EXITS)
    for name in ("ann", "bob", "cem"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    village.live_in("Rome", "cem")
    village.run(NOON)
    village.do("ann", "Bought", NOON + HOUR)
    for days in range(1, 5):
        village.run(NOON + days * DAY)
    assert sent(village, "ann") == ["hello", "thanks"]
    assert sent(village, "bob") == ["hello", "ask", "more"]
    assert sent(village, "cem") == ["hello"]


def test_a_step_waits_for_its_weekday_and_hour_where_the_person_is(
    village: Village,
) -> None:
    village.begin("""
        entry: {when: {event: Begun}}
        steps:
          - step: hello
            channels: [in_app]
            content: words
            until: {weekdays: [tuesday, friday], at: "15:00"}
    """)
    due = {}
    for name, zone in (("ann", "UTC"), ("bob", "Asia/Tokyo"), ("cem", "US/Pacific")):
        village.move_in(name, timezone=zone)
        village.do(name, "Begun", NOON - HOUR)
    # noon is a Monday's
    for hours in range(0, 48, 3):
        now = NOON + hours * HOUR
        village.run(now)
        for name in ("ann", "bob", "cem"):
            if sent(village, name):
                due.setdefault(name, now)
    tuesday = NOON + DAY
    assert due == {
        "ann": tuesday + 3 * HOUR,
        "bob": tuesday - 6 * HOUR,
        "cem": tuesday + 12 * HOUR,
    }


def test_of_a_group_so_many_journeys_speak_at_a_time(village: Village) -> None:
    group = "group: {name: sale, at_most: 1}\n"
    later = "{step: more, channels: [in_app], delay: 1d, content: words}"
    steps = f"\nsteps: [{HELLO}, {later}]"
    entry = "entry: {when: {event: Begun}}"
    village.begin(f"{group}{entry}{steps}")
    story = yaml.safe_load((village.folder / "story.yml").read_text())
    alone = {name: value for name, value in story.items() if name != "group"}
    for other, name, priority in ((story, "second", 20), (alone, "alone", 30)):
        changed = {**other, "journey": name, "priority": priority}
        (village.folder / f"{name}.yml").write_text(yaml.safe_dump(changed))
    village.lab.keep_journeys(village.folder)
    village.lab.change("delete from seeds.frequency_caps")
    village.move_in("ann")
    village.do("ann", "Begun", NOON - HOUR)
    said = [journeys(village, NOON + hours * HOUR) for hours in (0, 1, 24, 25, 26, 50)]
    assert said == [["story"], ["alone"], ["story"], ["second"], ["alone"], ["second"]]
    held = village.lab.read("""
        select distinct journey, reason_detail from decisions.decisions
        where reason = 'journey_cap'
    """)
    assert held.rows() == [("second", "after story")]


def journeys(village: Village, as_of: datetime) -> list[str]:
    """The journeys of what goes out in a run."""
    village.run(as_of)
    listed = "select journey from decisions.send_list where as_of = "
    return village.lab.read(f"{listed}'{as_of}'")["journey"].to_list()


def test_so_many_people_begin_a_journey_in_a_time(village: Village) -> None:
    village.begin("entry: {when: {event: Begun}, at_most: {people: 2, within: 1d}}")
    for number, name in enumerate(("eve", "dan", "cem", "bob", "ann")):
        village.move_in(name)
        village.do(name, "Begun", NOON - (9 - number) * HOUR)
    begun = {}
    for hours in (0, 1, 23, 24, 47, 48):
        village.run(NOON + hours * HOUR)
        begun[hours] = village.entered()
    first, second = ["dan", "eve"], ["bob", "cem", "dan", "eve"]
    everybody = ["ann", *second]
    assert begun == {
        **dict.fromkeys((0, 1, 23), first),
        **dict.fromkeys((24, 47), second),
        48: everybody,
    }


def test_arms_are_kept_through_re_entry_and_merges(village: Village) -> None:
    village.begin("""
        entry: {when: {event: Begun, within: 1d}}
        exit: {when: [], after: 2d}
        re_eligibility: 10d
        steps:
          - experiment_split: tone
            arms:
              - arm: warm
                share: 0.3
                steps: [{step: warm, channels: [in_app], content: words}]
              - arm: cool
                share: 0.3
                steps: [{step: cool, channels: [in_app], content: words}]
              - {arm: none, share: 0.4}
    """)
    people = [f"p{number}" for number in range(60)]
    for name in people:
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    first = [step for step, _ in village.run(NOON)]
    assert 6 < first.count("warm") < 32
    assert 6 < first.count("cool") < 32
    assert 8 < 60 - len(first) < 42
    arms = {name: sent(village, name) for name in people}
    shares = village.lab.read("""
        select distinct step, arm_share, assignment_probability
        from decisions.decisions
        inner join decisions.entries using (enrollment_id)
        order by step
    """)
    assert shares.rows() == [("cool", 0.3, 1.0), ("warm", 0.3, 1.0)]
    # each turns out to be one with somebody new, whose name goes before
    later = NOON + 20 * DAY
    for name in people:
        village.lab.change(
            f"update identity.identity_map set profile_id = 'a-{name}' "
            f"where profile_id = '{name}'"
        )
        village.lab.change(
            f"update profiles.profiles set profile_id = 'a-{name}' "
            f"where profile_id = '{name}'"
        )
        village.lab.change(
            f"update profiles.contact_points set profile_id = 'a-{name}' "
            f"where profile_id = '{name}'"
        )
        village.do(f"a-{name}", "Begun", later - HOUR)
    village.run(later)
    assert {name: sent(village, f"a-{name}") for name in people} == arms


@pytest.mark.parametrize(
    ("on_timeout", "steps"), [("skip", ["bye"]), ("send", ["proof", "bye"])]
)
def test_a_step_waits_for_an_event_and_not_for_ever(
    village: Village, on_timeout: str, steps: list[str]
) -> None:
    village.begin(f"""
        entry: {{when: {{event: Begun}}}}
        steps:
          - step: proof
            channels: [in_app]
            content: words
            wait_for:
              event: Video Watched
              where: {{seconds: {{at_least: 30}}}}
              timeout: 20h
              on_timeout: {on_timeout}
          - {{step: bye, channels: [in_app], delay: 2d, content: words}}
    """)
    for name in ("ann", "bob"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
    assert village.run(NOON) == []
    village.do("ann", "Video Watched", NOON + HOUR, seconds=31)
    village.do("bob", "Video Watched", NOON + HOUR, seconds=29)
    village.run(NOON + 2 * HOUR)
    assert sent(village, "ann") == ["proof"]
    assert sent(village, "bob") == []
    for hours in (20, 40, 68, 90):
        village.run(NOON + hours * HOUR)
    assert sent(village, "ann") == ["proof", "bye"]
    assert sent(village, "bob") == steps


def test_an_emptied_cart_or_a_left_audience_ends_a_journey(village: Village) -> None:
    village.begin("""
        entry: {when: {all: [{event: Begun}, {audience: winter}]}}
        exit: {when: [cart_emptied, audience_left], after: 10d}
    """)
    village.group("winter", "{trait: city, is: Oslo}")
    for name in ("ann", "bob", "cem"):
        village.move_in(name)
        village.do(name, "Begun", NOON - HOUR)
        village.lab.put("profiles.cart_items", [{"profile_id": name}])
    village.live_in("Oslo", "ann", "bob", "cem")
    village.lab.change("delete from profiles.contact_points")
    village.run(NOON)
    village.lab.change("delete from profiles.cart_items where profile_id = 'ann'")
    village.lab.change(
        "update profiles.profiles set city = 'Rom' where profile_id = 'bob'"
    )
    village.run(NOON + HOUR)
    reasons = {name: village.enrollment(name)["exit_reason"] for name in ("ann", "bob")}
    assert reasons == {"ann": "cart_emptied", "bob": "audience_left"}
    assert village.enrollment("cem")["state"] == "active"


NAMES = ("a", "b", "c", "d")
LEAVES = st.sampled_from([{"audience": name} for name in NAMES])


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Conditions made of others."""
    parts = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        parts.map(lambda several: {"all": several}),
        parts.map(lambda several: {"any": several}),
        inner.map(lambda one: {"not": one}),
    )


def holds(condition: dict[str, Any], audiences: set[str]) -> bool:
    """Whether a condition as written holds of a member of these audiences."""
    if "all" in condition:
        return all(holds(part, audiences) for part in condition["all"])
    if "any" in condition:
        return any(holds(part, audiences) for part in condition["any"])
    if "not" in condition:
        return not holds(condition["not"], audiences)
    return condition["audience"] in audiences


@given(st.recursive(LEAVES, nest, max_leaves=6), st.sets(st.sampled_from(NAMES)))
def test_the_alternatives_of_a_condition_mean_what_it_means(
    condition: dict[str, Any], audiences: set[str]
) -> None:
    parsed = TypeAdapter(Condition).validate_python(condition)
    by_alternatives = any(
        all((test.row()["names"][0] in audiences) != negated for test, negated in tests)
        for tests in alternatives(parsed)
    )
    assert by_alternatives == holds(condition, audiences)
