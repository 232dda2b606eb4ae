"""How well purchase propensity ranks and promises on a real customer base.

Run with `make evaluate PURCHASES=file`: a Parquet or CSV file with one row per purchase
(`customer_id`, text or number; `purchased_on`, a date, a moment or its ISO 8601 text;
`amount`), or the invoice lines of UCI Online Retail as they are published. Rows without
a customer, a day or a positive amount are counted and left out. Purchases go the way
that any other goes: landed, staged, resolved, profiled, learnt from. What came after
the cutoff is not landed at all.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from ml import encoding, evaluation, propensity
from ml.evaluation import Metrics
from ml.learners import LEARNERS
from orchestration.warehouse import Warehouse, fetch_frame
from tests.conftest import TestHome
from tests.resolving import resolve

HORIZON = 90
# AUC and log-loss to reach on Online Retail; a difference of TIE in AUC is none.
GOALS = {
    date(2011, 9, 10): (0.743, 0.595),
    date(2011, 6, 12): (0.760, 0.591),
}
TIE = 0.002
# Of either outcome, to learn from and to test on.
FEWEST = 10
MODELS = ("path:seeds", "staging", "identity", "+labels")
EXAMPLES = """
    select features.*
    from profiles.features
    inner join profiles.profile_cutoffs using (profile_id, cutoff_at)
    where profile_cutoffs.is_training = {}
