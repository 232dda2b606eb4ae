"""One row per way of choosing channels: the answers it would have earned."""

from ml.off_policy import score_policies


def model(dbt, session):
    dbt.config(materialized="table")
    trials = dbt.ref("logged_policy_actions").pl()
    rules = dbt.ref("channel_rules").pl()
    return score_policies(trials, sorted(rules["channel"])).to_arrow()
