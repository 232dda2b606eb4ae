"""Takes a wrong merge apart by a deny rule, and reports what it had touched.

Nothing is changed but the seed of identity rules: the next run acts on it, on history
too. The report is what a run would part, seen from the tables of the last one.
"""

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order

from ml import graph, union_find
from orchestration.settings import Settings
from orchestration.warehouse import Connection, fetch_frame, require_table, swapped

RULE_FIELDS = (
    "rule",
    "identifier_type",
    "identifier",
    "linked_identifier_type",
    "linked_identifier",
    "reason",
)
CONTACT_TYPES = ("email", "phone")
ENDS = ("identifier_seq", "linked_identifier_seq")
EVIDENCE = {
    0: "rule",
    1: "message, both strong",
    2: "message, one strong",
    3: "message, both weak",
    4: "match",
}
"""What each class of link stands on; 0 is an allowed pair."""

MEMBERS = """
    select
        sightings.identifier_seq,
        sightings.identifier_type,
        sightings.identifier,
        epoch_us(sightings.first_seen_at) as first_seen,
        sightings.identifier_hash64,
        components.hub_reason is not null as is_hub,
        identity_map.profile_id,
        substr(md5(sightings.identifier_type || '␟' || sightings.identifier), 1, 8)
            as own_profile
    from identity.identity_components as components
    inner join identity.identifier_activity as sightings
        on components.identifier_seq = sightings.identifier_seq
    inner join identity.identity_map as identity_map
        on components.identifier_seq = identity_map.identifier_seq
    where components.cluster_seq = (
        select cluster_seq from identity.identity_components where identifier_seq = ?
    )
    order by sightings.identifier_seq
"""
# A cluster holds a hub only where a rule allows it; its links are in no use.
LINKS = """
    select
        edges.identifier_seq,
        edges.linked_identifier_seq,
        edges.link_class,
        edges.first_seen_at,
        edges.evidence_count,
        edges.evidence_message_id
    from identity.identity_edges as edges
    inner join members as ends
        on edges.identifier_seq = ends.identifier_seq and not ends.is_hub
    inner join members as linked_ends
        on
            edges.linked_identifier_seq = linked_ends.identifier_seq
            and not linked_ends.is_hub
"""
PAIRS = """
    select pairs.rule, pairs.identifier_seq, pairs.linked_identifier_seq
    from identity.identity_rule_pairs as pairs
    semi join members on pairs.identifier_seq = members.identifier_seq
    semi join members as linked on pairs.linked_identifier_seq = linked.identifier_seq
"""
TYPES = "select * from seeds.identifier_types order by identifier_type"

# What the profile's own messages are worth to each side: a message goes with its
# strongest identifier, as in identity.profile_events.
MOVED_MESSAGES = """
    create or replace temp table moved_messages as
    select
        events.message_id,
        arg_min(sides.side, (
            identifiers.is_hub,
            identifiers.type_rank,
            identifiers.first_seen_at,
            identifiers.identifier
        )) as side
    from identity.profile_events as events
    inner join identity.message_identifier_sets as sets
        on events.message_id = sets.message_id
    inner join identity.identifier_set_members as set_members
        on sets.identifier_set_id = set_members.identifier_set_id
    inner join identity.identifiers as identifiers
        on
            set_members.identifier_type = identifiers.identifier_type
            and set_members.identifier = identifiers.identifier
    inner join sides on identifiers.identifier_seq = sides.identifier_seq
    where events.profile_id = ?
    group by events.message_id
"""
REPORTS = {
    "Who parts": """
        select side, identifier_type, count(*) as identifiers
        from sides group by all order by side, identifiers desc, identifier_type
    """,
    "Messages received, by side": """
        select
            moved.side,
            count(*) as messages,
            count(orders.order_id) as orders,
            sum(orders.base_revenue_amount) as revenue_amount
        from moved_messages as moved
        left join staging.stg_orders as orders
            on moved.message_id = orders.message_id
        group by moved.side order by moved.side
    """,
    "Messages sent to one side, and how many on the other's evidence": """
        select
            sides.side as sent_to,
            sends.channel,
            count(*) as sends,
            count(*) filter (moved.side <> sides.side) as on_evidence_of_the_other
        from decisions.send_list as sends
        inner join decisions.decisions as decisions
            on sends.decision_id = decisions.decision_id
        inner join sides
            on
                sends.identifier_type = sides.identifier_type
                and sends.identifier = sides.identifier
        left join moved_messages as moved
            on decisions.evidence_message_id = moved.message_id
        group by all order by sent_to, sends.channel
    """,
    "Scores and phase that both shared": """
        select
            round(scores.purchase_propensity, 3) as purchase_propensity,
            round(scores.churn_propensity, 3) as churn_propensity,
            scores.scored_by,
            phases.phase_name as phase,
            moved.side as phase_evidence_from
        from decisions.phases as phases
        left join ml.scores as scores on phases.profile_id = scores.profile_id
        left join moved_messages as moved
            on phases.evidence_message_id = moved.message_id
        where phases.profile_id in (select distinct profile_id from sides)
    """,
    "Credits of one side's orders for touches on the other": """
        with touch_sides as (
            select touchpoints.touchpoint_id, min(sides.side) as side
            from attribution.touchpoints as touchpoints
            inner join decisions.send_list as sends
                on touchpoints.send_id = sends.send_id
            inner join sides
                on
                    sends.identifier_type = sides.identifier_type
                    and sends.identifier = sides.identifier
            group by touchpoints.touchpoint_id
            union all
            select touchpoints.touchpoint_id, min(moved.side) as side
            from attribution.touchpoints as touchpoints
            inner join profiles.session_events as session_events
                on touchpoints.session_id = session_events.session_id
            inner join moved_messages as moved
                on session_events.message_id = moved.message_id
            where touchpoints.send_id is null
            group by touchpoints.touchpoint_id
        )
        select
            credits.attribution_model,
            count(distinct credits.conversion_id) as conversions,
            sum(credits.revenue_amount) as revenue_amount
        from attribution.credits as credits
        inner join attribution.conversions as conversions
            on credits.conversion_id = conversions.conversion_id
        inner join staging.stg_orders as orders
            on conversions.order_id = orders.order_id
        inner join moved_messages as moved on orders.message_id = moved.message_id
        inner join touch_sides on credits.touchpoint_id = touch_sides.touchpoint_id
        where touch_sides.side <> moved.side
        group by credits.attribution_model order by credits.attribution_model
    """,
}


