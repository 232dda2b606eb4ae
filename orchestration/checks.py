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
