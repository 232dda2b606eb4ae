"""Checks that hold only after activation: what was decided is what went out."""

import dagster as dg
from jinja2 import Template

from orchestration.dbt import DBT_FOLDER
from orchestration.resources import Home
from orchestration.warehouse import fetch_frame

SEND_LIST_EQUALS_LEDGER = DBT_FOLDER / "tests" / "assert_send_list_equals_ledger.sql"


@dg.asset_check(
    asset=dg.AssetKey(["activations", "sends"]),
    name="send_list_equals_ledger",
    blocking=True,
)
def send_list_equals_ledger(home: Home) -> dg.AssetCheckResult:
    """Every send ever listed is in the ledger, and nothing else is.

    The dbt test of that name, run here without the seconds that dbt takes to start.
    """
    query = Template(SEND_LIST_EQUALS_LEDGER.read_text()).render(
        config=lambda **_settings: "",
        ref=lambda model: f"decisions.{model}",
        source=lambda schema, table: f"{schema}.{table}",
    )
    with home.warehouse.connect(read_only=True) as connection:
        unequal = fetch_frame(connection, query)
    return dg.AssetCheckResult(
        passed=unequal.is_empty(), metadata={"unequal_count": unequal.height}
    )
