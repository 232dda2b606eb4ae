"""Compiled kernels under the identity graph: union-find, counting, ordering.

They know dense numbers and packed counters only; what a node or a limit means is told
in `ml.graph`. Links go from the greater number to the smaller, so that a set's root is
its smallest member, which `ml.graph` uses by numbering nodes by age where it matters.
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

Int8s = NDArray[np.int8]
UInt8s = NDArray[np.uint8]
UInt16s = NDArray[np.uint16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]

F = TypeVar("F", bound=Callable[..., object])

ACCEPTED, HUB_LINKS, HUB_USER_IDS, LIMIT, DENIED = range(5)
OUT_OF_USE = np.int32(-1)

# Pairs whose parents are read ahead: enough to keep all loads in flight, few enough to
# be in the first cache still when they are united.
READ_AHEAD = 512

FIRST_SEEN, OLDEST, KEY, COUNTERS = range(4)
CACHE_LINE = 64
# So many sets in a row are one thread's: none shares a cache line with another's.
PART_BITS = 6
SIGN = np.uint64(1 << 63)
IS_USER_ID = np.uint16(1 << 15)
USER_ID_STEP = np.uint16(1 << 8)
FULL_OF_USER_IDS = np.uint16(0x7F << 8)
USER_IDS_WRAP = 128
LINKS_WRAP = 256


def compiled(function: F) -> F:
    """Compile to machine code that is kept on disk and runs without Python's lock."""
    return cast(F, nb.njit(cache=True, nogil=True)(function))


@compiled
def find(parents: Int32s, node: int) -> int:
    """Return the root of a node's set, and halve the way to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


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


swap_if_same: Any = intrinsic(emit_swap)


@compiled
def unite(parents: Int32s, left: Int32s, right: Int32s) -> int:
    """Unite the ends of every pair whose ends are both in use.

    Rem's algorithm (M. Patwary, J. Blair, F. Manne, "Experiments on union-find
    algorithms for the disjoint-set data structure", 2010): climb from the end whose
    parent is greater. Several threads may unite in the same parents: a root is linked
    in one atomic step, and a way once climbed only ever gets shorter. The number
    returned says nothing: it keeps the reads ahead from being optimised away.
    """
    ahead = 0
    for begin in range(0, len(left), READ_AHEAD):
        end = min(begin + READ_AHEAD, len(left))
        for row in range(begin, end):
            ahead |= parents[left[row]] ^ parents[right[row]]
        for row in range(begin, end):
            one, two = left[row], right[row]
            of_one, of_two = parents[one], parents[two]
            if of_one < 0 or of_two < 0:
                continue
            while of_one != of_two:
                if of_one < of_two:
                    one, two, of_one, of_two = two, one, of_two, of_one
                above = parents[of_one]
                if of_one != one:
                    if above != of_one:
                        parents[one] = above
                    one, of_one = of_one, above
                elif swap_if_same(parents, one, of_one, of_two):
                    break
                else:
                    of_one = parents[one]
    return ahead


@compiled
def flatten(parents: Int32s, begin: int, end: int) -> None:
    """Write the roots of nodes begin to end, their sets' smallest members."""
    for node in range(begin, end):
        root = parents[node]
        while parents[root] != root:
            root = parents[root]
        parents[node] = root


@compiled
def number_sets(parents: Int32s) -> int:
    """Write the number of every node's set, by smallest member; return the count.

    Parents are smaller than their children, so one pass upwards finds each parent
    numbered already.
    """
    count = 0
    for node in range(len(parents)):
        parent = parents[node]
        if parent < 0 or parent == node:
            parents[node] = count
            count += 1
        else:
            parents[node] = parents[parent]
    return count


@compiled
def count_links(
    packed: UInt16s, carried: Int64s, carried_count: int, left: Int32s, right: Int32s
) -> int:
    """Count each node's links and user ids; return how many carries there are by now.

    A counter holds the type's bit, seven bits of user ids and eight of links. What
    they cannot hold is carried into a list, as node × 2 (+ 1 for user ids).
    """
    for begin in range(0, len(left), READ_AHEAD):
        end = min(begin + READ_AHEAD, len(left))
        ahead = 0
        for row in range(begin, end):
            ahead |= packed[left[row]] ^ packed[right[row]]
        if ahead >> 16:
            # never so; keeps the reads ahead from being optimised away
            return -1
        for row in range(begin, end):
            one, two = left[row], right[row]
            of_one, of_two = packed[one], packed[two]
            packed[one] = of_one + 1 + ((of_two & IS_USER_ID) >> 7)
            packed[two] = of_two + 1 + ((of_one & IS_USER_ID) >> 7)
            if (of_one & 0xFF) == 0xFF or (of_two & 0xFF) == 0xFF:
                for node, counter in ((one, of_one), (two, of_two)):
                    if (counter & 0xFF) == 0xFF:
                        # the links have run over into the user ids
                        packed[node] -= LINKS_WRAP
                        carried[carried_count] = np.int64(node) * 2
                        carried_count += 1
            if (of_one & FULL_OF_USER_IDS) == FULL_OF_USER_IDS or (
                of_two & FULL_OF_USER_IDS
            ) == FULL_OF_USER_IDS:
                for node, counter, other in (
                    (one, of_one, of_two),
                    (two, of_two, of_one),
                ):
                    is_full = (counter & FULL_OF_USER_IDS) == FULL_OF_USER_IDS
                    if is_full and other & IS_USER_ID:
                        # the user ids have run over into the type's bit
                        packed[node] = (packed[node] & 0xFF) | (counter & IS_USER_ID)
                        carried[carried_count] = np.int64(node) * 2 + 1
                        carried_count += 1
    return carried_count