class UnmergeError(Exception):
    """The two cannot be parted; the message says why and what to do."""


@dataclass(frozen=True)
class Identifier:
    """An identifier as the warehouse knows it."""

    seq: int
    identifier_type: str
    identifier: str
    profile_id: str

    def __str__(self) -> str:
        return shown(self.identifier_type, self.identifier)


def find_identifier(connection: Connection, text: str) -> Identifier:
    """The identifier meant by `value` or `type:value`.

    Raises:
        UnmergeError: if there is none, or several of different types.
        DatabaseError: if no run has resolved any identifier.
    """
    require_table(connection, "identity", "identity_map")
    found = fetch_frame(
        connection,
        """
        select identifier_seq, identifier_type, identifier, profile_id
        from identity.identity_map
        where $text in (identifier, identifier_type || ':' || identifier)
        order by identifier_type
        """,
        {"text": text.strip()},
    )
    if found.is_empty():
        raise UnmergeError(
            f"no identifier {text!r}; give one of identity_map, as it is there "
            "(value or type:value, not a profile's id)"
        )
    if found.height > 1:
        types = " or ".join(f"{kind}:{text}" for kind in found["identifier_type"])
        raise UnmergeError(f"{text!r} is ambiguous: say {types}")
    return Identifier(*found.row(0))


@dataclass(frozen=True)
class Cluster:
    """What would be one profile without limits and denials, a row each.

    `members` are in order of their number; `links` are those in use; `pairs` are the
    denied and allowed ones; `types` is the seed of identifier types, by name.
    """

    members: pl.DataFrame
    links: pl.DataFrame
    pairs: pl.DataFrame
    types: pl.DataFrame

    def places(self, seqs: pl.Series) -> union_find.Int32s:
        """The rows of members."""
        numbers = self.members["identifier_seq"].to_numpy()
        return np.searchsorted(numbers, seqs.to_numpy()).astype(np.int32)

    def ends(self, pairs: pl.DataFrame) -> tuple[union_find.Int32s, union_find.Int32s]:
        """The rows of both members of each pair."""
        one, other = (pairs[end] for end in ENDS)
        return self.places(one), self.places(other)


def fetch_cluster(connection: Connection, one: Identifier) -> Cluster:
    """The cluster of an identifier."""
    members = fetch_frame(connection, MEMBERS, [one.seq])
    connection.register("members", members.to_arrow())
    return Cluster(
        members, *(fetch_frame(connection, query) for query in (LINKS, PAIRS, TYPES))
    )


def part(
    connection: Connection, one: Identifier, other: Identifier
) -> dict[str, pl.DataFrame]:
    """Why the two are one, and what a deny rule for them would part, table by table.

    Raises:
        UnmergeError: if they are not in one profile, or a rule allows that they are.
    """
    if one.profile_id != other.profile_id:
        raise UnmergeError(f"{one} and {other} are not in one profile")
    cluster = fetch_cluster(connection, one)
    allowed = cluster.pairs.filter(rule="allow").select(ENDS).rows()
    if {one.seq, other.seq} in map(set, allowed):
        raise UnmergeError(
            f"a rule allows that {one} and {other} are one; take it out of the seed "
            "identity_rules first"
        )
    sides = divide(cluster, one, other)
    connection.register("sides", sides.to_arrow())
    connection.execute(MOVED_MESSAGES, [one.profile_id])
    return {
        "Why they are one": trace(cluster, one, other),
        **{title: fetch_frame(connection, query) for title, query in REPORTS.items()},
    }


