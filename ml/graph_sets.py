"""Sets of nodes that threads unite, each of which knows its oldest."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any

import numpy as np

from ml import union_find
from ml.graph_parts import UNLIMITED, MergeProtection, Nodes, with_offsets
from ml.union_find import Int32s, Int64s, UInt8s, UInt64s

# Of a key's 64 bits so many are compared in a word, if there is room.
KEY_BITS = 63
# Below so many rows a second thread costs more than it brings.
WORTH_A_THREAD = 1 << 18
THREADS = 2
COUNTER_BITS = 31
MAX_COUNTERS = 15


def in_parts(count: int, work: Callable[[int, int], Any], size: int = 1) -> None:
    """Let threads work(begin, end) on their parts of `count` times `size` rows."""
    if count * size < WORTH_A_THREAD:
        work(0, count)
    else:
        bounds = [count * part // THREADS for part in range(THREADS + 1)]
        in_threads(work, bounds[:-1], bounds[1:])


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
        """Lay counters out for the limits, as wide as there is room."""
        caps = np.maximum(protection.profile_limits, 0)
        user_id = protection.user_id_code
        max_user_ids = np.delete(protection.max_user_ids, user_id)
        caps[user_id] = min(caps[user_id], max_user_ids.min(initial=UNLIMITED))
        # the first types have a counter each, all others share the last
        fields = np.minimum(np.arange(len(caps)), MAX_COUNTERS - 1)
        least = np.full(fields[-1] + 1, UNLIMITED)
        np.minimum.at(least, fields, caps)
        widths = [int(cap + 1).bit_length() - 1 for cap in least.tolist()]
        most = protection.max_links.min() + 1
        while (
            sum(widths) + len(widths) > COUNTER_BITS
            or sum((1 << w) - 1 for w in widths) > most
        ):
            widths[widths.index(max(widths))] -= 1
        personal = sorted({int(fields[code]) for code in protection.personal_codes})
        most = protection.max_user_ids[user_id]
        while personal and sum((1 << widths[f]) - 1 for f in personal) > most:
            widths[max(personal, key=widths.__getitem__)] -= 1
        shifts = np.cumsum([0, *(width + 1 for width in widths)])
        return cls(
            units=(1 << shifts[fields]).astype(np.int32),
            guards=sum(1 << int(end - 1) for end in shifts[1:]),
        )


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
        settle = partial(union_find.settle, states, words, self._guards)
        in_parts(len(words), settle, union_find.WORD)
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
