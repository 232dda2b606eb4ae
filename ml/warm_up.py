"""Compiles the kernels of the identity graph ahead of their first use, in seconds.

`python -m ml.warm_up` does what the first run would otherwise wait for.
"""

import numpy as np

from ml.graph import Edges, MergeProtection, Nodes, solve


def compile_kernels() -> None:
    """Solve a graph of two persons on one browser; the machine code stays on disk."""
    user_id, browser = 0, 1
    solve(
        Nodes(
            type_codes=np.array([user_id, browser, user_id], dtype=np.uint8),
            first_seen=np.arange(3, dtype=np.int64),
            keys=np.arange(3, dtype=np.uint64),
        ),
        Edges(
            left=np.array([0, 2], dtype=np.int32),
            right=np.array([1, 1], dtype=np.int32),
            link_classes=np.array([2, 2], dtype=np.uint8),
            first_seen=np.arange(2, dtype=np.int64),
        ),
        MergeProtection(
            profile_limits=np.array([1, 500]),
            max_links=np.array([500, 50]),
            max_user_ids=np.array([500, 2]),
            user_id_code=user_id,
        ),
    )


if __name__ == "__main__":
    compile_kernels()
