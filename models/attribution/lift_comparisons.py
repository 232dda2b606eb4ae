"""One row per trial, arm that is not its control, and metric: what the arm caused."""

from ml.lift import LiftRules, compare_arms


def model(dbt, session):
    dbt.config(materialized="table")
    arms = dbt.ref("lift_arms").pl()
    rules = dbt.ref("attribution_rules").pl().row(0, named=True)
    return compare_arms(
        arms,
        LiftRules(
            z_score=float(rules["lift_z_score"]),
            power=float(rules["lift_power"]),
            tuning_count=rules["lift_tuning_count"],
            smallest_ratio_p_value=float(rules["lift_smallest_ratio_p_value"]),
        ),
    ).to_arrow()
