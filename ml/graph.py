"""Connected components of the identity graph, as arrays of dense node numbers.

Knows nodes, edges and a limit; knows nothing of identifiers, files or the warehouse.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Nodes = NDArray[np.int64]


def smallest_members(node_count: int, left: Nodes, right: Nodes) -> Nodes:
    """Return for each node the smallest node that any path of edges leads to."""
    edges = coo_array(
        (np.ones(len(left), dtype=np.int8), (left, right)),
        shape=(node_count, node_count),
    )
    component_count, labels = connected_components(edges, directed=False)
    smallest = np.full(component_count, node_count, dtype=np.int64)
    np.minimum.at(smallest, labels, np.arange(node_count, dtype=np.int64))
    members: Nodes = smallest[labels]
    return members


def limited_members(
    node_count: int, left: Nodes, right: Nodes, is_limited: NDArray[np.bool_]
) -> Nodes:
    """Return each node's smallest fellow where no component holds two limited nodes.

    1. Solve the plain components.
    2. Keep those with at most one limited node: nothing in them can be wrong.
    3. In the others take the edges in the order given and leave out each edge that
       would bring two limited nodes together (Kruskal's rule with a limit).

    The order of the edges decides step 3, so it must be a total one.
    """
    roots = smallest_members(node_count, left, right)
    limited_counts = np.bincount(roots[is_limited], minlength=node_count)
    is_crowded = limited_counts > 1
    in_crowded = is_crowded[roots[left]]

    parents = {int(node): int(node) for node in np.flatnonzero(is_crowded[roots])}
    has_limited = {node: bool(is_limited[node]) for node in parents}

    def find(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for first, second in zip(
        left[in_crowded].tolist(), right[in_crowded].tolist(), strict=True
    ):
        older, younger = sorted((find(first), find(second)))
        if older == younger or (has_limited[older] and has_limited[younger]):
            continue
        parents[younger] = older
        has_limited[older] = has_limited[older] or has_limited[younger]

    for node in parents:
        roots[node] = find(node)
    return roots
