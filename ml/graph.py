"""Who is one person: components of the identity graph, with protection against merges.

1. A node with too many links, or with too many user ids, is a hub.
2. Unite the ends of all edges between nodes that are no hubs: these are the clusters.
3. A cluster that keeps all limits and holds no denied pair is one profile.
4. In the other, crowded clusters unite one edge after the other, the strongest first,
   and refuse what would break a limit or join a denied pair.
5. A profile is named after its oldest node, its anchor.

Nothing but nodes, edges and rules of one cluster decides over it, so that `resolve`
can go over the clusters that a change reaches, and arrive where `solve` would.
Knows dense node numbers; knows nothing of identifiers, files or the warehouse.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from itertools import chain, islice
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml import union_find
from ml.union_find import (
    ACCEPTED,
    DENIED,
    HUB_LINKS,
    HUB_USER_IDS,
    LIMIT,
    Int32s,
    Int64s,
    UInt8s,
    UInt64s,
)

__all__ = [
    "ACCEPTED",
    "DENIED",
    "HUB_LINKS",
    "HUB_USER_IDS",
    "LIMIT",
    "ChangeSet",
    "Changes",
    "Components",
    "Edges",
    "History",
    "Members",
    "MergeProtection",
    "Nodes",
    "Refusals",
    "Rules",
    "Solution",
    "count_links",
    "resolve",
    "solve",
]

NOTHING = np.int32(-1)
# A limit of so many is none: its counter would not fit beside the others.
UNLIMITED = 1 << 20
KEY_BITS = 63
# leaves room for all times that a calendar has
CLASS_SHIFT = 60
CHUNK = 1 << 17


@dataclass(frozen=True)
class MergeProtection:
    """Limits by type code: nodes a profile, links and user ids a node.

    Raises ValueError if the counters of `profile_limits` do not fit into 64 bits.
    """

    profile_limits: Int64s
    max_links: Int64s
    max_user_ids: Int64s
    user_id_code: int

    @cached_property
    def counters(self) -> "PackedCounters":
        """The layout of one set's counters in a 64-bit word."""
        return PackedCounters.of(self.profile_limits)


@dataclass(frozen=True)
class PackedCounters:
    """Where each type's counter lies in a word, and the words that test all at once.

    A counter counts to its limit + 1 and has a guard bit above, so that two can be
    added and compared without touching their neighbours.
    """

    limits: Int64s
    widths: Int64s
    shifts: Int64s
    units: UInt64s
    any_bias: np.uint64
    over_bias: np.uint64
    guards: np.uint64

    @classmethod
    def of(cls, limits: Int64s) -> "PackedCounters":
        widths = np.array(
            [
                0 if limit >= UNLIMITED else int(limit + 1).bit_length() + 1
                for limit in limits.tolist()
            ],
            dtype=np.int64,
        )
        if widths.sum() > 64:
            raise ValueError(f"limits {limits.tolist()} do not fit into 64 bits")
        shifts = np.cumsum(widths) - widths
        any_bias = over_bias = guards = 0
        units = np.zeros(len(limits), dtype=np.uint64)
        for code, (limit, width, shift) in enumerate(
            zip(limits.tolist(), widths.tolist(), shifts.tolist(), strict=True)
        ):
            if width:
                top = 1 << (width - 1)
                units[code] = 1 << shift
                any_bias |= (top - 1) << shift
                over_bias |= (top - 1 - limit) << shift
                guards |= top << shift
        return cls(
            limits=limits.astype(np.int64),
            widths=widths,
            shifts=shifts,
            units=units,
            any_bias=np.uint64(any_bias),
            over_bias=np.uint64(over_bias),
            guards=np.uint64(guards),
        )

    def totals(self, sets: Int32s, type_codes: UInt8s) -> UInt64s:
        """Return the counters of sets, each by the number of one of its nodes."""
        totals = np.zeros(len(sets), dtype=np.uint64)
        for code in np.flatnonzero(self.widths):
            counts = np.bincount(sets[type_codes == code], minlength=len(sets))
            held = np.minimum(counts, self.limits[code] + 1).astype(np.uint64)
            totals |= held << np.uint64(self.shifts[code])
        return totals


