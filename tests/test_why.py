"""Every decision's reason is true, and `rekindle why` says it."""

import json
import random
from datetime import timedelta

import pytest

from activations.channels import CHANNELS
from tests.conftest import TestHome
from tests.deciding import DecisionLab
from tests.test_decisions import DAY, HOUR, NOON, Town
from tests.test_send_policy import EVENTS, FAMILY, found, update
from tests.test_send_policy import town as town  # noqa: PLC0414, the fixture

WHAT_STANDS = """
    select
        decisions.profile_id,
        decisions.channel,
        decisions.decision_id,
        decisions.reason,
        rules.counterfactual
    from decisions.decisions
    inner join decisions.rule_verdicts as rules
        on
            decisions.decision_id = rules.decision_id
            and decisions.reason = rules.rule
    where rules.verdict <> 'passed'
"""
WHAT_ELSE_STANDS = """
    select rules.counterfactual
    from decisions.rule_verdicts as rules
    inner join decisions.rule_verdicts as others
        on rules.decision_id = others.decision_id and rules.rule <> others.rule
    where rules.verdict <> 'passed' and others.verdict <> 'passed'
"""
# these choose between messages; neither can be taken out
CHOICES = ("another_channel", "arbitration", "warm_up")


@pytest.mark.parametrize("seed", [1, 2])
def test_without_the_rule_that_decided_the_reason_is_what_was_said(
    town: Town, lab: DecisionLab, seed: int
) -> None:
    """Each person has what may stand against a message; the rules go one by one."""
    dice = random.Random(seed)
    later = NOON + dice.choice((1, 9, 13)) * HOUR
    closed = dice.choice(list(CHANNELS))
    for number, channel in enumerate(CHANNELS):
        journey, channels = f"word_{number}", [channel, "email"][: dice.choice((1, 2))]
        found(town, journey, list(dict.fromkeys(channels)), holdout_rate=0.2)
        for copy in range(10):
            name = f"p{number}_{copy}"
            town.move_in(name, channels=CHANNELS, consents=CHANNELS)
            town.want(name, journey, NOON - HOUR)
            if dice.random() < 0.2:
                update(town, "profiles.contact_points", name, address=FAMILY)
            for happen in dice.sample(EVENTS, dice.choice((0, 1, 2, 3))):
                happen(town, name, channel, NOON - HOUR / 2)
    lab.change(f"delete from staging.stg_destinations where channel = '{closed}'")
    lab.build(later)
    stands = lab.read(WHAT_STANDS)
    address_of = lab.read(
        "select profile_id, channel, address from profiles.contact_points"
    )
    assert stands["reason"].n_unique() > 6
    lab.change("create temp table all_rules as from seeds.decision_rules")
    known = stands.filter(stands["counterfactual"].is_not_null())
    for (rule,), rows in known.group_by("reason", maintain_order=True):
        if rule in CHOICES:
            others = lab.read(f"{WHAT_ELSE_STANDS} and rules.rule = '{rule}'")
            assert "due" not in set(others["counterfactual"])
            continue
        # of two messages that the rule sets free, one would go before the other
        addresses = rows.join(address_of, on=["profile_id", "channel"], how="left")
        alone = rows.filter(
            rows["profile_id"].is_unique() & (addresses["address"] != FAMILY)
        )
        lab.change(
            "update seeds.decision_rules set for_marketing = false, "
            f"for_transactional = false where rule = '{rule}'"
        )
        lab.build(later)
        verdicts = dict(
            lab.read("select candidate_id, reason from decisions.verdicts").iter_rows()
        )
        said = {row["decision_id"]: row["counterfactual"] for row in alone.to_dicts()}
        assert {key: verdicts[key] for key in said} == said, rule
        lab.change("create or replace table seeds.decision_rules as from all_rules")


def test_every_rule_that_looked_has_a_verdict_and_a_cap_its_messages(
    town: Town, lab: DecisionLab
) -> None:
    found(town, "word", ["push"])
    town.move_in("p", channels=CHANNELS, consents=CHANNELS)
    town.want("p", "word", NOON - HOUR)
    for hours in (3, 20):
        town.meet_message(
            "p", "delivered", NOON - hours * HOUR, email_id=f"e{hours}", channel="email"
        )
    lab.build(NOON)
    rows = lab.read("select * from decisions.rule_verdicts")
    hits = rows.filter(rows["verdict"] != "passed").to_dicts()
    assert [row["rule"] for row in hits] == ["frequency_cap"]
    assert hits[0]["value"] == "2 in 24 h, at most 2: " + ", ".join(
        f"email {NOON - timedelta(hours=hours):%Y-%m-%d %H:%M}" for hours in (3, 20)
    )
    assert hits[0]["counterfactual"] == "due"
    looked = lab.read(
        "select rule from seeds.decision_rules where for_marketing and rule not in "
        "('arbitration', 'another_channel', 'warm_up')"
    )
    assert set(rows["rule"]) == set(looked["rule"])
    lab.build(NOON + DAY)
    again = lab.read("select * from decisions.rule_verdicts")
    assert again.head(rows.height).equals(rows)


def test_why_says_what_holds_and_what_it_stands_on(demo_home: TestHome) -> None:
    held = demo_home.read("""
        select decisions.profile_id, decisions.reason, decisions.as_of,
            decisions.journey, rules.value
        from decisions.decisions
        inner join decisions.rule_verdicts as rules
            on decisions.decision_id = rules.decision_id
            and decisions.reason = rules.rule
        where rules.value is not null
        order by decisions.as_of desc, decisions.decision_id
        limit 1
    """).row(0, named=True)
    profile_id = held["profile_id"]
    names = demo_home.read(
        "select identifier_type || ':' || identifier from identity.identity_map "
        f"where profile_id = '{profile_id}' order by all"
    ).to_series()
    words = demo_home.rekindle("why", names[0]).stdout
    assert f"Profile {profile_id} as of " in words
    assert held["value"] in words
    answer = json.loads(demo_home.rekindle("why", profile_id, "--json").stdout)
    assert {row["journey"] for row in answer["journeys"]} == set(
        demo_home.read("select journey from staging.stg_journeys").to_series()
    )
    assert any(
        rule["rule"] == held["reason"] and rule["value"] == held["value"]
        for decision in answer["decisions"]
        for rule in decision["rules"]
    )
    first = demo_home.read("select min(as_of) from raw.runs").item() - timedelta(days=1)
    before = demo_home.rekindle("why", profile_id, "--as-of", f"{first.isoformat()}Z")
    assert "Decisions: none" in before.stdout


def test_why_of_nobody_says_so(demo_home: TestHome) -> None:
    refused = demo_home.rekindle("why", "nobody@nowhere.example", check=False)
    assert "no run knows 'nobody@nowhere.example'" in refused.stderr
