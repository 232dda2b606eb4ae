"""The identity graph against its plain meaning, told with sets and counted by hand."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import graph_parts, graph_sets
from ml.graph import (
    ACCEPTED,
    DENIED,
    HUB_LINKS,
    HUB_USER_IDS,
    LIMIT,
    Edges,
    LinkCounts,
    MergeProtection,
    Nodes,
    Refusals,
    Rules,
    Solution,
    count_links,
    solve,
)
from ml.graph_changes import Changes, ChangeSet, Members, resolve
from ml.graph_order import edge_hashes
from tests.identity_world import NOBODY, World, build_world, mix

CASES = 600
Pair = frozenset[int]


@dataclass(frozen=True)
class Story:
    """A graph and its rules, nodes named for good; only what is told has happened."""

    types: np.ndarray
    first_seen: np.ndarray
    keys: np.ndarray
    ends: np.ndarray
    classes: np.ndarray
    times: np.ndarray
    denied: np.ndarray
    allowed: np.ndarray
    protection: MergeProtection
    rng: np.random.Generator

    @property
    def nodes(self) -> Nodes:
        return Nodes(self.types, self.first_seen, self.keys)

    @property
    def edges(self) -> Edges:
        return Edges(*self.ends.T.copy(), self.classes, self.times)

    @property
    def rules(self) -> Rules:
        return Rules(*self.denied.T.copy(), *self.allowed.T.copy())


def draw_pairs(rng: np.random.Generator, node_count: int, count: int) -> np.ndarray:
    """Unique unordered pairs of different nodes, a few nodes drawn more than others."""
    weights = rng.random(node_count) ** 3 + 0.02
    drawn = rng.choice(node_count, size=(count, 2), p=weights / weights.sum())
    drawn = np.sort(drawn[drawn[:, 0] != drawn[:, 1]], axis=1)
    pairs = rng.permutation(np.unique(drawn, axis=0).astype(np.int32))
    return rng.permuted(pairs, axis=1)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Few nodes, types, times and low limits, so that everything collides."""
    node_count = draw(st.integers(2, 28))
    edge_count = draw(st.integers(0, 50))
    rule_count = draw(st.sampled_from([0, 0, 1, 4]))
    moments = draw(st.sampled_from([1, 3, 1_000]))
    limits = draw(
        st.sampled_from([(1, 2, 3, 6), (1, 1, 1, 1), (1, 3, 1 << 40, 9), (2, 2, 2, 2)])
    )
    max_links = draw(st.sampled_from([(9, 5, 5, 5), (3, 3, 2, 2), (99, 99, 99, 99)]))
    max_user_ids = draw(
        st.sampled_from([(1 << 40, 1, 2, 1), (2, 1, 2, 1), (1 << 40,) * 4])
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    ends = draw_pairs(rng, node_count, edge_count)
    rules = draw_pairs(rng, node_count, rule_count)
    is_denied = rng.random(len(rules)) < 0.6
    return Story(
        types=rng.choice(4, node_count, p=(0.25, 0.25, 0.2, 0.3)).astype(np.uint8),
        first_seen=rng.integers(0, moments, node_count),
        keys=mix(rng.permutation(node_count).astype(np.uint64)),
        ends=ends,
        classes=rng.integers(1, 4, len(ends)).astype(np.uint8),
        times=rng.integers(0, moments, len(ends)),
        denied=rules[is_denied],
        allowed=rules[~is_denied],
        protection=MergeProtection(
            *(np.array(row) for row in (limits, max_links, max_user_ids)),
            user_id_code=0,
            personal_codes=draw(st.sampled_from([(), (1,), (1, 2)])),
        ),
        rng=rng,
    )


@dataclass(frozen=True)
class Outcome:
    """What the plain meaning says of every node and of every refused pair."""

    anchors: list[int]
    clusters: list[int]
    degrees: list[int]
    user_id_counts: list[int]
    hub_reasons: list[int]
    refused: dict[Pair, tuple[int, int]]


def describe_plainly(story: Story) -> Outcome:
    """The rules as one would say them: sets, merged pair by pair, counted each time."""
    types, protection = story.types.tolist(), story.protection
    nodes = range(len(types))
    age = [
        (story.first_seen[node], types[node], story.keys[node]) for node in nodes
    ].__getitem__
    neighbours: list[set[int]] = [set() for _ in nodes]
    for one, two in story.ends.tolist():
        neighbours[one].add(two)
        neighbours[two].add(one)
    user_ids = [
        sum(
            types[other] in protection.personal_codes
            if types[n] == protection.user_id_code
            else types[other] == protection.user_id_code
            for other in neighbours[n]
        )
        for n in nodes
    ]
    hubs = [
        HUB_LINKS
        if len(neighbours[node]) > protection.max_links[types[node]]
        else HUB_USER_IDS
        if user_ids[node] > protection.max_user_ids[types[node]]
        else ACCEPTED
        for node in nodes
    ]
    edges = [frozenset(pair) for pair in story.ends.tolist()]
    denied = [frozenset(pair) for pair in story.denied.tolist()]
    allowed = {frozenset(pair) for pair in story.allowed.tolist()}

    def priority(pair: Pair, strength: tuple[int, int]) -> tuple:
        one, two = (np.array([story.keys[node]]) for node in pair)
        return (*strength, edge_hashes(one, two)[0])

    refused = {}
    queue = [(False, priority(pair, (0, 0)), pair) for pair in allowed]
    for row, pair in enumerate(edges):
        at_hub = [hubs[node] for node in pair if hubs[node]]
        if pair in allowed:
            continue
        if at_hub:
            refused[pair] = (min(at_hub), 0)
        else:
            strength = (story.classes[row], story.times[row])
            queue.append((True, priority(pair, strength), pair))

    clusters = [{node} for node in nodes]
    profiles = [{node} for node in nodes]
    for is_limited, _, pair in sorted(queue, key=lambda entry: entry[:2]):
        one, two = pair
        merged = clusters[one] | clusters[two]
        for node in merged:
            clusters[node] = merged
        if profiles[one] is profiles[two]:
            continue
        merged = profiles[one] | profiles[two]
        mine, yours = (Counter(types[n] for n in profiles[end]) for end in pair)
        too_many = [
            code
            for code in sorted(mine.keys() & yours.keys())
            if mine[code] + yours[code] > protection.profile_limits[code]
        ]
        if any(rule <= merged for rule in denied):
            if pair in edges:
                refused[pair] = (DENIED, 0)
        elif is_limited and too_many:
            refused[pair] = (LIMIT, too_many[0])
        else:
            for node in merged:
                profiles[node] = merged
    return Outcome(
        anchors=[min(profiles[node], key=age) for node in nodes],
        clusters=[min(clusters[node], key=age) for node in nodes],
        degrees=[len(neighbours[node]) for node in nodes],
        user_id_counts=user_ids,
        hub_reasons=hubs,
        refused=refused,
    )


def refusals_by_pair(refusals: Refusals) -> dict[Pair, tuple[int, int]]:
    rows = zip(
        refusals.left.tolist(),
        refusals.right.tolist(),
        refusals.reasons.tolist(),
        refusals.type_codes.tolist(),
        strict=True,
    )
    return {frozenset((left, right)): (why, code) for left, right, why, code in rows}


def outcome_of(solution: Solution, counts: LinkCounts) -> Outcome:
    assert len(refusals_by_pair(solution.refusals)) == len(solution.refusals.left)
    return Outcome(
        anchors=solution.anchors.tolist(),
        clusters=solution.clusters.tolist(),
        degrees=counts.degrees.tolist(),
        user_id_counts=counts.user_id_counts.tolist(),
        hub_reasons=solution.hub_reasons.tolist(),
        refused=refusals_by_pair(solution.refusals),
    )


def solved(story: Story) -> Outcome:
    return outcome_of(
        solve(story.nodes, story.edges, story.protection, story.rules),
        count_links(story.types, story.protection, story.edges),
    )


@settings(max_examples=2 * CASES, deadline=None)
@given(stories())
def test_solution_is_what_merging_pair_by_pair_gives(story: Story):
    assert solved(story) == describe_plainly(story)


@settings(max_examples=CASES, deadline=None)
@given(stories(), st.integers(0, 3))
def test_nodes_too_alike_to_be_told_by_a_word_are_told_by_all_of_their_key(
    story: Story, key_bits: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_sets, "KEY_BITS", key_bits)
        assert solved(story) == describe_plainly(story)


@settings(max_examples=CASES, deadline=None)
@given(stories())
def test_numbering_and_order_of_arrival_change_nothing(story: Story):
    rng = story.rng
    number = rng.permutation(len(story.types)).astype(np.int32)
    rows = rng.permutation(len(story.ends))
    old = np.argsort(number)
    renumbered = replace(
        story,
        types=story.types[old],
        first_seen=story.first_seen[old],
        keys=story.keys[old],
        ends=rng.permuted(number[story.ends[rows]].reshape(-1, 2), axis=1),
        classes=story.classes[rows],
        times=story.times[rows],
        denied=rng.permutation(number[story.denied]),
        allowed=rng.permutation(number[story.allowed]),
    )
    before, after = solved(story), solved(renumbered)
    assert number[before.anchors].tolist() == np.array(after.anchors)[number].tolist()
    assert number[before.clusters].tolist() == np.array(after.clusters)[number].tolist()
    assert {
        frozenset(number[list(pair)].tolist()): why
        for pair, why in before.refused.items()
    } == after.refused


PROTECTION = MergeProtection(
    profile_limits=np.array([1, 5, 5, 3, 20, 500]),
    max_links=np.array([500, 50, 50, 50, 50, 50]),
    max_user_ids=np.array([9, 1, 2, 1, 1, 1]),
    user_id_code=0,
    personal_codes=(1, 2, 3),
)
NO_PROTECTION = MergeProtection(
    *(np.full(6, 1 << 40) for _ in range(3)), user_id_code=0
)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(300_000)


def edges_of(world: World) -> Edges:
    return Edges(world.left, world.right, world.link_classes, world.edge_first_seen)


def solve_world(world: World, protection: MergeProtection) -> Solution:
    nodes = Nodes(world.type_codes, world.first_seen, world.keys)
    return solve(nodes, edges_of(world), protection)


def pair_count(*labels: np.ndarray) -> int:
    sizes = np.unique(np.stack(labels), axis=1, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def pairwise_f1(world: World, anchors: np.ndarray) -> float:
    """How well pairs in one profile are pairs of one person."""
    owned = world.persons != NOBODY
    persons, anchors = world.persons[owned], anchors[owned]
    right = pair_count(persons, anchors)
    return 2 * right / (pair_count(persons) + pair_count(anchors))


def most_persons_in_a_profile(world: World, anchors: np.ndarray) -> int:
    owned = world.persons != NOBODY
    both = np.unique(np.stack([anchors[owned], world.persons[owned]]), axis=1)
    return int(np.unique(both[0], return_counts=True)[1].max())


def test_profiles_of_a_known_world_are_its_persons(world: World):
    anchors = solve_world(world, PROTECTION).anchors
    assert pairwise_f1(world, anchors) >= 0.99
    assert most_persons_in_a_profile(world, anchors) <= 10


def test_without_protection_a_shared_device_makes_one_person_of_many(world: World):
    anchors = solve_world(world, NO_PROTECTION).anchors
    assert pairwise_f1(world, anchors) < 0.5
    assert most_persons_in_a_profile(world, anchors) > 1_000


def test_links_are_counted_by_two_threads_as_by_hand(world: World):
    counts = count_links(world.type_codes, PROTECTION, edges_of(world))
    ends = np.r_[world.left, world.right]
    others = np.r_[world.right, world.left]
    count = len(world.keys)
    types = world.type_codes
    is_counted = np.where(
        types[ends] == PROTECTION.user_id_code,
        np.isin(types[others], PROTECTION.personal_codes),
        types[others] == PROTECTION.user_id_code,
    )
    to_user_id = ends[is_counted]
    assert np.array_equal(counts.degrees, np.bincount(ends, minlength=count))
    assert np.array_equal(
        counts.user_id_counts, np.bincount(to_user_id, minlength=count)
    )


def test_two_threads_give_what_one_gives(world: World, monkeypatch):
    monkeypatch.setattr(graph_sets, "THREADS", 1)
    alone = solve_world(world, PROTECTION)
    monkeypatch.setattr(graph_sets, "THREADS", 2)
    monkeypatch.setattr(graph_sets, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(graph_parts, "CHUNK", 1_000)
    for _ in range(5):
        together = solve_world(world, PROTECTION)
        assert np.array_equal(together.anchors, alone.anchors)
        assert np.array_equal(together.clusters, alone.clusters)
        assert np.array_equal(together.hub_reasons, alone.hub_reasons)
        assert refusals_by_pair(together.refusals) == refusals_by_pair(alone.refusals)


@pytest.mark.parametrize(
    "limits", [(1 << 19,) * 4, (1 << 40, 1 << 19, 1 << 19, 1 << 19, 1)]
)
def test_limits_that_do_not_fit_into_a_word_are_refused(limits: tuple[int, ...]):
    protection = MergeProtection(*(np.array(limits) for _ in range(3)), user_id_code=0)
    with pytest.raises(ValueError, match="do not fit"):
        _ = protection.counters


class Kept:
    """A former solution and all edges, in arrays, as a warehouse would keep them."""

    def __init__(self, story: Story) -> None:
        self.story = story
        count = len(story.types)
        self.anchors = np.full(count, -1, np.int32)
        self.clusters = np.full(count, -1, np.int32)
        self.degrees = np.zeros(count, np.int32)
        self.user_id_counts = np.zeros(count, np.int32)
        self.hub_reasons = np.zeros(count, np.uint8)
        self.refused: dict[Pair, tuple[int, int]] = {}
        self.loaded: set[int] = set()

    def members(self, nodes: np.ndarray) -> Members:
        clusters = self.clusters[nodes]
        inside = np.isin(self.clusters, clusters[clusters >= 0])
        inside[nodes] = True
        rows = np.flatnonzero(inside).astype(np.int32)
        self.loaded |= set(rows.tolist())
        return Members(
            nodes=rows,
            type_codes=self.story.types[rows],
            first_seen=self.story.first_seen[rows],
            keys=self.story.keys[rows],
            anchors=self.anchors[rows],
            clusters=self.clusters[rows],
            degrees=self.degrees[rows],
            user_id_counts=self.user_id_counts[rows],
            hub_reasons=self.hub_reasons[rows],
        )

    def edges(self, nodes: np.ndarray) -> Edges:
        story = self.story
        rows = np.isin(story.ends, nodes).any(axis=1)
        return Edges(*story.ends[rows].T.copy(), story.classes[rows], story.times[rows])

    def write(self, change: ChangeSet) -> None:
        for name in (
            "anchors",
            "clusters",
            "degrees",
            "user_id_counts",
            "hub_reasons",
        ):
            getattr(self, name)[change.nodes] = getattr(change, name)
        for pair, why in refusals_by_pair(change.examined).items():
            self.refused.pop(pair, None)
            if why[0] != ACCEPTED:
                self.refused[pair] = why

    def told(self) -> Outcome:
        return Outcome(
            anchors=self.anchors.tolist(),
            clusters=self.clusters.tolist(),
            degrees=self.degrees.tolist(),
            user_id_counts=self.user_id_counts.tolist(),
            hub_reasons=self.hub_reasons.tolist(),
            refused=self.refused,
        )


def pairs_of(ends: np.ndarray) -> set[Pair]:
    return {frozenset(pair) for pair in ends.tolist()}


def go_on(kept: Kept, story: Story) -> ChangeSet:
    """Let `kept` take in what `story` tells beyond the story it holds."""
    before = kept.story
    old_count, count = len(before.types), len(story.types)
    for name in ("anchors", "clusters", "degrees", "user_id_counts", "hub_reasons"):
        column = getattr(kept, name)
        fill = -1 if name in ("anchors", "clusters") else 0
        grown = np.full(count, fill, column.dtype)
        grown[:old_count] = column
        setattr(kept, name, grown)
    kept.story = story
    kept.loaded = set()

    known = {frozenset(pair): row for row, pair in enumerate(before.ends.tolist())}
    rows = [known.get(frozenset(pair), -1) for pair in story.ends.tolist()]
    old = np.array(rows, dtype=np.int64).reshape(-1)
    is_new = old < 0
    moved_edges = ~is_new
    moved_edges[~is_new] = (story.times[~is_new] != before.times[old[~is_new]]) | (
        story.classes[~is_new] != before.classes[old[~is_new]]
    )
    moved = np.flatnonzero(story.first_seen[:old_count] != before.first_seen)
    ruled = (pairs_of(before.denied) ^ pairs_of(story.denied)) | (
        pairs_of(before.allowed) ^ pairs_of(story.allowed)
    )
    change = resolve(
        kept,
        Changes(
            edges=Edges(
                *story.ends[is_new].T.copy(),
                story.classes[is_new],
                story.times[is_new],
            ),
            moved=np.r_[
                moved, np.arange(old_count, count), story.ends[moved_edges].ravel()
            ].astype(np.int32),
            ruled=np.array([n for pair in ruled for n in pair], dtype=np.int32),
        ),
        story.protection,
        story.rules,
    )
    check_what_is_reported(kept, change)
    kept.write(change)
    return change


def check_what_is_reported(kept: Kept, change: ChangeSet) -> None:
    """Every lost anchor is a merge with its edge, every regained one a separation."""
    before = kept.anchors.copy()
    after = before.copy()
    after[change.nodes] = change.anchors
    nodes = np.arange(len(before))
    merges = change.merges
    lost = (before == nodes) & (after != nodes)
    assert merges.losers.tolist() == np.flatnonzero(lost).tolist()
    assert merges.winners.tolist() == after[lost].tolist()
    usable = pairs_of(kept.story.ends) | pairs_of(kept.story.allowed)
    examined = refusals_by_pair(change.examined)
    for loser, winner, left, right in zip(
        merges.losers.tolist(),
        merges.winners.tolist(),
        merges.via_left.tolist(),
        merges.via_right.tolist(),
        strict=True,
    ):
        if before[winner] == loser:
            assert (left, right) == (-1, -1)
        else:
            assert frozenset((left, right)) in usable
            assert examined.get(frozenset((left, right)), (ACCEPTED, 0))[0] == ACCEPTED
            assert after[left] == after[right] == winner

    gained = (before >= 0) & (before != nodes) & (after == nodes)
    gained &= after[before] != nodes
    assert change.separated.tolist() == np.flatnonzero(gained).tolist()
    assert change.separated_from.tolist() == before[gained].tolist()
    unchanged = set(nodes.tolist()) - kept.loaded
    assert not unchanged & set(change.nodes.tolist())


def before_anything(story: Story) -> Story:
    nothing = {
        name: getattr(story, name)[:0]
        for name in (
            *("types", "first_seen", "keys"),
            *("ends", "classes", "times"),
            *("denied", "allowed"),
        )
    }
    return replace(story, **nothing)


def in_chapters(story: Story, count: int) -> list[Story]:
    """The story told bit by bit: nodes and edges arrive, times and rules change."""
    rng = story.rng
    edge_chapter = rng.integers(0, count, len(story.ends))
    node_chapter = rng.integers(0, count, len(story.types))
    for row, ends in enumerate(story.ends):
        node_chapter[ends] = np.minimum(node_chapter[ends], edge_chapter[row])
    rule_ends = np.r_[story.denied, story.allowed]
    node_chapter[rule_ends.ravel()] = 0
    # nodes are numbered in the order in which they arrive
    old = np.argsort(node_chapter, kind="stable")
    number = np.argsort(old).astype(np.int32)
    chapters = []
    for chapter in range(count):
        is_last = chapter == count - 1
        told = int((node_chapter <= chapter).sum())
        rows = rng.permutation(np.flatnonzero(edge_chapter <= chapter))
        late_nodes = (rng.random(told) < 0.2) & (not is_last)
        late_edges = (rng.random(len(rows)) < 0.2) & (not is_last)

        def in_force(
            pairs: np.ndarray, number: np.ndarray = number, is_last: bool = is_last
        ) -> np.ndarray:
            return number[pairs[(rng.random(len(pairs)) < 0.6) | is_last]]

        chapters.append(
            replace(
                story,
                types=story.types[old[:told]],
                first_seen=story.first_seen[old[:told]] + late_nodes,
                keys=story.keys[old[:told]],
                ends=number[story.ends[rows]].reshape(-1, 2),
                classes=story.classes[rows],
                times=story.times[rows] + late_edges,
                denied=in_force(story.denied),
                allowed=in_force(story.allowed),
            )
        )
    return chapters


@settings(max_examples=3 * CASES, deadline=None)
@given(stories(), st.integers(2, 5))
def test_resolving_any_split_gives_what_solving_everything_gives(
    story: Story, count: int
):
    chapters = in_chapters(story, count)
    kept = Kept(before_anything(story))
    for chapter in chapters:
        go_on(kept, chapter)
        assert kept.told() == solved(chapter)


@settings(max_examples=CASES, deadline=None)
@given(stories())
def test_a_denial_that_is_withdrawn_leaves_no_trace(story: Story):
    without = replace(story, denied=story.denied[:0])
    kept = Kept(before_anything(story))
    go_on(kept, without)
    before = kept.told()
    go_on(kept, story)
    assert kept.told() == solved(story)
    go_on(kept, without)
    assert kept.told() == before


def chain_of(type_codes: np.ndarray) -> Story:
    """Nodes of these types, each linked to the next."""
    count = len(type_codes)
    numbers = np.arange(count, dtype=np.int32)
    return Story(
        types=type_codes.astype(np.uint8),
        first_seen=np.arange(count)[::-1] // 3,
        keys=mix(numbers.astype(np.uint64)),
        ends=np.stack([numbers[:-1], numbers[1:]], axis=1),
        classes=np.ones(count - 1, dtype=np.uint8),
        times=np.arange(count - 1) // 2,
        denied=np.empty((0, 2), dtype=np.int32),
        allowed=np.empty((0, 2), dtype=np.int32),
        protection=PROTECTION,
        rng=np.random.default_rng(0),
    )


@pytest.mark.parametrize(
    ("code", "limit"), list(enumerate(PROTECTION.profile_limits.tolist()))
)
def test_profile_is_as_large_as_its_limit_and_no_larger(code: int, limit: int):
    sizes = {2, 3, 4, 7, 8, 15, 16, 17, 31, 32, limit, limit + 1}
    for size in sorted(size for size in sizes if 1 < size <= limit + 1):
        story = chain_of(np.full(size, code))
        assert solved(story) == describe_plainly(story)
        assert len(set(solved(story).anchors)) == (1 if size <= limit else 2)


def test_small_sets_of_many_types_keep_each_limit():
    many = MergeProtection(
        profile_limits=np.full(20, 2),
        max_links=np.full(20, 50),
        max_user_ids=np.full(20, 50),
        user_id_code=0,
    )
    for repeated in range(20):
        types = np.r_[np.arange(20), repeated, repeated]
        story = replace(chain_of(types), protection=many)
        assert solved(story) == describe_plainly(story)
        assert len(set(solved(story).anchors)) == 2
