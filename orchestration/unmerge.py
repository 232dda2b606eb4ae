"""Takes a wrong merge apart by a deny rule, and tells what it had touched.

Nothing is changed but the seed of identity rules: the next run acts on it, on history
too. The report is what a run would part, seen from the tables of the last one.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ml import graph, union_find
from orchestration.warehouse import Connection, fetch_frame

RULE_FIELDS = (
    "rule",
    "identifier_type",
    "identifier",
    "linked_identifier_type",
    "linked_identifier",
    "reason",
)
CONTACT_TYPES = ("email", "phone")

MEMBERS = """
    select
        sightings.identifier_seq,
        sightings.identifier_type,
        sightings.identifier,
        epoch_us(sightings.first_seen_at) as first_seen,
        sightings.half_key,
        identity_map.profile_id
    from identity.identity_components as components
    inner join identity.identifier_sightings as sightings
        on components.identifier_seq = sightings.identifier_seq
    inner join identity.identity_map as identity_map
        on components.identifier_seq = identity_map.identifier_seq
    where components.cluster_seq = (
        select cluster_seq from identity.identity_components where identifier_seq = ?
    )
    order by sightings.identifier_seq
"""
LINKS = """
    select identifier_seq, linked_identifier_seq, link_class,
        epoch_us(first_seen_at) as first_seen
    from identity.identity_edges
    where
        identifier_seq in (select identifier_seq from members)
        and linked_identifier_seq in (select identifier_seq from members)
"""
PAIRS = """
    select rule, identifier_seq, linked_identifier_seq
    from identity.identity_rule_pairs
    where identifier_seq in (select identifier_seq from members)
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
    """
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
        raise UnmergeError(f"no identifier {text!r}; give it as identity_map shows it")
    if found.height > 1:
        types = " or ".join(f"{kind}:{text}" for kind in found["identifier_type"])
        raise UnmergeError(f"{text!r} is ambiguous: say {types}")
    return Identifier(*found.row(0))


def part(
    connection: Connection, one: Identifier, other: Identifier
) -> dict[str, pl.DataFrame]:
    """What a deny rule for the two would part, a table for each kind of trace.

    Raises:
        UnmergeError: if they are not in one profile.
    """
    if one.profile_id != other.profile_id:
        raise UnmergeError(f"{one} and {other} are not in one profile")
    sides = divide(connection, fetch_members(connection, one), one, other)
    connection.register("sides", sides.to_arrow())
    connection.execute(MOVED_MESSAGES, [one.profile_id])
    return {title: fetch_frame(connection, query) for title, query in REPORTS.items()}


def fetch_members(connection: Connection, one: Identifier) -> pl.DataFrame:
    """All identifiers of its cluster, by number."""
    return fetch_frame(connection, MEMBERS, [one.seq])


def divide(
    connection: Connection, members: pl.DataFrame, one: Identifier, other: Identifier
) -> pl.DataFrame:
    """The profile's identifiers, each with its `side`: the oldest it will be with."""
    connection.register("members", members.to_arrow())
    types = fetch_frame(connection, TYPES)
    links = fetch_frame(connection, LINKS)
    pairs = fetch_frame(connection, PAIRS)
    numbers = members["identifier_seq"].to_numpy()

    def places(seqs: pl.Series) -> union_find.Int32s:
        return np.searchsorted(numbers, seqs.to_numpy()).astype(np.int32)

    def limits(column: str) -> union_find.Int64s:
        return types[column].fill_null(graph.UNLIMITED).to_numpy().astype(np.int64)

    denied = pairs.filter(rule="deny").select("identifier_seq", "linked_identifier_seq")
    denied = denied.vstack(
        pl.DataFrame([(one.seq, other.seq)], schema=denied.schema, orient="row")
    )
    allowed = pairs.filter(rule="allow")
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
            keys=members["half_key"].to_numpy(),
        ),
        graph.Edges(
            left=places(links["identifier_seq"]),
            right=places(links["linked_identifier_seq"]),
            link_classes=links["link_class"].to_numpy().astype(np.uint8),
            first_seen=links["first_seen"].to_numpy(),
        ),
        # a cluster holds no hub but by a rule, and its degrees here are not all of them
        graph.MergeProtection(
            profile_limits=limits("profile_limit"),
            max_links=unlimited,
            max_user_ids=unlimited,
            user_id_code=types["identifier_type"].to_list().index("user_id"),
        ),
        graph.Rules(
            denied_left=places(denied["identifier_seq"]),
            denied_right=places(denied["linked_identifier_seq"]),
            allowed_left=places(allowed["identifier_seq"]),
            allowed_right=places(allowed["linked_identifier_seq"]),
        ),
    )
    anchors = members[solution.anchors]
    sides = [
        shown(*anchor)
        for anchor in anchors.select("identifier_type", "identifier").iter_rows()
    ]
    return (
        members.with_columns(side=pl.Series(sides))
        .filter(profile_id=one.profile_id)
        .select("identifier_seq", "identifier_type", "identifier", "profile_id", "side")
    )


def shown(identifier_type: str, identifier: str) -> str:
    """An identifier as it may be printed: of an email or phone only its ends."""
    if identifier_type in CONTACT_TYPES:
        identifier = f"{identifier[:2]}…{identifier[-4:]}"
    return f"{identifier_type}:{identifier}"


def deny(rules: Path, one: Identifier, other: Identifier, reason: str) -> None:
    """Add a deny rule for the two to the seed.

    Raises:
        UnmergeError: if the seed allows or denies the pair already.
    """
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
    with rules.open("a", newline="") as lines:
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
