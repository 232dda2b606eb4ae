"""Any customer base can be evaluated, and one that cannot is told why."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.evaluate_scores import (
    GOALS,
    HORIZON,
    UnusablePurchasesError,
    choose_cutoffs,
    read_purchases,
)

DAY = date(2024, 3, 1)
EXPECTED = [("7", DAY, 15.5), ("8", DAY, 4.0), ("7", date(2024, 3, 2), 2.0)]


def write(folder: Path, suffix: str, **columns: Any) -> Path:
    path = folder / f"purchases.{suffix}"
    frame = pl.DataFrame(columns, strict=False)
    frame.write_parquet(path) if suffix == "parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("ids", [[7, 7, 8, 7], [7.0, 7.0, 8.0, 7.0], list("7787")])
@pytest.mark.parametrize(
    "moments",
    [
        [DAY, DAY, DAY, date(2024, 3, 2)],
        [datetime(2024, 3, 1, 9), datetime(2024, 3, 1, 21)] * 1
        + [datetime(2024, 3, 1), datetime(2024, 3, 2)],
        ["2024-03-01", "2024-03-01T23:59:59Z", "2024-03-01 07:30", "2024-03-02"],
    ],
)
def test_ids_and_days_of_any_type_are_the_same_purchases(
    tmp_path: Path, suffix: str, ids: list[Any], moments: list[Any]
) -> None:
    path = write(
        tmp_path,
        suffix,
        amount=[10, 5.5, 4, 2],
        purchased_on=moments,
        customer_id=ids,
        unrelated="x",
    )
    # what stands in a CSV is the name
    dot = ".0" if suffix == "csv" and isinstance(ids[0], float) else ""
    assert read_purchases(path).rows() == [
        (f"{customer}{dot}", *rest) for customer, *rest in EXPECTED
    ]


def test_leading_zeros_keep_customers_apart(tmp_path: Path) -> None:
    path = tmp_path / "purchases.csv"
    path.write_text(
        "customer_id,purchased_on,amount\n007,2024-03-01,1\n7,2024-03-01,2\n"
    )
    assert read_purchases(path)["customer_id"].to_list() == ["007", "7"]


def test_rows_that_are_no_purchase_are_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path,
        "csv",
        customer_id=["a", "a", "a", None, " ", "a", "a"],
        purchased_on=["2024-03-01", "2024-03-01", "soon", *["2024-03-01"] * 3, None],
        amount=["5", "-5", "5", "5", "5", "free", "5"],
    )
    assert read_purchases(path).rows() == [("a", DAY, 5.0)]
    assert "6 of 7 rows left out" in capsys.readouterr().out


def test_the_invoice_lines_of_online_retail_are_purchases(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    path.write_bytes(
        b"InvoiceNo,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
        b"536365,\xa3 BOX,6,12/1/2010 8:26,2.55,17850\n"
        b"536365,BOX,1,12/1/2010 8:26,1.00,17850\n"
        b"C536379,BOX,-1,12/1/2010 9:41,27.50,14527\n"
        b"536414,BOX,56,12/1/2010 11:52,0.00,\n"
    )
    assert read_purchases(path).rows() == [("17850", date(2010, 12, 1), 16.3)]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"client": ["a"], "amount": [1]},
            "lacks the columns customer_id, purchased_on",
        ),
        (
            {"customer_id": ["a"], "purchased_on": [20240301], "amount": [1]},
            "neither dates nor text",
        ),
        (
            {"customer_id": ["a"], "purchased_on": ["March"], "amount": [1]},
            "none of 1 rows",
        ),
    ],
)
def test_a_file_that_cannot_be_understood_is_told_why(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnusablePurchasesError, match=told):
        read_purchases(write(tmp_path, "parquet", **columns))
    with pytest.raises(UnusablePurchasesError, match="cannot be read"):
        read_purchases(tmp_path / "absent.csv")


def test_cutoffs_leave_a_horizon_ahead_and_two_behind() -> None:
    def choose(first: date, days: int) -> list[date]:
        last = first + timedelta(days=days - 1)
        return choose_cutoffs(pl.DataFrame({"purchased_on": [first, last]}))

    assert choose(DAY, 4 * HORIZON) == [
        DAY + timedelta(days=3 * HORIZON),
        DAY + timedelta(days=2 * HORIZON),
    ]
    assert choose(DAY, 3 * HORIZON) == [DAY + timedelta(days=2 * HORIZON)]
    with pytest.raises(UnusablePurchasesError, match="too short a history: 270 days"):
        choose(DAY, 3 * HORIZON - 1)
    assert choose(date(2010, 12, 1), 374) == list(GOALS)
