"""The warehouse file: one writer, short `with` blocks, never while dbt runs.

The only importer of duckdb. Frames go in and out as Arrow.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import duckdb
import polars as pl

from orchestration.settings import Settings

Connection = duckdb.DuckDBPyConnection
DatabaseError = duckdb.Error

# What the tables are written in: every DuckDB from 1.2 on opens the published copy.
STORAGE = "v1.2.0"
SCHEMAS = (
    "raw",
    "staging",
    "identity",
    "profiles",
    "ml",
    "decisions",
    "activations",
    "attribution",
)


# How DuckDB words that a file is not whole; one of a newer release is another matter.
DAMAGE = (
    "not a valid DuckDB database file",
    "Could not read enough bytes",
    "Corrupt database file",
    "computed checksum",
    "Failed to deserialize",
)
LONGEST_WAIT = 20.0
"""Seconds that a reader, or what a run that died had begun, may take to let go."""


class Warehouse:
    """A DuckDB file with one schema per verb of the loop."""

    def __init__(self, path: Path, options: Mapping[str, str] | None = None) -> None:
        """A file at `path`, opened with these settings of DuckDB over its own."""
        self.path = path
        self.options = dict(options or {})

    @classmethod
    def of(cls, settings: Settings, path: Path | None = None) -> Self:
        """A warehouse that runs of a home write: the main one, or that at `path`."""
        path = path or settings.warehouse
        options = {"temp_directory": str(settings.spill(path))}
        if settings.memory_limit:
            options["memory_limit"] = settings.memory_limit
        return cls(path, options)

    @contextmanager
    def connect(self, *, read_only: bool = False) -> Iterator[Connection]:
        """Open the file for a short block; a write block is one transaction.

        Raises:
            DatabaseError: if there is no file to read, it is damaged, or another
                process does not let go of it.
        """
        if read_only and not self.path.exists():
            raise DatabaseError(f"{self.path} is not there: `rekindle run` makes it")
        if not read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._open(read_only=read_only)
        try:
            connection.execute("set TimeZone = 'UTC'")
            if read_only:
                yield connection
            else:
                connection.execute("begin")
                for schema in SCHEMAS:
                    connection.execute(f"create schema if not exists {schema}")
                yield connection
                connection.execute("commit")
        finally:
            connection.close()

    def _open(self, *, read_only: bool) -> Connection:
        waits_until = time.monotonic() + LONGEST_WAIT
        while True:
            try:
                return duckdb.connect(
                    str(self.path),
                    read_only=read_only,
                    config={
                        **self.options,
                        "preserve_insertion_order": False,
                        # as it was created, so a file stays
                        "storage_compatibility_version": STORAGE,
                        # what is left of freed metadata, DuckDBs before 1.4.2 follow
                        "experimental_metadata_reuse": False,
                    },
                )
            except duckdb.Error as error:
                if any(sign in str(error) for sign in DAMAGE):
                    raise DatabaseError(
                        f"{self.path} is damaged: `rekindle reconcile` sets it aside, "
                        "and the next run builds it anew from landing and ledger; "
                        f"or restore a backup. {' '.join(str(error).split())}"
                    ) from None
                is_held = "Could not set lock" in str(error)
                if not is_held or time.monotonic() > waits_until:
                    raise
                time.sleep(0.1)

    def read(self, query: str, parameters: object = None) -> pl.DataFrame:
        """The rows of one query as a frame."""
        with self.connect(read_only=True) as connection:
            return fetch_frame(connection, query, parameters)

    def fold_log(self) -> str:
        """Bring what was committed from the log into the file; returns its storage."""
        with self._open(read_only=False) as connection:
            connection.execute("checkpoint")
            storage = connection.execute(
                "select tags['storage_version'] from duckdb_databases() "
                "where database_name = current_database()"
            ).fetchall()
        return str(storage[0][0])

    def publish(self, target: Path) -> None:
        """Swap a copy of the file into `target`; readers see the old or the new."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self.fold_log().startswith(STORAGE):
            self.rewrite()
        with swapped(target) as partial:
            shutil.copyfile(self.path, partial)

    def rewrite(self) -> None:
        """Write a file anew that something else than this class created."""
        with (
            swapped(self.path) as partial,
            duckdb.connect(config={**self.options}) as connection,
        ):
            connection.execute(f"attach '{quoted(self.path)}' as newer (read_only)")
            connection.execute(
                f"attach '{quoted(partial)}' as rewritten (storage_version '{STORAGE}')"
            )
            connection.execute("copy from database newer to rewritten")


def write_parquet(connection: Connection, table: str, target: Path) -> None:
    """Swap the rows of a table, in an order of their own, into a Parquet file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with swapped(target) as partial:
        connection.execute(
            f"copy (select * from {table} order by all) to '{quoted(partial)}' "
            "(format parquet, compression zstd)"
        )


def quoted(path: Path) -> str:
    """A path as it stands within a text of SQL, which takes no parameter there."""
    return str(path).replace("'", "''")


@contextmanager
def swapped(target: Path) -> Iterator[Path]:
    """Give a path to write, which takes the place of `target` once it is on disk."""
    partial = target.with_suffix(".tmp")
    partial.unlink(missing_ok=True)
    yield partial
    with partial.open("rb+") as copy:
        os.fsync(copy.fileno())
    partial.replace(target)


def fetch_frame(
    connection: Connection, query: str, parameters: object = None
) -> pl.DataFrame:
    """The rows of one query as a frame, on an open connection."""
    frame: pl.DataFrame = connection.sql(query, params=parameters).pl()
    return frame


def has_table(connection: Connection, schema: str, table: str) -> bool:
    """Whether the warehouse holds a table or view of that name."""
    found = connection.execute(
        "select 1 from information_schema.tables "
        "where table_schema = ? and table_name = ?",
        [schema, table],
    ).fetchall()
    return bool(found)


def require_table(connection: Connection, schema: str, table: str) -> None:
    """Refuse a warehouse that no run has built as far as a table.

    Raises:
        DatabaseError: naming the table.
    """
    if not has_table(connection, schema, table):
        raise DatabaseError(f"{schema}.{table} is not there: `rekindle run` makes it")


def replace_table(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    """Make `table` hold exactly the rows of `frame`, with the frame's types."""
    connection.register("incoming", frame.to_arrow())
    connection.execute(f"create or replace table {table} as select * from incoming")
    connection.unregister("incoming")
