"""How fast and how right the identity graph is, as ratios measured in one run.

Floor: DuckDB copying two integer columns from Parquet into a table. Every part runs in
a process of its own, so that CPU and peak memory are its own; kernels are compiled
before the clock starts. What a part reads, solves and writes is all inside the clock.

Solved graphs are written without compression, as numbers in no order do not get smaller
by it; the floor is written as DuckDB does by default. The solution with rails is each
node's profile and the refused edges; links are counted only where there may be a hub.
Going on is measured twice: as a run goes, from strings (with the large world only if
asked), and from what is numbered.
"""

import argparse
import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numba as nb
import numpy as np
import pyarrow as pa

from ml.graph import (
    Edges,
    MergeProtection,
    Nodes,
    Solution,
    chunk_by_chunk,
    count_links,
    solve,
)
from ml.graph_changes import Changes, Members, resolve
from tests.identity_world import (
    EMAIL,
    LOYALTY_ID,
    NOBODY,
    PHONE,
    TYPES,
    USER_ID,
    World,
    build_world,
    write_world,
)
from tests.plain_components import Components

NO_LIMIT = 1 << 40
PROTECTION = MergeProtection(
    profile_limits=np.array([1, 5, 5, 3, 20, 500]),
    max_links=np.array([500, 50, 50, 50, 50, 50]),
    max_user_ids=np.array([9, 1, 2, 1, 1, 1]),
    user_id_code=USER_ID,
    personal_codes=(EMAIL, PHONE, LOYALTY_ID),
)
BATCH = 1_000_000
ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models/identity/identity_components.py"
TYPES_SEED = ROOT / "dbt_project/seeds/identifier_types.csv"


def warm_up() -> None:
    """Load every kernel, so that compiling is no part of a measure."""
    world = build_world(3_000)
    resolve(EmptyHistory(world), Changes(edges_of(world)), PROTECTION)
    # numba compiles anew for arrays that must not be written to, as Arrow's are
    for is_stored in (False, True):
        for column in vars(world).values():
            column.flags.writeable = not is_stored
        solve(nodes_of(world), edges_of(world), PROTECTION)
        labels_of(len(world.keys), edges_of(world))
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
    # numbers in no order do not get smaller; trying to costs half of the writing
    connection.execute("set force_compression = 'uncompressed'")
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


def labels_of(node_count: int, edges: Edges) -> np.ndarray:
    components = Components(node_count)
    chunk_by_chunk(components.add, edges.chunks("left", "right"))
    return components.labels()


def plain_labels(connection: duckdb.DuckDBPyConnection, folder: Path) -> np.ndarray:
    return labels_of(
        count_nodes(connection, folder),
        StoredEdges(connection, f"'{folder}/edges.parquet'"),
    )


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


