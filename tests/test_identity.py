"""Who is one person, who is not, and that neither order nor history changes it."""

import random
from collections.abc import Callable, Iterable
from datetime import timedelta

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml.graph import limited_members, smallest_members
from tests.conftest import TestHome, moment
from tests.resolving import Journal, resolve

AS_OF = moment("2026-03-01")
START = moment("2026-02-01")

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges, list[bool]]:
    """A number of nodes, edges in order of priority, and which nodes are limited."""
    node_count = draw(st.integers(1, 25))
    nodes = st.integers(0, node_count - 1)
    edges = draw(st.lists(st.tuples(nodes, nodes), max_size=50))
    limited = draw(st.lists(st.booleans(), min_size=node_count, max_size=node_count))
    return node_count, edges, limited


def ends(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def roots_of(groups: Iterable[set[int]], node_count: int) -> list[int]:
    roots = list(range(node_count))
    for group in groups:
        for node in group:
            roots[node] = min(group)
    return roots


def merge_one_by_one(node_count: int, edges: Edges, limited: list[bool]) -> list[int]:
    """The rule as one would say it: sets, merged in order unless two are limited."""
    groups = {node: {node} for node in range(node_count)}
    for left, right in edges:
        merged = groups[left] | groups[right]
        if groups[left] is not groups[right] and sum(limited[n] for n in merged) <= 1:
            groups.update(dict.fromkeys(merged, merged))
    return roots_of(groups.values(), node_count)


@given(graphs())
def test_components_equal_those_of_networkx(graph: tuple[int, Edges, list[bool]]):
    node_count, edges, _ = graph
    oracle = nx.Graph(edges)
    found = smallest_members(node_count, *ends(edges))
    assert found.tolist() == roots_of(nx.connected_components(oracle), node_count)


@given(graphs(), st.randoms())
def test_components_do_not_depend_on_the_order_of_edges(
    graph: tuple[int, Edges, list[bool]], rng: random.Random
):
    node_count, edges, _ = graph
    shuffled = [pair[:: rng.choice((1, -1))] for pair in edges]
    rng.shuffle(shuffled)
    assert np.array_equal(
        smallest_members(node_count, *ends(edges)),
        smallest_members(node_count, *ends(shuffled)),
    )


@given(graphs())
def test_limited_components_equal_merging_one_edge_after_the_other(
    graph: tuple[int, Edges, list[bool]],
):
    node_count, edges, limited = graph
    found = limited_members(node_count, *ends(edges), np.array(limited))
    assert found.tolist() == merge_one_by_one(node_count, edges, limited)


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
    assert refused["reason"].to_list() == ["several_user_ids"] * 2
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
    refused = conflicts.filter(pl.col("reason") == "second_user_id")
    assert ("ch-tablet", "ch-two") in refused.select(
        "identifier", "refused_identifier"
    ).rows()


def test_shared_phone_stays_with_who_gave_it_first(profile_of):
    assert profile_of("+15550102000") == profile_of("sp-ida")
    assert profile_of("sp-ida") != profile_of("sp-jon")


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
    home = new_home("shuffled")
    home.land(shuffled[::2], "b/later.ndjson")
    home.land(shuffled[1::2], "a/first.ndjson")
    resolve(home, START + timedelta(days=17, hours=1))
    before = dict(
        home.read("select identifier, profile_id from identity.identity_map").rows()
    )
    assert before["lm-early"] != before["lm-late"]
    assert profile_of("lm-late") == profile_of("lm-early") == before["lm-early"]

    resolve(home, AS_OF)
    tables = scenarios.read(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_schema in ('identity', 'profiles')"
    )
    for table in tables.to_series():
        query = f"select * from {table} order by all"
        assert_frame_equal(home.read(query), scenarios.read(query))
