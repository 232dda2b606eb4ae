"""Who is one person, who is not, and that neither order nor history changes it."""

import csv
import hashlib
import itertools
import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
from polars.testing import assert_frame_equal

from ml.graph import DENIED, HUB_LINKS, HUB_USER_IDS, LIMIT, MergeProtection
from orchestration.settings import PROJECT, SEEDS
from orchestration.sources.landing import TABLES
from orchestration.sources.run_inputs import (
    SeedError,
    begin_run,
    bring_seeds,
    invalidate_seeds,
    note_loaded_seeds,
)
from orchestration.unmerge import (
    Identifier,
    UnmergeError,
    deny,
    divide,
    fetch_cluster,
    find_identifier,
    part,
)
from orchestration.warehouse import Connection, Warehouse
from tests.conftest import TestHome, moment
from tests.resolving import (
    IDENTITY,
    IDENTITY_MODELS,
    Journal,
    assert_same_tables,
    dbt,
    resolve,
)
from tests.test_graph import Outcome, Story, describe_plainly
from tests.test_matching import PERSONS, TWICE, make_world

AS_OF = moment("2026-03-01")
START = moment("2026-02-01")
TYPES_SEED = PROJECT / "dbt_project" / "seeds" / "identifier_types.csv"
REASONS = {HUB_LINKS: "hub", HUB_USER_IDS: "hub", LIMIT: "limit", DENIED: "denied"}
BROKEN_OFF = (
    "staging",
    *("message_identifier_sets", "identifier_set_members", "identifier_activity"),
)


def write_scenarios() -> list[dict]:
    """Each situation with persons of its own, a day apart."""
    log = Journal("id")
    day = [START + timedelta(days=n) for n in range(20)]
    minute = timedelta(minutes=1)

    # two devices: a phone and a laptop, one sign-in on each
    log.add(day[0], "Product Viewed", browser="td-laptop")
    log.identify(day[0] + minute, browser="td-laptop", user="td-ann")
    log.add(day[1], "Product Viewed", browser="td-phone", device="td-device")
    log.identify(day[1] + minute, browser="td-phone", user="td-ann")

    # shared tablet: two persons sign in on one browser
    log.identify(day[2], browser="st-tablet", user="st-bea")
    log.add(day[2] + minute, "Product Viewed", browser="st-tablet")
    log.identify(day[3], browser="st-tablet", user="st-cem")
    log.identify(day[3] + minute, browser="st-cems-own", user="st-cem")

    # kiosk: the device is one, browsers and users are many
    for n in range(5):
        log.add(
            day[4] + n * minute,
            "Product Viewed",
            browser=f"ki-visit-{n}",
            user=f"ki-user-{n}",
            device="ki-kiosk",
        )

    # household email: two persons give one address
    log.identify(day[5], user="he-dee", traits={"email": "Home@He.example"})
    log.identify(day[6], user="he-eli", traits={"email": "home@he.example "})

    # chain that would join two users: neither end ever meets the other
    log.add(day[7], "Product Viewed", browser="ch-one", user="ch-fay")
    log.add(day[8], "Product Viewed", browser="ch-two", user="ch-gil")
    log.add(day[9], "Product Viewed", browser="ch-one", device="ch-tablet")
    log.add(day[10], "Product Viewed", browser="ch-two", device="ch-tablet")

    # shared phone: allowed for two, links the one who gave it first
    log.identify(day[7], user="sp-ida", traits={"phone": "+1 (555) 010-2000"})
    log.identify(day[8], user="sp-jon", traits={"phone": "15550102000"})

    # one number, spelt as people do
    for n, phone in enumerate(("+44 20 7946 0123", "+4402079460123")):
        log.identify(day[n], browser=f"ph-{n}", traits={"phone": phone})
    for n, phone in enumerate(("(212) 555-0188", "212.555.0188", "+1 212 555 0188")):
        log.identify(day[n], browser=f"us-{n}", traits={"phone": phone})
    log.identify(day[0], browser="ph-none", traits={"phone": "12"})
    for n, phone in enumerate(("555-0188", "555-0188", "000 000 0000", "0000000000")):
        log.identify(day[n], browser=f"ph-local-{n}", traits={"phone": phone})
    for n in range(2):
        log.add(
            day[n],
            "Product Viewed",
            browser=f"ph-context-{n}",
            context={"traits": {"phone": "+44 20 7946 0777"}},
        )

    # diamond: four identifiers, every way round leads to the same person
    email = {"email": "k@di.example"}
    log.identify(day[9], browser="di-a", user="di-kim", traits=email)
    log.identify(day[10], browser="di-b", user="di-kim", traits=email)

    # alias: an old id is told to be the same
    log.add(day[11], "Product Viewed", browser="al-old")
    log.write(day[12], type="alias", user="al-lea", previousId="al-old")

    # placeholder ids name nobody
    log.add(day[13], "Product Viewed", browser="bl-one", user="anonymous")
    log.add(day[14], "Product Viewed", browser="bl-two", user="anonymous")

    # late merge: two browsers are two profiles until the sign-in
    log.add(day[15], "Product Viewed", browser="lm-early")
    log.add(day[16], "Product Viewed", browser="lm-late")
    log.identify(day[17], browser="lm-late", user="lm-max")
    log.identify(day[18], browser="lm-early", user="lm-max")

    # fan-in: many browsers, one sign-in each
    for n in range(6):
        log.identify(day[2] + n * minute, browser=f"fi-{n}", user="fi-nia")

    # chain: each call links one identifier more
    log.identify(day[3], browser="lc-a", traits={"email": "one@lc.example"})
    log.identify(day[4], browser="lc-b", traits={"email": "one@lc.example"})
    log.identify(day[5], browser="lc-b", traits={"email": "two@lc.example"})
    log.identify(day[6], browser="lc-c", traits={"email": "two@lc.example"})
    log.identify(day[7], browser="lc-c", user="lc-quinn")

    # recycled phone: the number's next owner has it a month on, then a third
    for n, user in enumerate(("rp-old", "rp-new", "rp-newest")):
        log.identify(day[3 + 5 * n], user=user, traits={"phone": "+44 20 7946 0999"})

    # typo email: one wrong letter is another mailbox, the sign-in still holds
    log.identify(day[4], user="te-oli", traits={"email": "oli@te.example"})
    log.identify(day[5], user="te-oli", traits={"email": "oil@te.example"})

    # store kiosk: loyalty cards on one till
    for n in range(4):
        log.identify(
            day[6] + n * minute,
            user=f"sk-user-{n}",
            device="sk-till",
            traits={"loyaltyId": f"sk-card-{n}"},
        )

    # two user ids: one email joins them, the stronger and older link stays
    log.identify(day[7], user="tu-pat", browser="tu-shared")
    log.identify(day[8], browser="tu-shared", traits={"email": "pat@tu.example"})
    log.identify(day[9], user="tu-pam", traits={"email": "pat@tu.example"})

    # bot cookie: one cookie on more devices than any person has
    for n in range(60):
        log.add(
            day[10] + n * minute, "Product Viewed", browser="bc-bot", device=f"bc-{n}"
        )
    return log.events


