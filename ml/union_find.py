"""Compiled kernels under the identity graph: union-find, counting, ordering.

They know dense numbers and packed counters only; what a node or a limit means stands
in `ml.graph`.
"""

# A kernel takes arrays, not objects, and calls cost: it may be long and take many.
# ruff: noqa: PLR0912, PLR0915, PLR0917

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba as nb
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

UInt8s = NDArray[np.uint8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]

F = TypeVar("F", bound=Callable[..., object])

ACCEPTED, HUB_LINKS, HUB_USER_IDS, LIMIT, DENIED = range(5)

# Pairs whose parents are read ahead: enough to keep all loads in flight, few enough to
# be in the first cache still when they are united.
READ_AHEAD = 512

IS_ROOT = np.int32(-(1 << 31))
WORD = 64
IS_USER_ID = 1 << 62
IS_PERSONAL = 1 << 61
USER_ID_STEP = 1 << 31


def compiled(function: F) -> F:
    """Compile to machine code that is kept on disk and runs without Python's lock."""
    return cast(F, nb.njit(cache=True, nogil=True)(function))


def emit_swap(
    typing: Any, array: Any, index: Any, expected: Any, new: Any
) -> tuple[Any, Any]:
    """Write array[index] = new if it still is as expected, in one atomic step."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        slot = builder.gep(data, [values[1]])
        swap = builder.cmpxchg(slot, values[2], values[3], "monotonic", "monotonic")
        return builder.extract_value(swap, 1)

    return types.boolean(array, types.int64, types.int32, types.int32), emit


def emit_add(typing: Any, array: Any, index: Any, addend: Any) -> tuple[Any, Any]:
    """Write array[index] += addend in one atomic step; return what was there before."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        slot = builder.gep(data, [values[1]])
        return builder.atomic_rmw("add", slot, values[2], "monotonic")

    return types.int64(array, types.int64, types.int64), emit


def emit_bit_count(typing: Any, word: Any) -> tuple[Any, Any]:
    """Return how many bits of a word are set."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.uint64(types.uint64), emit


swap_if_same: Any = intrinsic(emit_swap)
add_to: Any = intrinsic(emit_add)
bit_count: Any = intrinsic(emit_bit_count)


@compiled
def find(parents: Int32s, node: int) -> int:
    """Return the root of a node's set, and halve the way to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def flatten(parents: Int32s, begin: int, end: int) -> None:
    """Write the roots of nodes begin to end, their sets' smallest members."""
    for node in range(begin, end):
        root = parents[node]
        while parents[root] != root:
            root = parents[root]
        parents[node] = root


@compiled
def begin_sets(
    states: Int32s,
    ages: UInt64s,
    offset: int,
    type_codes: UInt8s,
    first_seen: Int64s,
    keys: UInt64s,
    earliest: int,
    type_bits: int,
    key_bits: int,
    used_key_bits: int,
    units: Int32s,
) -> None:
    """Make each of a chunk of nodes, which begins at number `offset`, a set of its own.

    A node's age is one number: its time, its type, and as much of its key as has room.
    """
    # a shift by all 64 bits would mean nothing
    dropped = np.uint64(63 - used_key_bits)
    spare = np.uint64(key_bits - used_key_bits)
    for row in range(len(type_codes)):
        code = type_codes[row]
        time = np.uint64(first_seen[row] - earliest)
        age = (time << np.uint64(type_bits)) | np.uint64(code)
        key = (keys[row] >> np.uint64(1)) >> dropped
        ages[offset + row] = (age << np.uint64(key_bits)) | (key << spare)
        states[offset + row] = units[code] | IS_ROOT


@compiled
def root_of(states: Int32s, node: int) -> int:
    """Return the root of a node's set, and halve the way to it."""
    while True:
        parent = states[node]
        if parent < 0:
            return node
        above = states[parent]
        if above < 0:
            return int(parent)
        states[node] = above
        node = above


