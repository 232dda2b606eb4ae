"""How fast and how right the identity graph is, as ratios measured in one run.

Floor: DuckDB copying two integer columns from Parquet into a table. Every part runs in
a process of its own, so that CPU and peak memory are its own; kernels are compiled
before the clock starts. What a part reads, solves and writes is all inside the clock.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numba as nb
import numpy as np
import pyarrow as pa

from ml.graph import (
    Changes,
    ChangeSet,
    Components,
    Edges,
    Members,
    MergeProtection,
    Nodes,
    Solution,
    resolve,
    solve,
)
from tests.identity_world import (
    NOBODY,
    USER_ID,
    World,
    build_world,
    write_world,
)

NO_LIMIT = 1 << 40
PROTECTION = MergeProtection(
    profile_limits=np.array([1, 5, 5, 3, 20, 500]),
    max_links=np.array([500, 50, 50, 50, 50, 50]),
    max_user_ids=np.array([NO_LIMIT, 1, 2, 1, 1, 1]),
    user_id_code=USER_ID,
)
BATCH = 1_000_000
STATE = "anchor, cluster, degree, user_id_count, hub_reason"


def warm_up() -> None:
    """Load every kernel, so that compiling is no part of a measure."""
    world = build_world(3_000)
    solve(nodes_of(world), edges_of(world), PROTECTION)
    for writeable in (True, False):
        left, right = world.left.copy(), world.right.copy()
        left.flags.writeable = right.flags.writeable = writeable
        components = Components(len(world.keys))
        components.add(left, right)
        components.labels()
    resolve(EmptyHistory(world), Changes(edges_of(world)), PROTECTION)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute(f"copy (select 1 as one) to '{folder}/one.parquet'")
        read_columns(connection, f"from '{folder}/one.parquet'", 1, np.int32)
        write_columns(connection, "one", one=np.arange(1))
    Numbering(4).number(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def nodes_of(world: World) -> Nodes:
    return Nodes(world.type_codes, world.first_seen, world.keys)


def edges_of(world: World) -> Edges:
    return Edges(world.left, world.right, world.link_classes, world.edge_first_seen)


class EmptyHistory:
    """A world of which nothing has been solved yet."""

    def __init__(self, world: World) -> None:
        self.world = world

    def members(self, nodes: np.ndarray) -> Members:
        world, unknown = self.world, np.full(len(nodes), -1, np.int32)
        zeros = np.zeros(len(nodes), np.int32)
        return Members(
            nodes.astype(np.int32),
            world.type_codes[nodes],
            world.first_seen[nodes],
            world.keys[nodes],
            unknown,
            unknown,
            zeros,
            zeros,
            zeros.astype(np.uint8),
        )

    def edges(self, nodes: np.ndarray) -> Edges:
        return edges_of(self.world)


def write_columns(
    connection: duckdb.DuckDBPyConnection, name: str, **columns: np.ndarray
) -> None:
    """Write arrays as the columns of a new table, row n being node n."""
    written = pa.table(columns)
    connection.register("written", written)
    connection.execute(f"create table {name} as select * from written")
    connection.unregister("written")


def copy_two_columns(folder: Path, database: Path) -> None:
    with duckdb.connect(database) as connection:
        connection.execute(
            "create table pairs as select left_seq, right_seq "
            f"from '{folder}/edges.parquet'"
        )


def count_nodes(connection: duckdb.DuckDBPyConnection, folder: Path) -> int:
    rows = connection.sql(f"select count(*) from '{folder}/nodes.parquet'").fetchall()
    return int(rows[0][0])


def unite_from(reader: pa.RecordBatchReader, components: Components) -> None:
    """Let two threads take batch after batch."""
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                batch = next(reader, None)
            if batch is None:
                return
            components.add(*(column.to_numpy() for column in batch.columns))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def plain_labels(connection: duckdb.DuckDBPyConnection, folder: Path) -> np.ndarray:
    components = Components(count_nodes(connection, folder))
    reader = connection.sql(
        f"select left_seq, right_seq from '{folder}/edges.parquet'"
    ).to_arrow_reader(BATCH)
    unite_from(reader, components)
    return components.labels()


def solve_plain(folder: Path, database: Path) -> None:
    """Labels by place: row n of the table is node n."""
    with duckdb.connect(database) as connection:
        labels = plain_labels(connection, folder)
        write_columns(connection, "labels", component_seq=labels)


def solve_plain_two_columns(folder: Path, database: Path) -> None:
    """Labels beside the number of their node."""
    with duckdb.connect(database) as connection:
        labels = plain_labels(connection, folder)
        seqs = np.arange(len(labels), dtype=np.int32)
        write_columns(connection, "labels", identifier_seq=seqs, component_seq=labels)


@dataclass(frozen=True)
class StoredNodes(Nodes):
    """Nodes whose ages stay in Parquet until they are asked for."""

    connection: duckdb.DuckDBPyConnection
    source: str

    def ages(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        query = f"select first_seen, key from {self.source}"
        for batch in self.connection.sql(query).to_arrow_reader(BATCH):
            first_seen, keys = (column.to_numpy() for column in batch.columns)
            yield first_seen, keys


@dataclass(frozen=True)
class StoredEdges(Edges):
    """Edges whose classes and times stay in Parquet until they are asked for."""

    connection: duckdb.DuckDBPyConnection
    source: str

    def strengths(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        query = f"select link_class, first_seen from {self.source}"
        for batch in self.connection.sql(query).to_arrow_reader(BATCH):
            classes, first_seen = (column.to_numpy() for column in batch.columns)
            yield classes, first_seen


def read_columns(
    connection: duckdb.DuckDBPyConnection, query: str, row_count: int, *kinds: Any
) -> list[np.ndarray]:
    """Read columns into arrays without holding them twice."""
    columns = [np.empty(row_count, dtype=kind) for kind in kinds]
    begin = 0
    for batch in connection.sql(query).to_arrow_reader(BATCH):
        for target, column in zip(columns, batch.columns, strict=True):
            target[begin : begin + len(batch)] = column.to_numpy()
        begin += len(batch)
    return columns


def solve_stored(
    connection: duckdb.DuckDBPyConnection, nodes: str, edges: str
) -> Solution:
    """Solve with rails what two tables or files hold, reading ages only in passing."""
    counts = connection.sql(
        f"select (select count(*) from {nodes}), (select count(*) from {edges})"
    ).fetchall()
    node_count, edge_count = counts[0]
    types = read_columns(
        connection, f"select type_code from {nodes}", node_count, np.uint8
    )
    ends = read_columns(
        connection,
        f"select left_seq, right_seq from {edges}",
        edge_count,
        np.int32,
        np.int32,
    )
    nothing = np.empty(0, np.int64)
    return solve(
        StoredNodes(types[0], nothing, nothing.astype(np.uint64), connection, nodes),
        StoredEdges(*ends, nothing.astype(np.uint8), nothing, connection, edges),
        PROTECTION,
    )


def write_refusals(
    connection: duckdb.DuckDBPyConnection, name: str, solution: Solution | ChangeSet
) -> None:
    refused = solution.refusals if isinstance(solution, Solution) else solution.examined
    write_columns(
        connection,
        name,
        left_seq=refused.left,
        right_seq=refused.right,
        reason=refused.reasons,
        type_code=refused.type_codes,
    )


def solve_with_rails(folder: Path, database: Path) -> None:
    """Anchors by place, and the refused edges."""
    nodes, edges = f"'{folder}/nodes.parquet'", f"'{folder}/edges.parquet'"
    with duckdb.connect(database) as connection:
        solution = solve_stored(connection, nodes, edges)
        write_columns(connection, "labels", anchor_seq=solution.anchors)
        write_refusals(connection, "conflicts", solution)


def solve_plain_table(folder: Path, database: Path) -> None:
    """Plain labels of all edges in the state, history and new."""
    with duckdb.connect(database) as connection:
        connection.execute(f"attach '{folder}/state.duckdb' as state (read_only)")
        rows = connection.sql("select count(*) from state.identifiers").fetchall()
        components = Components(rows[0][0])
        for table in ("state.edges", "state.new_edges"):
            reader = connection.sql(f"select left_seq, right_seq from {table}")
            unite_from(reader.to_arrow_reader(BATCH), components)
        write_columns(connection, "labels", component_seq=components.labels())


def resolve_plain(folder: Path, database: Path) -> None:
    """Take new edges into the labels of the state; write the labels that changed."""
    with duckdb.connect(database) as connection:
        connection.execute(f"attach '{folder}/state.duckdb' as state (read_only)")
        rows = connection.sql(
            "select (select count(*) from state.identifiers),"
            " (select count(*) from state.labels),"
            " (select count(*) from state.new_edges)"
        ).fetchall()
        node_count, known_count, new_count = rows[0]
        former = np.arange(node_count, dtype=np.int32)
        former[:known_count] = read_columns(
            connection, "select component_seq from state.labels", known_count, np.int32
        )[0]
        ends = read_columns(
            connection,
            "select left_seq, right_seq from state.new_edges",
            new_count,
            np.int32,
            np.int32,
        )
        components = Components(node_count, former.copy())
        components.add(*ends)
        labels = components.labels()
        changed = np.flatnonzero(labels != former).astype(np.int32)
        write_columns(
            connection,
            "changes",
            identifier_seq=changed,
            component_seq=labels[changed],
        )


class StoredHistory:
    """Identifiers with their former solution, and edges, in tables of DuckDB.

    Reads a column from end to end, once, and picks its rows from the array: cheaper
    than to join when every block of the table has some of them.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        rows = connection.sql(
            "select (select count(*) from state.identifiers),"
            " (select count(*) from state.edges),"
            " (select count(*) from state.new_edges)"
        ).fetchall()
        self.node_count, old_count, new_count = rows[0]
        self.edge_count = old_count + new_count
        self.known = "(from state.edges union all from state.new_edges)"

    def pick(
        self, table: str, row_count: int, rows: np.ndarray, **columns: Any
    ) -> list[np.ndarray]:
        """Return the chosen rows of some columns."""
        picked = [np.empty(len(rows), kind) for kind in columns.values()]
        query = f"select {', '.join(columns)} from {table}"
        begin = 0
        for batch in self.connection.sql(query).to_arrow_reader(BATCH):
            end = begin + len(batch)
            inside = slice(*np.searchsorted(rows, (begin, end)).tolist())
            places = rows[inside] - begin
            for target, column in zip(picked, batch.columns, strict=True):
                target[inside] = column.to_numpy()[places]
            begin = end
        return picked

    @cached_property
    def clusters(self) -> np.ndarray:
        query = "select cluster from state.identifiers"
        return read_columns(self.connection, query, self.node_count, np.int32)[0]

    @cached_property
    def ends(self) -> list[np.ndarray]:
        query = f"select left_seq, right_seq from {self.known}"
        return read_columns(self.connection, query, self.edge_count, np.int32, np.int32)

    def members(self, nodes: np.ndarray) -> Members:
        clusters = self.clusters[nodes]
        is_reached = np.zeros(self.node_count, dtype=bool)
        is_reached[clusters[clusters >= 0]] = True
        inside = is_reached.take(self.clusters, mode="clip")
        inside[self.clusters < 0] = False
        inside[nodes] = True
        rows = np.flatnonzero(inside).astype(np.int32)
        columns = self.pick(
            "state.identifiers",
            self.node_count,
            rows,
            type_code=np.uint8,
            first_seen=np.int64,
            key=np.uint64,
            anchor=np.int32,
            cluster=np.int32,
            degree=np.int32,
            user_id_count=np.int32,
            hub_reason=np.uint8,
        )
        return Members(rows, *columns)

    def edges(self, nodes: np.ndarray) -> Edges:
        wanted = np.zeros(self.node_count, dtype=bool)
        wanted[nodes] = True
        left, right = self.ends
        rows = np.flatnonzero(wanted[left] | wanted[right])
        strengths = self.pick(
            self.known,
            self.edge_count,
            rows,
            link_class=np.uint8,
            first_seen=np.int64,
        )
        return Edges(left[rows], right[rows], *strengths)