@compiled
def add_counts(
    packed: UInt16s,
    others: UInt16s,
    carried: Int64s,
    carried_count: int,
    begin: int,
    end: int,
) -> int:
    """Add what was counted elsewhere for nodes begin to end; return the carries."""
    for node in range(begin, end):
        one, two = packed[node], others[node]
        links = (one & 0xFF) + (two & 0xFF)
        user_ids = ((one >> 8) & 0x7F) + ((two >> 8) & 0x7F)
        if links >= LINKS_WRAP:
            carried[carried_count] = np.int64(node) * 2
            carried_count += 1
        if user_ids >= USER_IDS_WRAP:
            carried[carried_count] = np.int64(node) * 2 + 1
            carried_count += 1
        packed[node] = (one & IS_USER_ID) | ((user_ids & 0x7F) << 8) | (links & 0xFF)
    return carried_count


@compiled
def hubs_by_count(
    reasons: UInt8s,
    packed: UInt16s,
    type_codes: UInt8s,
    max_links: Int64s,
    max_user_ids: Int64s,
    begin: int,
    end: int,
) -> None:
    """Write why a node is a hub, as far as the counters without carries tell."""
    for node in range(begin, end):
        links = np.int64(packed[node] & np.uint16(0xFF))
        user_ids = np.int64((packed[node] >> np.uint16(8)) & np.uint16(0x7F))
        code = type_codes[node]
        if links > max_links[code]:
            reasons[node] = HUB_LINKS
        elif user_ids > max_user_ids[code]:
            reasons[node] = HUB_USER_IDS
        else:
            reasons[node] = ACCEPTED


@compiled
def mark(
    marks: UInt8s, hubs: UInt8s, crowded: UInt8s, sets: Int32s, begin: int, end: int
) -> None:
    """Write two bits a node, four nodes a byte: 1 for a hub, 2 for a crowded set.

    `crowded` holds a bit a set, eight sets a byte.
    """
    for byte in range(begin, end):
        bits = 0
        for node in range(byte * 4, min(byte * 4 + 4, len(hubs))):
            of_set = sets[node]
            is_crowded = (crowded[of_set >> 3] >> (of_set & 7)) & 1
            bits |= (np.uint8(hubs[node] != ACCEPTED) | (is_crowded << 1)) << (
                2 * (node & 3)
            )
        marks[byte] = bits


@compiled
def list_marked(
    rows: Int64s, marks: UInt8s, left: Int32s, right: Int32s, offset: int
) -> int:
    """List the edges with a hub at an end, or from a crowded set; return how many.

    Lists as many as `rows` has room for.
    """
    count = 0
    for row in range(len(left)):
        one, two = left[row], right[row]
        of_one = (marks[one >> 2] >> ((one & 3) * 2)) & 3
        of_two = (marks[two >> 2] >> ((two & 3) * 2)) & 3
        if of_one | of_two:
            if count < len(rows):
                rows[count] = offset + row
            count += 1
    return count


@compiled
def clear(records: UInt64s, begin: int, end: int) -> None:
    """Make the records of sets begin to end later than any node, and count nothing."""
    for of_set in range(begin, end):
        records[of_set, FIRST_SEEN] = ~np.uint64(0)
        records[of_set, OLDEST] = ~np.uint64(0)
        records[of_set, KEY] = ~np.uint64(0)
        records[of_set, COUNTERS] = np.uint64(0)


@compiled
def gather(
    records: UInt64s,
    sets: Int32s,
    type_codes: UInt8s,
    first_seen: Int64s,
    keys: UInt64s,
    offset: int,
    units: UInt64s,
    over_bias: np.uint64,
    guards: np.uint64,
    widths: Int64s,
    shifts: Int64s,
    limits: Int64s,
    part: int,
    part_count: int,
) -> None:
    """Keep each set's oldest node and count its nodes by type.

    The chunk begins at node `offset`. A record holds, for one set: the oldest node's
    first_seen (its sign flipped, so that it compares as unsigned), its type << 32 | its
    number, its key; and the counters. An empty record is later than any node. Takes
    only the sets of one of `part_count` parts (a power of two), so that several threads
    may gather at once.
    """
    mine = np.empty(READ_AHEAD, np.int64)
    for begin in range(0, len(first_seen), READ_AHEAD):
        end = min(begin + READ_AHEAD, len(first_seen))
        count = 0
        for row in range(begin, end):
            mine[count] = row
            count += ((sets[offset + row] >> PART_BITS) & (part_count - 1)) == part
        ahead = np.uint64(0)
        for place in range(count):
            ahead |= records[sets[offset + mine[place]], COUNTERS]
        if ahead == ~np.uint64(0):
            # never so; keeps the reads ahead from being optimised away
            return
        for place in range(count):
            row = mine[place]
            node = offset + row
            of_set = sets[node]
            code = np.uint64(type_codes[node])
            total = records[of_set, COUNTERS] + units[code]
            if (total + over_bias) & guards:
                total = saturated(total, widths, shifts, limits)
            records[of_set, COUNTERS] = total
            time = np.uint64(first_seen[row]) ^ SIGN
            if time > records[of_set, FIRST_SEEN]:
                continue
            if time == records[of_set, FIRST_SEEN]:
                best = records[of_set, OLDEST] >> np.uint64(32)
                if code > best or (code == best and keys[row] > records[of_set, KEY]):
                    continue
            records[of_set, FIRST_SEEN] = time
            records[of_set, OLDEST] = (code << np.uint64(32)) | np.uint64(node)
            records[of_set, KEY] = keys[row]


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
def take(targets: Int32s, sets: Int32s, begin: int, end: int) -> None:
    """Replace the set numbers of nodes begin to end by what stands for the set."""
    for node in range(begin, end):
        sets[node] = targets[sets[node]]


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
