"""The read-only copy of the warehouse that BI tools open."""

import dagster as dg

from orchestration.resources import Home


@dg.asset(
    key=["published", "warehouse"],
    group_name="activations",
    deps=[
        dg.AssetKey(["activations", "sends"]),
        dg.AssetKey(["attribution", "lift"]),
        dg.AssetKey(["attribution", "experiment_lift"]),
        dg.AssetKey(["attribution", "channel_performance"]),
        dg.AssetKey(["attribution", "campaign_performance"]),
        dg.AssetKey(["attribution", "segment_performance"]),
        dg.AssetKey(["attribution", "step_performance"]),
        dg.AssetKey(["attribution", "path_performance"]),
        dg.AssetKey(["attribution", "profile_performance"]),
    ],
    owners=["data@example.com"],
    kinds={"duckdb"},
)
def published_warehouse(home: Home) -> dg.MaterializeResult[None]:
    """One file: the warehouse as the last finished run left it, swapped atomically."""
    target = home.published
    home.warehouse.publish(target)
    return dg.MaterializeResult(
        metadata={"size_bytes": target.stat().st_size, "path": str(target)}
    )
