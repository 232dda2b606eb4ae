"""Checks of tables by Dagster: all was understood, and what was decided went out."""

import dagster as dg
from jinja2 import Template

from orchestration.charts import markdown_table
from orchestration.dbt import DBT_FOLDER
from orchestration.resources import Home
from orchestration.warehouse import fetch_frame

SEND_LIST_EQUALS_LEDGER = DBT_FOLDER / "tests" / "assert_send_list_equals_ledger.sql"


@dg.asset_check(asset=dg.AssetKey(["staging", "not_understood"]))
def every_value_is_understood(home: Home) -> dg.AssetCheckResult:
    """Warns of what arrived and could not be read, the most frequent first."""
    with home.warehouse.connect(read_only=True) as connection:
        values = fetch_frame(
            connection,
            "select kind, value, event, count, suggestion, effect "
            "from staging.not_understood order by count desc, kind, value",
        )
    return dg.AssetCheckResult(
        passed=values.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"values that were not understood: {values.height}",
        metadata={
            "value_count": values.height,
            "values": markdown_table(values),
        },
    )


@dg.asset_check(asset=dg.AssetKey(["decisions", "breakers"]))
def no_breaker_is_open(home: Home) -> dg.AssetCheckResult:
    """Warns of each channel on which too many complain or are not reached."""
    with home.warehouse.connect(read_only=True) as connection:
        rows = fetch_frame(
            connection,
            "select channel, state, reason_detail, rate, warn_rate, stop_rate "
            "from decisions.breakers where state <> 'closed' "
            "order by state, channel, reason_detail",
        )
    said = (
        f"{row['channel']} {'is stopped' if row['state'] == 'stop' else 'may stop'}: "
        f"{row['reason_detail']}"
        for row in rows.to_dicts()
    )
    return dg.AssetCheckResult(
        passed=rows.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(said) or "no channel is about to stop",
        metadata={"open_count": rows.height, "breakers": markdown_table(rows)},
    )


@dg.asset_check(asset=dg.AssetKey(["raw", "stopped_channels"]))
def no_channel_is_stopped(home: Home) -> dg.AssetCheckResult:
    """Warns of each channel that somebody stopped by hand, until it is started."""
    with home.warehouse.connect(read_only=True) as connection:
        rows = fetch_frame(connection, "from raw.stopped_channels order by channel")
    said = ", ".join(rows["channel"])
    return dg.AssetCheckResult(
        passed=rows.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"stopped by hand: {said or 'none'}",
        metadata={"channel_count": rows.height, "channels": markdown_table(rows)},
    )


@dg.asset_check(
    asset=dg.AssetKey(["activations", "sends"]),
    name="send_list_equals_ledger",
    blocking=True,
)
def send_list_equals_ledger(home: Home) -> dg.AssetCheckResult:
    """Every send ever listed is in the ledger, and nothing else is.

    The dbt test of that name, run here without the seconds that dbt takes to start.
    What a dry run lists goes into no ledger.
    """
    query = Template(SEND_LIST_EQUALS_LEDGER.read_text()).render(
        config=lambda **_settings: "",
        ref=lambda model: f"decisions.{model}",
        source=lambda schema, table: f"{schema}.{table}",
    )
    with home.warehouse.connect(read_only=True) as connection:
        unequal = fetch_frame(connection, query)
    return dg.AssetCheckResult(
        passed=home.dry_run or unequal.is_empty(),
        metadata={"unequal_count": unequal.height},
    )
