"""A world of identifiers whose persons are known, to measure the identity graph with.

Every link is drawn from a seed. Persons own 2 to 6 identifiers each, joined as a
random recursive tree; around them stands what spoils a graph: shared devices, kiosks,
one device id that very many share, bots that drop their cookie after every visit.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numba as nb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Keys = NDArray[np.uint64]

USER_ID, EMAIL, PHONE, LOYALTY_ID, DEVICE_ID, ANONYMOUS_ID = range(6)
TYPES = ("user_id", "email", "phone", "loyalty_id", "device_id", "anonymous_id")
IDENTIFIERS_A_PERSON = (2, 3, 4, 5, 6)
SHARES = (0.40, 0.25, 0.18, 0.10, 0.07)
USER_ID_SHARE = 0.9
# what the identifiers after the first are
TYPE_SHARES = {EMAIL: 0.2, PHONE: 0.1, LOYALTY_ID: 0.05, DEVICE_ID: 0.15}
CHAIN_LENGTH = 1_000
KIOSK_LEAVES = 2_000
EACH_A_MILLION = 2
HOUSEHOLD_SHARE = 0.01
PERSONS_A_HOUSEHOLD = (2, 3, 4, 5)
DAY = 86_400_000_000
START = 1_767_225_600_000_000
PERSONS_AT_A_TIME = 2_000_000
NOBODY = -1


@dataclass(frozen=True)
class World:
    """Edges (m rows, shuffled, ends flipped) and nodes (n rows, by node number).

    Nodes are numbered in the order in which the edges name them. Times are
    microseconds since 1970; `persons` is NOBODY for what no single person owns.
    """

    left: Int32s
    right: Int32s
    link_classes: NDArray[np.uint8]
    edge_first_seen: Int64s
    type_codes: NDArray[np.uint8]
    first_seen: Int64s
    keys: Keys
    persons: Int32s


def mix(values: Keys) -> Keys:
    """Scatter numbers over 64 bits, without collisions (splitmix64's finaliser)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@nb.njit(cache=True)
def number_by_arrival(left: Int32s, right: Int32s, node_count: int) -> Int32s:
    """Renumber the ends in place, in order of appearance; return new → old numbers."""
    new = np.full(node_count, -1, np.int32)
    old = np.empty(node_count, np.int32)
    named = 0
    for row in range(len(left)):
        for side in range(2):
            ends = left if side == 0 else right
            node = ends[row]
            if new[node] < 0:
                new[node] = named
                old[named] = node
                named += 1
            ends[row] = new[node]
    return old[:named]


@nb.njit(cache=True)
def earliest_of_edges(
    left: Int32s, right: Int32s, times: Int64s, node_count: int
) -> Int64s:
    """Return when each node was first seen in an edge."""
    earliest = np.full(node_count, np.iinfo(np.int64).max, np.int64)
    for row in range(len(left)):
        earliest[left[row]] = min(earliest[left[row]], times[row])
        earliest[right[row]] = min(earliest[right[row]], times[row])
    return earliest


def draw_persons(
    rng: np.random.Generator, person_count: int
) -> tuple[Int64s, Int64s, Int64s, Int64s, NDArray[np.uint8], Int64s]:
    """Return the trees' ends and times, and each node's person, type; starts."""
    sizes = rng.choice(IDENTIFIERS_A_PERSON, size=person_count, p=SHARES)
    starts = np.cumsum(sizes) - sizes
    persons = np.repeat(np.arange(person_count), sizes)
    ranks = np.arange(len(persons)) - starts[persons]
    types = rng.choice(
        [*TYPE_SHARES, ANONYMOUS_ID],
        size=len(persons),
        p=[*TYPE_SHARES.values(), 1 - sum(TYPE_SHARES.values())],
    ).astype(np.uint8)
    first = ranks == 0
    types[first] = np.where(
        rng.random(person_count) < USER_ID_SHARE, USER_ID, ANONYMOUS_ID
    )

    children = np.flatnonzero(~first)
    parent_ranks = (rng.random(len(children)) * ranks[children]).astype(np.int64)
    parents = starts[persons[children]] + parent_ranks
    begun = START + (rng.random(person_count) * 365 * DAY).astype(np.int64)
    steps = (rng.random(len(children)) * 30 * DAY).astype(np.int64)
    times = begun[persons[children]] + ranks[children] * 30 * DAY + steps

    chosen = np.flatnonzero((sizes >= 3) & (rng.random(person_count) < 0.5))
    ranks_of_parents = np.zeros(len(persons), np.int64)
    ranks_of_parents[children] = parent_ranks
    upper = np.zeros(len(chosen), np.int64)
    lower = np.zeros(len(chosen), np.int64)
    open_rows = np.arange(len(chosen))
    while len(open_rows):
        size = sizes[chosen[open_rows]]
        one = (rng.random(len(open_rows)) * size).astype(np.int64)
        two = (rng.random(len(open_rows)) * size).astype(np.int64)
        upper[open_rows], lower[open_rows] = np.maximum(one, two), np.minimum(one, two)
        nodes = starts[chosen[open_rows]] + upper[open_rows]
        in_tree = ranks_of_parents[nodes] == lower[open_rows]
        open_rows = open_rows[(one == two) | in_tree]
    extra_times = begun[chosen] + (220 * DAY)
    return (
        np.concatenate([children, starts[chosen] + upper]),
        np.concatenate([parents, starts[chosen] + lower]),
        np.concatenate([times, extra_times]),
        persons,
        types,
        starts,
    )


def build_world(edge_count: int, seed: int = 1) -> World:
    """Draw a world of about as many edges."""
    rng = np.random.default_rng(seed)
    millions = edge_count / 1e6
    around = EACH_A_MILLION * (CHAIN_LENGTH - 1 + KIOSK_LEAVES) * millions
    person_count = max(int((edge_count - around) / 2.503), 10)

    left: list[Int32s] = []
    right: list[Int32s] = []
    times: list[Int64s] = []
    types: list[NDArray[np.uint8]] = []
    persons: list[Int32s] = []
    node_count = 0
    for begin in range(0, person_count, PERSONS_AT_A_TIME):
        count = min(PERSONS_AT_A_TIME, person_count - begin)
        child, parent, time, owner, kinds, _ = draw_persons(rng, count)
        left.append((child + node_count).astype(np.int32))
        right.append((parent + node_count).astype(np.int32))
        times.append(time)
        types.append(kinds)
        persons.append((owner + begin).astype(np.int32))
        node_count += len(owner)
    owned_count = node_count

    def add_nodes(count: int, kind: int) -> int:
        nonlocal node_count
        types.append(np.full(count, kind, np.uint8))
        persons.append(np.full(count, NOBODY, np.int32))
        node_count += count
        return node_count - count

    def add_edges(one: Int64s, two: Int64s, time: Int64s) -> None:
        left.append(one.astype(np.int32))
        right.append(two.astype(np.int32))
        times.append(time)

    def any_time(count: int) -> Int64s:
        return START + (rng.random(count) * 400 * DAY).astype(np.int64)

    for _ in range(round(EACH_A_MILLION * millions)):
        chain = add_nodes(CHAIN_LENGTH, ANONYMOUS_ID) + np.arange(CHAIN_LENGTH)
        begun = START + rng.integers(0, 300) * DAY
        add_edges(
            chain[:-1], chain[1:], begun + np.arange(CHAIN_LENGTH - 1) * 60_000_000
        )

    kiosks = [KIOSK_LEAVES] * round(EACH_A_MILLION * millions)
    for leaf_count in [*kiosks, max(owned_count // 1_000, 60)]:
        leaves = np.unique(rng.integers(0, owned_count, leaf_count))
        kiosk = add_nodes(1, DEVICE_ID)
        add_edges(np.full(len(leaves), kiosk), leaves, any_time(len(leaves)))

    sharing = int(person_count * HOUSEHOLD_SHARE)
    sizes = rng.choice(PERSONS_A_HOUSEHOLD, size=max(int(sharing / 3.5), 1))
    members = rng.integers(0, owned_count, sizes.sum())
    devices = add_nodes(len(sizes), DEVICE_ID) + np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.unique(np.stack([devices, members]), axis=1)
    add_edges(pairs[0], pairs[1], any_time(pairs.shape[1]))

    lefts, rights = np.concatenate(left), np.concatenate(right)
    edge_times = np.concatenate(times)
    order = rng.permutation(np.arange(len(lefts), dtype=np.int32))
    flipped = rng.random(len(lefts)) < 0.5
    lefts, rights, edge_times = lefts[order], rights[order], edge_times[order]
    del order
    lefts[flipped], rights[flipped] = rights[flipped], lefts[flipped]
    del flipped

    old = number_by_arrival(lefts, rights, node_count)
    type_codes = np.concatenate(types)[old]
    is_weak = type_codes >= DEVICE_ID
    classes = (1 + is_weak[lefts].astype(np.uint8) + is_weak[rights]).astype(np.uint8)
    return World(
        left=lefts,
        right=rights,
        link_classes=classes,
        edge_first_seen=edge_times,
        type_codes=type_codes,
        first_seen=earliest_of_edges(lefts, rights, edge_times, len(old)),
        keys=mix(old.astype(np.uint64)),
        persons=np.concatenate(persons)[old],
    )


def write_world(world: World, folder: Path) -> None:
    """Write `edges.parquet` and `nodes.parquet` as DuckDB writes them by default."""
    tables = {
        "edges": pa.table(
            {
                "left_seq": world.left,
                "right_seq": world.right,
                "link_class": world.link_classes,
                "first_seen": world.edge_first_seen,
            }
        ),
        "nodes": pa.table(
            {
                "type_code": world.type_codes,
                "first_seen": world.first_seen,
                "key": world.keys,
                "person": world.persons,
            }
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register("written", table)
            connection.execute(f"copy written to '{folder / name}.parquet'")
            connection.unregister("written")
