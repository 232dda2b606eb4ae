"""Dagster's own event log in SQLite, with its connections kept open.

Dagster makes an engine for each of a run's thousand events: none uses a statement that
was compiled before, and each close copies the log back into the file. Kept open, a run
of the loop takes a fifth less time. Tables, files and locks stay Dagster's.

Nor does each event wait for the disk: a crash of the machine may lose the last of them,
never the log. What was sent is stored by the ledger in the warehouse, not by this log.

A run of the loop leaves megabytes here, so runs are forgotten by age, except those that
an asset or a check shows as its latest.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterEventType, RunsFilter
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import (
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._serdes import ConfigurableClassData
from sqlalchemy import (
    Connection,
    Engine,
    QueuePool,
    create_engine,
    event,
    func,
    select,
)

from orchestration.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

MAX_KEPT = 8
BUSY_SECONDS = 60


class PooledSqliteEventLog(SqliteEventLogStorage):
    """The event log of this home, with the last few of its files open."""

    def __init__(self, inst_data: ConfigurableClassData | None = None):
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
        runs = Settings().dagster_home / "history" / "runs"
        super().__init__(str(runs), inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: the home says where it is."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "PooledSqliteEventLog":
        """As `dagster.yaml` names it."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None) or self._make_engine(shard)
        self._engines[shard] = engine
        while len(self._engines) > MAX_KEPT:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def _make_engine(self, shard: str) -> Engine:
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=QueuePool,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        event.listen(
            engine,
            "connect",
            lambda connection, _: connection.execute("pragma synchronous = normal"),
        )
        return engine

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event; an output leaves what it says to its materialization."""
        stored = event.dagster_event
        if stored and stored.event_type == DagsterEventType.STEP_OUTPUT:
            slim = stored.step_output_data._replace(metadata={})
            event = event._replace(
                dagster_event=stored._replace(event_specific_data=slim)
            )
        super().store_event(event)

    def latest_run_ids(self) -> set[str]:
        """The runs that some asset or some check shows as its latest."""
        events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
        materialized = (
            select(func.max(events.id))
            .where(
                events.dagster_event_type
                == DagsterEventType.ASSET_MATERIALIZATION.value
            )
            .group_by(events.asset_key)
        )
        checked = select(func.max(checks.id)).group_by(
            checks.asset_key, checks.check_name
        )
        shown = (
            select(events.run_id).where(events.id.in_(materialized)),
            select(checks.run_id).where(checks.id.in_(checked)),
        )
        with self.index_connection() as index:
            return {
                str(run_id) for query in shown for (run_id,) in index.execute(query)
            }

    def delete_events(self, run_id: str) -> None:
        """Forget a run; Dagster would leave its file and what its checks found."""
        super().delete_events(run_id)
        with self.index_connection() as index:
            index.execute(
                AssetCheckExecutionsTable.delete().where(
                    AssetCheckExecutionsTable.c.run_id == run_id
                )
            )
        with self._db_lock:
            self._initialized_dbs.discard(run_id)
            if kept := self._engines.pop(run_id, None):
                kept.dispose()
            for suffix in ("", "-wal", "-shm"):
                Path(self.path_for_shard(run_id) + suffix).unlink(missing_ok=True)

    def has_table(self, table_name: str) -> bool:
        """Whether the index holds a table; one that it held once is not asked again."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        """Close what was kept open."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
        super().dispose()


def prune_runs(instance: "DagsterInstance", before: datetime) -> int:
    """Forget the runs that ended before a moment; returns how many they were.

    An instance with an event log of another class, as a bare `dagster dev` opens one,
    is left alone.
    """
    log = instance.event_log_storage
    if not isinstance(log, PooledSqliteEventLog):
        return 0
    aged = instance.get_run_ids(
        RunsFilter(
            statuses=list(FINISHED_STATUSES),
            created_before=before.replace(tzinfo=UTC),
        )
    )
    forgotten = set(aged) - log.latest_run_ids() if aged else set()
    for run_id in forgotten:
        instance.delete_run(run_id)
        outputs = Path(instance.storage_directory()) / run_id
        if outputs.exists():
            shutil.rmtree(outputs)
    return len(forgotten)
