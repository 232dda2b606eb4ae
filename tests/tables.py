"""What every table of a warehouse holds, as one line each, for comparisons."""

from pathlib import Path

import polars as pl

from orchestration.warehouse import Warehouse, fetch_frame

WALL_CLOCK_COLUMNS = ("landed_at", "latency", "modified_ns")
# identity's own numbers, given in order of arrival
INTERNAL_COLUMNS = ("_seq",)
TABLES = """
    select table_schema, table_name, column_name
    from information_schema.columns
    where table_schema <> 'information_schema'
    order by all
"""


def fingerprints(path: Path) -> dict[str, str]:
    """Row count and an order-free digest of the rows of each table."""
    with Warehouse(path).connect(read_only=True) as connection:
        columns = fetch_frame(connection, TABLES)
        digests = {}
        for (schema, table), names in columns.group_by(
            "table_schema", "table_name", maintain_order=True
        ):
            compared = [
                f'"{name}"'
                for name in names["column_name"]
                if not name.endswith(WALL_CLOCK_COLUMNS + INTERNAL_COLUMNS)
            ]
            if not compared:
                continue
            row = fetch_frame(
                connection,
                f"""
                select
                    count(*) as row_count,
                    coalesce(bit_xor(hash({", ".join(compared)})), 0)::varchar
                        as digest,
                    coalesce(sum(hash({", ".join(compared)})), 0)::varchar as checksum
                from {schema}.{table}
                """,
            ).row(0)
            digests[f"{schema}.{table}"] = " ".join(map(str, row))
    return digests


def newest_as_of(path: Path) -> str:
    """The moment of the newest recorded run, ISO 8601."""
    frame: pl.DataFrame = Warehouse(path).read("select max(as_of) from raw.runs")
    return str(frame.item().isoformat())