def solve_state(folder: Path, database: Path) -> None:
    """All edges of the state, history and new, with rails."""
    with duckdb.connect(database) as connection:
        connection.execute(f"attach '{folder}/state.duckdb' as state (read_only)")
        solution = solve_stored(
            connection,
            "state.identifiers",
            "(from state.edges union all from state.new_edges)",
        )
        write_columns(connection, "labels", anchor_seq=solution.anchors)
        write_refusals(connection, "conflicts", solution)


def resolve_state(folder: Path, database: Path) -> None:
    """Take new edges into the solution of the state; write what changed."""
    with duckdb.connect(database) as connection:
        connection.execute(f"attach '{folder}/state.duckdb' as state (read_only)")
        new = connection.sql(
            "select left_seq, right_seq, link_class, first_seen from state.new_edges"
        )
        table = new.to_arrow_table()
        change = resolve(
            StoredHistory(connection),
            Changes(Edges(*(column.to_numpy() for column in table.columns))),
            PROTECTION,
        )
        write_columns(
            connection,
            "changes",
            identifier_seq=change.nodes,
            anchor=change.anchors,
            cluster=change.clusters,
            degree=change.degrees,
            user_id_count=change.user_id_counts,
            hub_reason=change.hub_reasons,
        )
        write_refusals(connection, "conflicts", change)