@pytest.fixture(scope="session")
def scenarios(new_home: Callable[[str], TestHome]) -> TestHome:
    home = new_home("scenarios")
    home.land(write_scenarios())
    resolve(home, AS_OF)
    return home


@pytest.fixture(scope="session")
def profile_of(scenarios: TestHome) -> Callable[[str], str]:
    rows = scenarios.read("select identifier, profile_id from identity.identity_map")
    return dict(rows.rows()).__getitem__


@pytest.fixture(scope="session")
def conflicts(scenarios: TestHome) -> pl.DataFrame:
    return scenarios.read("select * from identity.identity_conflicts")


def test_two_devices_of_one_person_are_one_profile(profile_of, scenarios):
    names = ("td-ann", "td-laptop", "td-phone", "td-device")
    assert len({profile_of(name) for name in names}) == 1
    profile = scenarios.read(
        f"select * from profiles.profiles where profile_id = '{profile_of('td-ann')}'"
    ).row(0, named=True)
    assert (profile["identifier_type"], profile["identifier"]) == ("user_id", "td-ann")
    assert profile["device_count"] == 2


def test_shared_tablet_links_nobody_and_keeps_a_profile_of_its_own(
    profile_of, conflicts, scenarios
):
    assert len({profile_of(n) for n in ("st-tablet", "st-bea", "st-cem")}) == 3
    assert profile_of("st-cems-own") == profile_of("st-cem")
    refused = conflicts.filter(pl.col("identifier") == "st-tablet")
    assert refused["reason_detail"].to_list() == ["several_user_ids"] * 2
    assert sorted(refused["refused_identifier"]) == ["st-bea", "st-cem"]
    hubs = scenarios.read("select identifier from profiles.profiles where is_hub")
    assert "st-tablet" in hubs["identifier"].to_list()


def test_event_on_a_shared_tablet_belongs_to_who_is_signed_in(profile_of, scenarios):
    owners = dict(
        scenarios.read(
            "select message_id, profile_id from identity.profile_events"
        ).rows()
    )
    by_name = {
        event["messageId"]: event.get("userId", "st-tablet")
        for event in write_scenarios()
        if event.get("anonymousId") == "st-tablet"
    }
    assert {owners[message] for message in by_name} == {
        profile_of(name) for name in by_name.values()
    }
    for message, name in by_name.items():
        assert owners[message] == profile_of(name)


def test_kiosk_does_not_join_its_visitors(profile_of, conflicts):
    assert len({profile_of(f"ki-user-{n}") for n in range(5)}) == 5
    for n in range(5):
        assert profile_of(f"ki-visit-{n}") == profile_of(f"ki-user-{n}")
    refused = conflicts.filter(pl.col("identifier") == "ki-kiosk")
    assert refused.height == 10
    assert refused["evidence_count"].to_list() == [1] * 10


def test_household_email_joins_nobody_and_both_still_have_it(profile_of, scenarios):
    both = {profile_of("he-dee"), profile_of("he-eli")}
    assert len(both) == 2
    assert profile_of("home@he.example") not in both
    rows = scenarios.read("select profile_id, email from profiles.profiles").rows()
    emails = dict(rows)
    assert {emails[profile] for profile in both} == {"home@he.example"}


def test_chain_over_a_tablet_never_joins_two_users(profile_of, conflicts):
    assert profile_of("ch-one") == profile_of("ch-fay")
    assert profile_of("ch-two") == profile_of("ch-gil")
    assert profile_of("ch-fay") != profile_of("ch-gil")
    assert profile_of("ch-tablet") == profile_of("ch-fay")
    refused = conflicts.filter(reason="limit", reason_detail="user_id")
    assert ("ch-tablet", "ch-two") in refused.select(
        "identifier", "refused_identifier"
    ).rows()


