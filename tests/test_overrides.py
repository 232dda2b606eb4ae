"""Humans have the last say: whom they mean, what they decide, what comes of it."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deciding import DecisionLab
from tests.test_decisions import DAY, GLOBAL_CONTROL, HOUR, NOON, Town

Rule = tuple[str, str, str | None]

MEMBERS = "select audience, profile_id from profiles.audience_members"


class Office(Town):
    """A town whose analysts write rules."""

    def define(self, audience: str, *rules: Rule) -> None:
        """An audience of who meets all these rules."""
        self.lab.put(
            "seeds.audience_rules",
            [
                {
                    "audience": audience,
                    "fact": fact,
                    "comparison": comparison,
                    "value": value,
                }
                for fact, comparison, value in rules
            ],
        )

    def decide(
        self,
        audience: str,
        override: str,
        *,
        priority: int | None = 1,
        **particulars: str,
    ) -> None:
        """What is to be done with an audience, whatever else speaks for or against."""
        row = {"decided_by": "crm", "reason": "they asked", **particulars}
        self.lab.put(
            "seeds.override_rules",
            [
                {
                    "priority": priority,
                    "audience": audience,
                    "override": override,
                    **row,
                }
            ],
        )

    def learn(self, name: str, **facts: Any) -> None:
        """Know something new of somebody."""
        for fact, value in facts.items():
            self.lab.connection.execute(
                f"update profiles.profiles set {fact} = ? where profile_id = ?",
                [value, name],
            )

    def members(self, audience: str, as_of: datetime = NOON) -> list[str]:
        """Who belongs to an audience."""
        self.lab.build(as_of, only="profiles.")
        return self.lab.read(f"""
            select profile_id from profiles.audience_members
            where audience = '{audience}' order by profile_id
        """)["profile_id"].to_list()

    def overrides(self, name: str, as_of: datetime = NOON) -> dict[str, str]:
        """Which audience decided what for somebody."""
        self.lab.build(as_of, only="profiles.")
        rows = self.lab.read(
            "select override, audience from profiles.overrides "
            f"where profile_id = '{name}'"
        )
        return dict(rows.rows())


@pytest.fixture
def office(lab: DecisionLab) -> Office:
    """A town in which nobody is held out and nothing is decided yet."""
    lab.change("update staging.stg_journeys set holdout_rate = 0")
    lab.change(GLOBAL_CONTROL.format(share=0))
    lab.change("delete from seeds.audience_rules")
    lab.change("delete from seeds.override_rules")
    return Office(lab)


def test_who_is_never_contacted_gets_no_marketing_but_the_apology(
    office: Office,
) -> None:
    for name in ("ann", "bob"):
        office.move_in(name)
        office.leave_cart(name, NOON - HOUR)
    office.learn("ann", country="DE")
    office.define("germans", ("country", "is", "DE"))
    office.decide("germans", "never_contact", reason="a pending court order")
    office.run(NOON)
    suppressed = ("suppressed", "override_never_contact")
    assert office.verdicts("ann") == {("push_reminder", "push"): suppressed}
    assert office.verdicts("bob") == {("push_reminder", "push"): ("send", "due")}
    details = office.lab.read(
        "select profile_id, reason_detail from decisions.decisions"
    )
    assert dict(details.rows()) == {
        "ann": "germans: a pending court order",
        "bob": None,
    }
    office.suffer("ann", NOON)
    assert office.run(NOON + HOUR) == [("apology", "email")]


def test_no_contact_at_all_holds_back_even_the_apology(office: Office) -> None:
    office.move_in("ann")
    office.suffer("ann", NOON - HOUR)
    office.define("press", ("identifier", "is", "user_id:user-ann"))
    office.decide("press", "never_contact", message_class="all")
    assert office.run(NOON) == []
    suppressed = ("suppressed", "override_never_contact")
    assert set(office.verdicts("ann").values()) == {suppressed}


def test_no_contact_is_told_before_the_control_group(office: Office) -> None:
    office.lab.change(GLOBAL_CONTROL.format(share=1))
    office.move_in("ann")
    office.leave_cart("ann", NOON - HOUR)
    office.define("all", ("user_id", "is_unknown", None))
    office.decide("all", "never_contact")
    office.run(NOON)
    suppressed = ("suppressed", "override_never_contact")
    assert office.verdicts("ann") == {("push_reminder", "push"): suppressed}


def answer_by_sms(office: Office, name: str) -> None:
    """Somebody who just bought and answers best by SMS."""
    office.order(name, NOON - HOUR)
    office.want(name, "converted", NOON - HOUR)
    office.lab.put(
        "ml.channel_scores",
        [{"profile_id": name, "channel": "sms", "channel_propensity": 0.9}],
    )


def test_a_forced_channel_wins_over_the_one_that_answers_best(office: Office) -> None:
    office.move_in("ann")
    answer_by_sms(office, "ann")
    office.define("tokens", ("order_count", "at_most", "0"))
    office.decide("tokens", "force_channel", channel="push", reason="a trial")
    assert office.run(NOON) == [("thanks", "push")]
    suppressed = ("suppressed", "override_channel")
    assert office.verdicts("ann") == {
        ("thanks", "push"): ("send", "due"),
        ("thanks", "email"): suppressed,
        ("thanks", "sms"): suppressed,
    }
    details = office.lab.read("select channel, reason_detail from decisions.decisions")
    assert dict(details.rows()) == {
        "push": None,
        "email": "tokens: a trial",
        "sms": "tokens: a trial",
    }


def test_a_forced_channel_that_is_closed_or_no_choice_changes_nothing(
    office: Office,
) -> None:
    office.move_in("ann", channels=("email", "sms"))
    answer_by_sms(office, "ann")
    office.move_in("bob")
    office.leave_cart("bob", NOON - HOUR)
    office.define("all", ("user_id", "is_unknown", None))
    office.decide("all", "force_channel", channel="email", priority=2)
    office.define("ann", ("identifier", "is", "user_id:user-ann"))
    office.decide("ann", "force_channel", channel="push", priority=1)
    assert office.run(NOON) == [("push_reminder", "push"), ("thanks", "sms")]
    assert office.verdicts("ann")["thanks", "email"] == ("held", "another_channel")


def test_a_forced_channel_waits_for_the_morning(office: Office) -> None:
    office.move_in("ann")
    office.order("ann", NOON - HOUR)
    office.want("ann", "converted", NOON - HOUR)
    office.define("all", ("user_id", "is_unknown", None))
    office.decide("all", "force_channel", channel="sms")
    # where she lives is not known: a text may go at an hour that is lawful everywhere
    night, morning = NOON + 9 * HOUR, NOON + 22 * HOUR
    assert office.run(night) == []
    assert office.verdicts("ann")["thanks", "sms"] == ("held", "quiet_hours")
    assert office.run(morning) == [("thanks", "sms")]


def test_people_join_and_leave_an_audience_as_facts_change(office: Office) -> None:
    for name, country in (("ann", "DE"), ("bob", "at"), ("cem", "FR")):
        office.move_in(name)
        office.learn(name, country=country, order_count=2)
    office.move_in("kiosk", is_hub=True)
    office.learn("kiosk", country="DE", order_count=3)
    office.define(
        "regulars",
        ("country", "in", "DE|AT"),
        ("order_count", "at_least", "2"),
        ("order_count", "at_most", "4"),
    )
    office.define("strangers", ("country", "not_in", "DE | AT"))
    assert office.members("regulars") == ["ann", "bob"]
    assert office.members("strangers") == ["cem"]
    office.learn("bob", order_count=5)
    office.learn("cem", country="DE")
    office.learn("ann", country=None)
    assert office.members("regulars") == ["cem"]
    assert office.members("strangers") == ["ann"]


def test_people_join_and_leave_an_audience_as_time_goes_by(office: Office) -> None:
    office.move_in("ann")
    office.learn("ann", last_order_at=NOON)
    office.define(
        "lapsing",
        ("days_since_last_order", "at_least", "30"),
        ("days_since_last_order", "at_most", "59"),
    )
    moments = [
        NOON + 30 * DAY - HOUR,
        NOON + 30 * DAY,
        NOON + 60 * DAY - HOUR,
        NOON + 60 * DAY,
    ]
    memberships = [office.members("lapsing", moment) for moment in moments]
    assert memberships == [[], ["ann"], ["ann"], []]


def test_a_person_named_by_an_identifier_is_meant_after_a_merge_too(
    office: Office,
) -> None:
    office.move_in("ann")
    office.define("ann", ("identifier", "in", "email:Ann@Example.org|user_id:user-ann"))
    office.lab.put(
        "identity.identity_map",
        [
            {
                "profile_id": "ann",
                "identifier_type": "email",
                "identifier": "ann@example.org",
            }
        ],
    )
    assert office.members("ann") == ["ann"]
    office.move_in("anna")
    office.lab.change("""
        update identity.identity_map set profile_id = 'anna'
        where profile_id = 'ann'
    """)
    assert office.members("ann") == ["anna"]
    office.learn("anna", is_hub=True)
    assert office.members("ann") == []


def test_an_override_holds_through_its_last_day_and_no_longer(office: Office) -> None:
    office.move_in("ann")
    office.leave_cart("ann", NOON - HOUR)
    office.define("all", ("user_id", "is_unknown", None))
    office.decide(
        "all",
        "never_contact",
        valid_from=f"{NOON:%Y-%m-%d}",
        valid_until=f"{NOON:%Y-%m-%d}",
    )
    midnight = datetime(NOON.year, NOON.month, NOON.day)
    second = timedelta(seconds=1)
    assert office.overrides("ann", midnight - second) == {}
    assert office.overrides("ann", midnight) == {"never_contact": "all"}
    assert office.overrides("ann", midnight + DAY - second) == {"never_contact": "all"}
    assert office.run(NOON) == []
    assert office.run(NOON + DAY) == [("push_reminder", "push")]


def test_where_audiences_disagree_the_first_in_priority_has_its_say(
    office: Office,
) -> None:
    office.move_in("ann")
    answer_by_sms(office, "ann")
    for audience in ("early", "late"):
        office.define(audience, ("user_id", "is_unknown", None))
    office.decide("late", "force_channel", channel="sms", priority=2)
    office.decide("early", "force_channel", channel="push", priority=1)
    office.decide("late", "never_score", priority=3)
    assert office.overrides("ann") == {"force_channel": "early", "never_score": "late"}
    assert office.run(NOON) == [("thanks", "push")]


def test_who_works_here_is_neither_contacted_nor_scored(lab: DecisionLab) -> None:
    office = Office(lab)
    for name, domain in (("ann", "shop.example.com"), ("bob", "example.com")):
        office.move_in(name)
        office.learn(name, email=f"{name}@{domain}")
    assert office.overrides("ann") == {"never_contact": "staff", "never_score": "staff"}
    assert office.overrides("bob") == {}


def test_every_fact_that_is_told_can_be_looked_up(office: Office) -> None:
    for name in ("ann", "bob"):
        office.move_in(name)
        office.learn(
            name, timezone=None, order_count=None, first_name=None, identifier=None
        )
    columns = office.lab.read("describe profiles.profiles")["column_name"].to_list()
    facts: dict[str, Any] = {
        column: NOON if column.endswith("_at") else "1"
        for column in columns
        if column not in ("profile_id", "is_hub")
    }
    office.learn("ann", **facts)
    office.lab.put("profiles.rfm", [{"profile_id": "ann", "rfm_segment": "lost"}])
    office.want("ann", "browsing", NOON)
    told = office.lab.read(
        "select fact from seeds.audience_facts where kind <> 'identifier'"
    )["fact"].to_list()
    for fact in told:
        office.define(fact, (fact, "is_known", None))
    office.members(told[0])
    members = office.lab.read(
        "select audience, profile_id from profiles.audience_members"
    )
    assert sorted(members.rows()) == sorted((fact, "ann") for fact in told)


@pytest.mark.parametrize(
    ("rule", "mend"),
    [
        (("contry", "is", "DE"), 'a,contry,is,DE": there is no such fact'),
        (("country", "equals", "DE"), "is compared by is, is_not, in, not_in"),
        (("country", "at_least", "3"), "is compared by is, is_not, in, not_in"),
        (("order_count", "at_least", "two"), "the value is no number"),
        (("order_count", "at_least", None), "a value is missing"),
        (("last_order_at", "before", "31.01.2026"), "write it like 2026-01-31"),
        (("last_order_at", "after", "2026-02-30"), "write it like 2026-01-31"),
        (("country", "is", "DE|AT"), "only in and not_in take several values"),
        (("country", "is_known", "DE"), "it takes no value"),
        (("identifier", "is", "ann@example.org"), "write the value like user_id:123"),
        (("identifier", "is", "user_id:"), "write the value like user_id:123"),
    ],
)
def test_a_rule_that_cannot_be_read_stops_the_run_and_says_what_to_mend(
    office: Office, rule: Rule, mend: str
) -> None:
    office.define("sound", ("country", "is", "DE"))
    office.define("a", rule)
    with pytest.raises(
        duckdb.InvalidInputException, match=r"audience_rules\.csv"
    ) as error:
        office.lab.build(NOON, only="profiles.")
    assert mend in str(error.value)
    assert "sound" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "mend"),
    [
        ({"priority": None}, "priority : it is missing"),
        ({"priority": 2}, "priority 2: more than one row has it"),
        ({"audience": "nobody"}, "audience_rules.csv has no rule of this audience"),
        ({"override": "never_mind"}, "an override is never_score"),
        ({"override": "force_channel"}, "the channel is missing"),
        ({"channel": "sms"}, "only force_channel takes a channel"),
        (
            {"override": "force_channel", "channel": "fax"},
            "channel_rules.csv has no such channel",
        ),
        (
            {"override": "never_score", "message_class": "all"},
            "only never_contact takes a message_class",
        ),
        ({"message_class": "any"}, "a message_class is marketing or all"),
        ({"valid_until": "soon"}, "a day is written like 2026-01-31"),
        (
            {"valid_from": "2026-02-01", "valid_until": "2026-01-31"},
            "it ends before it begins",
        ),
        ({"reason": None}, "decided_by and reason are not both given"),
    ],
)
def test_an_override_that_cannot_be_read_stops_the_run_and_says_what_to_mend(
    office: Office, row: dict[str, Any], mend: str
) -> None:
    office.define("germans", ("country", "is", "DE"))
    office.decide("germans", "never_score", priority=2)
    office.decide(**{"audience": "germans", "override": "never_contact", **row})
    with pytest.raises(
        duckdb.InvalidInputException, match=r"override_rules\.csv, priority"
    ) as error:
        office.lab.build(NOON, only="profiles.")
    assert mend in str(error.value)


COUNTRIES = ("DE", "at", "FR", None)
MOMENTS = tuple(NOON - days * DAY for days in range(4))


def people() -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries(
            {
                "country": st.sampled_from(COUNTRIES),
                "order_count": st.integers(0, 3),
                "last_seen_at": st.sampled_from((*MOMENTS, None)),
            }
        ),
        max_size=12,
    )


def rules() -> st.SearchStrategy[Rule]:
    countries = st.lists(st.sampled_from(("de", "AT", "fr")), min_size=1, max_size=2)
    return st.one_of(
        st.tuples(
            st.just("country"),
            st.sampled_from(("in", "not_in")),
            countries.map("|".join),
        ),
        st.tuples(
            st.sampled_from(("country", "order_count", "last_seen_at")),
            st.sampled_from(("is_known", "is_unknown")),
            st.none(),
        ),
        st.tuples(
            st.just("order_count"),
            st.sampled_from(("is", "is_not", "at_least", "at_most")),
            st.sampled_from(("0", "1.0", " 2", "03")),
        ),
        st.tuples(
            st.just("last_seen_at"),
            st.sampled_from(("before", "after")),
            st.sampled_from([f"{moment:%Y-%m-%d}" for moment in MOMENTS]),
        ),
    )


def is_met(rule: Rule, person: dict[str, Any]) -> bool:
    """The rule as a human reads it."""
    fact, comparison, value = rule
    known = person[fact]
    if comparison in ("is_known", "is_unknown"):
        return (known is not None) == (comparison == "is_known")
    assert value is not None
    if fact == "country":
        is_in = known is not None and known.lower() in value.lower().split("|")
        return is_in == (comparison == "in")
    if fact == "order_count":
        number = Decimal(value.strip())
        return {
            "is": known == number,
            "is_not": known != number,
            "at_least": known >= number,
            "at_most": known <= number,
        }[comparison]
    if known is None:
        return False
    return (known < datetime.fromisoformat(value)) == (comparison == "before")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(people=people(), audiences=st.lists(st.lists(rules(), min_size=1), max_size=4))
def test_audiences_are_what_a_second_reading_of_their_rules_says(
    lab: DecisionLab, people: list[dict[str, Any]], audiences: list[list[Rule]]
) -> None:
    for table in ("seeds.audience_rules", "seeds.override_rules", "profiles.profiles"):
        lab.change(f"delete from {table}")
    office = Office(lab)
    lab.put(
        "profiles.profiles",
        [
            {"profile_id": f"p{number:02}", "is_hub": False, **person}
            for number, person in enumerate(people)
        ],
    )
    for number, rules in enumerate(audiences):
        office.define(f"a{number}", *rules)
    lab.build(NOON, only="profiles.audience")
    members = lab.read(MEMBERS)
    expected = {
        (f"a{audience}", f"p{number:02}")
        for audience, rules in enumerate(audiences)
        for number, person in enumerate(people)
        if all(is_met(rule, person) for rule in rules)
    }
    assert sorted(members.rows()) == sorted(expected)