def write_state(folder: Path, new_share: float) -> None:
    """Solve the history, all but the last edges, and keep it as tables."""
    state = folder / "state.duckdb"
    state.unlink(missing_ok=True)
    with duckdb.connect(state) as connection:
        connection.execute("set preserve_insertion_order = true")
        source = f"'{folder}/edges.parquet'"
        rows = connection.sql(f"select count(*) from {source}").fetchall()
        old_count = int(rows[0][0] * (1 - new_share))
        # one thread keeps the order of the rows
        connection.execute(f"create table edges as from {source} limit {old_count}")
        connection.execute(
            f"create table new_edges as from {source} offset {old_count}"
        )
        node_count = count_nodes(connection, folder)
        known = connection.sql(
            "select 1 + greatest(max(left_seq), max(right_seq)) from edges"
        ).fetchall()[0][0]
        components = Components(known)
        unite_from(
            connection.sql("select left_seq, right_seq from edges").to_arrow_reader(
                BATCH
            ),
            components,
        )
        write_columns(connection, "labels", component_seq=components.labels())
        nodes = f"(from '{folder}/nodes.parquet' limit {known})"
        solution = solve_stored(connection, nodes, "edges")
        unsolved = np.full(node_count - known, -1, np.int32)
        zeros = np.zeros(node_count - known, np.int32)
        write_columns(
            connection,
            "solved",
            identifier_seq=np.arange(node_count, dtype=np.int32),
            anchor=np.r_[solution.anchors, unsolved],
            cluster=np.r_[solution.clusters, unsolved],
            degree=np.r_[solution.degrees, zeros],
            user_id_count=np.r_[solution.user_id_counts, zeros],
            hub_reason=np.r_[solution.hub_reasons, zeros.astype(np.uint8)],
        )
        connection.execute(
            f"create table identifiers as select identifier_seq, type_code, "
            f"first_seen, key, {STATE} "
            f"from solved positional join '{folder}/nodes.parquet'"
        )
        connection.execute("drop table solved")


