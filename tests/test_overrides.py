"""Humans have the last say: whom they mean, what they decide, what comes of it."""

import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activations.audiences import audience_frames, read_audiences
from orchestration.settings import PROJECT, Settings
from orchestration.sources.authored import known_traits, known_words
from tests.deciding import DecisionLab, keep_audience
from tests.test_decisions import DAY, GLOBAL_CONTROL, HOUR, NOON, Town

Condition = dict[str, Any]

MEMBERS = "select audience, profile_id from profiles.audience_members"


class Office(Town):
    """A town whose analysts say who is meant, and what is to be done."""

    def __init__(self, lab: DecisionLab, folder: Path) -> None:
        super().__init__(lab)
        self.folder = folder

    def define(self, audience: str, when: str) -> None:
        """An audience of whom this condition holds."""
        keep_audience(self.folder, audience, when)
        self.lab.keep_audiences(self.folder)

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
def office(lab: DecisionLab, tmp_path: Path) -> Office:
    """A town in which nobody is held out and nothing is decided yet."""
    lab.change("update staging.stg_journeys set holdout_rate = 0")
    lab.change(GLOBAL_CONTROL.format(share=0))
    lab.change("delete from seeds.override_rules")
    return Office(lab, tmp_path / "audiences")


def test_who_is_never_contacted_gets_no_marketing_but_the_apology(
    office: Office,
) -> None:
    for name in ("ann", "bob"):
        office.move_in(name)
        office.leave_cart(name, NOON - HOUR)
    office.learn("ann", country="DE")
    office.define("germans", "{trait: country, is: DE}")
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
    office.define("press", '{identifier: ["user_id:user-ann"]}')
    office.decide("press", "never_contact", message_class="all")
    assert office.run(NOON) == []
    suppressed = ("suppressed", "override_never_contact")
    assert set(office.verdicts("ann").values()) == {suppressed}


def test_no_contact_is_told_before_the_control_group(office: Office) -> None:
    office.lab.change(GLOBAL_CONTROL.format(share=1))
    office.move_in("ann")
    office.leave_cart("ann", NOON - HOUR)
    office.define("all", "{trait: user_id, is_known: false}")
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
    office.define("tokens", "{trait: order_count, at_most: 0}")
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
    office.define("all", "{trait: user_id, is_known: false}")
    office.decide("all", "force_channel", channel="email", priority=2)
    office.define("ann", '{identifier: ["user_id:user-ann"]}')
    office.decide("ann", "force_channel", channel="push", priority=1)
    assert office.run(NOON) == [("push_reminder", "push"), ("thanks", "sms")]
    assert office.verdicts("ann")["thanks", "email"] == ("held", "another_channel")


def test_a_forced_channel_waits_for_the_morning(office: Office) -> None:
    office.move_in("ann")
    office.order("ann", NOON - HOUR)
    office.want("ann", "converted", NOON - HOUR)
    office.define("all", "{trait: user_id, is_known: false}")
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
        "{all: [{trait: country, in: [DE, AT]}, "
        "{trait: order_count, at_least: 2, at_most: 4}]}",
    )
    office.define("strangers", "{trait: country, not_in: [DE, AT]}")
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
        "{all: [{trait: last_order_at, within: 60d}, "
        "{not: {trait: last_order_at, within: 30d}}]}",
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
    office.define("ann", '{identifier: ["email:Ann@Example.org", "user_id:user-ann"]}')
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
    office.define("all", "{trait: user_id, is_known: false}")
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
        office.define(audience, "{trait: user_id, is_known: false}")
    office.decide("late", "force_channel", channel="sms", priority=2)
    office.decide("early", "force_channel", channel="push", priority=1)
    office.decide("late", "never_score", priority=3)
    assert office.overrides("ann") == {"force_channel": "early", "never_score": "late"}
    assert office.run(NOON) == [("thanks", "push")]


