"""Plain components, without limits or denials: what the identity graph is paced by."""

from functools import partial

import numpy as np

from ml.graph_sets import in_parts
from ml.union_find import READ_AHEAD, Int32s, compiled, flatten, swap_if_same


class Components:
    """Plain components of a graph whose edges come batch by batch."""

    def __init__(self, node_count: int) -> None:
        self._parents: Int32s = np.arange(node_count, dtype=np.int32)

    def add(self, left: Int32s, right: Int32s) -> None:
        """Unite the ends of each pair; several threads may add at once."""
        unite(self._parents, left, right)

    def labels(self) -> Int32s:
        """The smallest node of each node's component; no pair may be added after."""
        parents = self._parents
        in_parts(len(parents), partial(flatten, parents))
        return parents


@compiled
def unite(parents: Int32s, left: Int32s, right: Int32s) -> int:
    """Unite the ends of every pair, under the smallest of their set.

    Rem's algorithm (M. Patwary, J. Blair, F. Manne, "Experiments on union-find
    algorithms for the disjoint-set data structure", 2010): climb from the end whose
    parent is greater. Several threads may unite in the same parents: a root is linked
    in one atomic step, and a way once climbed only ever gets shorter. The number
    returned says nothing: it keeps the reads ahead from being optimised away.
    """
    ahead = 0
    for begin in range(0, len(left), READ_AHEAD):
        end = min(begin + READ_AHEAD, len(left))
        for row in range(begin, end):
            ahead |= parents[left[row]] ^ parents[right[row]]
        for row in range(begin, end):
            one, two = left[row], right[row]
            of_one, of_two = parents[one], parents[two]
            while of_one != of_two:
                if of_one < of_two:
                    one, two, of_one, of_two = two, one, of_two, of_one
                above = parents[of_one]
                if of_one != one:
                    if above != of_one:
                        parents[one] = above
                    one, of_one = of_one, above
                elif swap_if_same(parents, one, of_one, of_two):
                    break
                else:
                    of_one = parents[one]
    return ahead