def test_shared_phone_stays_with_who_gave_it_first(profile_of):
    assert profile_of("+15550102000") == profile_of("sp-ida")
    assert profile_of("sp-ida") != profile_of("sp-jon")


def test_spellings_of_a_phone_number_are_one_number(profile_of):
    assert len({profile_of(f"us-{n}") for n in range(3)}) == 1
    assert profile_of("us-0") == profile_of("+12125550188")
    assert profile_of("ph-0") == profile_of("ph-1") == profile_of("+442079460123")
    with pytest.raises(KeyError):
        profile_of("+12")


def test_number_without_area_code_or_of_one_digit_joins_nobody(profile_of):
    assert len({profile_of(f"ph-local-{n}") for n in range(4)}) == 4


def test_phone_that_any_call_states_is_an_identifier(profile_of):
    assert profile_of("ph-context-0") == profile_of("ph-context-1")
    assert profile_of("ph-context-0") == profile_of("+442079460777")


def test_diamond_is_one_profile(profile_of):
    names = ("di-a", "di-b", "di-kim", "k@di.example")
    assert len({profile_of(name) for name in names}) == 1


def test_alias_joins_the_previous_id(profile_of):
    assert profile_of("al-old") == profile_of("al-lea")


def test_placeholder_user_id_joins_nobody(profile_of):
    assert profile_of("bl-one") != profile_of("bl-two")
    with pytest.raises(KeyError):
        profile_of("anonymous")


def test_order_of_landing_and_earlier_runs_change_nothing(
    scenarios, profile_of, new_home
):
    shuffled = write_scenarios()
    random.Random(7).shuffle(shuffled)
    for event in (late for late in shuffled[::3] if "lm-" not in str(late)):
        received_at = moment(event["timestamp"][:-1]) + timedelta(days=9)
        event["receivedAt"] = received_at.isoformat() + "Z"
    home = new_home("shuffled")
    home.land(shuffled[::2], "b/later.ndjson")
    home.land(shuffled[1::2], "a/first.ndjson")
    resolve(home, START + timedelta(days=2, hours=1))
    for days in (5, 9, 17):
        resolve(home, START + timedelta(days=days, hours=1), IDENTITY_MODELS)
    before = dict(
        home.read("select identifier, profile_id from identity.identity_map").rows()
    )
    assert before["lm-early"] != before["lm-late"]
    assert profile_of("lm-late") == profile_of("lm-early") == before["lm-early"]

    # a run that breaks off when only some tables have taken the new messages in
    resolve(home, START + timedelta(days=18, hours=1), BROKEN_OFF)
    resolve(home, AS_OF)
    assert_same_tables(home, scenarios, ("identity", "profiles"))


FIELDS = {
    "user_id": "user",
    "anonymous_id": "browser",
    "device_id": "device",
    "email": "email",
    "loyalty_id": "loyaltyId",
}


def write_crowd(dice: np.random.Generator) -> tuple[list[dict], list[dict[str, str]]]:
    """Messages of few people on fewer devices, and the identifiers of each."""
    log, names = Journal("cr"), []
    for _ in range(220):
        who = dice.choice(["user_id", "anonymous_id"])
        others = dice.choice(list(FIELDS), size=dice.integers(3), replace=False)
        said = {
            str(kind): f"{kind}-{int(24 * dice.random() ** 2)}"
            + "@cr.example" * (kind == "email")
            for kind in sorted({who, *others})
        }
        by_field = {FIELDS[kind]: name for kind, name in said.items()}
        traits = {key: by_field.pop(key, None) for key in ("email", "loyaltyId")}
        at = START + timedelta(hours=int(dice.integers(0, 400)))
        log.identify(at, traits={k: v for k, v in traits.items() if v}, **by_field)
        names.append(said)
    return log.events, names