def test_who_works_here_is_neither_contacted_nor_scored(
    lab: DecisionLab, tmp_path: Path
) -> None:
    office = Office(lab, tmp_path)
    for name, domain in (("ann", "shop.example.com"), ("bob", "example.com")):
        office.move_in(name)
        office.learn(name, email_domain=domain)
    assert office.overrides("ann") == {"never_contact": "staff", "never_score": "staff"}
    assert office.overrides("bob") == {}


def test_every_trait_of_a_profile_can_be_looked_up(office: Office) -> None:
    traits = known_traits()
    values = {"text": "x", "number": 1, "date": NOON, "boolean": True}
    for name in ("ann", "bob"):
        office.move_in(name)
        office.learn(name, **dict.fromkeys(traits))
    office.learn("ann", **{trait: values[kind] for trait, kind in traits.items()})
    for trait in traits:
        keep_audience(office.folder, trait, f"{{trait: {trait}, is_known: true}}")
    office.lab.keep_audiences(office.folder)
    office.members("city")
    assert sorted(office.lab.read(MEMBERS).rows()) == sorted(
        (trait, "ann") for trait in traits
    )


def test_a_trait_that_steers_a_journey_is_looked_up_when_it_is_asked(
    office: Office,
) -> None:
    """As for an audience, only people of whom it is so begin."""
    office.lab.change("""
        insert into staging.stg_conditions by name
        select
            'cart_recovery' as journey, 'entry' as place, alternative,
            2 as test, false as is_negated, 'trait' as kind, 'country' as name,
            [{'name': 'country', 'comparison': 'in', 'texts': ['de'],
              'numbers': cast([] as double[])}] as property_tests
        from staging.stg_conditions
        where journey = 'cart_recovery' and place = 'entry'
    """)
    for name, country in (("ann", "DE"), ("bob", "FR")):
        office.move_in(name)
        office.learn(name, country=country)
        office.leave_cart(name, NOON - HOUR)
    assert office.run(NOON) == [("push_reminder", "push")]
    assert office.verdicts("bob") == {}


def test_who_is_in_an_audience_that_is_set_aside_is_not_known_so_all_wait(
    office: Office,
) -> None:
    for name in ("ann", "bob"):
        office.move_in(name)
        office.leave_cart(name, NOON - HOUR)
    office.suffer("cem", NOON - HOUR)
    office.move_in("cem")
    office.define("press", "{trait: contry, is: DE}")
    office.decide("press", "never_contact")
    assert office.run(NOON) == [("apology", "email")]
    waits = ("held", "audience_set_aside")
    for name in ("ann", "bob"):
        assert office.verdicts(name) == {("push_reminder", "push"): waits}
    office.learn("bob", country="DE")
    office.define("press", "{trait: country, is: DE}")
    assert office.run(NOON + HOUR) == [("push_reminder", "push")]
    suppressed = ("suppressed", "override_never_contact")
    assert office.verdicts("bob") == {("push_reminder", "push"): suppressed}


def test_no_channel_is_used_while_nobody_can_say_for_whom_it_is_forced(
    office: Office,
) -> None:
    office.move_in("ann")
    answer_by_sms(office, "ann")
    office.move_in("bob")
    office.leave_cart("bob", NOON - HOUR)
    office.define("press", "{trait: country}")
    office.decide("press", "force_channel", channel="email")
    # a reminder by push alone is no choice
    assert office.run(NOON) == [("push_reminder", "push")]
    assert set(office.verdicts("ann").values()) == {("held", "audience_set_aside")}


