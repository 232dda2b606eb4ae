"""Who is one person, who is not, and that neither order nor history changes it."""

import random
from collections.abc import Callable
from datetime import timedelta

import polars as pl
import polars.selectors as cs
import pytest
from polars.testing import assert_frame_equal

from orchestration.sources.run_inputs import IDENTITY_RULES
from orchestration.unmerge import (
    Identifier,
    UnmergeError,
    deny,
    divide,
    fetch_members,
    find_identifier,
)
from tests.conftest import TestHome, moment
from tests.resolving import IDENTITY, IDENTITY_MODELS, Journal, resolve
from tests.test_matching import PERSONS, TWICE, make_world

AS_OF = moment("2026-03-01")
START = moment("2026-02-01")
BROKEN_OFF = (
    "staging",
    *("message_identifier_sets", "identifier_set_members", "identifier_sightings"),
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


def assert_same_tables(
    home: TestHome, other: TestHome, schemas: tuple[str, ...]
) -> None:
    """Every table holds the same rows; numbers and the log of changes are internal."""
    tables = other.read(
        "select table_schema || '.' || table_name from information_schema.tables "
        f"where table_schema in {schemas} and table_name <> 'identity_merges'"
    )
    for table in tables.to_series():
        columns = cs.exclude(cs.ends_with("_seq"))
        rows, others = (
            one.read(f"select * from {table}").select(columns) for one in (home, other)
        )
        assert_frame_equal(rows, others, check_row_order=False)


def test_fan_in_of_browsers_is_one_profile(profile_of):
    assert len({profile_of(f"fi-{n}") for n in range(6)} | {profile_of("fi-nia")}) == 1


def test_chain_is_one_profile_named_after_its_oldest(profile_of):
    names = ("lc-a", "lc-b", "lc-c", "lc-quinn", "one@lc.example", "two@lc.example")
    assert len({profile_of(name) for name in names}) == 1


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


def test_denied_pair_is_parted_and_one_again_when_the_rule_goes(new_home):
    home = new_home("denied")
    home.land([e for e in write_scenarios() if "td-" in str(e)])
    resolve(home, AS_OF, IDENTITY)
    before = home.read("select * from identity.identity_map").drop(cs.ends_with("_seq"))
    assert before["profile_id"].n_unique() == 1
    with home.warehouse() as connection:
        ends = [find_identifier(connection, name) for name in ("td-laptop", "td-phone")]
        sides = divide(connection, fetch_members(connection, ends[0]), *ends)

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

    parted = home.read("select * from identity.identity_map")
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


def test_accepted_matches_join_profiles_for_as_long_as_matching_is_on(new_home):
    home = new_home("matching")
    log = Journal("ma")
    for n, record in enumerate(make_world()):
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
    home.land(log.events)
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
    rules = IDENTITY_RULES.read_bytes()
    told = demo_home.rekindle("unmerge", *pair, "--dry-run").stdout
    for title in ("Who parts", "Messages sent", "Scores and phase", "Credits of"):
        assert title in told
    assert "@" not in told
    assert IDENTITY_RULES.read_bytes() == rules


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


def test_deny_rule_is_written_once(tmp_path):
    rules = tmp_path / "identity_rules.csv"
    rules.write_bytes(IDENTITY_RULES.read_bytes())
    ends = (
        Identifier(1, "user_id", "ann", "p"),
        Identifier(2, "email", "a@b.example", "p"),
    )
    deny(rules, *ends, reason="one account, two people")
    last = rules.read_text().splitlines()[-1]
    assert last == 'deny,user_id,ann,email,a@b.example,"one account, two people"'
    with pytest.raises(UnmergeError, match=r"identity_rules.csv:\d+ has a rule"):
        deny(rules, *reversed(ends), reason="")


def profile_in(home: TestHome, identifier: str) -> str:
    """The profile of an identifier in a home."""
    identities = home.read("select * from identity.identity_map")
    return identities.filter(identifier=identifier)["profile_id"].item()