def describe_crowd(
    events: list[dict], names: list[dict[str, str]], rules: list[tuple[str, ...]]
) -> tuple[list[tuple[str, str]], Outcome]:
    """What the plain meaning makes of them; its nodes are pairs of type and name."""
    types = {row["identifier_type"]: row for row in csv.DictReader(TYPES_SEED.open())}
    codes = {name: code for code, name in enumerate(sorted(types))}
    first_seen: dict[tuple[str, str], int] = {}
    first_met: dict[frozenset[tuple[str, str]], int] = {}
    for event, said in zip(events, names, strict=True):
        at = int(moment(event["timestamp"][:-1]).timestamp())
        for name in said.items():
            first_seen[name] = min(at, first_seen.get(name, at))
        for pair in map(frozenset, itertools.combinations(said.items(), 2)):
            first_met[pair] = min(at, first_met.get(pair, at))
    nodes = sorted(first_seen)
    place = {name: node for node, name in enumerate(nodes)}

    def ends(pairs: Iterable[Iterable[tuple[str, str]]]) -> np.ndarray:
        rows = [[place[name] for name in pair] for pair in pairs]
        return np.array(rows, dtype=np.int32).reshape(-1, 2)

    def limits(column: str) -> np.ndarray:
        return np.array([int(types[name][column] or 1 << 40) for name in sorted(types)])

    def link_class(pair: Iterable[tuple[str, str]]) -> int:
        return 1 + sum(types[kind]["strength"] == "weak" for kind, _ in pair)

    by_rule = {
        kind: ends((rule[1:3], rule[3:5]) for rule in rules if rule[0] == kind)
        for kind in ("deny", "allow")
    }
    story = Story(
        types=np.array([codes[kind] for kind, _ in nodes], dtype=np.uint8),
        first_seen=np.array([first_seen[name] for name in nodes]),
        keys=np.frombuffer(
            b"".join(UUID(profile_id_of(*name)).bytes[:8] for name in nodes), "<u8"
        ),
        ends=ends(first_met),
        classes=np.array([link_class(pair) for pair in first_met], dtype=np.uint8),
        times=np.array(list(first_met.values())),
        denied=by_rule["deny"],
        allowed=by_rule["allow"],
        protection=MergeProtection(
            limits("profile_limit"),
            limits("max_links"),
            np.where(
                np.array(sorted(types)) == "user_id",
                limits("max_personal_ids"),
                limits("max_user_ids"),
            ),
            user_id_code=codes["user_id"],
            personal_codes=tuple(
                codes[kind] for kind in ("email", "loyalty_id", "phone")
            ),
        ),
        rng=np.random.default_rng(0),
    )
    return nodes, describe_plainly(story)


def test_runs_over_a_crowd_give_what_merging_pair_by_pair_gives(new_home):
    """Landed in any order and run by run, with rules that come and stay."""
    dice = np.random.default_rng(20260301)
    events, names = write_crowd(dice)
    order = dice.permutation(len(events))
    home = new_home("crowd")
    rules: dict[frozenset[tuple[str, str]], tuple[str, ...]] = {}
    layers = IDENTITY
    for part_of_all, rows in enumerate(np.array_split(order, 3)):
        home.land([events[row] for row in rows], f"part-{part_of_all}.ndjson")
        resolve(home, AS_OF, layers)
        layers = IDENTITY_MODELS
        if part_of_all == 2:
            break
        known = sorted({name for row in rows for name in names[row].items()})
        apart = [known[n] for n in dice.permutation(len(known))[:2]]
        together = [list(names[row].items())[:2] for row in rows if len(names[row]) > 1]
        added = {
            frozenset(pair): (rule, *pair[0], *pair[1])
            for rule, pair in [("allow", apart), *(("deny", p) for p in together[:6])]
            if frozenset(pair) not in rules
        }
        with home.warehouse() as connection:
            connection.executemany(
                "insert into seeds.identity_rules values (?, ?, ?, ?, ?, '')",
                list(added.values()),
            )
        rules |= added

    nodes, told = describe_crowd(events, names, list(rules.values()))
    rows = home.read(
        "select identifier_type, identifier, profile_id from identity.identity_map"
    ).rows()
    assert {(kind, name): profile for kind, name, profile in rows} == {
        node: profile_id_of(*nodes[anchor])
        for node, anchor in zip(nodes, told.anchors, strict=True)
    }
    reasons = {
        frozenset([(row[0], row[1]), (row[2], row[3])]): row[4]
        for row in home.read(
            "select identifier_type, identifier, refused_identifier_type, "
            "refused_identifier, reason from identity.identity_conflicts"
        ).iter_rows()
    }
    refused = {
        frozenset(nodes[node] for node in pair): REASONS[why]
        for pair, (why, _) in told.refused.items()
        if len({told.anchors[node] for node in pair}) == 2
    }
    # a limit may have come first where in the end a rule denies it too
    assert reasons.keys() == refused.keys()
    assert {
        reason: {reasons[pair] for pair, why in refused.items() if why == reason}
        for reason in refused.values()
    } == {"hub": {"hub"}, "denied": {"denied"}, "limit": {"limit"}}


def test_fan_in_of_browsers_is_one_profile(profile_of):
    assert len({profile_of(f"fi-{n}") for n in range(6)} | {profile_of("fi-nia")}) == 1


def test_chain_is_one_profile_named_after_its_oldest(profile_of):
    names = ("lc-a", "lc-b", "lc-c", "lc-quinn", "one@lc.example", "two@lc.example")
    # its first email was seen at the same moment: types go by name
    assert {profile_of(name) for name in names} == {
        profile_id_of("anonymous_id", "lc-a")
    }


def test_recycled_phone_joins_none_of_its_owners(profile_of, conflicts):
    owners = {profile_of(user) for user in ("rp-old", "rp-new", "rp-newest")}
    assert len(owners) == 3
    assert profile_of("+442079460999") not in owners
    refused = conflicts.filter(identifier="+442079460999")
    assert refused["reason_detail"].to_list() == ["several_user_ids"] * 3


def test_email_with_a_typo_still_belongs_to_who_stated_it(profile_of):
    assert len({profile_of(n) for n in ("oli@te.example", "oil@te.example")}) == 1


def test_store_kiosk_joins_no_loyalty_cards(profile_of):
    assert len({profile_of(f"sk-card-{n}") for n in range(4)}) == 4
    for n in range(4):
        assert profile_of(f"sk-card-{n}") == profile_of(f"sk-user-{n}")


