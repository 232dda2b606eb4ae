"""What features and scores of a million profiles cost, beside copying what they read.

Floor: DuckDB reading the hours of activity from Parquet once and writing them as a
table. Every part is a process of its own, so that CPU and peak memory are its own;
`features` includes the start of dbt, `train and score` a new estimator for every
target, `score` everything else that a run does: propensities, expected revenue,
reasons and drift.
"""

import argparse
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from orchestration.warehouse import Warehouse
from tests.bench import Measure, measure
from tests.conftest import TestHome

HOURS = "activity_hours.parquet"
AS_OF = datetime(2026, 7, 1)
HISTORY_DAYS = 400
FLOOR = """
import duckdb, sys
hours, target = sys.argv[1:]
connection = duckdb.connect(target)
connection.execute("set preserve_insertion_order = false")
connection.execute(f"create table activity_hours as from '{hours}'")
"""
SCORE = """
import dagster as dg
from orchestration.assets.score import score
from tests.conftest import HomeAt
dg.materialize([score], resources={"home": HomeAt(as_of="2026-07-01")})
"""
COUNTED = (
    *("session", "product_view", "cart_add", "checkout", "online_order"),
    *("store_order", "refund", "cancellation", "coupon", "message_click"),
    *("message_open", "service_issue"),
)
MODELS = (
    *("training_cutoffs", "profile_rules", "cutoffs", "profile_cutoffs"),
    *("order_rhythms", "features", "labels"),
)


def simulate(profiles: int, seed: int = 1) -> pl.DataFrame:
    """Hours of activity of people who come and buy at rates of their own, then leave.

    One row per profile and hour, with the columns of `profiles.activity_hours`.
    """
    dice = np.random.default_rng(seed)
    visits = 1 + dice.geometric(1 / 12, profiles)
    person = np.repeat(np.arange(profiles), visits)
    came = dice.uniform(0, HISTORY_DAYS, profiles)
    stayed = np.minimum(dice.exponential(200, profiles), HISTORY_DAYS - came)
    day = came[person] + dice.random(person.size) * stayed[person]
    buys = dice.random(person.size) < dice.beta(1, 8, profiles)[person]
    amount = np.where(buys, np.round(dice.gamma(3, 15, person.size), 2), 0)
    began = AS_OF - timedelta(days=HISTORY_DAYS)
    seen = pl.lit(began) + pl.duration(seconds=pl.col("second"))
    counts = {name: np.zeros(person.size, dtype=np.int64) for name in COUNTED}
    counts["session"] += 1
    counts["product_view"] += dice.poisson(3, person.size)
    counts["cart_add"] += dice.random(person.size) < 0.2
    counts["online_order"] += buys
    return (
        pl.DataFrame({"person": person, "second": (day * 86_400).astype(np.int64)})
        .with_columns(
            pl.Series("amount", amount),
            *(pl.Series(f"{name}_count", count) for name, count in counts.items()),
        )
        .select(
            *(pl.col(f"{name}_count") for name in COUNTED),
            profile_id=pl.format("{}-profile", pl.col("person").hash(seed)),
            hour_at=seen.dt.truncate("1h"),
            first_seen_at=seen,
            last_seen_at=seen,
            last_session_at=seen,
            last_order_at=pl.when(pl.col("amount") > 0).then(seen),
            online_order_amount=pl.col("amount").cast(pl.Decimal(18, 2)),
            store_order_amount=pl.lit(0).cast(pl.Decimal(18, 2)),
            refund_amount=pl.lit(0).cast(pl.Decimal(18, 2)),
        )
    )


def prepare(root: Path, profiles: int) -> None:
    """Write the hours as Parquet, and a home with what features and labels read."""
    hours = root / HOURS
    simulate(profiles).write_parquet(hours)
    settings = TestHome(root / "home").settings
    with Warehouse(settings.warehouse).connect() as connection:
        for schema in ("staging", "identity", "profiles"):
            connection.execute(f"create schema if not exists {schema}")
        connection.execute(f"create table profiles.activity_hours as from '{hours}'")
        connection.execute(
            "create table identity.profile_events as select profile_id, "
            "first_seen_at as occurred_at, "
            "cast(row_number() over () as varchar) as message_id, "
            "online_order_count > 0 as is_order from profiles.activity_hours"
        )
        connection.execute(
            "create table staging.stg_orders as select message_id, "
            "occurred_at as ordered_at, 'completed' as status "
            "from identity.profile_events where is_order"
        )
        connection.execute(
            "create table profiles.overrides (profile_id varchar, override varchar, "
            "audience varchar, reason varchar)"
        )
        connection.execute(
            "create table staging.stg_run as select ? as as_of, "
            "? as training_cutoff_at, ? as horizons_days",
            [
                AS_OF,
                settings.training_cutoff(AS_OF),
                list(settings.horizon_days),
            ],
        )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.prepare:
        prepare(chosen.prepare, chosen.profiles)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # a process begins with the peak memory of its parent, which so stays small
        prepared = [sys.executable, "-m", __spec__.name, "--prepare", str(root)]
        measure([*prepared, "--profiles", str(chosen.profiles)])
        hours = root / HOURS
        floor = measure([sys.executable, "-c", FLOOR, str(hours), str(root / "floor")])
        environment = {"REKINDLE_HOME": str(root / "home")}
        parts = {
            "features": [
                *(sys.executable, "-m", "orchestration.cli", "dbt", "build"),
                *("--select", *MODELS),
                *("--exclude-resource-type", "test", "--exclude-resource-type"),
                "unit_test",
            ],
            "train and score": [sys.executable, "-c", SCORE],
            "score": [sys.executable, "-c", SCORE],
        }
        print(f"{chosen.profiles:,} profiles, {count_rows(hours):,} hours of activity")
        print(f"{'':18}{'wall / floor':>14}{'CPU / floor':>14}{'peak':>12}")
        tell("floor", floor, floor)
        for name, command in parts.items():
            tell(name, measure(command, **environment), floor)


def count_rows(file: Path) -> int:
    """The rows of a Parquet file."""
    rows: int = duckdb.sql(f"select count(*) from '{file}'").fetchall()[0][0]
    return rows


def tell(name: str, part: Measure, floor: Measure) -> None:
    """Print one part."""
    print(
        f"{name:18}{part.wall / floor.wall:>12.1f} ×{part.cpu / floor.cpu:>12.1f} ×"
        f"{part.peak_mib:>8,.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