def found(folder: Path, **whens: str) -> tuple[list[str], list[str]]:
    """The audiences of a folder that can be used, and what is wrong with others."""
    for audience, when in whens.items():
        keep_audience(folder, audience, when)
    audiences, problems = read_audiences(folder, known_words(Settings()))
    return sorted(audiences), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("when", "mend"),
    [
        ("{trait: contry, is: DE}", "a.yml:4: when.trait: there is no trait contry; "),
        ("{trait: contry, is: DE}", "did you mean country?"),
        ("{trait: profile_id, is: a}", "there is no trait profile_id"),
        ("{trait: country, equals: DE}", "there is no such field"),
        ("{trait: country}", "say what it must be"),
        ("{trait: country, is: }", "say what it must be"),
        ("{trait: country, at_least: 3}", "a text, compared by is, is_not, in, not_in"),
        ("{trait: postal_code, is: 01234}", "postal_code is a text; put it in quotes"),
        ("{trait: order_count, in: [1, two]}", "order_count is a number; write a numb"),
        ("{trait: last_order_at, is: 2026-01-31}", "when.is"),
        ("{trait: last_order_at, before: 31.01.2026}", "when.before"),
        ("{trait: last_order_at, within: soon}", "'soon' is no duration"),
        ('{identifier: ["ann@example.org"]}', "an identifier is written like user_id:"),
        ('{identifier: ["user_id:"]}', "an identifier is written like user_id:123"),
        ('{identifier: ["userid:1"]}', "no type userid of identifiers; did you mean"),
        ("{phase: [value]}", "found before phase is known; ask it in the journey"),
        ("{score: churn_propensity, at_least: 1}", "before score is known"),
        ("{event: A, without: {event: B, within: 1d}}", "write all: [{event: …}, {not"),
        ("{audience: souund}", "there is no audience souund that can be used; did you"),
        ("{audience: a}", "a is set aside, or is made of itself"),
        ("{all: []}", "when.all"),
    ],
)
def test_an_audience_with_a_mistake_is_set_aside_alone_by_file_line_and_field(
    tmp_path: Path, when: str, mend: str
) -> None:
    usable, problems = found(tmp_path, sound="{trait: country, is: DE}", a=when)
    assert usable == ["sound"]
    assert mend in "\n".join(problems)
    assert all(problem.startswith("a.yml:4: when") for problem in problems)


def test_the_audience_that_the_page_shows_can_be_used(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "marketer.md").read_text()
    (shown,) = re.findall(r"```yaml\n(audience: .*?)```", page, re.DOTALL)
    (tmp_path / "alpine_regulars.yml").write_text(shown)
    assert found(tmp_path, staff="{trait: email_domain, is: shop.example.com}") == (
        ["alpine_regulars", "staff"],
        [],
    )


def test_what_is_made_of_an_audience_that_is_set_aside_is_set_aside_too(
    tmp_path: Path,
) -> None:
    usable, problems = found(
        tmp_path,
        broken="{trait: contry, is: DE}",
        child="{not: {audience: broken}}",
        grandchild="{any: [{audience: child}, {trait: country, is: DE}]}",
        egg="{audience: hen}",
        hen="{audience: egg}",
        sound="{all: [{audience: nested}, {event: Page Read}]}",
        nested="{trait: country, is: DE}",
    )
    assert usable == ["nested", "sound"]
    assert {problem.split(".")[0] for problem in problems} == {
        *("broken", "child", "grandchild", "egg", "hen"),
    }


def test_a_file_that_is_no_audience_or_one_twice_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("- a list")
    (tmp_path / "b.yml").write_text("audience: b\naudience: b\n")
    (tmp_path / "c.yml").write_text("audience: d\nowner: o\ndescription: x\nwhen: {")
    for suffix in ("yml", "yaml"):
        (tmp_path / f"twice.{suffix}").write_text("audience: twice\n")
    usable, problems = found(tmp_path, sound="{trait: country, is: DE}")
    assert usable == ["sound"]
    assert {problem.split(".")[0] for problem in problems} == {"a", "b", "c", "twice"}


def test_an_audience_under_a_wrong_name_is_set_aside_under_both(tmp_path: Path) -> None:
    keep_audience(tmp_path, "staff", "{trait: country, is: DE}")
    (tmp_path / "staff.yml").rename(tmp_path / "stuff.yml")
    audiences, problems = read_audiences(tmp_path, known_words(Settings()))
    frame = audience_frames(audiences, problems)["audiences"]
    assert sorted(frame["audience"]) == ["staff", "stuff"]
    assert frame["mistake"].null_count() == 0


