"""One row per pair of records that are likely one person, by what they say."""

import warnings

import polars as pl

from ml.matching import CANDIDATES, TooFewRecordsError, candidate_links, read_fields

ENDS = ("identifier_type", "identifier")


def model(dbt, session):
    """Propose links on what identify calls say; none where matching is off."""
    dbt.config(materialized="table")
    run = dbt.ref("stg_run").project("is_matching, match_threshold").pl()
    is_matching, threshold = run.row(0)
    fields = read_fields(dbt.ref("match_fields").pl())
    values = (
        dbt.ref("match_records")
        .pl()
        .with_columns(record_id=pl.concat_str(ENDS, separator="\x1f"))
    )

    candidates = pl.DataFrame(schema=CANDIDATES)
    if is_matching:
        records = values.pivot(
            "field",
            on_columns=list(fields),
            index=["record_id", "statement", "is_latest"],
            values="value",
        )
        try:
            candidates = candidate_links(records, fields)
        except TooFewRecordsError as reason:
            warnings.warn(f"no candidates: {reason}", stacklevel=1)

    ends = values.select("record_id", *ENDS).unique()
    linked_ends = ends.rename(lambda name: f"linked_{name}")
    return (
        candidates.join(ends, on="record_id")
        .join(linked_ends, on="linked_record_id")
        .select(
            *ENDS,
            *(f"linked_{name}" for name in ENDS),
            "match_weight",
            "match_probability",
            "agreed_on",
            is_accepted=pl.col("match_probability") >= threshold,
        )
        .sort(*ENDS, *(f"linked_{name}" for name in ENDS))
        .to_arrow()
    )
