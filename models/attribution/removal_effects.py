"""One row per order of memory and channel: what would be lost without the channel."""

from ml.markov import removal_effects


def model(dbt, session):
    dbt.config(materialized="table")
    paths = dbt.ref("path_counts").pl()
    letters = dbt.ref("channel_letters").pl()
    return removal_effects(paths, letters).to_arrow()
