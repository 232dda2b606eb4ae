"""What is published opens in older DuckDBs, and in tools that have none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration.assets.publish import MARTS
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome

READERS = Path(sys.prefix) / "readers"
COUNT_ROWS = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("set enable_progress_bar = false")
tables = connection.execute(
    "select table_schema, table_name from information_schema.tables"
).fetchall()
counts = {}
for schema, table in tables:
    rows, _ = connection.execute(
        f'select count(*), bit_xor(hash(rows)) from "{schema}"."{table}" as rows'
    ).fetchall()[0]
    counts[f"{schema}.{table}"] = rows
print(json.dumps(counts))
"""
ALL_KINDS = """
    create schema kept;
    create table kept.kinds as
    select
        range as id,
        'text ' || range as words,
        [range, range + 1] as numbers,
        {'a': range, 'b': 'x'} as pair,
        cast('{"a": 1}' as json) as document,
        cast(range as decimal(38, 9)) as amount,
        cast(range as uhugeint) as large,
        timestamp '2026-01-01' + interval (range) minute as at,
        date '2026-01-01' as on_day,
        range % 2 = 0 as is_even,
        range / 7 as share
    from range(5000);
    create table kept.constrained (id integer not null, amount decimal(18, 2));
    insert into kept.constrained values (1, 2.50);
    create view kept.seen as
    select words, list_sum(numbers) as total, document ->> 'a' as a from kept.kinds
    qualify row_number() over (partition by is_even order by id) <= 10;
"""


@pytest.fixture(params=["1.2", "1.4", "1.5"])
def reader(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment that holds nothing but an older DuckDB."""
    found = sorted(READERS.glob(f"{request.param}.*/bin/python"))
    if not found:
        missing = f"no DuckDB {request.param} beside this Python: `make readers`"
        if os.environ.get("REKINDLE_TEST_READERS") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return found[-1]


def counted(python: Path | str, database: Path) -> dict[str, int]:
    """The rows of every table and view, each of their values read."""
    finished = subprocess.run(
        [str(python), "-c", COUNT_ROWS, str(database)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not finished.returncode, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("creator", ["the warehouse", "something newer"])
def test_an_older_duckdb_reads_every_kind_of_column(
    reader: Path, tmp_path: Path, creator: str
) -> None:
    warehouse = Warehouse(tmp_path / "it's here" / "warehouse.duckdb")
    if creator == "the warehouse":
        with warehouse.connect() as connection:
            connection.execute(ALL_KINDS)
    else:
        warehouse.path.parent.mkdir()
        with duckdb.connect(str(warehouse.path)) as connection:
            connection.execute(ALL_KINDS)
    published = tmp_path / "published" / "warehouse.duckdb"
    warehouse.publish(published)
    expected = {"kept.kinds": 5000, "kept.constrained": 1, "kept.seen": 20}
    assert counted(reader, published) == expected
    assert not published.stat().st_mode & 0o077

    with warehouse.connect() as connection:
        connection.execute("insert into kept.constrained values (2, 3.50)")
    assert counted(reader, published) == expected
    warehouse.publish(published)
    assert counted(reader, published) == {**expected, "kept.constrained": 2}
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"warehouse.duckdb"}


def test_an_older_duckdb_reads_tables_that_grew_while_others_went(
    reader: Path, tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")

    def wide(rows: int) -> str:
        columns = ", ".join(f"(range // 1000)::int as c{i}" for i in range(220))
        return f"select {columns} from range({rows})"

    with warehouse.connect() as connection:
        for table in ("growing", "slowly_growing"):
            connection.execute(f"create table raw.{table} as {wide(400_000)}")
    for _ in range(4):
        with warehouse.connect() as connection:
            for table, rows in (("growing", 50_000), ("slowly_growing", 10)):
                connection.execute(f"insert into raw.{table} {wide(rows)}")
            for i in range(0, 20, 2):
                connection.execute(f"create or replace table raw.b{i} as {wide(100)}")
    with warehouse.connect() as connection:
        connection.execute(f"insert into raw.growing {wide(50_000)}")
        for i in range(0, 20, 2):
            connection.execute(f"drop table raw.b{i}")
    warehouse.publish(tmp_path / "published" / "warehouse.duckdb")
    counts = counted(reader, tmp_path / "published" / "warehouse.duckdb")
    assert counts == {"raw.growing": 650_000, "raw.slowly_growing": 400_040}


def test_an_older_duckdb_reads_all_that_the_demo_published(
    demo_home: TestHome, reader: Path
) -> None:
    published = demo_home.settings.published
    assert counted(reader, published) == counted(sys.executable, published)


@pytest.mark.parametrize("table", MARTS)
def test_a_mart_is_its_table_and_its_owners_alone(
    demo_home: TestHome, table: str
) -> None:
    path = demo_home.settings.marts / f"{table}.parquet"
    assert path.stat().st_mode & 0o777 == 0o600
    rows = demo_home.read(f"select * from {table} order by all")
    assert not rows.is_empty()
    assert pl.read_parquet(path).equals(rows)
