"""One row per identifier: the oldest of its profile, and what stands in its way."""

import numpy as np
import pyarrow as pa

from ml import graph

HUB_REASONS = np.array([None, "many_links", "several_user_ids"], dtype=object)
NOTHING = -1
NODE_COLUMNS = """
    cast(identifier_seq as integer) as node,
    cast(type_code as utinyint) as type_code,
    epoch_us(first_seen_at) as first_seen,
    half_key
"""
EDGE_COLUMNS = """
    cast(identifier_seq as integer) as left_node,
    cast(linked_identifier_seq as integer) as right_node,
    cast(link_class as utinyint) as link_class,
    epoch_us(first_seen_at) as first_seen
"""


def model(dbt, session):
    """Solve the identity graph; later runs go only where a change reaches.

    Reads what is numbered (sightings, edges, rule pairs) and its own last result.
    """
    dbt.config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key="identifier_seq",
        on_schema_change="fail",
    )
    warehouse = Warehouse(
        session,
        {
            "identifier_types": dbt.ref("identifier_types"),
            "sightings": dbt.ref("identifier_sightings"),
            "edges": dbt.ref("identity_edges"),
            "rule_pairs": dbt.ref("identity_rule_pairs"),
            "former": former_solution(session, str(dbt.this)),
        },
    )
    return follow(warehouse) if dbt.is_incremental else solve_all(warehouse)


def former_solution(session, address):
    """Return the last result, empty where there is none."""
    exists = session.execute(
        "select count(*) from duckdb_tables() "
        "where database_name || '.' || schema_name || '.' || table_name = ?",
        [address.replace('"', "")],
    ).fetchall()[0][0]
    if exists:
        return session.table(address)
    return pa.table(
        {name: pa.array([], type=pa.int64()) for name in ("batch_seq", "revision_seq")}
    )


def solve_all(warehouse):
    """Solve every component."""
    nodes = warehouse.nodes()
    rules = warehouse.rules()
    solution = graph.solve(nodes, warehouse.links(), warehouse.protection(), rules)
    numbers = np.arange(len(nodes.type_codes))
    former = (np.full(len(numbers), NOTHING),) * 3
    is_ruled = np.isin(numbers, named_in(rules))
    return to_table(numbers, solution, former, is_ruled, warehouse.progress())


def follow(warehouse):
    """Solve the components that new links, moved times and changed rules reach."""
    rules = warehouse.rules()
    changes = warehouse.changes(rules)
    change = graph.resolve(warehouse, changes, warehouse.protection(), rules)
    merges = change.merges

    nodes = np.union1d(change.nodes, changes.ruled)
    if len(nodes) > len(change.nodes):
        members = warehouse.rows_of(nodes)
        rows = np.searchsorted(nodes, change.nodes)
        for name in ("anchors", "clusters", "degrees", "user_id_counts", "hub_reasons"):
            getattr(members, name)[rows] = getattr(change, name)
    else:
        members = change
    former = tuple(np.full(len(nodes), NOTHING) for _ in range(3))
    lost = np.searchsorted(nodes, merges.losers)
    former[0][lost] = merges.losers
    former[1][lost] = merges.via_left
    former[2][lost] = merges.via_right
    former[0][np.searchsorted(nodes, change.separated)] = change.separated_from
    is_ruled = np.isin(nodes, named_in(rules))
    return to_table(nodes, members, former, is_ruled, warehouse.progress())


def named_in(rules):
    """Return the nodes that a rule names."""
    return np.r_[
        rules.denied_left, rules.denied_right, rules.allowed_left, rules.allowed_right
    ]


def to_table(nodes, solved, former, is_ruled, progress):
    """Lay out rows as the model's columns."""
    count = len(nodes)
    former_of, via, linked_via = (
        pa.array(column, type=pa.int64(), mask=column < 0) for column in former
    )
    return pa.table(
        {
            "identifier_seq": pa.array(nodes, type=pa.int64()),
            "component_seq": pa.array(solved.anchors, type=pa.int64()),
            "cluster_seq": pa.array(solved.clusters, type=pa.int64()),
            "link_count": pa.array(solved.degrees, type=pa.int64()),
            "user_id_count": pa.array(solved.user_id_counts, type=pa.int64()),
            "hub_reason": pa.array(HUB_REASONS[solved.hub_reasons], type=pa.string()),
            "is_ruled": pa.array(is_ruled, type=pa.bool_()),
            "former_component_seq": former_of,
            "via_identifier_seq": via,
            "via_linked_identifier_seq": linked_via,
            "batch_seq": pa.array(np.full(count, progress[0]), type=pa.int64()),
            "revision_seq": pa.array(np.full(count, progress[1]), type=pa.int64()),
        }
    )


