"""One row per channel: how much conversion would be lost without it."""

from ml.markov import removal_effects


def model(dbt, session):
    dbt.config(materialized="table")
    transitions = dbt.ref("path_transitions").pl()
    return removal_effects(transitions).to_arrow()
