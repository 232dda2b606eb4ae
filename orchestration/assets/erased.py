"""Who bears an identifier of a person who was erased: nobody may write to them."""

import dagster as dg

from orchestration.columns import documented
from orchestration.erasures import TOKEN, read_erasures
from orchestration.resources import Home
from orchestration.warehouse import fetch_frame, replace_table

COLUMNS = {
    "profile_id": ("varchar", "Key: the profile."),
    "erased_at": ("timestamp", "When the person was last erased, UTC."),
}
# The orders that stay of an erased person are under an id that nobody has.
ERASED_PROFILES = f"""
    select profile_id, max(erased_at) as erased_at
    from (
        select identity_map.profile_id, erased.erased_at
        from identity.identity_map as identity_map
        inner join erased
            on
                keyed_hash(identity_map.identifier_type, identity_map.identifier)
                = erased.hmac
        union all
        select profile_id, linked_at as erased_at
        from identity.identity_map
        where
            identifier_type = 'anonymous_id' and starts_with(identifier, '{TOKEN}')
    )
    group by profile_id
    order by profile_id
"""


@dg.asset(
    key=["identity", "erased_profiles"],
    group_name="identity",
    description=(
        "One row per profile that bears an identifier of a person who was erased, or "
        "holds what stays of their orders: never written to."
    ),
    owners=["data@example.com"],
    kinds={"python", "duckdb"},
    deps=[dg.AssetKey(["identity", "identity_map"])],
    metadata={
        "dagster/table_name": "identity.erased_profiles",
        "dagster/column_schema": documented(COLUMNS),
    },
)
def erased_profiles(
    context: dg.AssetExecutionContext, home: Home
) -> dg.MaterializeResult[None]:
    """Hold every identifier against the hashes of those that were erased."""
    erasures = read_erasures(home.settings.erasures)
    with home.warehouse.connect() as connection:
        erasures.bring(connection)
        rows = fetch_frame(connection, ERASED_PROFILES)
        replace_table(connection, "identity.erased_profiles", rows)
    home.record(context)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows.height})