class Columns:
    """Columns that are arrays; a subclass may stream them from where they are kept."""

    def __len__(self) -> int:
        first = fields(self)[0]  # type: ignore[arg-type]
        return len(getattr(self, first.name))

    def chunks(self, *names: str) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield some columns, all rows in order, in chunks of any size."""
        for begin in range(0, len(self), CHUNK):
            rows = slice(begin, begin + CHUNK)
            yield tuple(getattr(self, name)[rows] for name in names)


@dataclass(frozen=True)
class Nodes(Columns):
    """Type, time (µs) first seen and key of every node; row n is node n.

    The key is the upper half of the 128-bit name of the profile that the node would
    give its name to.
    """

    type_codes: UInt8s
    first_seen: Int64s
    keys: UInt64s

    def period(self) -> tuple[int, int]:
        """Return the first and the last time of all nodes."""
        return int(self.first_seen.min()), int(self.first_seen.max())


@dataclass(frozen=True)
class Edges(Columns):
    """Unique pairs of different nodes, their class (1 strongest) and first time (µs).

    The order of rows means nothing.
    """

    left: Int32s
    right: Int32s
    link_classes: UInt8s
    first_seen: Int64s


def no_nodes() -> Int32s:
    """Return an empty list of nodes."""
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Rules:
    """Pairs of nodes that must not, and that must, be one profile. No pair is both."""

    denied_left: Int32s = field(default_factory=no_nodes)
    denied_right: Int32s = field(default_factory=no_nodes)
    allowed_left: Int32s = field(default_factory=no_nodes)
    allowed_right: Int32s = field(default_factory=no_nodes)

    @property
    def named(self) -> Int32s:
        """All nodes that a rule names."""
        return np.concatenate([getattr(self, column.name) for column in fields(self)])


@dataclass(frozen=True)
class Refusals:
    """Edges and why they joined nothing (HUB_LINKS, HUB_USER_IDS, LIMIT, DENIED).

    `type_codes` names the type that overflowed where the reason is LIMIT, else 0.
    """

    left: Int32s
    right: Int32s
    reasons: UInt8s
    type_codes: UInt8s


@dataclass(frozen=True)
class Solution:
    """What every node belongs to, and which edges were refused.

    `anchors` names each node's profile by its oldest node. `clusters` names what would
    be one profile without limits and denials, also by its oldest node, of the nodes for
    which it may differ: `examined`. `hub_reasons` (HUB_LINKS or HUB_USER_IDS) is told
    of `hubs`.
    """

    anchors: Int32s
    examined: Int32s
    examined_clusters: Int32s
    hubs: Int32s
    reasons_of_hubs: UInt8s
    refusals: Refusals

    @property
    def clusters(self) -> Int32s:
        """Each node's cluster."""
        clusters = self.anchors.copy()
        clusters[self.examined] = self.examined_clusters
        return clusters

    @property
    def hub_reasons(self) -> UInt8s:
        """Why each node is a hub, ACCEPTED if it is none."""
        reasons = np.zeros(len(self.anchors), dtype=np.uint8)
        reasons[self.hubs] = self.reasons_of_hubs
        return reasons


# Below so many rows a second thread costs more than it brings.
WORTH_A_THREAD = 1 << 18
THREADS = 2