@compiled
def unite_by_age(
    states: Int32s, ages: UInt64s, guards: int, left: Int32s, right: Int32s
) -> int:
    """Unite the ends of every pair, under the oldest of their set.

    A node's state is its parent or, below zero, at a root, its set's counters. A set
    whose counters run over, or whose two oldest are of one age, has its guards set for
    good. Several threads may unite in the same states: a root is linked, and what it
    counted is handed up, in one atomic step each. The number returned says nothing: it
    keeps the reads ahead from being optimised away.
    """
    ones = np.empty(READ_AHEAD, np.int32)
    twos = np.empty(READ_AHEAD, np.int32)
    ahead = np.uint64(0)
    for begin in range(0, len(left), READ_AHEAD):
        count = min(READ_AHEAD, len(left) - begin)
        for place in range(count):
            one, two = left[begin + place], right[begin + place]
            above_one, above_two = states[one], states[two]
            ones[place] = one if above_one < 0 else above_one
            twos[place] = two if above_two < 0 else above_two
        for place in range(count):
            one, two = ones[place], twos[place]
            above_one, above_two = states[one], states[two]
            ones[place] = one if above_one < 0 else above_one
            twos[place] = two if above_two < 0 else above_two
        for place in range(count):
            ahead |= ages[ones[place]] ^ ages[twos[place]]
        for place in range(count):
            older = root_of(states, ones[place])
            younger = root_of(states, twos[place])
            while older != younger:
                age, other_age = ages[older], ages[younger]
                if other_age < age or (other_age == age and younger < older):
                    older, younger = younger, older
                counted = states[younger]
                if counted < 0 and swap_if_same(
                    states, younger, counted, np.int32(older)
                ):
                    if age == other_age:
                        counted |= guards
                    count_in(states, guards, older, counted)
                    break
                older, younger = root_of(states, older), root_of(states, younger)
    return int(ahead)


@compiled
def count_in(states: Int32s, guards: int, node: int, counted: int) -> None:
    """Add what one set counted to the set of a node."""
    while True:
        root = root_of(states, node)
        before = states[root]
        if before < 0:
            total = (before ^ IS_ROOT) + (counted ^ IS_ROOT)
            if (total | before | counted) & guards:
                total = guards
            if swap_if_same(states, root, before, np.int32(total | IS_ROOT)):
                return


@compiled
def settle(states: Int32s, marks: UInt64s, guards: int, begin: int, end: int) -> int:
    """Write the roots of all nodes but roots; mark the nodes of sets with a guard set.

    Goes over words begin to end of `marks`, which hold a bit for each of 64 nodes. The
    number returned says nothing: it keeps reads ahead from being optimised away.
    """
    ahead = 0
    for word in range(begin, end):
        first = word * WORD
        last = min(first + WORD, len(states))
        for node in range(first, last):
            above = states[node]
            ahead |= above if above < 0 else states[above]
        bits = np.uint64(0)
        for node in range(first, last):
            root, above = node, states[node]
            while above >= 0:
                root, above = above, states[above]
            if root != node:
                states[node] = root
            if above & guards:
                bits |= np.uint64(1) << np.uint64(node - first)
        marks[word] = bits
    return ahead


@compiled
def name_roots(states: Int32s, begin: int, end: int) -> None:
    """Write the roots of nodes begin to end that are roots: themselves."""
    for node in range(begin, end):
        if states[node] < 0:
            states[node] = node


@compiled
def list_marked(marks: UInt64s, nodes: Int32s) -> None:
    """List the marked nodes; there are as many as `nodes` has room for."""
    count = 0
    for word in range(len(marks)):
        bits = marks[word]
        node = word * WORD
        while bits:
            if bits & np.uint64(1):
                nodes[count] = node
                count += 1
            bits >>= np.uint64(1)
            node += 1


@compiled
def place_of(marks: UInt64s, ranks: Int32s, node: int) -> int:
    """Return how many nodes before a node are marked."""
    below = (np.uint64(1) << np.uint64(node & 63)) - np.uint64(1)
    word = node >> 6
    return int(ranks[word]) + int(bit_count(marks[word] & below))


@compiled
def take_marked(
    marks: UInt64s,
    ranks: Int32s,
    left: Int32s,
    right: Int32s,
    rows: Int32s,
    left_places: Int32s,
    right_places: Int32s,
) -> int:
    """List the pairs of marked nodes, by row and places of the ends; return how many.

    Either both ends of a pair are marked or none. `ranks` counts the marks before each
    word.
    """
    count = 0
    for row in range(len(left)):
        one, two = left[row], right[row]
        if (marks[one >> 6] >> np.uint64(one & 63)) & np.uint64(1):
            rows[count] = row
            left_places[count] = place_of(marks, ranks, one)
            right_places[count] = place_of(marks, ranks, two)
            count += 1
    return count


