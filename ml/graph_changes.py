"""What a change makes of a solved identity graph.

Nothing but nodes, edges and rules of one cluster decides over it, so that `resolve` can
go over the clusters that a change reaches, and arrive where `ml.graph.solve` would.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ml.graph_order import Ordered, oldest_fellows, unite_in_order
from ml.graph_parts import (
    NOTHING,
    Edges,
    MergeProtection,
    Nodes,
    Refusals,
    Rules,
    hub_reasons_by_count,
    hub_reasons_of_edges,
    is_among,
    no_nodes,
    pair_numbers,
    places_of,
    rules_among,
)
from ml.graph_sets import AgedSets
from ml.union_find import ACCEPTED, Int32s, Int64s, UInt8s, UInt64s


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
    """What a change makes of the former solution; `rules` are all of now.

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
        merges=find_merges(members, anchors, places, ordered),
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
    """Links of the nodes with the new edges among them, and who is a hub by that."""
    new, nodes, is_known = changes.edges, members.nodes, members.clusters >= 0
    left, right = (
        places_of(new.left, members.nodes),
        places_of(new.right, members.nodes),
    )
    ends, others = np.r_[left, right], np.r_[right, left]
    types = members.type_codes
    to_user_id = ends[protection.is_counted(types[ends], types[others])]
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


def find_merges(
    members: Members, anchors: Int32s, places: Int32s, ordered: Ordered
) -> Merges:
    """Former anchors that are none any more, and the edge that ended each profile.

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
