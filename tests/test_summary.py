"""What the command line says of a run, and how it leaves the home."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from orchestration import progress
from orchestration.assets.land import land
from orchestration.moment import DemoClockError
from orchestration.resources import Home
from orchestration.run import RunFailedError, failure
from orchestration.summary import Summary, print_summary, read_warnings, summarise
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome


@pytest.fixture
def instance(
    demo_home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(demo_home.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def summary(demo_home: TestHome, instance: dg.DagsterInstance) -> Summary:
    return summarise(demo_home.settings, instance.get_run_ids(limit=1)[0])


def printed(summary: Summary) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        print_summary(console, summary)
    return capture.get()


def test_a_summary_counts_what_the_tables_hold(
    demo_home: TestHome, summary: Summary
) -> None:
    told = json.loads(json.dumps(summary.as_dict()))
    as_of = demo_home.read("select max(as_of) as as_of from raw.runs").item()
    assert told["as_of"] == f"{as_of.isoformat()}Z"
    assert told["is_newest"] is True
    files = demo_home.read("select * from raw.files where path not like 'receipts/%'")
    newest = files.filter(pl.col("landed_at") == pl.col("landed_at").max())
    assert told["landed"] == {
        "files": newest.height,
        "lines": newest["row_count"].sum(),
        "rejected": newest["rejected_count"].sum(),
    }
    assert sum(row["lines"] for row in told["rejected"]) == told["landed"]["rejected"]
    warehouse = Warehouse(demo_home.settings.warehouse)
    sends = warehouse.read(
        "select * from decisions.send_list where as_of = $1", [as_of]
    )
    assert sum(row["sends"] for row in told["sent"]) >= sends.height > 0
    candidates = warehouse.read(
        "select * from decisions.candidates where as_of = $1", [as_of]
    )
    unsent = sum(row["messages"] for row in told["unsent"])
    assert unsent + sends.height == candidates.height > unsent > 0
    moved = warehouse.read(
        """
        select * from decisions.phases
        where entered_at > (select max(as_of) from raw.runs where as_of < $1)
        """,
        [as_of],
    )
    assert sum(row["profiles"] for row in told["moved"]) == moved.height > 0
    assert told["seconds"] > 1


def test_a_summary_is_of_its_run_though_the_next_one_has_begun(
    demo_home: TestHome, summary: Summary, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    shutil.copytree(demo_home.settings.published.parent, tmp_path / "published")
    with TestHome(tmp_path).warehouse() as connection:
        connection.execute("create table raw.current_run (as_of timestamp)")
    of_its_own = summarise(TestHome(tmp_path).settings, summary.run_id)
    assert of_its_own.warehouse == tmp_path / "published" / "warehouse.duckdb"
    assert of_its_own.as_dict() == summary.as_dict() | {
        "warehouse": str(of_its_own.warehouse)
    }


def test_a_summary_in_words_names_phases_channels_and_reasons(summary: Summary) -> None:
    words = printed(summary)
    for frame, column, kind in (
        (summary.moved, "to_phase", "phase"),
        (summary.sent, "channel", "channel"),
        (summary.unsent, "reason", "reason"),
    ):
        assert all(summary.labels.of(kind, name) in words for name in frame[column])


@dg.asset(key=["raw", "journey_problems"])
def problems() -> None: ...


@dg.asset_check(asset=problems)
def no_journey_is_set_aside() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description="2 journeys are set aside",
        metadata={"files": dg.MetadataValue.md("- `a.yml`: [no] it\n- `b.yml`: bad")},
    )


@dg.asset_check(asset=problems)
def all_is_well() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def test_a_check_that_warns_is_printed_with_what_it_found(summary: Summary) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [problems, no_journey_is_set_aside, all_is_well], instance=instance
        )
        warnings = read_warnings(instance, result.run_id)
    assert [warned.check for warned in warnings] == ["no_journey_is_set_aside"]
    words = printed(Summary(**{**vars(summary), "warnings": warnings}))
    assert "raw.journey_problems: 2 journeys are set aside" in words
    assert "- `a.yml`: [no] it\n" in words
    assert "- `b.yml`: bad\n" in words


def test_each_run_of_the_command_line_is_tagged_with_its_moment(
    demo_home: TestHome, instance: dg.DagsterInstance
) -> None:
    moments = demo_home.read("select as_of from raw.runs order by as_of")["as_of"]
    runs = instance.get_runs()[::-1]
    assert [run.tags["as_of"] for run in runs] == [
        f"{moment.isoformat()}Z" for moment in moments
    ]


def test_all_that_a_home_holds_is_its_users_alone(demo_home: TestHome) -> None:
    settings = demo_home.settings
    held = [path for path in settings.root.rglob("*") if not path.is_symlink()]
    for kept in (
        settings.warehouse,
        settings.published,
        settings.ledger,
        settings.outbox / "email",
        settings.landing / "receipts",
        settings.estimators,
        settings.dagster_home / "history" / "runs",
    ):
        assert kept in held
    assert not [path for path in held if path.stat().st_mode & 0o077]


def test_the_log_of_runs_holds_what_dbt_says_and_nothing_of_libraries(
    demo_home: TestHome,
) -> None:
    lines = (demo_home.settings.dagster_home / "run.log").read_text().splitlines()
    assert sum("Completed successfully" in line for line in lines) == 6
    assert not [line for line in lines if "leak" in line or "nanobind" in line]


def test_a_demo_home_is_not_run_at_the_wall_clock(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.settings.demo_marker.touch()
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    with dg.DagsterInstance.ephemeral() as instance:
        clicked = dg.materialize(
            [land], resources={"home": Home()}, instance=instance, raise_on_error=False
        )
    said = str(failure(clicked, home.settings.root / "run.log"))
    assert "is a demo home" in said
    assert "rekindle demo" in said
    assert not home.settings.warehouse.exists()
    assert not home.settings.ledger.exists()


@dg.asset
def broken() -> None:
    raise DemoClockError("not\ntoday")


@dg.asset(deps=[broken])
def after() -> None: ...


@dg.asset(deps=[after])
def last() -> None: ...


@dg.asset
def interrupted() -> None:
    raise dg.DagsterExecutionInterruptedError


def attempt(*assets: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(
        assets=assets,
        jobs=[dg.define_asset_job("all_of_them")],
        loggers={"progress": progress.progress_logger},
    )
    return definitions.resolve_job_def("all_of_them").execute_in_process(
        run_config={"loggers": {"progress": {}}}, raise_on_error=False
    )


def test_of_a_run_that_fails_only_the_cause_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = attempt(broken, after, last)
    (line,) = capsys.readouterr().err.splitlines()
    assert "✗ broken" in line
    ended = failure(result, tmp_path / "run.log")
    assert str(ended) == "broken failed: not today"
    assert isinstance(ended, RunFailedError)


def test_a_run_that_was_interrupted_ends_as_an_interrupt(tmp_path: Path) -> None:
    ended = failure(attempt(interrupted), tmp_path / "run.log")
    assert isinstance(ended, KeyboardInterrupt)
    assert str(ended).startswith("interrupted was interrupted; the next run")


def test_a_long_step_counts_its_parts_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([5.0, 10.0, 10.0, 12.0, 20.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    handler = progress.ProgressHandler()
    handler.step = "stage"
    monkeypatch.setattr(progress, "LOOKING_ON", [handler])
    for done in (1, 2, 3, 4):
        progress.report_part(done, 4)
    assert capsys.readouterr().err == "  … stage: 2 of 4\n  … stage: 4 of 4\n"
