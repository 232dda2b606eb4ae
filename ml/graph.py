"""Who is one person: components of the identity graph, with protection against merges.

1. A node with too many links, or with too many user ids, is a hub.
2. Unite the ends of all edges between nodes that are no hubs: these are the clusters.
3. A cluster that keeps all limits and holds no denied pair is one profile.
4. In the other, crowded clusters unite one edge after the other, the strongest first,
   and refuse what would break a limit or join a denied pair.
5. A profile is named after its oldest node, its anchor.

`ml.graph_changes` goes on from a solution when edges or rules come in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import union_find
from ml.graph_order import oldest_fellows, unite_in_order
from ml.graph_parts import (
    UNLIMITED,
    Edges,
    MergeProtection,
    Nodes,
    Refusals,
    Rules,
    hub_reasons_by_count,
    hub_reasons_of_edges,
    places_of,
    rows_of,
    rules_among,
    with_offsets,
)
from ml.graph_sets import AgedSets, chunk_by_chunk
from ml.union_find import (
    ACCEPTED,
    DENIED,
    HUB_LINKS,
    HUB_USER_IDS,
    LIMIT,
    Int32s,
    Int64s,
    UInt8s,
)

__all__ = [
    "ACCEPTED",
    "DENIED",
    "HUB_LINKS",
    "HUB_USER_IDS",
    "LIMIT",
    "UNLIMITED",
    "Edges",
    "LinkCounts",
    "MergeProtection",
    "Nodes",
    "Refusals",
    "Rules",
    "Solution",
    "chunk_by_chunk",
    "count_links",
    "solve",
]


@dataclass(frozen=True)
class Solution:
    """What every node belongs to, and which edges were refused.

    `anchors` names each node's profile by its oldest node. `clusters` names what would
    be one profile without limits and denials, also by its oldest node, of the nodes for
    which it may differ: `examined`. `hub_reasons` (HUB_LINKS or HUB_USER_IDS) are
    those of `hubs`.
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


@dataclass(frozen=True)
class LinkCounts:
    """How many neighbours every node has, and how many of them are user ids.

    Of a user id, how many are of the types that are personal.
    """

    degrees: Int32s
    user_id_counts: Int32s


def count_links(
    type_codes: UInt8s, protection: MergeProtection, edges: Edges
) -> LinkCounts:
    """Count the neighbours of every node; edges are unique."""
    kinds = np.zeros(256, dtype=np.int64)
    kinds[list(protection.personal_codes)] = union_find.IS_PERSONAL
    kinds[protection.user_id_code] = union_find.IS_USER_ID
    counts = kinds[type_codes]
    chunk_by_chunk(
        partial(union_find.count_links, counts), edges.chunks("left", "right")
    )
    counts &= union_find.IS_PERSONAL - 1
    return LinkCounts(
        degrees=(counts & (union_find.USER_ID_STEP - 1)).astype(np.int32),
        user_id_counts=(counts // union_find.USER_ID_STEP).astype(np.int32),
    )


def solve(
    nodes: Nodes, edges: Edges, protection: MergeProtection, rules: Rules | None = None
) -> Solution:
    """The profile that each node belongs to.

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
        protection,
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
