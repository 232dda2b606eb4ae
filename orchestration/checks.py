"""Checks that hold only after activation: what was decided is what went out."""

import dagster as dg

from orchestration.assets.transform import AFTER_ACTIVATION
from orchestration.resources import Home, run_dbt


@dg.asset_check(
    asset=dg.AssetKey(["activations", "sends"]),
    name="send_list_equals_ledger",
    blocking=True,
)
def send_list_equals_ledger(home: Home) -> dg.AssetCheckResult:
    """Every send ever listed is in the ledger, and nothing else is."""
    try:
        run_dbt(home.settings, "test", "--select", AFTER_ACTIVATION)
    except RuntimeError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    return dg.AssetCheckResult(passed=True)