def is_same_after(folder: Path, full: Path, incremental: Path, *, rails: bool) -> bool:
    """Whether history and changes together are what solving everything gave."""
    with duckdb.connect(full) as connection:
        connection.execute(f"attach '{folder}/state.duckdb' as state (read_only)")
        connection.execute(f"attach '{incremental}' as incremental (read_only)")
        name = "anchor" if rails else "component_seq"
        before = "anchor" if rails else "coalesce(component_seq, identifier_seq)"
        source = (
            "state.identifiers"
            if rails
            else "(select identifier_seq, component_seq from state.identifiers "
            "positional join state.labels)"
        )
        columns = connection.sql(
            f"select {before} as former from {source} order by identifier_seq"
        ).fetchnumpy()["former"]
        former = np.asarray(columns)
        changes = connection.sql(
            f"select identifier_seq, {name} as now from incremental.changes"
        ).fetchnumpy()
        former[changes["identifier_seq"]] = changes["now"]
        column = "anchor_seq" if rails else "component_seq"
        labels = connection.sql(f"select {column} as now from labels").fetchnumpy()
        return bool(np.array_equal(former, labels["now"]))


def write_named_edges(folder: Path) -> None:
    """The same edges between strings, as they are before any dictionary."""
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select 'id:' || md5(left_seq::varchar) as name_l,"
            f" 'id:' || md5(right_seq::varchar) as name_r"
            f" from '{folder}/edges.parquet') to '{folder}/named.parquet'"
        )