def test_second_user_id_behind_one_email_stays_apart(profile_of, conflicts):
    # strong links come first: the email goes with the user id that stated it
    assert profile_of("pat@tu.example") == profile_of("tu-pam") != profile_of("tu-pat")
    assert profile_of("tu-shared") == profile_of("tu-pat")
    refused = conflicts.filter(reason="limit", reason_detail="user_id")
    assert ("tu-shared", "pat@tu.example") in refused.select(
        "identifier", "refused_identifier"
    ).rows()


def test_bot_cookie_joins_no_devices(profile_of, conflicts):
    assert len({profile_of(f"bc-{n}") for n in range(60)}) == 60
    refused = conflicts.filter(identifier="bc-bot")
    assert refused["reason_detail"].to_list() == ["many_links"] * 60


def test_late_merge_is_logged_with_its_edge(scenarios, profile_of, new_home):
    events = [e for e in write_scenarios() if "lm-" in str(e)]
    home = new_home("late")
    home.land(events)
    resolve(home, START + timedelta(days=16, hours=1), IDENTITY)
    early, late = profile_in(home, "lm-early"), profile_in(home, "lm-late")
    assert early != late

    resolve(home, AS_OF, IDENTITY)
    assert home.read(
        "select change, loser_profile_id, winner_profile_id, identifier, "
        "linked_identifier from identity.identity_merges"
    ).rows() == [("merge", late, early, "lm-max", "lm-early")]
    assert profile_in(home, "lm-late") == early == profile_of("lm-early")
    aliases = home.read("select * from identity.profile_aliases").rows()
    assert dict(aliases)[late] == early

    # a look back logs nothing, and coming back logs nothing twice
    logged = home.read("select * from identity.identity_merges")
    for as_of in (START + timedelta(days=16, hours=1), AS_OF):
        resolve(home, as_of, IDENTITY_MODELS)
        assert_frame_equal(logged, home.read("select * from identity.identity_merges"))
    assert profile_in(home, "lm-late") == early