class Warehouse:
    """The graph as the warehouse keeps it; a `History` of the last solution."""

    def __init__(self, session, tables):
        self.session = session
        self.tables = tables

    def ask(self, query, nodes=()):
        """Return the columns of a query over the tables and `asked`, some nodes.

        DuckDB finds what a query names among the local variables.
        """
        identifier_types, sightings, edges, rule_pairs, former = self.tables.values()
        types = self.session.sql(
            "select *, row_number() over (order by identifier_type) - 1 as type_code "
            "from identifier_types"
        )
        asked = pa.table({"identifier_seq": pa.array(nodes, type=pa.int64())})
        return self.session.sql(query).fetchnumpy()

    def protection(self):
        """Return the limits of the seed; an empty one is none."""
        types = self.ask("select * from types order by type_code")

        def limits(column):
            return np.ma.filled(types[column], graph.UNLIMITED).astype(np.int64)

        return graph.MergeProtection(
            profile_limits=limits("profile_limit"),
            max_links=limits("max_links"),
            max_user_ids=limits("max_user_ids"),
            user_id_code=types["identifier_type"].tolist().index("user_id"),
        )

    def rules(self):
        """Return the denied and allowed pairs."""
        pairs = self.ask("select * from rule_pairs")
        is_denied = pairs["rule"] == "deny"
        left = pairs["identifier_seq"].astype(np.int32)
        right = pairs["linked_identifier_seq"].astype(np.int32)
        return graph.Rules(
            denied_left=left[is_denied],
            denied_right=right[is_denied],
            allowed_left=left[~is_denied],
            allowed_right=right[~is_denied],
        )

    def nodes(self):
        """Return every identifier, in order of its number."""
        rows = self.ask(
            f"select {NODE_COLUMNS} from sightings "
            "inner join types using (identifier_type)"
        )
        order = np.empty(len(rows["node"]), dtype=np.int64)
        order[rows["node"]] = np.arange(len(order))
        return graph.Nodes(
            rows["type_code"][order], rows["first_seen"][order], rows["half_key"][order]
        )

    def links(self, condition="true", nodes=()):
        """Return the links of which the condition holds."""
        rows = self.ask(f"select {EDGE_COLUMNS} from edges where {condition}", nodes)
        return graph.Edges(
            rows["left_node"],
            rows["right_node"],
            rows["link_class"],
            rows["first_seen"],
        )

    def changes(self, rules):
        """Return what came after the batch that the last solution knew."""
        batch = self.ask("select max(batch_seq) as batch from former")["batch"][0]
        moved = self.ask(
            f"""
            select identifier_seq from sightings where moved_seq > {batch}
            union
            select unnest([identifier_seq, linked_identifier_seq]) from edges
            where moved_seq > {batch} and new_seq <= {batch}
            """
        )
        was_ruled = self.ask("select identifier_seq from former where is_ruled")
        return graph.Changes(
            edges=self.links(f"new_seq > {batch}"),
            moved=moved["identifier_seq"].astype(np.int32),
            ruled=np.union1d(was_ruled["identifier_seq"], named_in(rules)).astype(
                np.int32
            ),
        )

    def members(self, nodes):
        """Return these nodes and all that shared a cluster with one of them."""
        fellows = self.ask(
            """
            select identifier_seq from asked
            union
            select identifier_seq from former where cluster_seq in (
                select cluster_seq from former semi join asked using (identifier_seq)
            )
            """,
            nodes,
        )
        return self.rows_of(np.sort(fellows["identifier_seq"]))

    def rows_of(self, nodes):
        """Return what is known and was solved of nodes, which are sorted."""
        rows = self.ask(
            f"""
            with known as (
                select {NODE_COLUMNS}
                from (from sightings semi join asked using (identifier_seq))
                inner join types using (identifier_type)
            ),
            solved as (from former semi join asked using (identifier_seq))
            select
                known.*,
                cast(coalesce(component_seq, {NOTHING}) as integer) as anchor,
                cast(coalesce(cluster_seq, {NOTHING}) as integer) as cluster,
                cast(coalesce(link_count, 0) as integer) as degree,
                cast(coalesce(user_id_count, 0) as integer) as user_ids,
                cast(
                    case hub_reason
                        when 'many_links' then {graph.HUB_LINKS}
                        when 'several_user_ids' then {graph.HUB_USER_IDS}
                        else {graph.ACCEPTED}
                    end as utinyint
                ) as hub
            from known
            left join solved on known.node = solved.identifier_seq
            order by node
            """,
            nodes,
        )
        return graph.Members(
            nodes=rows["node"],
            type_codes=rows["type_code"],
            first_seen=rows["first_seen"],
            keys=rows["half_key"],
            anchors=rows["anchor"],
            clusters=rows["cluster"],
            degrees=rows["degree"],
            user_id_counts=rows["user_ids"],
            hub_reasons=rows["hub"],
        )

    def edges(self, nodes):
        """Return all links that begin or end in these nodes."""
        return self.links(
            "identifier_seq in (select identifier_seq from asked) "
            "or linked_identifier_seq in (select identifier_seq from asked)",
            nodes,
        )

    def progress(self):
        """Return the last batch that is taken in, and the number of this solution."""
        progress = self.ask(
            """
            select
                (select coalesce(max(batch_seq), 0) from sightings) as batch,
                (select coalesce(max(revision_seq), 0) + 1 from former) as revision
            """
        )
        return progress["batch"][0], progress["revision"][0]
