"""Plain components by SQL alone, for a warehouse without compiled kernels.

Randomised contraction (H. Bögeholz, M. Brand, R.-A. Todor, "In-database connected
component analysis", 2018): each round lets every node follow the neighbour, or itself,
whose hash is smallest, and joins the edges anew between those who are followed. A fresh
order each round makes chains short, whoever numbered them. Knows no protection.
"""

from collections.abc import Callable, Sequence
from typing import Any

Execute = Callable[[str], Sequence[Sequence[Any]]]

MAX_ROUNDS = 200

START = """
create or replace temporary table contraction_edges as
select {left} as node, {right} as neighbour from {edges} where {left} <> {right}
union
select {right} as node, {left} as neighbour from {edges} where {left} <> {right}
"""
ALONE = """
create or replace temporary table contraction_labels as
select {left} as node, {left} as label from {edges}
union
select {right} as node, {right} as label from {edges}
"""
FOLLOW = """
create or replace temporary table contraction_leaders as
select
    node,
    case
        when min({neighbour_hash}) < min({node_hash}) then
            arg_min(neighbour, {neighbour_hash})
        else node
    end as leader
from contraction_edges
group by node
"""
CONTRACT = """
create or replace temporary table contraction_edges as
select distinct
    ours.leader as node,
    theirs.leader as neighbour
from contraction_edges as edges
inner join contraction_leaders as ours on edges.node = ours.node
inner join contraction_leaders as theirs on edges.neighbour = theirs.node
where ours.leader <> theirs.leader
"""
RELABEL = """
create or replace temporary table contraction_labels as
select
    labels.node,
    coalesce(leaders.leader, labels.label) as label
from contraction_labels as labels
left join contraction_leaders as leaders on labels.label = leaders.node
"""
FINISH = """
create or replace table {target} as
with smallest as (
    select label, min(node) as component from contraction_labels group by label
)

select labels.node, smallest.component
from contraction_labels as labels
inner join smallest on labels.label = smallest.label
"""


def contract(
    execute: Execute,
    *,
    edges: str,
    left: str,
    right: str,
    target: str,
    hash_of: str = "hash({})",
) -> int:
    """Write one row per node of `edges`: its smallest fellow; return the rounds taken.

    `edges` is a table of integers `left` and `right`, `target` the table to write with
    columns node and component. `hash_of` is the warehouse's hash of an integer, with {}
    for the expression. Nodes that no edge names are not written. Raises RuntimeError if
    the edges do not run out, which a hash that ignores its input would cause.
    """
    names = {"edges": edges, "left": left, "right": right, "target": target}
    execute(START.format(**names))
    execute(ALONE.format(**names))
    for done in range(MAX_ROUNDS):
        if not execute("select count(*) from contraction_edges")[0][0]:
            execute(FINISH.format(**names))
            for table in ("edges", "leaders", "labels"):
                execute(f"drop table if exists contraction_{table}")
            return done
        # a whole new order each round: neighbours in number must not stay so
        salt = f" + {(done + 1) * 7_919_777_777}"
        execute(
            FOLLOW.format(
                neighbour_hash=hash_of.format("neighbour" + salt),
                node_hash=hash_of.format("node" + salt),
            )
        )
        execute(CONTRACT)
        execute(RELABEL)
    raise RuntimeError(f"edges left after {MAX_ROUNDS} rounds")
