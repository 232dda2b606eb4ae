"""What other tools open: the read-only copy of the warehouse, and tables as files."""

import dagster as dg

from orchestration.resources import Home
from orchestration.warehouse import write_parquet

MARTS = (
    *("profiles.profiles", "profiles.rfm", "profiles.consents", "ml.scores"),
    *("decisions.phases", "decisions.enrollments", "decisions.decisions"),
    *("activations.sends", "attribution.conversions", "attribution.touchpoints"),
    *("attribution.channel_performance", "attribution.campaign_performance"),
    *("attribution.segment_performance", "attribution.step_performance"),
    *("attribution.path_performance", "attribution.removal_effects"),
    *(
        "attribution.lift",
        "attribution.lift_comparisons",
        "attribution.experiment_lift",
    ),
)
"""What is worth a file of its own: people, what was decided, and what it earned."""


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


@dg.asset(
    key=["published", "marts"],
    group_name="activations",
    deps=[dg.AssetKey(["published", "warehouse"])],
    owners=["data@example.com"],
    kinds={"parquet"},
)
def published_marts(
    context: dg.AssetExecutionContext, home: Home
) -> dg.MaterializeResult[None]:
    """A Parquet file per table that tools without DuckDB read: Spark, pandas, sheets.

    A dry run, or one of the past, leaves those of the newest run as they are.
    """
    if home.is_aside:
        context.log.info("A dry run, or one of the past: the files stay as they are.")
        return dg.MaterializeResult()
    folder = home.settings.marts
    with home.warehouse.connect(read_only=True) as connection:
        for table in MARTS:
            write_parquet(connection, table, folder / f"{table}.parquet")
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(folder),
            "size_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        }
    )