def divide(cluster: Cluster, one: Identifier, other: Identifier) -> pl.DataFrame:
    """The profile's identifiers, each with its `side`: the oldest it will be with."""
    members, links, types = cluster.members, cluster.links, cluster.types
    denied = cluster.pairs.filter(rule="deny").select(ENDS)
    denied = denied.vstack(
        pl.DataFrame([(one.seq, other.seq)], schema=denied.schema, orient="row")
    )
    unlimited = np.full(types.height, graph.UNLIMITED, dtype=np.int64)
    solution = graph.solve(
        graph.Nodes(
            type_codes=members["identifier_type"]
            .replace_strict(
                types["identifier_type"],
                pl.Series(range(types.height)),
                return_dtype=pl.UInt8,
            )
            .to_numpy(),
            first_seen=members["first_seen"].to_numpy(),
            keys=members["identifier_hash64"].to_numpy(),
        ),
        graph.Edges(
            *cluster.ends(links),
            link_classes=links["link_class"].to_numpy().astype(np.uint8),
            first_seen=links["first_seen_at"].dt.epoch("us").to_numpy(),
        ),
        # a hub has no link left here, and of no other are all links here
        graph.MergeProtection(
            profile_limits=types["profile_limit"]
            .fill_null(graph.UNLIMITED)
            .to_numpy()
            .astype(np.int64),
            max_links=unlimited,
            max_user_ids=unlimited,
            user_id_code=types["identifier_type"].to_list().index("user_id"),
        ),
        graph.Rules(
            *cluster.ends(denied), *cluster.ends(cluster.pairs.filter(rule="allow"))
        ),
    )
    oldest = members[solution.anchors]
    sides = [
        f"{shown(*names)} ({own_profile})"
        for *names, own_profile in oldest.select(
            "identifier_type", "identifier", "own_profile"
        ).iter_rows()
    ]
    return (
        members.with_columns(side=pl.Series(sides))
        .filter(profile_id=one.profile_id)
        .select("identifier_seq", "identifier_type", "identifier", "profile_id", "side")
    )


def trace(cluster: Cluster, one: Identifier, other: Identifier) -> pl.DataFrame:
    """The fewest links and rules in their profile that lead from one to the other."""
    members = cluster.members
    inside = members.filter(profile_id=one.profile_id)["identifier_seq"].to_list()
    allowed = cluster.pairs.filter(rule="allow").with_columns(link_class=pl.lit(0))
    steps = pl.concat([cluster.links, allowed.drop("rule")], how="diagonal_relaxed")
    steps = steps.filter(pl.all_horizontal(pl.col(ENDS).is_in(inside)))
    left, right = cluster.ends(steps)
    links = coo_array((np.ones(len(left)), (left, right)), (members.height,) * 2)
    begin, place = cluster.places(pl.Series([one.seq, other.seq])).tolist()
    _, before = breadth_first_order(links.tocsr(), begin, directed=False)
    path = [place]
    while path[-1] != begin:
        path.append(int(before[path[-1]]))
    path.reverse()
    rows = {
        frozenset(pair): row
        for row, pair in enumerate(zip(left.tolist(), right.tolist(), strict=True))
    }
    names = pl.Series(
        shown(*name)
        for name in members.select("identifier_type", "identifier").iter_rows()
    )
    return steps[[rows[frozenset(pair)] for pair in itertools.pairwise(path)]].select(
        names[path[:-1]].alias("identifier"),
        names[path[1:]].alias("linked_identifier"),
        pl.col("link_class").replace_strict(EVIDENCE).alias("by"),
        "first_seen_at",
        "evidence_count",
        "evidence_message_id",
    )


def shown(identifier_type: str, identifier: str) -> str:
    """An identifier as it may be printed: of an email or phone only its ends."""
    if identifier_type in CONTACT_TYPES:
        identifier = f"{identifier[:2]}…{identifier[-4:]}"
    return f"{identifier_type}:{identifier}"


def deny(settings: Settings, one: Identifier, other: Identifier, reason: str) -> Path:
    """Add a deny rule for the two to the brand's own seed, made if there is none.

    Returns the file. It stands in the home: identifiers of people are no source code.

    Raises:
        UnmergeError: if the seed allows or denies the pair already.
    """
    rules = settings.seed("identity_rules")
    pair = {
        (one.identifier_type, one.identifier),
        (other.identifier_type, other.identifier),
    }
    with rules.open(newline="") as lines:
        for line, row in enumerate(csv.DictReader(lines), start=2):
            ends = (
                (row["identifier_type"], row["identifier"]),
                (
                    row["linked_identifier_type"],
                    row["linked_identifier"],
                ),
            )
            if set(ends) == pair:
                raise UnmergeError(
                    f"{rules}:{line} has a rule for the two: {row['rule']}; edit it"
                )
    text = rules.read_text()
    rules = settings.seeds / rules.name
    rules.parent.mkdir(parents=True, exist_ok=True)
    with swapped(rules) as partial, partial.open("w", newline="") as lines:
        lines.write(text if text.endswith("\n") else f"{text}\n")
        csv.DictWriter(lines, RULE_FIELDS, lineterminator="\n").writerow(
            {
                "rule": "deny",
                "identifier_type": one.identifier_type,
                "identifier": one.identifier,
                "linked_identifier_type": other.identifier_type,
                "linked_identifier": other.identifier,
                "reason": reason,
            }
        )
    return rules