def cluster_with_splink(folder: Path, database: Path) -> list[Any]:
    """Splink's connected components of the named edges: how many, CPU seconds."""
    import logging

    from splink import DuckDBAPI
    from splink.clustering import cluster_pairwise_predictions_at_threshold

    logging.disable()
    with duckdb.connect(database) as connection:
        connection.execute(
            f"create table named as from '{folder}/named.parquet';"
            "create table names as select name_l as name from named"
            " union select name_r from named"
        )
        begun = cpu_seconds()
        clusters = cluster_pairwise_predictions_at_threshold(
            connection.table("names"),
            connection.table("named"),
            db_api=DuckDBAPI(connection),
            node_id_column_name="name",
            edge_id_column_name_left="name_l",
            edge_id_column_name_right="name_r",
        )
        solved = cpu_seconds() - begun
        rows = connection.sql(
            f"select count(distinct cluster_id) from {clusters.physical_name}"
        ).fetchall()
        return [rows[0][0], solved]


def solve_named(folder: Path, database: Path) -> list[Any]:
    """Number the names by their 128-bit md5, then plain components."""
    with duckdb.connect(database) as connection:
        connection.execute(f"create table named as from '{folder}/named.parquet'")
        rows = connection.sql("select count(*) from named").fetchall()
        begun = cpu_seconds()
        reader = connection.sql(
            """
            select
                (left_key >> 64)::ubigint as left_high,
                (left_key & 18446744073709551615)::ubigint as left_low,
                (right_key >> 64)::ubigint as right_high,
                (right_key & 18446744073709551615)::ubigint as right_low
            from (
                select
                    md5_number(name_l) as left_key,
                    md5_number(name_r) as right_key
                from named
            )
            """
        ).to_arrow_reader(BATCH)
        numbering = Numbering(2 * rows[0][0])
        ends = []
        for batch in reader:
            left_high, left_low, right_high, right_low = (
                column.to_numpy() for column in batch.columns
            )
            ends.append(
                (
                    numbering.number(left_high, left_low),
                    numbering.number(right_high, right_low),
                )
            )
        encoded = cpu_seconds() - begun
        components = Components(numbering.count)
        for left, right in ends:
            components.add(left, right)
        labels = components.labels()
        write_columns(connection, "labels", component_seq=labels)
        is_root = labels == np.arange(len(labels))
        return [int(is_root.sum()), encoded, cpu_seconds() - begun]