def in_parts(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Let threads work(begin, end) on their parts of count rows; return the results."""
    if count < WORTH_A_THREAD:
        return [work(0, count)]
    bounds = [count * part // THREADS for part in range(THREADS + 1)]
    return in_threads(work, bounds[:-1], bounds[1:])


def chunk_by_chunk(work: Callable[..., Any], chunks: Iterable[Any]) -> list[Any]:
    """Let threads take the next chunk whenever they are free; return the results."""
    rest = iter(chunks)
    first = list(islice(rest, 2))
    if len(first) < 2:
        return [work(*chunk) for chunk in first]
    rest = enumerate(chain(first, rest))
    results: dict[int, Any] = {}
    taking = Lock()

    def take_and_work(_: int) -> None:
        while True:
            with taking:
                number, chunk = next(rest, (-1, None))
            if chunk is None:
                return
            results[number] = work(*chunk)

    in_threads(take_and_work, range(THREADS))
    return [results[number] for number in sorted(results)]


def in_threads(work: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Let each thread work with its own arguments; return the results."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, *arguments))


class Components:
    """Plain components of a graph whose edges come batch by batch.

    Goes on from `labels`, which it takes over, if there are any from a run before.
    """

    def __init__(self, node_count: int, labels: Int32s | None = None) -> None:
        alone = np.arange(node_count if labels is None else 0, dtype=np.int32)
        self._parents: Int32s = alone if labels is None else labels

    def add(self, left: Int32s, right: Int32s) -> None:
        """Unite the ends of each pair; several threads may add at once."""
        union_find.unite(self._parents, left, right)

    def labels(self) -> Int32s:
        """Return each node's smallest fellow; the components are used up."""
        parents = self._parents
        in_parts(len(parents), partial(union_find.flatten, parents))
        return parents


@dataclass(frozen=True)
class SmallCounters:
    """Counters by type in 31 bits, that run over before a set could break a limit.

    A set in which none has run over is one profile: it keeps every limit, and is too
    small for any of its nodes to be a hub.
    """

    units: Int32s
    guards: int

    @classmethod
    def of(cls, protection: MergeProtection) -> "SmallCounters":
        caps = np.maximum(protection.profile_limits, 0)
        user_id = protection.user_id_code
        caps[user_id] = min(caps[user_id], protection.max_user_ids.min())
        # the first types have a counter each, all others share the last
        fields = np.minimum(np.arange(len(caps)), 14)
        least = np.full(fields[-1] + 1, UNLIMITED)
        np.minimum.at(least, fields, caps)
        widths = [int(cap + 1).bit_length() - 1 for cap in least.tolist()]
        most = protection.max_links.min() + 1
        while (
            sum(widths) + len(widths) > 31 or sum((1 << w) - 1 for w in widths) > most
        ):
            widths[widths.index(max(widths))] -= 1
        shifts = np.cumsum([0, *(width + 1 for width in widths)])
        return cls(
            units=(1 << shifts[fields]).astype(np.int32),
            guards=sum(1 << int(end - 1) for end in shifts[1:]),
        )


def in_order_of(*columns: NDArray[Any]) -> Int64s:
    """Return the rows in order of the first column, where it is the same of the next.

    Quicker than numpy's lexsort where few rows need the later columns.
    """
    order = np.argsort(columns[0])
    in_order = columns[0][order]
    is_same = in_order[1:] == in_order[:-1]
    places = np.flatnonzero(np.append(is_same, False) | np.append(False, is_same))
    tied = order[places]
    order[places] = tied[np.lexsort([column[tied] for column in reversed(columns)])]
    return order


class AgedSets:
    """Sets of nodes, each under its oldest; marks those that may not be one profile.

    Raises ValueError if types and times of the nodes do not fit into 64 bits.
    """

    def __init__(self, nodes: Nodes, protection: MergeProtection) -> None:
        counters = SmallCounters.of(protection)
        self._guards = counters.guards
        self._states = np.empty(len(nodes), dtype=np.int32)
        self._ages = np.empty(len(nodes), dtype=np.uint64)
        self._earliest, latest = nodes.period() if len(nodes) else (0, 0)
        self._type_bits = (len(counters.units) - 1).bit_length()
        time_bits = (latest - self._earliest).bit_length()
        self._key_bits = min(64 - self._type_bits - time_bits, 63)
        if self._key_bits < 0:
            raise ValueError("times are too far apart to be compared with types")

        def begin(offset: int, columns: tuple[UInt8s, Int64s, UInt64s]) -> None:
            union_find.begin_sets(
                self._states,
                self._ages,
                offset,
                *columns,
                self._earliest,
                self._type_bits,
                self._key_bits,
                min(self._key_bits, KEY_BITS),
                counters.units,
            )

        chunks = nodes.chunks("type_codes", "first_seen", "keys")
        chunk_by_chunk(begin, with_offsets(chunks))

    def types_and_times(self, nodes: Int32s) -> tuple[UInt8s, Int64s]:
        """Return type_codes and first_seen of some nodes."""
        ages = self._ages[nodes] >> np.uint64(self._key_bits)
        types = ages & np.uint64((1 << self._type_bits) - 1)
        times = ages >> np.uint64(self._type_bits)
        return types.astype(np.uint8), times.astype(np.int64) + self._earliest

    def mark(self, nodes: Int32s) -> None:
        """Mark the sets of nodes that are alone still."""
        self._states[nodes] |= np.int32(self._guards)

    def add(self, left: Int32s, right: Int32s) -> None:
        """Unite the ends of each pair; several threads may add at once."""
        union_find.unite_by_age(self._states, self._ages, self._guards, left, right)

    def settle(self) -> tuple[Int32s, "Marks"]:
        """Return the oldest of each node's set, and marks; the sets are used up."""
        states = self._states
        words = np.empty(-(-len(states) // union_find.WORD), dtype=np.uint64)
        in_parts(len(words), partial(union_find.settle, states, words, self._guards))
        in_parts(len(states), partial(union_find.name_roots, states))
        return states, Marks(words)


class Marks:
    """Some of all nodes, as bits, and their places among each other."""

    def __init__(self, words: UInt64s) -> None:
        self._words = words
        counts = np.bitwise_count(words)
        self._ranks = (np.cumsum(counts, dtype=np.int32) - counts).astype(np.int32)
        self._count = int(counts.sum())

    def nodes(self) -> Int32s:
        """Return the marked nodes, in order."""
        nodes = np.empty(self._count, dtype=np.int32)
        union_find.list_marked(self._words, nodes)
        return nodes

    def take(self, left: Int32s, right: Int32s) -> tuple[Int32s, Int32s, Int32s]:
        """Return rows and places of the pairs of marked nodes; no pair is mixed."""
        found = tuple(np.empty(len(left), dtype=np.int32) for _ in range(3))
        count = union_find.take_marked(self._words, self._ranks, left, right, *found)
        rows, lefts, rights = (column[:count].copy() for column in found)
        return rows, lefts, rights


def with_offsets(chunks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """Yield chunks of columns with the number of rows before."""
    offset = 0
    for columns in chunks:
        yield offset, columns
        offset += len(columns[0])


def edge_hashes(left: UInt64s, right: UInt64s) -> UInt64s:
    """Mix the keys of both ends, the same either way round (splitmix64's finaliser)."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    mixed = low * np.uint64(0x9E3779B97F4A7C15) + high
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: UInt64s = mixed ^ (mixed >> np.uint64(31))
    return hashes


@dataclass(frozen=True)
class LinkCounts:
    """How many neighbours every node has, and how many of them are user ids."""

    degrees: Int32s
    user_id_counts: Int32s


def oldest_fellows(sets: Int32s, ranks: Int32s) -> Int32s:
    """Return the oldest node of each node's set, by the ranks of nodes by age."""
    by_age = np.empty(len(ranks), dtype=np.int32)
    by_age[ranks] = np.arange(len(ranks), dtype=np.int32)
    oldest = np.full(len(sets), len(sets), dtype=np.int32)
    np.minimum.at(oldest, sets, ranks)
    return by_age[oldest[sets]]


def count_links(type_codes: UInt8s, user_id_code: int, edges: Edges) -> LinkCounts:
    """Count the neighbours of every node; edges are unique."""
    is_user_id = type_codes == user_id_code
    counts = is_user_id * np.int64(union_find.IS_USER_ID)
    chunk_by_chunk(
        partial(union_find.count_links, counts), edges.chunks("left", "right")
    )
    counts &= union_find.IS_USER_ID - 1
    return LinkCounts(
        degrees=(counts & (union_find.USER_ID_STEP - 1)).astype(np.int32),
        user_id_counts=(counts // union_find.USER_ID_STEP).astype(np.int32),
    )


def hub_reasons_by_count(
    degrees: Int32s,
    user_id_counts: Int32s,
    type_codes: UInt8s,
    protection: MergeProtection,
) -> UInt8s:
    """Return why each of some nodes is a hub, ACCEPTED if it is none."""
    reasons: UInt8s = np.where(
        degrees > protection.max_links[type_codes],
        HUB_LINKS,
        np.where(
            user_id_counts > protection.max_user_ids[type_codes], HUB_USER_IDS, ACCEPTED
        ),
    ).astype(np.uint8)
    return reasons


@dataclass(frozen=True)
class Ordered:
    """Outcome of uniting edge after edge; all numbers are places in the arrays given.

    By node: its rank by age, the oldest of its set at the end (`roots`) and to begin
    with (`begun`), the root that took in the node's set while the node was its root
    (`into`, else -1) and the ends of the edge that did it. By edge: why it is refused.
    """

    ranks: Int32s
    roots: Int32s
    begun: Int32s
    into: Int32s
    via_left: Int32s
    via_right: Int32s
    reasons: UInt8s
    type_codes: UInt8s


def unite_in_order(
    nodes: Nodes,
    edges: Edges,
    rules: Rules,
    protection: MergeProtection,
    *,
    together: Int32s | None = None,
) -> Ordered:
    """Unite edges in the order of their strength, refusing what the rules forbid.

    Allowed pairs come first. All numbers are places. `together` names for every
    node one that it is in one set with to begin with; else each is alone.
    """
    type_codes, first_seen, keys = nodes.type_codes, nodes.first_seen, nodes.keys
    node_count = len(type_codes)
    by_age = in_order_of(first_seen, type_codes, keys).astype(np.int32)
    age = np.empty(node_count, dtype=np.int32)
    age[by_age] = np.arange(node_count, dtype=np.int32)

    hashes = edge_hashes(keys[edges.left], keys[edges.right])
    earliest = edges.first_seen.min(initial=np.iinfo(np.int64).max)
    classes = edges.link_classes.astype(np.int64) << CLASS_SHIFT
    order = in_order_of(classes + (edges.first_seen - earliest), hashes)
    allowed = np.argsort(
        edge_hashes(keys[rules.allowed_left], keys[rules.allowed_right])
    )
    left = np.r_[rules.allowed_left[allowed], edges.left[order]]
    right = np.r_[rules.allowed_right[allowed], edges.right[order]]

    denied_left = age[np.r_[rules.denied_left, rules.denied_right]]
    denied_right = age[np.r_[rules.denied_right, rules.denied_left]]
    denied_from = np.zeros(node_count + 1, dtype=np.int32)
    np.cumsum(np.bincount(denied_left, minlength=node_count), out=denied_from[1:])

    parents = np.arange(node_count, dtype=np.int32)
    if together is not None:
        oldest = np.full(node_count, node_count, dtype=np.int32)
        np.minimum.at(oldest, together, age)
        parents = oldest[together][by_age]
    begun = by_age[parents][age]
    counters = protection.counters
    totals = counters.totals(parents, type_codes[by_age])

    via = np.full(node_count, -1, dtype=np.int64)
    into = np.full(node_count, NOTHING, dtype=np.int32)
    reasons = np.zeros(len(left), dtype=np.uint8)
    reason_types = np.zeros(len(left), dtype=np.uint8)
    union_find.unite_in_order(
        parents,
        age[left],
        age[right],
        len(allowed),
        totals,
        counters.any_bias,
        counters.over_bias,
        counters.guards,
        counters.widths,
        counters.shifts,
        counters.limits,
        denied_from,
        denied_right[np.argsort(denied_left)],
        via,
        into,
        reasons,
        reason_types,
    )
    union_find.flatten(parents, 0, node_count)

    by_row = np.empty(len(order), dtype=np.int64)
    by_row[order] = np.arange(len(allowed), len(left))
    is_absorbed = into[age] >= 0
    via_row = via[age]
    return Ordered(
        ranks=age,
        roots=by_age[parents[age]],
        begun=begun,
        into=np.where(is_absorbed, by_age[into[age]], NOTHING),
        via_left=np.where(is_absorbed, np.append(left, NOTHING)[via_row], NOTHING),
        via_right=np.where(is_absorbed, np.append(right, NOTHING)[via_row], NOTHING),
        reasons=reasons[by_row],
        type_codes=reason_types[by_row],
    )


def solve(
    nodes: Nodes, edges: Edges, protection: MergeProtection, rules: Rules | None = None
) -> Solution:
    """Tell for every node which profile it belongs to.

    1. Unite all edges, hubs and limits aside, and count by type: most sets hold so
       little that they keep every limit and hold no hub. They are profiles.
    2. Of all others find the hubs, and unite the edges that are in use. Most sets, by
       now, are profiles.
    3. In those that are left, unite one edge after the other.
    """
    rules = rules or Rules()
    anchors, part = unite_all(nodes, edges, protection, rules)
    examined = part.numbers
    solution = solve_part(part, edges, protection, rules_among(rules, examined))
    anchors[examined] = examined[solution.anchors]
    refused = solution.refusals
    return Solution(
        anchors=anchors,
        examined=examined,
        examined_clusters=examined[solution.clusters],
        hubs=examined[solution.hubs],
        reasons_of_hubs=solution.reasons_of_hubs,
        refusals=replace(
            refused, left=examined[refused.left], right=examined[refused.right]
        ),
    )


@dataclass(frozen=True)
class Part:
    """Whole components of a graph, hubs and limits aside.

    `numbers` are the nodes' numbers, `rows` those of the edges; `left` and `right` are
    places among these nodes.
    """

    numbers: Int32s
    nodes: Nodes
    rows: Int64s
    left: Int32s
    right: Int32s


def unite_all(
    nodes: Nodes, edges: Edges, protection: MergeProtection, rules: Rules
) -> tuple[Int32s, Part]:
    """Return the oldest node of each component, and those that need a closer look."""
    sets = AgedSets(nodes, protection)
    sets.mark(rules.named)

    def unite(left: Int32s, right: Int32s) -> tuple[Int32s, Int32s]:
        sets.add(left, right)
        return left, right

    ends = chunk_by_chunk(unite, edges.chunks("left", "right"))
    oldest, marks = sets.settle()
    numbers = marks.nodes()
    types, times = sets.types_and_times(numbers)
    taken = chunk_by_chunk(marks.take, ends)
    offsets = [offset for offset, _ in with_offsets(ends)]
    return oldest, Part(
        numbers=numbers,
        nodes=Nodes(types, times, *rows_of(nodes.chunks("keys"), numbers, np.uint64)),
        rows=joined(
            offset + rows.astype(np.int64)
            for offset, (rows, _, _) in zip(offsets, taken, strict=True)
        ),
        left=joined(left for _, left, _ in taken),
        right=joined(right for _, _, right in taken),
    )


def solve_part(
    part: Part, edges: Edges, protection: MergeProtection, rules: Rules
) -> Solution:
    """Solve components with whatever they hold; numbers are places among their nodes.

    Of `edges` only the strengths are asked, of those in crowded clusters.
    """
    nodes, left, right = part.nodes, part.left, part.right
    counts = count_links(
        nodes.type_codes,
        protection.user_id_code,
        Edges(left, right, np.empty(0, np.uint8), np.empty(0, np.int64)),
    )
    hub_reasons = hub_reasons_by_count(
        counts.degrees, counts.user_id_counts, nodes.type_codes, protection
    )
    why = hub_reasons_of_edges(left, right, hub_reasons, rules)
    in_use = np.flatnonzero(why == ACCEPTED)
    sets = AgedSets(nodes, protection)
    sets.mark(np.r_[rules.denied_left, rules.denied_right])
    sets.add(left[in_use], right[in_use])
    sets.add(rules.allowed_left, rules.allowed_right)
    clusters, marks = sets.settle()

    crowded = marks.nodes()
    places, crowded_left, crowded_right = marks.take(left[in_use], right[in_use])
    rows = in_use[places]
    strengths = edges.chunks("link_classes", "first_seen")
    ordered = unite_in_order(
        Nodes(
            nodes.type_codes[crowded], nodes.first_seen[crowded], nodes.keys[crowded]
        ),
        Edges(
            crowded_left,
            crowded_right,
            *rows_of(strengths, part.rows[rows], np.uint8, np.int64),
        ),
        rules_among(rules, crowded),
        protection,
    )
    anchors = clusters.copy()
    anchors[crowded] = crowded[ordered.roots]
    clusters[crowded] = crowded[
        oldest_fellows(places_of(clusters[crowded], crowded), ordered.ranks)
    ]
    type_codes = np.zeros_like(why)
    why[rows], type_codes[rows] = ordered.reasons, ordered.type_codes
    refused = np.flatnonzero(why)
    hubs = np.flatnonzero(hub_reasons).astype(np.int32)
    return Solution(
        anchors=anchors,
        examined=np.arange(len(nodes), dtype=np.int32),
        examined_clusters=clusters,
        hubs=hubs,
        reasons_of_hubs=hub_reasons[hubs],
        refusals=Refusals(
            left[refused], right[refused], why[refused], type_codes[refused]
        ),
    )


def joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays as one, also if there are none."""
    return np.concatenate([np.empty(0, dtype=np.int32), *arrays])


def hub_reasons_of_edges(
    left: Int32s, right: Int32s, hubs: UInt8s, rules: Rules
) -> UInt8s:
    """Return for each edge why a hub keeps it out of use, ACCEPTED if none does."""
    one, two = hubs[left], hubs[right]
    reasons = np.where((one != 0) & (two != 0), np.minimum(one, two), one | two)
    rows = np.flatnonzero(reasons)
    is_allowed = np.isin(
        pair_numbers(left[rows], right[rows]),
        pair_numbers(rules.allowed_left, rules.allowed_right),
    )
    reasons[rows[is_allowed]] = ACCEPTED
    return reasons


def pair_numbers(left: Int32s, right: Int32s) -> Int64s:
    """Return one number for each pair, the same either way round."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    numbers: Int64s = (low.astype(np.int64) << 32) | high
    return numbers


def rows_of(
    chunks: Iterable[tuple[NDArray[Any], ...]],
    rows: NDArray[Any],
    *kinds: type[np.generic],
) -> tuple[NDArray[Any], ...]:
    """Return some rows, which are sorted, of columns that come in chunks."""
    taken = tuple(np.empty(len(rows), dtype=kind) for kind in kinds)
    for offset, columns in with_offsets(chunks) if len(rows) else ():
        # bounds of another kind would let numpy convert all rows each time
        bounds = np.array([offset, offset + len(columns[0])], dtype=rows.dtype)
        places = slice(*np.searchsorted(rows, bounds).tolist())
        for target, column in zip(taken, columns, strict=True):
            target[places] = column[rows[places] - offset]
    return taken


def places_of(nodes: NDArray[Any], among: Int32s) -> Int32s:
    """Return where nodes stand among some that are sorted and hold them all."""
    return np.searchsorted(among, nodes).astype(np.int32)


def is_among(nodes: NDArray[Any], among: Int32s) -> NDArray[np.bool_]:
    """Return which nodes are among some that are sorted."""
    if not len(among):
        return np.zeros(len(nodes), dtype=bool)
    found: NDArray[np.bool_] = among.take(places_of(nodes, among), mode="clip") == nodes
    return found


def rules_among(rules: Rules, nodes: Int32s) -> Rules:
    """Return the rules whose both ends are among some sorted nodes, by their places."""

    def restrict(left: Int32s, right: Int32s) -> tuple[Int32s, Int32s]:
        if not len(left):
            return no_nodes(), no_nodes()
        inside = is_among(left, nodes) & is_among(right, nodes)
        return places_of(left[inside], nodes), places_of(right[inside], nodes)

    return Rules(
        *restrict(rules.denied_left, rules.denied_right),
        *restrict(rules.allowed_left, rules.allowed_right),
    )


@dataclass(frozen=True)
class Members:
    """Nodes, sorted and unique, as they are now and what was solved for them before.

    The age is that of now. Nodes never solved have NOTHING (-1) as their anchor and
    cluster, and zero elsewhere.
    """

    nodes: Int32s
    type_codes: UInt8s
    first_seen: Int64s
    keys: UInt64s
    anchors: Int32s
    clusters: Int32s
    degrees: Int32s
    user_id_counts: Int32s
    hub_reasons: UInt8s


class History(Protocol):
    """What `resolve` asks of where the former solution and the edges are kept."""

    def members(self, nodes: Int32s) -> Members:
        """Return these nodes and all that shared a cluster with one of them."""
        ...

    def edges(self, nodes: Int32s) -> Edges:
        """Return all edges of now, new ones too, with at least one end in `nodes`."""
        ...


@dataclass(frozen=True)
class Changes:
    """What has happened since the former solution.

    `edges` are new pairs. `moved` names new nodes, nodes whose first_seen changed and
    the ends of known edges whose first_seen or class changed. `ruled` names the nodes
    of every rule that was added or withdrawn.
    """

    edges: Edges
    moved: Int32s = field(default_factory=no_nodes)
    ruled: Int32s = field(default_factory=no_nodes)


@dataclass(frozen=True)
class Merges:
    """Former anchors that are none any more, and the anchors that took them in.

    `via_left` and `via_right` are the ends of the edge, or allowed pair, that did it;
    NOTHING (-1) where a profile only got a new name, because another of its own nodes
    has become the oldest.
    """

    losers: Int32s
    winners: Int32s
    via_left: Int32s
    via_right: Int32s


@dataclass(frozen=True)
class ChangeSet:
    """What is different from the former solution: rows by node, and what led there.

    `separated` are anchors that were plain members of the profile of `separated_from`.
    `examined` are edges that were looked at, with the reason they are refused for now
    or ACCEPTED; all others stand as they did.
    """

    nodes: Int32s
    anchors: Int32s
    clusters: Int32s
    degrees: Int32s
    user_id_counts: Int32s
    hub_reasons: UInt8s
    merges: Merges
    separated: Int32s
    separated_from: Int32s
    examined: Refusals


def resolve(
    history: History,
    changes: Changes,
    protection: MergeProtection,
    rules: Rules | None = None,
) -> ChangeSet:
    """Tell what a change makes of the former solution; `rules` are all of now.

    1. Load the clusters that the change names; recount links; find who became a hub.
    2. A cluster that lost a node to the hubs, or whose rules changed, may fall apart:
       unite its edges anew. Any other still holds together: unite it as one.
    3. Unite the new edges, and see which clusters are crowded.
    4. Take all edges of these in order, and of clusters that may have fallen apart and
       merged. Of other merged clusters take only the new edges in order.
    """
    rules = rules or Rules()
    now = reach(history, changes, protection)
    members, nodes, hubs = now.members, now.members.nodes, now.hub_reasons
    was_in, is_broken = now.was_in, now.is_broken
    is_known = members.clusters >= 0
    rules = rules_among(rules, nodes)

    seen = among(changes.edges, nodes)
    if now.edges is not None:
        seen = together_with(seen, among(now.edges, nodes))
    in_use = hub_reasons_of_edges(seen.left, seen.right, hubs, rules) == ACCEPTED
    sets = AgedSets(
        Nodes(members.type_codes, members.first_seen, members.keys), protection
    )
    sets.mark(np.r_[rules.denied_left, rules.denied_right])
    kept = np.flatnonzero(~is_broken).astype(np.int32)
    sets.add(kept, was_in[kept])
    sets.add(seen.left[in_use], seen.right[in_use])
    sets.add(rules.allowed_left, rules.allowed_right)
    clusters, marks = sets.settle()

    losers = np.flatnonzero(
        (members.anchors == nodes) & (clusters != np.arange(len(nodes)))
    )
    is_merged = np.zeros(len(nodes), dtype=bool)
    is_merged[clusters[losers[members.anchors[clusters[losers]] != nodes[losers]]]] = (
        True
    )
    is_full = np.zeros(len(nodes), dtype=bool)
    is_full[clusters[is_broken]] = True
    is_full &= is_merged
    is_full[clusters[marks.nodes()]] = True
    in_full, in_order = is_full[clusters], (is_full | is_merged)[clusters]

    lacking = in_full & ~is_broken
    if lacking.any():
        seen = together_with(seen, among(history.edges(nodes[lacking]), nodes))
        in_use = hub_reasons_of_edges(seen.left, seen.right, hubs, rules) == ACCEPTED
    places = np.flatnonzero(in_order).astype(np.int32)
    rows = np.flatnonzero(in_use & in_order[seen.left])
    ordered = unite_in_order(
        Nodes(
            members.type_codes[places],
            members.first_seen[places],
            members.keys[places],
        ),
        Edges(
            places_of(seen.left[rows], places),
            places_of(seen.right[rows], places),
            seen.link_classes[rows],
            seen.first_seen[rows],
        ),
        rules_among(rules, places),
        protection,
        together=places_of(
            np.where(in_full, np.arange(len(nodes)), was_in)[places], places
        ),
    )
    anchors = clusters.copy()
    anchors[places] = places[ordered.roots]
    clusters[places] = places[
        oldest_fellows(places_of(clusters[places], places), ordered.ranks)
    ]
    anchors, clusters = nodes[anchors], nodes[clusters]

    reasons = hub_reasons_of_edges(seen.left, seen.right, hubs, rules)
    type_codes = np.zeros_like(reasons)
    reasons[rows], type_codes[rows] = ordered.reasons, ordered.type_codes
    is_new_anchor = (
        is_known
        & (anchors == nodes)
        & (members.anchors != nodes)
        & (
            anchors[places_of(np.where(is_known, members.anchors, nodes), nodes)]
            != nodes
        )
    )
    is_changed = (
        (anchors != members.anchors)
        | (clusters != members.clusters)
        | (now.degrees != members.degrees)
        | (now.user_id_counts != members.user_id_counts)
        | (hubs != members.hub_reasons)
    )
    return ChangeSet(
        nodes=nodes[is_changed],
        anchors=anchors[is_changed],
        clusters=clusters[is_changed],
        degrees=now.degrees[is_changed],
        user_id_counts=now.user_id_counts[is_changed],
        hub_reasons=hubs[is_changed],
        merges=tell_merges(members, anchors, places, ordered),
        separated=nodes[is_new_anchor],
        separated_from=members.anchors[is_new_anchor],
        examined=Refusals(nodes[seen.left], nodes[seen.right], reasons, type_codes),
    )


@dataclass(frozen=True)
class Reached:
    """The nodes that a change reaches, and their links and hub reasons of now.

    `was_in` is the place of each node's former cluster. Of clusters that may fall apart
    (`is_broken`) all edges are in `edges`.
    """

    members: Members
    degrees: Int32s
    user_id_counts: Int32s
    hub_reasons: UInt8s
    was_in: Int32s
    is_broken: NDArray[np.bool_]
    edges: Edges | None = None


def reach(history: History, changes: Changes, protection: MergeProtection) -> Reached:
    """Load every cluster that a change reaches, and the edges of those it may break."""
    new = changes.edges
    members = history.members(
        np.unique(np.r_[new.left, new.right, changes.moved, changes.ruled])
    )
    reached = recount(members, changes, protection)
    if not reached.is_broken.any():
        return reached
    edges = history.edges(members.nodes[reached.is_broken])
    # edges of a new hub may lead to hubs, or to what it kept apart until now
    changed = members.nodes[reached.hub_reasons != members.hub_reasons]
    at_changed = is_among(edges.left, changed) | is_among(edges.right, changed)
    ends = np.unique(np.r_[edges.left[at_changed], edges.right[at_changed]])
    beyond = ends[~is_among(ends, members.nodes)]
    if len(beyond):
        members = all_members(members, history.members(beyond))
        reached = recount(members, changes, protection)
    return replace(reached, edges=edges)


def recount(members: Members, changes: Changes, protection: MergeProtection) -> Reached:
    """Add new edges to the links of the nodes, and tell who is a hub by that."""
    new, nodes, is_known = changes.edges, members.nodes, members.clusters >= 0
    left, right = (
        places_of(new.left, members.nodes),
        places_of(new.right, members.nodes),
    )
    ends, others = np.r_[left, right], np.r_[right, left]
    to_user_id = ends[members.type_codes[others] == protection.user_id_code]
    count = len(members.nodes)
    degrees = members.degrees + np.bincount(ends, minlength=count).astype(np.int32)
    user_id_counts = members.user_id_counts + np.bincount(
        to_user_id, minlength=count
    ).astype(np.int32)
    reasons = hub_reasons_by_count(
        degrees, user_id_counts, members.type_codes, protection
    )
    was_in = places_of(np.where(is_known, members.clusters, nodes), nodes)
    broken_sets = np.zeros(count, dtype=bool)
    broken_sets[was_in[is_known & (reasons != members.hub_reasons)]] = True
    broken_sets[was_in[places_of(changes.ruled, nodes)]] = True
    return Reached(
        members, degrees, user_id_counts, reasons, was_in, broken_sets[was_in]
    )


def all_members(some: Members, others: Members) -> Members:
    """Return the nodes of both, each once."""
    nodes, rows = np.unique(np.r_[some.nodes, others.nodes], return_index=True)
    columns = {
        column.name: np.r_[getattr(some, column.name), getattr(others, column.name)][
            rows
        ]
        for column in fields(Members)
    }
    return Members(**{**columns, "nodes": nodes})


def among(edges: Edges, nodes: Int32s) -> Edges:
    """Return the edges whose both ends are among sorted nodes, by their places."""
    inside = is_among(edges.left, nodes) & is_among(edges.right, nodes)
    return Edges(
        places_of(edges.left[inside], nodes),
        places_of(edges.right[inside], nodes),
        edges.link_classes[inside],
        edges.first_seen[inside],
    )


def together_with(some: Edges, others: Edges) -> Edges:
    """Return the edges of both, each once."""
    left = np.r_[some.left, others.left]
    right = np.r_[some.right, others.right]
    _, rows = np.unique(pair_numbers(left, right), return_index=True)
    return Edges(
        left[rows],
        right[rows],
        np.r_[some.link_classes, others.link_classes][rows],
        np.r_[some.first_seen, others.first_seen][rows],
    )


def tell_merges(
    members: Members, anchors: Int32s, places: Int32s, ordered: Ordered
) -> Merges:
    """Tell which former anchors are none any more, and which edge ended each profile.

    A profile's set may first be taken in by an older node of the same profile; the edge
    that counts is the one that took it into another's.
    """
    nodes = members.nodes
    losers = np.flatnonzero((members.anchors == nodes) & (anchors != nodes))
    winners = anchors[losers]
    was_of = members.anchors[places_of(winners, nodes)]
    is_rename = was_of == nodes[losers]
    via_left = np.full(len(losers), NOTHING, dtype=np.int32)
    via_right = np.full(len(losers), NOTHING, dtype=np.int32)

    merged = np.flatnonzero(~is_rename)
    ended = ordered.begun[places_of(losers[merged], places)]
    own = members.anchors[places]
    while True:
        taken_by = ordered.into[ended]
        at_home = (taken_by >= 0) & (own[taken_by] == nodes[losers[merged]])
        if not at_home.any():
            break
        ended = np.where(at_home, taken_by, ended)
    via_left[merged] = nodes[places[ordered.via_left[ended]]]
    via_right[merged] = nodes[places[ordered.via_right[ended]]]
    return Merges(nodes[losers], winners, via_left, via_right)
