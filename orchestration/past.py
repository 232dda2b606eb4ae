"""A warehouse of its own for a moment that the main one has left behind.

The main warehouse goes forward only. What a run for an older moment needs of it is
copied; it writes to nothing else of the home. So does a dry run.
"""

import os
import shutil
from datetime import datetime
from pathlib import Path

from orchestration.settings import Settings
from orchestration.sources.receipts import RECEIPTS
from orchestration.warehouse import (
    Warehouse,
    fetch_frame,
    has_table,
    quoted,
)

RECORDED = {
    "identity.identity_merges": "merged_at",
    "profiles.rfm_changes": "changed_at",
    "decisions.entries": "entered_at",
    "decisions.enrollment_exits": "coalesce(as_of, exited_at)",
    "decisions.journey_versions": "as_of",
    "decisions.decisions": "as_of",
    "decisions.rule_verdicts": "as_of",
    "decisions.send_list": "as_of",
    "decisions.send_choices": "as_of",
}
"""The append-only tables, and the run that recorded a row of each."""
# Receipts of a run's own sends bear its moment, and only later runs had landed them.
KNOWN_EVENTS = """
    where received_at < $as_of
    or (
        received_at = $as_of
        and file_id not in (
            select file_id from current.raw.files where starts_with(path, $receipts)
        )
    )
"""
# what a warehouse says of its own tables
NOT_COPIED = {"raw.built_tables", "raw.loaded_seeds"}


class PastError(Exception):
    """A run beside the main warehouse was asked for that cannot be one."""


def newest_as_of(warehouse: Warehouse) -> datetime | None:
    """The newest moment that a run of the warehouse looked from, if any did."""
    if not warehouse.path.exists():
        return None
    with warehouse.connect(read_only=True) as connection:
        if not has_table(connection, "raw", "runs"):
            return None
        found = fetch_frame(connection, "select max(as_of) from raw.runs")
    newest: datetime | None = found.item()
    return newest


def is_past(
    settings: Settings, as_of: datetime, *, is_stated: bool, is_whole: bool
) -> bool:
    """Whether a run looks from a moment that the main warehouse has left behind.

    Raises:
        PastError: if nobody stated the moment, or the run would build a part only.
    """
    newest = newest_as_of(Warehouse.of(settings))
    if newest is None or newest <= as_of:
        return False
    than = f"{as_of.isoformat()}Z is older than the newest run, {newest.isoformat()}Z"
    if not is_stated:
        raise PastError(
            f"{than}: the warehouse goes forward only; state the moment (--as-of) to "
            "look at the past"
        )
    if not is_whole:
        raise PastError(
            f"{than}: a warehouse of the past is built whole; start the job `loop`"
        )
    return True


def begin_past(settings: Settings, as_of: datetime) -> Warehouse:
    """A new warehouse that holds what landed and was recorded up to a moment.

    Beside it lie the estimators, so that one which is fitted for it is not kept.
    """
    shutil.rmtree(settings.past_work, ignore_errors=True)
    return copy_past(settings, settings.past_work, as_of)


def copy_past(settings: Settings, folder: Path, as_of: datetime) -> Warehouse:
    """Copy into a folder what landed and was recorded up to a moment, and estimators.

    Returns the warehouse there.
    """
    warehouse = Warehouse.of(settings, folder / settings.warehouse.name)
    with warehouse.connect() as connection:
        if not settings.warehouse.exists():
            return warehouse
        connection.execute(
            f"attach '{quoted(settings.warehouse)}' as current (read_only)"
        )
        tables = fetch_frame(
            connection,
            "select schema_name || '.' || table_name as name from duckdb_tables() "
            "where database_name = 'current'",
        )
        for name in sorted(tables["name"]):
            copy = f"create table {name} as select * from current.{name}"
            if name == "raw.events":
                known = {"as_of": as_of, "receipts": f"{RECEIPTS}/"}
                connection.execute(f"{copy} {KNOWN_EVENTS}", known)
            elif name in RECORDED:
                recorded = f"where {RECORDED[name]} <= $as_of"
                connection.execute(f"{copy} {recorded}", {"as_of": as_of})
            elif name.startswith("raw.") and name not in NOT_COPIED:
                connection.execute(copy)
    if settings.estimators.exists():
        estimators = folder / settings.estimators.name
        shutil.copytree(settings.estimators, estimators, copy_function=os.link)
    return warehouse