class Numbering:
    """Dense numbers for 128-bit keys, in order of appearance, exact."""

    def __init__(self, capacity: int) -> None:
        slots = 1 << max(int(capacity * 1.3).bit_length(), 4)
        self.slots = np.full(slots, -1, np.int32)
        self.keys = np.empty((capacity, 2), np.uint64)
        self.count = 0

    def number(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        numbers = np.empty(len(high), np.int32)
        self.count = number_keys(self.slots, self.keys, self.count, high, low, numbers)
        return numbers


@nb.njit(cache=True, nogil=True)
def number_keys(
    slots: np.ndarray,
    keys: np.ndarray,
    count: int,
    high: np.ndarray,
    low: np.ndarray,
    numbers: np.ndarray,
) -> int:
    """Look keys up in an open hash table, and add those that it has not."""
    last = np.uint64(len(slots) - 1)
    for begin in range(0, len(high), 256):
        end = min(begin + 256, len(high))
        ahead = 0
        for row in range(begin, end):
            ahead |= slots[low[row] & last]
        if ahead < -1:
            return -1
        for row in range(begin, end):
            slot = low[row] & last
            while True:
                number = slots[slot]
                if number < 0:
                    slots[slot] = number = count
                    keys[count, 0], keys[count, 1] = high[row], low[row]
                    count += 1
                    break
                if keys[number, 0] == high[row] and keys[number, 1] == low[row]:
                    break
                slot = (slot + np.uint64(1)) & last
            numbers[row] = number
    return count


def number_in_sql(folder: Path, database: Path) -> int:
    """The same dictionary by SQL: distinct keys, numbered, joined twice."""
    with duckdb.connect(database) as connection:
        connection.execute(
            f"""
            create temp table named as
            select md5_number(name_l) as left_key, md5_number(name_r) as right_key
            from '{folder}/named.parquet';
            create temp table dictionary as
            select key, (row_number() over () - 1)::integer as seq from (
                select left_key as key from named
                union
                select right_key from named
            );
            create table numbered as
            select l.seq as left_seq, r.seq as right_seq
            from named
            inner join dictionary as l on left_key = l.key
            inner join dictionary as r on right_key = r.key
            """
        )
        rows = connection.sql("select count(*) from dictionary").fetchall()
        return int(rows[0][0])


def judge(folder: Path, database: Path) -> dict[str, float]:
    """How well profiles are persons, with rails and without."""
    with duckdb.connect() as connection:
        nodes, edges = f"'{folder}/nodes.parquet'", f"'{folder}/edges.parquet'"
        solution = solve_stored(connection, nodes, edges)
        count = len(solution.anchors)
        persons = read_columns(
            connection, f"select person from {nodes}", count, np.int32
        )[0]
        labels = plain_labels(connection, folder)
    owned = persons != NOBODY
    told = {"f1": solution.anchors, "f1_without_rails": labels}
    scores = {
        name: pairwise_f1(persons[owned], found[owned]) for name, found in told.items()
    }
    both = np.unique(pack(solution.anchors[owned], persons[owned]))
    most = np.unique(both >> 32, return_counts=True)[1].max()
    return {**scores, "most_persons_in_a_profile": int(most)}


def pack(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one.astype(np.int64) << 32) | two


def pair_count(labels: np.ndarray) -> int:
    sizes = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())


def pairwise_f1(persons: np.ndarray, found: np.ndarray) -> float:
    right = pair_count(pack(persons, found))
    return 2 * right / (pair_count(persons) + pair_count(found))


PARTS: dict[str, Callable[[Path, Path], Any]] = {
    "copy_two_columns": copy_two_columns,
    "solve_plain": solve_plain,
    "solve_plain_two_columns": solve_plain_two_columns,
    "solve_with_rails": solve_with_rails,
    "solve_plain_table": solve_plain_table,
    "resolve_plain": resolve_plain,
    "solve_state": solve_state,
    "resolve_state": resolve_state,
    "cluster_with_splink": cluster_with_splink,
    "solve_named": solve_named,
    "number_in_sql": number_in_sql,
    "judge": judge,
}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_part(name: str, folder: Path, database: Path) -> None:
    """Run one part in this process and print what it took."""
    if name != "copy_two_columns":
        warm_up()
    wall, cpu = time.perf_counter(), cpu_seconds()
    told = PARTS[name](folder, database)
    measured = {
        "wall": time.perf_counter() - wall,
        "cpu": cpu_seconds() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "told": told,
    }
    print(json.dumps(measured))


@dataclass(frozen=True)
class Measure:
    """CPU and wall seconds, peak memory in GB, and what the part told."""

    wall: float
    cpu: float
    peak_gb: float
    told: Any


