"""Which columns a column of a model comes from, read off the compiled SQL."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from orchestration.warehouse import Connection, fetch_frame

Columns = dict[str, dict[str, dict[str, str]]]
"""schema → table → column → type"""
Origins = Mapping[str, list[tuple[str, str, str]]]
"""column → (schema, table, column) of each column that it comes from"""

DIALECT = "duckdb"


def read_columns(connection: Connection) -> Columns:
    """The columns of every table of the warehouse."""
    frame: pl.DataFrame = fetch_frame(
        connection,
        """
        select table_schema, table_name, column_name, data_type
        from information_schema.columns
        """,
    )
    columns: Columns = {}
    for schema, table, column, kind in frame.iter_rows():
        columns.setdefault(schema, {}).setdefault(table, {})[column] = kind
    return columns


def read_origins(sql: str, columns: Columns) -> Origins:
    """Trace every output column of a query down to the tables it selects from.

    Empty where the parser does not know the SQL; a test names the models it may miss.
    """
    try:
        query = parse_one(sql, dialect=DIALECT)
        for table in query.find_all(exp.Table):
            table.set("catalog", None)
        query = qualify(query, schema={**columns}, dialect=DIALECT)
        traces = lineage(
            None,
            query,
            {},
            scope=build_scope(query),
            dialect=DIALECT,
            trim_selects=False,
        )
    except SqlglotError:
        return {}
    return {column: find_leaves(trace) for column, trace in traces.items()}


def find_leaves(trace: Node) -> list[tuple[str, str, str]]:
    """The table columns at the ends of a column's trace, each once."""
    found = {
        (end.source.db, end.source.name, end.name.rpartition(".")[2].strip('"'))
        for end in trace.walk()
        if isinstance(end.source, exp.Table) and not end.downstream
    }
    return sorted(found)


class LineageCache:
    """Origins by model, kept in a file until its SQL or a parent's columns change."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns = path, columns
        self.known: dict[str, Origins] = (
            json.loads(path.read_text()) if path.exists() else {}
        )

    def metadata(self, sql: str) -> dict[str, dg.TableColumnLineage]:
        """What the Dagster UI draws as column lineage; nothing where none is known."""
        parents = [
            (schema, table, names)
            for schema, tables in self.columns.items()
            for table, names in tables.items()
            if f'"{schema}"."{table}"' in sql
        ]
        text = f"{sql}\n{sorted(map(repr, parents))}"
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.known:
            self.known[key] = read_origins(sql, self.columns)
        origins = self.known[key]
        traced = {
            column: [
                dg.TableColumnDep(
                    asset_key=dg.AssetKey([schema, table]), column_name=name
                )
                for schema, table, name in ends
            ]
            for column, ends in origins.items()
            if ends
        }
        return (
            {"dagster/column_lineage": dg.TableColumnLineage(traced)} if traced else {}
        )

    def save(self) -> None:
        """Write what was read, for the next run."""
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.known))
        partial.replace(self.path)
