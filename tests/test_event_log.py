"""Dagster forgets runs by age, and never what an asset or a check shows last."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.event_log import PooledSqliteEventLog, prune_runs
from orchestration.run import prepare_instance
from orchestration.settings import Settings, wall_clock


@dg.asset
def first() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 1})


@dg.asset
def second() -> None: ...


@dg.asset_check(asset=second)
def is_fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    settings = Settings(home=tmp_path / "home", _env_file=None)
    prepare_instance(settings)
    monkeypatch.setenv("REKINDLE_HOME", str(settings.root))
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, *definitions: object) -> str:
    result = dg.materialize([*definitions], instance=instance)
    assert result.success
    return result.run_id


def test_only_runs_that_nothing_shows_are_forgotten(
    instance: dg.DagsterInstance,
) -> None:
    whole = run(instance, first, second, is_fine)
    part = run(instance, first)
    now = wall_clock() + timedelta(seconds=2)
    assert prune_runs(instance, now - timedelta(days=1)) == 0
    assert prune_runs(instance, now) == 0, "each shows something last"

    newest = run(instance, first, second, is_fine)
    assert prune_runs(instance, now + timedelta(hours=1)) == 2
    assert instance.get_run_ids() == [newest]
    home = Path(instance.root_directory)
    left = {path.name for path in home.rglob("*")}
    assert not [name for name in left if whole in name or part in name]

    for asset in (first, second):
        event = instance.get_latest_materialization_event(asset.key)
        assert event is not None
        assert event.run_id == newest
    log = instance.event_log_storage
    assert isinstance(log, PooledSqliteEventLog)
    with log.index_connection() as index:
        checks = index.exec_driver_sql("select run_id from asset_check_executions")
        assert [run_id for (run_id,) in checks] == [newest]


def test_what_an_asset_says_is_kept_once(instance: dg.DagsterInstance) -> None:
    run_id = run(instance, first)
    logged = {
        entry.get_dagster_event().event_type: entry.get_dagster_event()
        for entry in instance.all_logs(run_id)
        if entry.is_dagster_event
    }
    output = logged[dg.DagsterEventType.STEP_OUTPUT].step_output_data
    materialized = logged[dg.DagsterEventType.ASSET_MATERIALIZATION]
    assert output.metadata == {}
    assert materialized.materialization.metadata["rows"].value == 1