def measure(name: str, folder: Path, *, times: int = 1) -> Measure:
    """Run a part in processes of its own; return the one that took the least."""
    best: Measure | None = None
    for _ in range(times):
        database = folder / f"{name}.duckdb"
        database.unlink(missing_ok=True)
        command = [sys.executable, "-m", __spec__.name, "--part", name]
        done = subprocess.run(
            [*command, "--folder", str(folder)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = Measure(**json.loads(done.stdout.splitlines()[-1]))
        if best is None or found.wall < best.wall:
            best = found
    assert best
    return best


def tell(figure: str, value: str, goal: str, raw: str) -> None:
    print(f"{figure:<46}{value:>10}  {goal:<22}{raw}", flush=True)


def prepare(folder: Path, edge_count: int) -> Path:
    """Build and write a world in a process of its own, to give the memory back."""
    world = folder / f"world_{edge_count}"
    if not (world / "nodes.parquet").exists():
        command = [sys.executable, "-m", __spec__.name, "--build", str(edge_count)]
        subprocess.run([*command, "--folder", str(world)], check=True)
    return world


def tell_large(world: Path, new_share: float) -> None:
    floor = measure("copy_two_columns", world, times=3)
    for name, figure, goal in (
        ("solve_plain", "plain, wall / floor", "≤ 1.7, ≤ 2.5 GB"),
        ("solve_plain_two_columns", "  with numbers written beside", ""),
        ("solve_with_rails", "with rails, wall / floor", "≤ 3, ≤ 4 GB"),
    ):
        found = measure(name, world, times=2)
        tell(
            figure,
            f"{found.wall / floor.wall:.2f} ×",
            goal,
            f"{found.wall:.2f} s / {floor.wall:.2f} s, {found.peak_gb:.2f} GB, "
            f"CPU {found.cpu:.1f} / {floor.cpu:.1f} s",
        )
    tell_incremental(world, new_share, "≥ 20 ×")


def tell_incremental(world: Path, new_share: float, goal: str) -> None:
    command = [sys.executable, "-m", __spec__.name, "--state", str(new_share)]
    subprocess.run([*command, "--folder", str(world)], check=True)
    for full, incremental, kind in (
        ("solve_plain_table", "resolve_plain", "plain"),
        ("solve_state", "resolve_state", "rails"),
    ):
        all_of_it, new = measure(full, world), measure(incremental, world)
        is_same = is_same_after(
            world,
            world / f"{full}.duckdb",
            world / f"{incremental}.duckdb",
            rails=kind == "rails",
        )
        assert is_same, f"{incremental} is not what {full} gives"
        tell(
            f"{new_share:.1%} new, {kind}, CPU full / incremental",
            f"{all_of_it.cpu / new.cpu:.1f} ×",
            goal,
            f"{all_of_it.cpu:.2f} s / {new.cpu:.2f} s, ids exact",
        )


def tell_against_splink(world: Path) -> None:
    write_named_edges(world)
    splink = measure("cluster_with_splink", world)
    ours = measure("solve_named", world)
    in_sql = measure("number_in_sql", world)
    kept = measure("solve_plain", world)
    assert splink.told[0] == ours.told[0], "not the same components"
    splink_cpu, encoding, whole = splink.told[1], ours.told[1], ours.told[2]
    tell(
        "CPU Splink / ours with encoding",
        f"{splink_cpu / whole:.1f} ×",
        "≥ 10 ×",
        f"{splink_cpu:.1f} s / {whole:.2f} s, of it encoding {encoding:.2f} s "
        f"(by SQL {in_sql.cpu:.1f} s)",
    )
    tell(
        "CPU Splink / ours with the dictionary kept",
        f"{splink_cpu / kept.cpu:.1f} ×",
        "≥ 30 ×",
        f"{splink_cpu:.1f} s / {kept.cpu:.2f} s",
    )


def tell_quality(world: Path) -> None:
    told = measure("judge", world).told
    tell("pairwise F1 with rails", f"{told['f1']:.4f}", "≥ 0.99", "")
    tell("pairwise F1 without", f"{told['f1_without_rails']:.4f}", "(0.002)", "")
    most = told["most_persons_in_a_profile"]
    tell("most persons in one profile", str(most), "≤ 10", "")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=100_000_000)
    parser.add_argument("--quick", action="store_true", help="a smoke run, 1 % of it")
    parser.add_argument("--folder", type=Path, help="keep the worlds here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        database = chosen.folder / f"{chosen.part}.duckdb"
        run_part(chosen.part, chosen.folder, database)
    elif chosen.build:
        write_world(build_world(chosen.build), chosen.folder)
    elif chosen.state:
        write_state(chosen.folder, chosen.state)
    else:
        edge_count = chosen.edges // 100 if chosen.quick else chosen.edges
        with tempfile.TemporaryDirectory() as temporary:
            folder = chosen.folder or Path(temporary)
            small = prepare(folder, edge_count // 10)
            print(f"{edge_count // 10:,} edges")
            tell_quality(small)
            tell_against_splink(small)
            tell_incremental(small, 0.01, "≥ 8 ×")
            large = prepare(folder, edge_count)
            print(f"{edge_count:,} edges")
            tell_large(large, 0.001)


if __name__ == "__main__":
    main()