@compiled
def count_links(counts: Int64s, left: Int32s, right: Int32s) -> int:
    """Count the links of every node, and those of them that lead to a user id.

    Of a user id, those that lead to a personal node. A counter holds the bit IS_USER_ID
    or IS_PERSONAL of its node, what leads there from USER_ID_STEP on, and links below.
    Several threads may count at once. The number returned says nothing: it keeps the
    reads ahead from being optimised away.
    """
    ahead = 0
    for begin in range(0, len(left), READ_AHEAD):
        end = min(begin + READ_AHEAD, len(left))
        for row in range(begin, end):
            ahead |= counts[left[row]] ^ counts[right[row]]
        for row in range(begin, end):
            one, two = np.int64(left[row]), np.int64(right[row])
            of_one, of_two = counts[one], counts[two]
            of_one_counts = IS_PERSONAL if of_one & IS_USER_ID else IS_USER_ID
            of_two_counts = IS_PERSONAL if of_two & IS_USER_ID else IS_USER_ID
            add_to(counts, one, 1 + (USER_ID_STEP if of_two & of_one_counts else 0))
            add_to(counts, two, 1 + (USER_ID_STEP if of_one & of_two_counts else 0))
    return ahead


@compiled
def saturated(
    packed: np.uint64, widths: Int64s, shifts: Int64s, limits: Int64s
) -> np.uint64:
    """Cut every counter to limit + 1, so that a sum of two cannot overflow."""
    cut = np.uint64(0)
    for code in range(len(widths)):
        if widths[code]:
            field = (packed >> np.uint64(shifts[code])) & (
                (np.uint64(1) << np.uint64(widths[code])) - np.uint64(1)
            )
            cut |= min(field, np.uint64(limits[code] + 1)) << np.uint64(shifts[code])
    return cut


@compiled
def unite_in_order(
    parents: Int32s,
    left: Int32s,
    right: Int32s,
    allowed_count: int,
    totals: UInt64s,
    any_bias: np.uint64,
    over_bias: np.uint64,
    guards: np.uint64,
    widths: Int64s,
    shifts: Int64s,
    limits: Int64s,
    denied_from: Int32s,
    denied_to: Int32s,
    via: Int64s,
    into: Int32s,
    reasons: UInt8s,
    reason_types: UInt8s,
) -> None:
    """Unite the ends of one edge after the other, unless a limit or a denial forbids.

    Nodes are numbered by age. `parents` may hold sets to begin with, `totals` their
    counters at the roots. The first `allowed_count` edges are not held to limits.
    `denied_to[denied_from[n]:denied_from[n + 1]]` must never join node n. Writes for
    every node that was absorbed the edge that did it and the root it came under, and
    for every refused edge why.
    """
    node_count = len(parents)
    # each set's nodes that have denials, as a ring through `ring`, counted at the root
    ring = np.arange(node_count).astype(np.int32)
    ring_entry = np.full(node_count, -1, np.int32)
    ring_count = np.zeros(node_count, np.int32)
    for node in range(node_count):
        if denied_from[node + 1] > denied_from[node]:
            root = find(parents, node)
            if ring_entry[root] >= 0:
                ring[node] = ring[ring_entry[root]]
                ring[ring_entry[root]] = node
            else:
                ring_entry[root] = node
            ring_count[root] += 1

    for row in range(len(left)):
        older, younger = find(parents, left[row]), find(parents, right[row])
        if older == younger:
            continue
        if older > younger:
            older, younger = younger, older

        fewer, other = older, younger
        if ring_count[fewer] > ring_count[other]:
            fewer, other = other, fewer
        is_denied = False
        node = ring_entry[fewer]
        for _ in range(ring_count[fewer]):
            for slot in range(denied_from[node], denied_from[node + 1]):
                if find(parents, denied_to[slot]) == other:
                    is_denied = True
                    break
            if is_denied:
                break
            node = ring[node]
        if is_denied:
            reasons[row] = DENIED
            continue

        total = totals[older] + totals[younger]
        over = (total + over_bias) & guards
        if over:
            if row >= allowed_count:
                both = (totals[older] + any_bias) & (totals[younger] + any_bias)
                if over & both:
                    reasons[row] = LIMIT
                    for code in range(len(widths)):
                        guard = np.uint64(shifts[code] + widths[code] - 1)
                        if widths[code] and ((over & both) >> guard) & np.uint64(1):
                            reason_types[row] = code
                            break
                    continue
            total = saturated(total, widths, shifts, limits)

        parents[younger] = older
        totals[older] = total
        via[younger] = row
        into[younger] = older
        if ring_count[younger]:
            if ring_count[older]:
                one, two = ring_entry[older], ring_entry[younger]
                ring[one], ring[two] = ring[two], ring[one]
            else:
                ring_entry[older] = ring_entry[younger]
            ring_count[older] += ring_count[younger]
