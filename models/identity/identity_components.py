"""One row per identifier: the oldest of its profile, and what stands in its way."""

from functools import cached_property

import numpy as np
import pyarrow as pa

from ml import graph, graph_changes

HUB_REASONS = pa.array([None, "many_links", "several_user_ids"])
NOTHING = -1
CHUNK = 1_000_000
LINK_COLUMNS = """
    identifier_seq as left_node,
    linked_identifier_seq as right_node,
    link_class,
    epoch_us(first_seen_at) as first_seen
"""
RULE_KEYS = """
    select
        identifier_seq,
        bit_xor(cast(
            md5_number(rule || ' ' || one || ' ' || other) & 18446744073709551615
            as ubigint
        )) as rule_key
    from (
        select
            rule,
            identifier_seq as one,
            linked_identifier_seq as other,
            unnest([one, other]) as identifier_seq
        from rule_pairs
    )
    group by identifier_seq
"""
SOLVED_COLUMNS = f"""
    identifier_seq as node,
    component_seq as anchor,
    cluster_seq as cluster,
    link_count as degree,
    user_id_count as user_ids,
    cast(
        case hub_reason
            when 'many_links' then {graph.HUB_LINKS}
            when 'several_user_ids' then {graph.HUB_USER_IDS}
            else {graph.ACCEPTED}
        end as utinyint
    ) as hub_reason
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
            "sightings": dbt.ref("identifier_activity"),
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
    nodes, links = warehouse.nodes(), warehouse.links()
    rules, protection = warehouse.rules(), warehouse.protection()
    solution = graph.solve(nodes, links, protection, rules)
    counts = graph.count_links(nodes.type_codes, protection, links)
    numbers = np.arange(len(nodes))
    former = (np.full(len(numbers), NOTHING),) * 3
    return to_table(
        numbers,
        solution,
        counts,
        former=former,
        rule_keys=warehouse.rule_keys(numbers),
        progress=warehouse.progress(),
    )


def follow(warehouse):
    """Solve the components that new links, moved times and changed rules reach."""
    rules = warehouse.rules()
    changes = warehouse.changes()
    change = graph_changes.resolve(warehouse, changes, warehouse.protection(), rules)
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
    return to_table(
        nodes,
        members,
        members,
        former=former,
        rule_keys=warehouse.rule_keys(nodes),
        progress=warehouse.progress(),
    )


def to_table(nodes, solved, counts, *, former, rule_keys, progress):
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
            "link_count": pa.array(counts.degrees, type=pa.int64()),
            "user_id_count": pa.array(counts.user_id_counts, type=pa.int64()),
            "hub_reason": HUB_REASONS.take(pa.array(solved.hub_reasons)),
            "rule_key": pa.array(rule_keys, type=pa.uint64(), mask=rule_keys == 0),
            "former_component_seq": former_of,
            "via_identifier_seq": via,
            "via_linked_identifier_seq": linked_via,
            "batch_seq": pa.array(np.full(count, progress[0]), type=pa.int64()),
            "revision_seq": pa.array(np.full(count, progress[1]), type=pa.int64()),
        }
    )


class Warehouse:
    """The graph as the warehouse keeps it; a `History` of the last solution.

    Finds clusters and links through bitmaps over whole columns, read chunk by chunk:
    cheaper than a join for each end where every block of a table holds some.
    """

    def __init__(self, session, tables):
        self.session = session
        self.tables = tables
        self.is_linked = None

    def chunks(self, query, nodes=()):
        """Yield the rows of a query over the tables and `asked`, some nodes.

        An empty chunk is the first. DuckDB finds what a query names among the local
        variables.
        """
        identifier_types, sightings, edges, rule_pairs, former = self.tables.values()
        asked = pa.table({"identifier_seq": pa.array(nodes, type=pa.int64())})
        reader = self.session.sql(query).to_arrow_reader(CHUNK)
        yield reader.schema.empty_table()
        yield from reader

    def ask(self, query, nodes=(), is_wanted=None):
        """Return the columns of a query, whole or of the rows that are wanted."""
        parts = []
        for chunk in self.chunks(query, nodes):
            columns = {
                name: column.to_numpy(zero_copy_only=False)
                for name, column in zip(chunk.schema.names, chunk.columns, strict=True)
            }
            if is_wanted is not None:
                rows = np.flatnonzero(is_wanted(columns))
                columns = {name: column[rows] for name, column in columns.items()}
            parts.append(columns)
        return {
            name: np.concatenate([part.pop(name) for part in parts])
            for name in list(parts[0])
        }

    @cached_property
    def types(self):
        """The seed's rows; a type's code is its place."""
        return self.ask("select * from identifier_types order by identifier_type")

    @cached_property
    def node_columns(self):
        """What an identifier is to the graph."""
        names = self.types["identifier_type"].tolist()
        return f"""
            identifier_seq as node,
            cast(list_position({names}, identifier_type) - 1 as utinyint) as type_code,
            epoch_us(first_seen_at) as first_seen,
            identifier_hash64
        """

    @cached_property
    def node_count(self):
        """How many identifiers have a number."""
        count = "select coalesce(max(identifier_seq) + 1, 0) as count from sightings"
        return self.ask(count)["count"][0]

    def protection(self):
        """Return the limits of the seed; an empty one is none."""

        def limits(column):
            told = self.types[column].astype(float)
            return np.where(np.isnan(told), graph.UNLIMITED, told).astype(np.int64)

        user_id = self.types["identifier_type"].tolist().index("user_id")
        max_user_ids = limits("max_user_ids")
        max_user_ids[user_id] = limits("max_personal_ids")[user_id]
        is_personal = self.types["strength"] == "strong"
        is_personal[user_id] = False
        return graph.MergeProtection(
            profile_limits=limits("profile_limit"),
            max_links=limits("max_links"),
            max_user_ids=max_user_ids,
            user_id_code=user_id,
            personal_codes=tuple(np.flatnonzero(is_personal).tolist()),
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
        told = self.ask(f"select {self.node_columns} from sightings")
        order = np.empty(self.node_count, dtype=np.int32)
        order[told["node"]] = np.arange(self.node_count, dtype=np.int32)
        return graph.Nodes(
            *(
                told[name][order]
                for name in ("type_code", "first_seen", "identifier_hash64")
            )
        )

    def links(self, condition="true", is_wanted=None):
        """Return the links of which the condition holds, or those that are wanted."""
        told = self.ask(
            f"select {LINK_COLUMNS} from edges where {condition}", is_wanted=is_wanted
        )
        return graph.Edges(
            told["left_node"].astype(np.int32),
            told["right_node"].astype(np.int32),
            told["link_class"].astype(np.uint8),
            told["first_seen"],
        )

    def rule_keys(self, nodes):
        """Return what names the rules about each of sorted nodes, zero if none do."""
        told = self.ask(RULE_KEYS)
        seqs = told["identifier_seq"]
        places = np.searchsorted(nodes, seqs)
        is_among = np.isin(seqs, nodes[places[places < len(nodes)]])
        keys = np.zeros(len(nodes), dtype=np.uint64)
        keys[places[is_among]] = told["rule_key"][is_among]
        return keys

    def changes(self):
        """Return what came after the batch that the last solution knew."""
        last = "select coalesce(max(batch_seq), 0) as batch from former"
        batch = self.ask(last)["batch"][0]
        moved = self.ask(
            f"""
            select identifier_seq from sightings where moved_seq > {batch}
            union all
            select unnest([identifier_seq, linked_identifier_seq]) from edges
            where moved_seq > {batch} and new_seq <= {batch}
            """
        )
        ruled = self.ask(
            f"""
            select identifier_seq
            from ({RULE_KEYS}) as present
            full join (from former where rule_key is not null) as past
                using (identifier_seq)
            where present.rule_key is distinct from past.rule_key
            """
        )
        return graph_changes.Changes(
            edges=self.links(f"new_seq > {batch}"),
            moved=moved["identifier_seq"].astype(np.int32),
            ruled=ruled["identifier_seq"].astype(np.int32),
        )

    @cached_property
    def is_member(self):
        """Which nodes were asked of, or are in one cluster with such."""
        return np.zeros(self.node_count, dtype=bool)

    @cached_property
    def clusters(self):
        """Each node's former cluster."""
        clusters = np.full(self.node_count, NOTHING, dtype=np.int32)
        for chunk in self.chunks("select identifier_seq, cluster_seq from former"):
            nodes, of_chunk = (column.to_numpy() for column in chunk.columns)
            clusters[nodes] = of_chunk
        return clusters

    def members(self, nodes):
        """Return these nodes and all that shared a cluster with one of them."""
        is_reached = np.zeros(self.node_count + 1, dtype=bool)
        is_reached[self.clusters[nodes]] = True
        is_reached[NOTHING] = False
        is_member = is_reached[self.clusters]
        is_member[nodes] = True
        self.is_member |= is_member
        return self.rows_of(np.flatnonzero(is_member))

    def rows_of(self, nodes):
        """Return what is known and was solved of nodes, which are sorted."""
        asked = "semi join asked using (identifier_seq)"
        known = self.ask(f"select {self.node_columns} from sightings {asked}", nodes)
        solved = self.ask(f"select {SOLVED_COLUMNS} from former {asked}", nodes)
        by_number = np.argsort(known["node"], kind="stable")
        places = np.searchsorted(nodes, solved["node"])

        def former(name, nothing, kind):
            column = np.full(len(nodes), nothing, dtype=kind)
            column[places] = solved[name]
            return column

        return graph_changes.Members(
            nodes=nodes.astype(np.int32),
            type_codes=known["type_code"][by_number],
            first_seen=known["first_seen"][by_number],
            keys=known["identifier_hash64"][by_number],
            anchors=former("anchor", NOTHING, np.int32),
            clusters=former("cluster", NOTHING, np.int32),
            degrees=former("degree", 0, np.int32),
            user_id_counts=former("user_ids", 0, np.int32),
            hub_reasons=former("hub_reason", graph.ACCEPTED, np.uint8),
        )

    def edges(self, nodes):
        """Return all links that begin or end in these nodes, which are known members.

        One pass over the links is long, so it brings those of all members so far.
        """
        if self.is_linked is None or not self.is_linked[nodes].all():
            self.is_linked = is_linked = self.is_member.copy()
            self.member_links = self.links(
                is_wanted=lambda columns: (
                    is_linked[columns["left_node"]] | is_linked[columns["right_node"]]
                )
            )
        links = self.member_links
        is_asked = np.zeros(self.node_count, dtype=bool)
        is_asked[nodes] = True
        rows = np.flatnonzero(is_asked[links.left] | is_asked[links.right])
        return graph.Edges(
            links.left[rows],
            links.right[rows],
            links.link_classes[rows],
            links.first_seen[rows],
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
