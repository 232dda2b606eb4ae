"""One row per identifier that a trusted link joins to another: its component."""

import numpy as np
import pyarrow as pa

from ml.graph import limited_members


def model(dbt, session):
    """Solve the identity graph: a hub links nobody, a profile has one user id."""
    dbt.config(materialized="table")

    identifiers = dbt.ref("identifiers")
    user_ids = identifiers.filter("identifier_type = 'user_id'").project(
        "identifier_seq"
    )
    edges = (
        dbt.ref("identity_edges")
        .filter("not is_hub_link")
        .order("link_class, first_seen_at, identifier_seq, linked_identifier_seq")
        .project("identifier_seq, linked_identifier_seq")
    )

    is_user_id = np.zeros(identifiers.shape[0], dtype=np.bool_)
    is_user_id[user_ids.fetchnumpy()["identifier_seq"]] = True
    ends = edges.fetchnumpy()
    left, right = ends["identifier_seq"], ends["linked_identifier_seq"]
    components = limited_members(len(is_user_id), left, right, is_user_id)

    linked = np.unique(np.concatenate([left, right]))
    return pa.table({"identifier_seq": linked, "component_seq": components[linked]})