"""


class UnusablePurchasesError(Exception):
    """Nothing in the file could be evaluated; the message names what it lacks."""


def read_purchases(path: Path) -> pl.DataFrame:
    """One row per customer and day with a purchase: what it spent.

    Raises:
        UnusablePurchasesError: if the file or its columns cannot be understood.
    """
    try:
        lines = (
            pl.read_parquet(path)
            if path.suffix == ".parquet"
            # as text, so that 007 and 7 stay two customers
            else pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnusablePurchasesError(f"{path} cannot be read: {error}") from error
    if "InvoiceNo" in lines.columns:
        lines = lines.filter(
            ~pl.col("InvoiceNo").cast(pl.String).str.starts_with("C"),
            pl.col("Quantity").cast(pl.Float64) > 0,
        ).select(
            customer_id="CustomerID",
            purchased_on="InvoiceDate",
            amount=pl.col("Quantity").cast(pl.Float64)
            * pl.col("UnitPrice").cast(pl.Float64),
        )
    missing = {"customer_id", "purchased_on", "amount"} - set(lines.columns)
    if missing:
        raise UnusablePurchasesError(
            f"{path} lacks the columns {', '.join(sorted(missing))}; it has "
            f"{', '.join(lines.columns)}"
        )
    read = lines.select(
        to_customer(lines["customer_id"]),
        to_day(lines["purchased_on"]),
        pl.col("amount").cast(pl.Float64, strict=False).fill_nan(None),
    )
    usable = read.drop_nulls().filter(
        pl.col("amount") > 0, pl.col("amount").is_finite()
    )
    if usable.is_empty():
        raise UnusablePurchasesError(
            f"none of {read.height:,} rows has a customer, a day like 2026-01-31 and a "
            "positive amount"
        )
    if usable.height < read.height:
        print(
            f"{read.height - usable.height:,} of {read.height:,} rows left out: no "
            "customer, no day or no positive amount"
        )
    return (
        usable.group_by("customer_id", "purchased_on")
        .agg(pl.col("amount").sum().round(2))
        .sort("purchased_on", "customer_id")
    )


def to_customer(ids: pl.Series) -> pl.Series:
    """Each customer as text; a whole number is the same however it is stored."""
    if ids.dtype.is_float():
        ids = ids.fill_nan(None).cast(pl.Int64)
    texts = ids.cast(pl.String).str.strip_chars()
    return texts.set(texts == "", None).alias("customer_id")


def to_day(moments: pl.Series) -> pl.Series:
    """The day of each purchase; null where it is none."""
    if moments.dtype == pl.String:
        month_first = moments.str.extract(r"^(\d{1,2}/\d{1,2}/\d{4}) ")
        days = moments.str.head(10).str.to_date("%Y-%m-%d", strict=False)
        moments = days.fill_null(month_first.str.to_date("%m/%d/%Y", strict=False))
    if not moments.dtype.is_temporal():
        raise UnusablePurchasesError(
            f"purchased_on holds {moments.dtype}, neither dates nor text"
        )
    return moments.cast(pl.Date).alias("purchased_on")


def choose_cutoffs(purchases: pl.DataFrame) -> list[date]:
    """Those with goals for Online Retail, else the newest two with a horizon ahead.

    Raises:
        UnusablePurchasesError: if the history is too short for one.
    """
    first, last = purchases["purchased_on"].min(), purchases["purchased_on"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    known = [cutoff for cutoff in GOALS if can_be_tested(cutoff, first, last)]
    newest = last + timedelta(days=1 - HORIZON)
    found = known or [
        cutoff
        for cutoff in (newest, newest - timedelta(days=HORIZON))
        if can_be_tested(cutoff, first, last)
    ]
    if not found:
        raise UnusablePurchasesError(
            f"purchases from {first} to {last} are too short a history: "
            f"{3 * HORIZON} days are needed, a horizon of {HORIZON} days to look back "
            "on, one to learn from and one to test on"
        )
    return found


def can_be_tested(cutoff: date, first: date, last: date) -> bool:
    """Whether two horizons lie before a cutoff and one after it."""
    horizon = timedelta(days=HORIZON)
    return first <= cutoff - 2 * horizon and cutoff + horizon <= last + timedelta(
        days=1
    )


def land_purchases(purchases: pl.DataFrame, home: TestHome) -> None:
    """Write them as completed orders."""
    with (home.settings.landing / "purchases.ndjson").open("w") as file:
        for row in purchases.iter_rows(named=True):
            order = f"{row['customer_number']}/{row['purchased_on']}"
            moment = f"{row['purchased_on']}T00:00:00Z"
            event = {
                "messageId": order,
                "type": "track",
                "event": "Order Completed",
                "userId": f"customer-{row['customer_number']}",
                "timestamp": moment,
                "receivedAt": moment,
                "properties": {
                    "order_id": order,
                    "currency": "USD",
                    "revenue": row["amount"],
                },
            }
            file.write(json.dumps(event) + "\n")


def evaluate(purchases: pl.DataFrame, cutoff: date, folder: Path) -> None:
    """Learn from what was known at the cutoff and print how the next days went.

    Raises:
        UnusablePurchasesError: if there is too little to learn from or to test on.
    """
    # of what an id looks like, identity makes something of its own
    purchases = purchases.with_columns(
        customer_number=pl.col("customer_id").rank("dense")
    )
    home = TestHome(folder / str(cutoff) / "home")
    home.settings = home.settings.model_copy(
        update={"horizon_days": (HORIZON,), "retrain_days": 1}
    )
    land_purchases(purchases.filter(pl.col("purchased_on") < cutoff), home)
    # midnight itself is the first moment that is not known
    as_of = datetime(cutoff.year, cutoff.month, cutoff.day)
    resolve(home, as_of, MODELS)
    with Warehouse(home.settings.warehouse).connect(read_only=True) as connection:
        features = fetch_frame(connection, EXAMPLES.format("true"))
        current = fetch_frame(connection, EXAMPLES.format("false"))
        labels = fetch_frame(connection, "select * from profiles.labels")
        customers = fetch_frame(
            connection,
            "select identifier as customer, profile_id from identity.identity_map",
        )
    until = cutoff + timedelta(days=HORIZON)
    later = purchases.filter(
        pl.col("purchased_on").is_between(cutoff, until, closed="left")
    ).select(customer="customer-" + pl.col("customer_number").cast(pl.String))
    current = current.join(customers, on="profile_id").with_columns(
        has_happened=pl.col("customer").is_in(later["customer"].implode())
    )
    outcomes = propensity.to_outcomes(current)
    target, *_ = propensity.list_targets([HORIZON])
    examples = propensity.examples_of(target, features, labels)
    columns = encoding.feature_columns(features)
    for name, happened in (
        ("learn from", propensity.to_outcomes(examples)),
        ("test on", outcomes),
    ):
        if not propensity.has_outcomes(happened, FEWEST):
            raise UnusablePurchasesError(
                f"{cutoff}: of {happened.size:,} customers to {name}, "
                f"{happened.sum():,} bought within {HORIZON} days; at least {FEWEST} "
                "must have, and as many must not"
            )
    learnt_from = examples["cutoff_at"].unique().sort().dt.date().to_list()
    print(
        f"\n{cutoff}: {current.height:,} customers, {outcomes.mean():.1%} bought "
        f"within {HORIZON} days; learnt from {', '.join(map(str, learnt_from))}"
    )

    def measure(name: str, learners: Sequence[str]) -> Metrics:
        fitted = propensity.fit(examples, target, columns, learners)
        ahead = encoding.encode(target.look_ahead(current), fitted.columns)
        metrics = evaluation.evaluate(outcomes, fitted.predict_proba(ahead)[:, 1])
        print(
            f"  {name:10} AUC {metrics.auc:.4f}  log-loss {metrics.log_loss:.4f}  "
            f"ECE {metrics.calibration_error:.3f}  "
            f"in the large {metrics.calibration_in_the_large:+.3f}"
        )
        return metrics

    for learner in LEARNERS:
        measure(learner, (learner,))
    blend = measure("blend", LEARNERS)
    released = propensity.train(features, labels, current, as_of, [HORIZON])
    first = released.predictors[0]
    print(f"  in use: {first.scored_by}, {first.refusal or 'released'}")
    print(f"  {first.verdict}")
    if cutoff in GOALS:
        auc, log_loss = GOALS[cutoff]
        for name, margin in (
            ("AUC", blend.auc - auc + TIE),
            ("log-loss", log_loss - blend.log_loss),
        ):
            print(
                f"  {name} {'reached' if margin >= 0 else f'missed by {-margin:.4f}'}"
            )


def main() -> None:
    """Evaluate one customer base at one or more cutoffs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purchases", type=Path)
    parser.add_argument("cutoffs", type=date.fromisoformat, nargs="*")
    chosen = parser.parse_args()
    try:
        purchases = read_purchases(chosen.purchases)
        with tempfile.TemporaryDirectory() as folder:
            for cutoff in chosen.cutoffs or choose_cutoffs(purchases):
                evaluate(purchases, cutoff, Path(folder))
    except UnusablePurchasesError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
