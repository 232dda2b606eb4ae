"""What an identity graph is made of: nodes, edges, rules and limits.

Knows dense node numbers; knows nothing of identifiers, files or the warehouse.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.union_find import (
    ACCEPTED,
    HUB_LINKS,
    HUB_USER_IDS,
    Int32s,
    Int64s,
    UInt8s,
    UInt64s,
)

NOTHING = np.int32(-1)
# A limit of so many is none: its counter would not fit beside the others.
UNLIMITED = 1 << 20
CHUNK = 1 << 17


@dataclass(frozen=True)
class MergeProtection:
    """Limits by type code: nodes a profile, links and user ids a node.

    A user id itself has no user ids among its links: what counts there against its
    limit of `max_user_ids` are nodes of the `personal_codes`, such as emails.

    Raises ValueError if the counters of `profile_limits` do not fit into 64 bits.
    """

    profile_limits: Int64s
    max_links: Int64s
    max_user_ids: Int64s
    user_id_code: int
    personal_codes: tuple[int, ...] = ()

    def is_counted(self, type_codes: UInt8s, linked_codes: UInt8s) -> NDArray[np.bool_]:
        """Whether each linked node counts against the limit of user ids of a node."""
        return np.where(
            type_codes == self.user_id_code,
            np.isin(linked_codes, self.personal_codes),
            linked_codes == self.user_id_code,
        )

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
        """Lay a word out for limits by type."""
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


def with_offsets(chunks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """Yield chunks of columns with the number of rows before."""
    offset = 0
    for columns in chunks:
        yield offset, columns
        offset += len(columns[0])


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