@pytest.mark.parametrize(
    ("row", "mend"),
    [
        ({"priority": None}, "priority : it is missing"),
        ({"priority": 2}, "priority 2: more than one row has it"),
        ({"audience": "nobody"}, "there is no such audience"),
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
    office.define("germans", "{trait: country, is: DE}")
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


def conditions() -> st.SearchStrategy[Condition]:
    countries = st.lists(st.sampled_from(("de", "AT", "fr")), min_size=1, max_size=2)
    tests = st.one_of(
        st.fixed_dictionaries({"trait": st.just("country"), "in": countries}),
        st.fixed_dictionaries({"trait": st.just("country"), "not_in": countries}),
        st.fixed_dictionaries(
            {
                "trait": st.sampled_from(("country", "order_count", "last_seen_at")),
                "is_known": st.booleans(),
            }
        ),
        st.fixed_dictionaries(
            {"trait": st.just("order_count")},
            optional={
                "is_not": st.sampled_from((0, 1.0)),
                "at_least": st.integers(0, 3),
            },
        ).filter(lambda test: len(test) > 1),
        st.fixed_dictionaries(
            {
                "trait": st.just("last_seen_at"),
                "before": st.sampled_from([moment.date() for moment in MOMENTS]),
            }
        ),
        st.fixed_dictionaries(
            {"trait": st.just("last_seen_at"), "within": st.sampled_from(("1d", "2d"))}
        ),
    )
    return st.recursive(
        tests,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"not": inner}),
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=2)}),
        ),
        max_leaves=4,
    )


def holds(condition: Condition, person: dict[str, Any]) -> bool:
    """The condition as a human reads it."""
    if "not" in condition:
        return not holds(condition["not"], person)
    if "all" in condition:
        return all(holds(part, person) for part in condition["all"])
    if "any" in condition:
        return any(holds(part, person) for part in condition["any"])
    known = person[condition["trait"]]
    spelled = known.lower() if isinstance(known, str) else known
    listed = {
        field: [value.lower() for value in condition.get(field, [])]
        for field in ("in", "not_in")
    }
    return all(
        {
            "in": lambda: spelled in listed["in"],
            "not_in": lambda: spelled not in listed["not_in"],
            "is_known": lambda: (known is not None) == condition["is_known"],
            "is_not": lambda: known != condition["is_not"],
            "at_least": lambda: known >= condition["at_least"],
            "before": lambda: known is not None and known.date() < condition["before"],
            "within": lambda: (
                known is not None and known > NOON - int(condition["within"][0]) * DAY
            ),
        }[field]()
        for field in condition
        if field != "trait"
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(people=people(), audiences=st.lists(conditions(), min_size=1, max_size=4))
def test_audiences_are_what_a_second_reading_of_their_conditions_says(
    lab: DecisionLab,
    tmp_path: Path,
    people: list[dict[str, Any]],
    audiences: list[Condition],
) -> None:
    folder = tmp_path / "audiences"
    shutil.rmtree(folder, ignore_errors=True)
    for table in ("seeds.override_rules", "profiles.profiles"):
        lab.change(f"delete from {table}")
    lab.put(
        "profiles.profiles",
        [
            {"profile_id": f"p{number:02}", "is_hub": False, **person}
            for number, person in enumerate(people)
        ],
    )
    for number, condition in enumerate(audiences):
        written = yaml.safe_dump(condition, default_flow_style=True, width=10**6)
        keep_audience(folder, f"a{number}", written)
    lab.keep_audiences(folder)
    lab.build(NOON, only=("profiles.condition", "profiles.audience"))
    expected = {
        (f"a{audience}", f"p{number:02}")
        for audience, condition in enumerate(audiences)
        for number, person in enumerate(people)
        if holds(condition, person)
    }
    assert sorted(lab.read(MEMBERS).rows()) == sorted(expected)