class StoredNodes(Nodes):
    """Nodes that stay in a table or file until they are asked for."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: str) -> None:
        self.connection = connection
        self.source = source

    def __len__(self) -> int:
        return int(self._first_row("count(*)")[0])

    def period(self) -> tuple[int, int]:
        first, last = self._first_row("min(first_seen), max(first_seen)")
        return first, last

    def chunks(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        return column_chunks(self.connection, self.source, names)

    def _first_row(self, columns: str) -> tuple[int, ...]:
        return self.connection.sql(f"select {columns} from {self.source}").fetchall()[0]


class StoredEdges(Edges):
    """Edges that stay in a table or file until they are asked for."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: str) -> None:
        self.connection = connection
        self.source = source

    def chunks(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        return column_chunks(self.connection, self.source, names)


STORED_NAMES = {
    "type_codes": "type_code",
    "first_seen": "first_seen",
    "keys": "key",
    "left": "left_seq",
    "right": "right_seq",
    "link_classes": "link_class",
}


def column_chunks(
    connection: duckdb.DuckDBPyConnection, source: str, names: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield columns of a table or file, a million rows or fewer at a time."""
    columns = ", ".join(STORED_NAMES[name] for name in names)
    query = f"select {columns} from {source}"
    for batch in connection.sql(query).to_arrow_reader(BATCH):
        yield tuple(column.to_numpy() for column in batch.columns)


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
    connection: duckdb.DuckDBPyConnection,
    nodes: str,
    edges: str,
    protection: MergeProtection = PROTECTION,
) -> Solution:
    """Solve with rails what two tables or files hold."""
    return solve(
        StoredNodes(connection, nodes), StoredEdges(connection, edges), protection
    )


def write_refusals(connection: duckdb.DuckDBPyConnection, solution: Solution) -> None:
    refused = solution.refusals
    write_columns(
        connection,
        "conflicts",
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
        write_refusals(connection, solution)


def load_model() -> ModuleType:
    """The dbt model, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("identity_components", MODEL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def warehouse_of(connection: duckdb.DuckDBPyConnection) -> Any:
    """The graph as the product's own model finds it."""
    tables = (
        ("identifier_types", "identifier_types"),
        ("sightings", "identifier_activity"),
        ("edges", "identity_edges"),
        ("rule_pairs", "identity_rule_pairs"),
        ("former", "identity_components"),
    )
    return load_model().Warehouse(
        connection, {name: connection.table(table) for name, table in tables}
    )


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty tables in the product's shape, and its seed of types."""
    connection.execute(
        f"""
        create table identifier_types as from '{TYPES_SEED}';
        create table identifier_activity (
            identifier_seq bigint, identifier_type varchar, identifier varchar,
            type_rank integer, strength varchar, first_seen_at timestamp,
            last_seen_at timestamp, message_count bigint, identifier_hash64 ubigint,
            moved_seq bigint, batch_seq bigint
        );
        create table identity_edges (
            identifier_seq bigint, linked_identifier_seq bigint, link_class integer,
            first_seen_at timestamp, last_seen_at timestamp, evidence_count bigint,
            new_seq bigint, moved_seq bigint, batch_seq bigint
        );
        create table identity_rule_pairs (
            rule varchar, identifier_seq bigint, linked_identifier_seq bigint
        );
        create table identity_components (
            identifier_seq bigint, component_seq bigint, cluster_seq bigint,
            link_count bigint, user_id_count bigint, hub_reason varchar,
            rule_key ubigint, former_component_seq bigint, via_identifier_seq bigint,
            via_linked_identifier_seq bigint, batch_seq bigint, revision_seq bigint
        );
        create table labels (identifier_seq integer, component_seq integer);
        """
    )


SIGHTINGS = """
with

ends as (

    select identifier_type, identifier, seen_at from '{links}'
    union all
    select linked_identifier_type, linked_identifier, seen_at from '{links}'

),

sum_sightings as (

    select
        identifier_type,
        identifier,
        min(seen_at) as first_seen_at,
        max(seen_at) as last_seen_at,
        count(*) as message_count,
        cast(
            md5_number(identifier_type || '␟' || identifier) & 18446744073709551615
            as ubigint
        ) as identifier_hash64
    from ends
    group by identifier_type, identifier

)

select
    coalesce(
        known.identifier_seq,
        (select coalesce(max(identifier_seq), -1) from identifier_activity)
        + row_number() over (
            partition by known.identifier_seq is null
            order by
                sum_sightings.first_seen_at,
                sum_sightings.identifier_type,
                sum_sightings.identifier
        )
    ) as identifier_seq,
    sum_sightings.identifier_type,
    sum_sightings.identifier,
    identifier_types.rank as type_rank,
    identifier_types.strength,
    least(sum_sightings.first_seen_at, known.first_seen_at) as first_seen_at,
    greatest(sum_sightings.last_seen_at, known.last_seen_at) as last_seen_at,
    sum_sightings.message_count + coalesce(known.message_count, 0) as message_count,
    sum_sightings.identifier_hash64,
    case
        when sum_sightings.first_seen_at >= known.first_seen_at then known.moved_seq
        else {batch}
    end as moved_seq,
    {batch} as batch_seq
from sum_sightings
inner join identifier_types using (identifier_type)
left join identifier_activity as known
    on
        sum_sightings.identifier_hash64 = known.identifier_hash64
        and not (
            sum_sightings.identifier_type <> known.identifier_type
            or sum_sightings.identifier <> known.identifier
        )
"""
EDGES = """
with

seen as (

    select * from identifier_activity where batch_seq = {batch}

),

pairs as (

    select
        least(ends.identifier_seq, linked_ends.identifier_seq) as identifier_seq,
        greatest(ends.identifier_seq, linked_ends.identifier_seq)
            as linked_identifier_seq,
        1 + (ends.strength = 'weak')::integer + (linked_ends.strength = 'weak')::integer
            as link_class,
        min(links.seen_at) as first_seen_at,
        max(links.seen_at) as last_seen_at,
        count(*) as evidence_count
    from '{links}' as links
    inner join seen as ends using (identifier_type, identifier)
    inner join seen as linked_ends
        on
            links.linked_identifier_type = linked_ends.identifier_type
            and links.linked_identifier = linked_ends.identifier
    group by all

)

select
    pairs.identifier_seq,
    pairs.linked_identifier_seq,
    pairs.link_class,
    least(pairs.first_seen_at, known.first_seen_at) as first_seen_at,
    greatest(pairs.last_seen_at, known.last_seen_at) as last_seen_at,
    pairs.evidence_count + coalesce(known.evidence_count, 0) as evidence_count,
    coalesce(known.new_seq, {batch}) as new_seq,
    case
        when pairs.first_seen_at >= known.first_seen_at then known.moved_seq
        else {batch}
    end as moved_seq,
    {batch} as batch_seq
from pairs
left join identity_edges as known using (identifier_seq, linked_identifier_seq)
"""


def put(
    connection: duckdb.DuckDBPyConnection, table: str, query: str, *keys: str
) -> None:
    """Let rows take the place of those with their key, as dbt's delete+insert does."""
    is_same = " and ".join(f"{table}.{key} = fresh.{key}" for key in keys)
    connection.execute(f"create temp table fresh as {query}")
    connection.execute(f"delete from {table} using fresh where {is_same}")
    connection.execute(f"insert into {table} by name from fresh")
    connection.execute("drop table fresh")


def take_in_all(connection: duckdb.DuckDBPyConnection, links: str) -> None:
    """Number the identifiers of links between strings, and the pairs."""
    for table, query in (
        ("identifier_activity", SIGHTINGS),
        ("identity_edges", EDGES),
    ):
        rows = query.format(links=links, batch=1)
        connection.execute(f"insert into {table} by name {rows}")


def take_in_new(connection: duckdb.DuckDBPyConnection, links: str) -> None:
    """Look the identifiers of new links up, and number those that are not known."""
    sightings, edges = (q.format(links=links, batch=2) for q in (SIGHTINGS, EDGES))
    put(connection, "identifier_activity", sightings, "identifier_seq")
    ends = ("identifier_seq", "linked_identifier_seq")
    put(connection, "identity_edges", edges, *ends)


def label_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Plain labels of all edges."""
    rows = connection.sql("select max(identifier_seq) from identifier_activity")
    edges = """(
        select identifier_seq::integer as left_seq,
            linked_identifier_seq::integer as right_seq
        from identity_edges
    )"""
    node_count = rows.fetchall()[0][0] + 1
    labels = labels_of(node_count, StoredEdges(connection, edges))
    insert_labels(connection, labels)


def insert_labels(connection: duckdb.DuckDBPyConnection, labels: np.ndarray) -> None:
    numbers = np.arange(len(labels), dtype=np.int32)
    solved = pa.table({"identifier_seq": numbers, "component_seq": labels})
    connection.register("solved", solved)
    connection.execute("insert into labels from solved")


def label_new(connection: duckdb.DuckDBPyConnection) -> None:
    """Take new edges into the labels; replace those of nodes that lost their root."""
    rows = connection.sql("select max(identifier_seq) from identifier_activity")
    labels = np.arange(rows.fetchall()[0][0] + 1, dtype=np.int32)
    stored = connection.sql("from labels").to_arrow_reader(BATCH)
    known_count = 0
    for batch in stored:
        nodes, roots = (column.to_numpy() for column in batch.columns)
        labels[nodes] = roots
        known_count += len(nodes)
    new = connection.sql(
        "select identifier_seq::integer, linked_identifier_seq::integer "
        "from identity_edges where new_seq = 2"
    ).fetchnumpy()
    left, right = (labels[ends] for ends in new.values())
    roots = np.unique(np.r_[left, right])
    components = Components(len(roots))
    components.add(*(np.searchsorted(roots, e).astype(np.int32) for e in (left, right)))
    winners = roots[components.labels()]
    has_lost = np.zeros(len(labels), dtype=bool)
    has_lost[roots[winners != roots]] = True
    is_changed = has_lost[labels]
    is_changed[known_count:] = True
    changed = np.flatnonzero(is_changed).astype(np.int32)
    now = labels[changed]
    lost = has_lost[now]
    now[lost] = winners[np.searchsorted(roots, now[lost])]
    solved = pa.table({"identifier_seq": changed, "component_seq": now})
    connection.register("solved", solved)
    put(connection, "labels", "from solved", "identifier_seq")


def solve_components(connection: duckdb.DuckDBPyConnection) -> None:
    """Solve all with rails, by the product's own model."""
    solved = load_model().solve_all(warehouse_of(connection))
    connection.register("solved", solved)
    connection.execute("insert into identity_components by name from solved")


def follow_components(connection: duckdb.DuckDBPyConnection) -> None:
    """Take new edges into the solution with rails, by the product's own model."""
    solved = load_model().follow(warehouse_of(connection))
    connection.register("solved", solved)
    put(connection, "identity_components", "from solved", "identifier_seq")


Step = Callable[[duckdb.DuckDBPyConnection], None]


def start_anew(solve: Step, folder: Path, database: Path) -> float:
    """From links between strings to the state; return the CPU seconds of numbering."""
    with duckdb.connect(database) as connection:
        create_tables(connection)
        begun = cpu_seconds()
        take_in_all(connection, f"{folder}/links_*.parquet")
        connection.execute("checkpoint")
        numbering = cpu_seconds() - begun
        solve(connection)
        return numbering


def go_on(follow: Step, folder: Path, database: Path) -> float:
    """Take new links into the state; return the CPU seconds of numbering."""
    with duckdb.connect(database) as connection:
        begun = cpu_seconds()
        take_in_new(connection, f"{folder}/links_new.parquet")
        connection.execute("checkpoint")
        numbering = cpu_seconds() - begun
        follow(connection)
        return numbering


def follow_only(follow: Step, folder: Path, database: Path) -> None:
    """Follow what has been numbered already."""
    with duckdb.connect(folder / "state.duckdb") as connection:
        follow(connection)


def write_links(folder: Path, new_share: float) -> None:
    """The world's edges between strings, the last of them apart."""
    old_count = f"(1 - {new_share}) * (select count(*) from '{folder}/edges.parquet')"
    for name, condition in (("known", "<"), ("new", ">=")):
        with duckdb.connect() as connection:
            connection.execute(
                f"""
                copy (
                    with nodes as (
                        select
                            file_row_number as seq,
                            {list(TYPES)}[type_code + 1] as identifier_type,
                            'id:' || md5(file_row_number::varchar) as identifier
                        from read_parquet(
                            '{folder}/nodes.parquet', file_row_number = true
                        )
                    )
                    select
                        ends.identifier_type,
                        ends.identifier,
                        linked_ends.identifier_type as linked_identifier_type,
                        linked_ends.identifier as linked_identifier,
                        make_timestamp(edges.first_seen) as seen_at
                    from read_parquet(
                        '{folder}/edges.parquet', file_row_number = true
                    ) as edges
                    inner join nodes as ends on edges.left_seq = ends.seq
                    inner join nodes as linked_ends
                        on edges.right_seq = linked_ends.seq
                    where edges.file_row_number {condition} {old_count}
                ) to '{folder}/links_{name}.parquet'
                """
            )


def write_state(folder: Path, new_share: float) -> None:
    """Solve the history, all but the last links, from strings."""
    write_links(folder, new_share)
    state = folder / "state.duckdb"
    state.unlink(missing_ok=True)
    with duckdb.connect(state) as connection:
        create_tables(connection)
        take_in_all(connection, f"{folder}/links_known.parquet")
        label_all(connection)
        solve_components(connection)


def write_numbered_state(folder: Path, new_share: float) -> None:
    """Solve the history from dense numbers; the last edges are taken in, not solved."""
    state = folder / "state.duckdb"
    state.unlink(missing_ok=True)
    edges = f"read_parquet('{folder}/edges.parquet', file_row_number = true)"
    nodes = f"read_parquet('{folder}/nodes.parquet', file_row_number = true)"
    with duckdb.connect(state) as connection:
        create_tables(connection)
        counts = connection.sql(f"select count(*) from {edges}").fetchall()
        old_count = int(counts[0][0] * (1 - new_share))
        known = connection.sql(
            "select 1 + greatest(max(left_seq), max(right_seq)) "
            f"from {edges} where file_row_number < {old_count}"
        ).fetchall()[0][0]
        connection.execute(
            f"""
            insert into identity_edges by name
            select
                left_seq as identifier_seq,
                right_seq as linked_identifier_seq,
                link_class,
                make_timestamp(first_seen) as first_seen_at,
                if(file_row_number < {old_count}, 1, 2) as new_seq,
                new_seq as moved_seq,
                new_seq as batch_seq
            from {edges};
            insert into identifier_activity by name
            select
                file_row_number as identifier_seq,
                {list(TYPES)}[type_code + 1] as identifier_type,
                make_timestamp(first_seen) as first_seen_at,
                key as identifier_hash64,
                if(file_row_number < {known}, 1, 2) as moved_seq,
                moved_seq as batch_seq
            from {nodes}
            """
        )
        old_edges = f"(from {edges} where file_row_number < {old_count})"
        labels = labels_of(known, StoredEdges(connection, old_edges))
        insert_labels(connection, labels)
        # the product's codes of types, which decide between nodes of one moment
        codes = [sorted(TYPES).index(name) for name in TYPES]
        old_nodes = (
            f"(select {codes}[type_code + 1] as type_code, first_seen, key "
            f"from {nodes} where file_row_number < {known})"
        )
        protection = warehouse_of(connection).protection()
        solution = solve_stored(connection, old_nodes, old_edges, protection)
        type_codes = read_columns(
            connection, f"select type_code from {old_nodes}", known, np.uint8
        )[0]
        links = count_links(
            type_codes,
            protection,
            StoredEdges(connection, old_edges),
        )
        solved = pa.table(
            {
                "identifier_seq": np.arange(known, dtype=np.int32),
                "component_seq": solution.anchors,
                "cluster_seq": solution.clusters,
                "link_count": links.degrees,
                "user_id_count": links.user_id_counts,
                "hub": solution.hub_reasons,
            }
        )
        connection.register("solved", solved)
        connection.execute(
            """
            insert into identity_components by name
            select
                * exclude (hub),
                [null, 'many_links', 'several_user_ids'][hub + 1] as hub_reason,
                null as rule_key,
                1 as batch_seq,
                1 as revision_seq
            from solved
            """
        )


def fingerprint(database: Path, table: str) -> tuple[int, int]:
    """Who is with whom, told by keys, as a number; and how many are told of."""
    with duckdb.connect(database, read_only=True) as connection:
        rows = connection.sql(
            f"""
            with named as (
                select
                    component_seq,
                    identifier_hash64,
                    min(identifier_hash64) over (partition by component_seq)
                        as least_key
                from {table}
                inner join identifier_activity using (identifier_seq)
            )
            select bit_xor(hash(identifier_hash64, least_key)), count(*) from named
            """
        ).fetchall()
        return rows[0]


def is_same(database: Path, table: str, labels: Path, column: str) -> bool:
    """Whether a state by number parts nodes as solving everything did by place."""
    with duckdb.connect(database, read_only=True) as connection:
        known = connection.sql(f"select identifier_seq, component_seq from {table}")
        states = np.full(known.count("*").fetchall()[0][0], -1, np.int32)
        for batch in known.to_arrow_reader(BATCH):
            nodes, components = (part.to_numpy() for part in batch.columns)
            states[nodes] = components
    with duckdb.connect(labels, read_only=True) as connection:
        query = f"select {column} from labels"
        told = read_columns(connection, query, len(states), np.int32)[0]
    return np.array_equal(smallest_fellows(states), smallest_fellows(told))


def smallest_fellows(labels: np.ndarray) -> np.ndarray:
    smallest = np.full(len(labels), len(labels), np.int32)
    np.minimum.at(smallest, labels, np.arange(len(labels), dtype=np.int32))
    return smallest[labels]


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
    "start_plain": partial(start_anew, label_all),
    "start_with_rails": partial(start_anew, solve_components),
    "go_on_plain": partial(go_on, label_new),
    "go_on_with_rails": partial(go_on, follow_components),
    "follow_plain": partial(follow_only, label_new),
    "follow_with_rails": partial(follow_only, follow_components),
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
        if name.startswith("go_on"):
            shutil.copy(folder / "state.duckdb", database)
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
    print(f"{figure:<52}{value:>8}  {goal:<18}{raw}", flush=True)


def prepare(folder: Path, edge_count: int) -> Path:
    """Build and write a world in a process of its own, to give the memory back."""
    world = folder / f"world_{edge_count}"
    if not (world / "nodes.parquet").exists():
        command = [sys.executable, "-m", __spec__.name, "--build", str(edge_count)]
        subprocess.run([*command, "--folder", str(world)], check=True)
    return world


def report_large(world: Path, new_share: float) -> None:
    floor = measure("copy_two_columns", world, times=3)
    found = {}
    for name, figure, goal in (
        ("solve_plain", "plain, wall / floor", "≤ 1.7, ≤ 2.5 GB"),
        ("solve_plain_two_columns", "  with numbers written beside", ""),
        ("solve_with_rails", "with rails, wall / floor", "≤ 3, ≤ 4 GB"),
    ):
        found[name] = measure(name, world, times=2)
        tell(
            figure,
            f"{found[name].wall / floor.wall:.2f} ×",
            goal,
            f"{found[name].wall:.2f} s / {floor.wall:.2f} s, "
            f"{found[name].peak_gb:.2f} GB, "
            f"CPU {found[name].cpu:.1f} / {floor.cpu:.1f} s",
        )
    build_state(world, new_share, is_numbered=True)
    for full, follow, kind, table, column in (
        ("solve_plain", "follow_plain", "plain", "labels", "component_seq"),
        (
            "solve_with_rails",
            "follow_with_rails",
            "rails",
            "identity_components",
            "anchor_seq",
        ),
    ):
        new = measure(follow, world)
        state, labels = world / "state.duckdb", world / f"{full}.duckdb"
        assert is_same(state, table, labels, column), f"{follow} is not {full}"
        figure = f"{new_share:.1%} new, {kind}, dense"
        report_ratio(figure, found[full].cpu, new.cpu, 20)


def build_state(world: Path, new_share: float, *, is_numbered: bool) -> None:
    command = [sys.executable, "-m", __spec__.name, "--state", str(new_share)]
    numbered = ["--numbered"] * is_numbered
    subprocess.run([*command, *numbered, "--folder", str(world)], check=True)


def report_ratio(figure: str, full: float, new: float, goal: int) -> None:
    tell(
        f"{figure}, CPU full / new",
        f"{full / new:.1f} ×",
        f"≥ {goal} ×",
        f"{full:.2f} s / {new:.2f} s, ids exact",
    )


def report_incremental(world: Path, new_share: float, goal: int) -> None:
    build_state(world, new_share, is_numbered=False)
    for kind, table in (("plain", "labels"), ("with_rails", "identity_components")):
        full, new = measure(f"start_{kind}", world), measure(f"go_on_{kind}", world)
        databases = (world / f"{name}_{kind}.duckdb" for name in ("start", "go_on"))
        one, other = (fingerprint(database, table) for database in databases)
        assert one == other, f"{kind}: going on is not what starting anew gives"
        words = kind.replace("_", " ")
        share = f"{new_share:.1%} new, {words}"
        report_ratio(f"{share}, from strings", full.cpu, new.cpu, goal)
        solving = (done.cpu - done.told for done in (full, new))
        report_ratio("  of it from dense numbers", *solving, goal)


def report_against_splink(world: Path) -> None:
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


def report_quality(world: Path) -> None:
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
    parser.add_argument(
        "--from-strings",
        action="store_true",
        help="go on from strings with the large world too: an hour and 50 GB more",
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--numbered", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        database = chosen.folder / f"{chosen.part}.duckdb"
        run_part(chosen.part, chosen.folder, database)
    elif chosen.build:
        write_world(build_world(chosen.build), chosen.folder)
    elif chosen.state:
        write = write_numbered_state if chosen.numbered else write_state
        write(chosen.folder, chosen.state)
    else:
        edge_count = chosen.edges // 100 if chosen.quick else chosen.edges
        with tempfile.TemporaryDirectory() as temporary:
            folder = chosen.folder or Path(temporary)
            small = prepare(folder, edge_count // 10)
            print(f"{edge_count // 10:,} edges")
            report_quality(small)
            report_against_splink(small)
            report_incremental(small, 0.01, goal=8)
            large = prepare(folder, edge_count)
            print(f"{edge_count:,} edges")
            report_large(large, 0.001)
            if chosen.from_strings:
                report_incremental(large, 0.001, goal=20)


if __name__ == "__main__":
    main()
