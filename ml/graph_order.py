"""Crowded clusters: unite edge after edge, and refuse what would break a rule."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import union_find
from ml.graph_parts import NOTHING, Edges, MergeProtection, Nodes, Rules
from ml.union_find import Int32s, Int64s, UInt8s, UInt64s

# leaves room for all times that a calendar has
CLASS_SHIFT = 60


def edge_hashes(left: UInt64s, right: UInt64s) -> UInt64s:
    """Mix the keys of both ends, the same either way round (splitmix64's finaliser)."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    mixed = low * np.uint64(0x9E3779B97F4A7C15) + high
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: UInt64s = mixed ^ (mixed >> np.uint64(31))
    return hashes


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


def oldest_fellows(sets: Int32s, ranks: Int32s) -> Int32s:
    """Return the oldest node of each node's set, by the ranks of nodes by age."""
    by_age = np.empty(len(ranks), dtype=np.int32)
    by_age[ranks] = np.arange(len(ranks), dtype=np.int32)
    oldest = np.full(len(sets), len(sets), dtype=np.int32)
    np.minimum.at(oldest, sets, ranks)
    return by_age[oldest[sets]]


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
