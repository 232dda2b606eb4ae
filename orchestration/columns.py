"""Columns of the tables that Python writes, as Dagster shows them."""

from collections.abc import Mapping

import dagster as dg


def documented(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """Columns by name, each with its type and what it means."""
    return dg.TableSchema(
        [
            dg.TableColumn(name, kind, description)
            for name, (kind, description) in columns.items()
        ]
    )