def test_denied_pair_is_parted_and_one_again_when_the_rule_goes(new_home):
    home = new_home("denied")
    home.land([e for e in write_scenarios() if "td-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    before = home.read("select * from identity.identity_map").drop(cs.ends_with("_seq"))
    assert before["profile_id"].n_unique() == 1
    with home.warehouse() as connection:
        ends = [find_identifier(connection, name) for name in ("td-laptop", "td-phone")]
        sides = divide(fetch_cluster(connection, ends[0]), *ends)

    with home.warehouse() as connection:
        connection.execute(
            "insert into seeds.identity_rules values "
            "('deny', 'anonymous_id', 'td-laptop', 'anonymous_id', 'td-phone', '')"
        )
    resolve(home, AS_OF, IDENTITY_MODELS)
    laptop, phone = profile_in(home, "td-laptop"), profile_in(home, "td-phone")
    assert laptop == before["profile_id"][0] != phone
    conflicts = home.read("select reason from identity.identity_conflicts")
    assert set(conflicts.to_series()) == {"denied"}
    assert home.read(
        "select change, loser_profile_id, winner_profile_id "
        "from identity.identity_merges"
    ).rows() == [("split", laptop, phone)]

    # a rule that stands is no change
    parted = home.read("select * from identity.identity_map")
    solved = "select max(revision_seq) from identity.identity_components"
    revision = home.read(solved).item()
    resolve(home, AS_OF, IDENTITY_MODELS)
    assert home.read(solved).item() == revision

    predicted = sides.select("identifier", "side").join(parted, on="identifier")
    assert predicted.select("side", "profile_id").unique().height == 2
    assert predicted["side"].n_unique() == predicted["profile_id"].n_unique() == 2

    resolve(home, AS_OF, IDENTITY)
    after = home.read("select * from identity.identity_map").drop(cs.ends_with("_seq"))
    assert_frame_equal(before, after, check_row_order=False)


def test_allowed_pair_joins_what_nothing_else_links(new_home):
    home = new_home("allowed")
    home.land([e for e in write_scenarios() if "he-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    assert profile_in(home, "he-dee") != profile_in(home, "he-eli")
    with home.warehouse() as connection:
        connection.execute(
            "insert into seeds.identity_rules values "
            "('allow', 'user_id', 'he-dee', 'user_id', 'he-eli', 'one person')"
        )
    resolve(home, AS_OF, IDENTITY_MODELS)
    assert profile_in(home, "he-dee") == profile_in(home, "he-eli")


def test_a_type_may_be_allowed_more_in_the_seed(new_home):
    home = new_home("limits")
    home.land([e for e in write_scenarios() if "td-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    with home.warehouse() as connection:
        connection.execute(
            "update seeds.identifier_types set profile_limit = 2 "
            "where identifier_type = 'user_id'"
        )
    home.land([e for e in write_scenarios() if "ch-" in str(e)], "more.ndjson")
    resolve(home, AS_OF, IDENTITY_MODELS)
    assert profile_in(home, "ch-fay") == profile_in(home, "ch-gil")
    dbt(home, "test", "--select", "assert_identity_keeps_persons_apart")


def test_superseded_message_is_forgotten(new_home):
    """An earlier received copy takes a message's place, and its links go with it."""
    home = new_home("superseded")
    log = Journal("su")
    log.identify(START, browser="su-browser", user="su-wrong")
    home.land(log.events)
    resolve(home, AS_OF, IDENTITY)
    assert profile_in(home, "su-browser") == profile_in(home, "su-wrong")

    home.land(
        [
            {
                **log.events[0],
                "userId": "su-right",
                "receivedAt": START.isoformat() + "Z",
            }
        ],
        "earlier.ndjson",
    )
    resolve(home, AS_OF, IDENTITY)
    names = home.read("select identifier from identity.identity_map").to_series()
    assert sorted(names) == ["su-browser", "su-right"]


def test_an_earlier_copy_that_says_the_same_supersedes_nothing(new_home):
    home = new_home("repeated")
    log = Journal("re")
    log.identify(START, browser="re-browser", user="re-user")
    home.land(log.events)
    resolve(home, AS_OF, IDENTITY)
    epoch = home.read("select identity_config_hash from identity.identity_state").item()
    home.land(
        [{**log.events[0], "receivedAt": START.isoformat() + "Z"}], "earlier.ndjson"
    )
    resolve(home, AS_OF, IDENTITY)
    assert home.read("select received_at from raw.events").item() == START
    assert (
        home.read("select identity_config_hash from identity.identity_state").item()
        == epoch
    )


def identify_records(records: list[dict]) -> list[dict]:
    """A call for each record, with a browser and an email of its own."""
    log = Journal("ma")
    for n, record in enumerate(records):
        said = {key: value for key, value in record.items() if value is not None}
        names = {"firstName": said.get("first_name"), "lastName": said.get("last_name")}
        address = {
            "street": said.get("street"),
            "city": said.get("city"),
            "state": said.get("region"),
            "postalCode": said.get("postal_code"),
        }
        log.identify(
            START + timedelta(minutes=n),
            traits={
                **names,
                "address": address,
                "birthday": str(said["birthday"]) if "birthday" in said else None,
                "email": f"{said['record_id']}@ma.example",
            },
            browser=f"browser-{said['record_id']}",
        )
    return log.events


def test_accepted_matches_join_profiles_for_as_long_as_matching_is_on(new_home):
    home = new_home("matching")
    home.land(identify_records(make_world()))
    profiles = "select count(distinct profile_id) from identity.identity_map"
    home.settings = home.settings.model_copy(update={"matching": True})
    resolve(home, AS_OF, IDENTITY)
    assert PERSONS <= home.read(profiles).item() <= PERSONS + TWICE // 20
    links = home.read("select * from identity.identity_edges where link_class = 4")
    assert links["source"].unique().to_list() == ["match"]
    assert links["match_weight"].min() > 0
    assert profile_in(home, "0003-a@ma.example") == profile_in(
        home, "0003-b@ma.example"
    )

    home.settings = home.settings.model_copy(update={"matching": False})
    resolve(home, AS_OF, IDENTITY)
    assert home.read(profiles).item() == PERSONS + TWICE


def test_matches_of_later_runs_give_what_one_run_gives(new_home):
    """Too few to learn from, then enough, then a message that says so too."""
    events = identify_records(make_world())
    later = Journal("la")
    later.add(
        START + timedelta(days=1),
        "Product Viewed",
        {"email": "0003-b@ma.example"},
        context={"traits": {"email": "0003-a@ma.example"}},
    )
    known = events[: PERSONS + 15]
    homes = [new_home("matching-at-once"), new_home("matching-later")]
    for home in homes:
        home.settings = home.settings.model_copy(update={"matching": True})
    at_once, gradual = homes

    layers = IDENTITY
    for name, landed in (
        ("known.ndjson", known),
        ("new.ndjson", events[PERSONS + 15 :]),
        ("later.ndjson", later.events),
    ):
        gradual.land(landed, name)
        resolve(gradual, AS_OF, layers)
        layers = IDENTITY_MODELS
    at_once.land([*events, *later.events])
    resolve(at_once, AS_OF, IDENTITY)

    links = gradual.read(
        "select source, count(*) from identity.identity_edges group by 1"
    )
    assert dict(links.rows())["match"] > TWICE * 0.9
    assert_same_tables(gradual, at_once, ("identity",))


def test_unmerge_reports_what_the_merge_touched_and_writes_nothing(demo_home):
    pair = demo_home.read(
        """
        select any_value(user_id), any_value(browser) from (
            select
                profile_id,
                max(identifier) filter (identifier_type = 'user_id') as user_id,
                max(identifier) filter (identifier_type = 'anonymous_id') as browser
            from identity.identity_map
            where profile_id in (select profile_id from decisions.send_list)
            group by profile_id
            having user_id is not null and browser is not null
            order by profile_id limit 1
        )
        """
    ).row(0)
    told = demo_home.rekindle("unmerge", *pair, "--dry-run").stdout
    for title in ("Who parts", "Messages sent", "Scores and phase", "Credits of"):
        assert title in told
    assert "@" not in told
    assert not demo_home.settings.config.exists()


def test_unmerge_of_what_is_not_merged_says_so(demo_home):
    users = demo_home.read(
        "select identifier from identity.identity_map "
        "where identifier_type = 'user_id' order by identifier limit 2"
    ).to_series()
    refused = demo_home.rekindle("unmerge", *users, check=False)
    assert refused.returncode == 1
    assert "are not in one profile" in refused.stderr
    unknown = demo_home.rekindle("unmerge", "nobody", users[0], check=False)
    assert "no identifier 'nobody'" in unknown.stderr


def test_unmerge_tells_why_two_are_one_and_what_that_touched(new_home):
    """Two customers whose masked emails look alike, on one browser."""
    home = new_home("unmerge")
    log = Journal("un")
    email = {"email": "john@gmail.com"}
    log.identify(START - timedelta(hours=1), user="un-john", traits=email)
    log.identify(START, browser="un-b", traits=email)
    viewed = log.add(START + timedelta(hours=1), "Product Viewed", browser="un-b")
    log.identify(
        START + timedelta(days=1), browser="un-b", traits={"email": "joan@gmail.com"}
    )
    ordered = log.add(
        START + timedelta(days=2),
        "Order Completed",
        {
            "order_id": "un-order",
            "email": "joan@gmail.com",
            "total": 10,
            "currency": "EUR",
            "products": [{"product_id": "p", "price": 10, "quantity": 1}],
        },
        browser="un-b",
    )
    home.land(log.events)
    resolve(home, AS_OF)
    profile = profile_in(home, "un-b")
    with home.warehouse() as connection:
        connection.execute(
            f"""
            create schema if not exists decisions;
            create schema if not exists ml;
            create schema if not exists attribution;
            create table decisions.send_list as from (values
                ('s1', 'd1', 'email', 'email', 'john@gmail.com'),
                ('s2', 'd2', 'email', 'email', 'john@gmail.com'),
                ('s3', 'd3', 'push', 'email', 'joan@gmail.com')
            ) as sends (send_id, decision_id, channel, identifier_type, identifier);
            create table decisions.decisions as from (values
                ('d1', '{ordered}'), ('d2', '{viewed}'), ('d3', '{viewed}')
            ) as decisions (decision_id, evidence_message_id);
            create table decisions.phases as
            select '{profile}' as profile_id, 'active' as phase_name,
                '{ordered}' as evidence_message_id;
            create table ml.scores as
            select '{profile}' as profile_id, .5 as purchase_propensity,
                .25 as churn_propensity, 'rfm' as scored_by;
            create table attribution.touchpoints as from (values
                ('t1', 's1', null), ('t3', 's3', null)
            ) as touchpoints (touchpoint_id, send_id, session_id);
            create table attribution.conversions as
            select 'c1' as conversion_id, 'un-order' as order_id;
            create table attribution.credits as from (values
                ('linear', 'c1', 't1', 4), ('linear', 'c1', 't3', 6)
            ) as credits (
                attribution_model, conversion_id, touchpoint_id, revenue_amount
            )
            """
        )
        one, other = (
            find_identifier(connection, f"{name}@gmail.com")
            for name in ("john", "joan")
        )
        told = {
            title: frame.rows() for title, frame in part(connection, one, other).items()
        }

    john, joan = (
        f"email:jo….com ({profile_id_of('email', f'{name}@gmail.com')[:8]})"
        for name in ("john", "joan")
    )
    masked = "email:jo….com"
    assert list(told.values()) == [
        [
            (masked, "anonymous_id:un-b", "message, one strong", START, 1, "un-0001"),
            (
                *("anonymous_id:un-b", masked, "message, one strong"),
                *(START + timedelta(days=1), 2, "un-0003"),
            ),
        ],
        sorted(
            [
                *((john, kind, 1) for kind in ("anonymous_id", "email", "user_id")),
                (joan, "email", 1),
            ]
        ),
        sorted([(john, 3, 0, None), (joan, 2, 1, Decimal("10.00"))]),
        sorted([(john, "email", 2, 1), (joan, "push", 1, 1)]),
        [(0.5, 0.25, "rfm", "active", joan)],
        [("linear", 1, 4)],
    ]


def test_rules_of_a_cluster_decide_over_an_unmerge(new_home):
    """A denial that leads out of the cluster is none of it; an allowed pair holds."""
    home = new_home("ruled")
    home.land([e for e in write_scenarios() if "td-" in str(e) or "fi-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    with home.warehouse() as connection:
        connection.execute(
            "insert into seeds.identity_rules values "
            "('deny', 'user_id', 'td-ann', 'user_id', 'fi-nia', ''),"
            "('allow', 'anonymous_id', 'fi-0', 'anonymous_id', 'fi-1', '')"
        )
    resolve(home, AS_OF, IDENTITY_MODELS)
    with home.warehouse() as connection:
        ends = [find_identifier(connection, name) for name in ("td-laptop", "td-phone")]
        assert divide(fetch_cluster(connection, ends[0]), *ends)["side"].n_unique() == 2
        ends = [find_identifier(connection, name) for name in ("fi-0", "fi-1")]
        with pytest.raises(UnmergeError, match=r"a rule allows that .* are one"):
            part(connection, *ends)


def test_rules_that_cannot_be_read_stop_the_run_and_say_what_to_mend(new_home):
    home = new_home("unreadable")
    home.land([e for e in write_scenarios() if "td-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    mends = {
        "forbid,user_id,a,user_id,b": "a rule is block, deny or allow",
        "deny,emial,a@b.example,user_id,u": "identifier_types.csv has no such type",
        "block,email,a@b.example,user_id,u": "block names one identifier",
        "deny,user_id,a,,": "deny and allow name two identifiers, each with its type",
        "deny,user_id,a,phone,12": "an identifier is missing or is no phone number",
        "allow,user_id,a,email,nobody": "an email has a name, an @ and a domain",
        "deny,email,A@b.example,email,a@b.example ": "both are one identifier",
        "deny,user_id,c,user_id,d": "another row says the opposite of the two",
        "allow,user_id,d,user_id,c": "another row says the opposite of the two",
    }
    with home.warehouse() as connection:
        for line in mends:
            connection.execute(
                "insert into seeds.identity_rules values (?, ?, ?, ?, ?, '')",
                [value or None for value in line.split(",")],
            )
    with pytest.raises(pytest.fail.Exception) as stopped:
        dbt(home, "build", "--select", "stg_phone_numbers", "stg_identity_rules")
    told = " ".join(str(stopped.value).split())
    for line, mend in mends.items():
        assert f'identity_rules.csv, "{line}": {mend}' in told
    assert told.count("identity_rules.csv, ") == len(mends)


def test_deny_rule_is_written_once_and_into_the_home(home):
    standard = (SEEDS / "identity_rules.csv").read_text()
    ends = (
        Identifier(1, "user_id", "ann", "p"),
        Identifier(2, "email", "a@b.example", "p"),
    )
    rules = deny(home.settings, *ends, reason="one account, two people")
    assert rules == home.settings.config / "seeds" / "identity_rules.csv"
    *known, last = rules.read_text().splitlines()
    assert known == standard.splitlines()
    assert (SEEDS / "identity_rules.csv").read_text() == standard
    assert last == 'deny,user_id,ann,email,a@b.example,"one account, two people"'
    with pytest.raises(UnmergeError, match=r"identity_rules.csv:\d+ has a rule"):
        deny(home.settings, *reversed(ends), reason="")


def test_a_seed_of_the_home_stands_in_place_of_the_checkouts(home):
    rule = "deny,user_id,ann,email,a@b.example,two people"
    standard = (SEEDS / "identity_rules.csv").read_text()
    own = home.settings.config / "seeds" / "identity_rules.csv"
    own.parent.mkdir(parents=True)
    own.write_text(f"{standard.splitlines()[0]}\n{rule}\n")

    def loaded() -> list[str]:
        with Warehouse(home.settings.warehouse).connect() as connection:
            bring_seeds(connection, home.settings)
        dbt(home, "build", "--select", "identity_rules", "phase_names")
        rows = home.read("select * from seeds.identity_rules")
        assert home.read("select count(*) from seeds.phase_names").item() == 7
        return [",".join(map(str, row)) for row in rows.rows()]

    assert loaded() == [rule]
    own.unlink()
    assert len(loaded()) == len(standard.splitlines()) - 1


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("identiy_rules.csv", "rule\n", "did you mean identity_rules.csv"),
        ("identity_rules.yml", "rule\n", "is no seed"),
        ("identity_rules.csv", "rule,reason\n", "line 1: its columns are rule, reason"),
        ("identity_rules.csv", "", "cannot be read as CSV"),
        ("phase_names.csv", "phase,phase_name\n1,a,b,c\n", "cannot be read as CSV"),
    ],
)
def test_a_seed_of_the_home_that_is_none_stops_the_run(home, name, text, reason):
    path = home.settings.config / "seeds" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with (
        Warehouse(home.settings.warehouse).connect() as connection,
        pytest.raises(SeedError, match=reason),
    ):
        bring_seeds(connection, home.settings)


def test_a_seed_of_the_home_has_one_row_per_key(home):
    standard = (SEEDS / "phase_names.csv").read_text()
    own = home.settings.config / "seeds" / "phase_names.csv"
    own.parent.mkdir(parents=True)
    own.write_text(standard + standard.splitlines()[1] + "\n")
    with Warehouse(home.settings.warehouse).connect() as connection:
        bring_seeds(connection, home.settings)
    reason = r"seeds.phase_names has not one row per \(phase\): 1"
    with pytest.raises(pytest.fail.Exception, match=reason):
        dbt(home, "build", "--select", "phase_names")


def test_seeds_are_loaded_again_only_where_one_changed(home):
    own = home.settings.config / "seeds" / "phase_names.csv"
    own.parent.mkdir(parents=True)

    def begin(connection: Connection) -> None:
        connection.execute(TABLES)
        begin_run(connection, AS_OF, home.settings)

    with Warehouse(home.settings.warehouse).connect() as connection:
        begin(connection)
        assert invalidate_seeds(connection, is_subset=False)
        # a run that breaks off has loaded some, nobody knows which
        assert invalidate_seeds(connection, is_subset=False)
        note_loaded_seeds(connection)
        begin(connection)
        assert not invalidate_seeds(connection, is_subset=False)
        assert invalidate_seeds(connection, is_subset=True)
        assert invalidate_seeds(connection, is_subset=False)
        note_loaded_seeds(connection)
        own.write_text((SEEDS / "phase_names.csv").read_text().lower())
        begin(connection)
        assert invalidate_seeds(connection, is_subset=False)


def profile_id_of(identifier_type: str, identifier: str) -> str:
    """The id of a profile of which this identifier is the oldest."""
    name = f"{identifier_type}␟{identifier}".encode()
    return str(UUID(hashlib.md5(name, usedforsecurity=False).hexdigest()))


def profile_in(home: TestHome, identifier: str) -> str:
    """The profile of an identifier in a home."""
    identities = home.read("select * from identity.identity_map")
    return identities.filter(identifier=identifier)["profile_id"].item()
