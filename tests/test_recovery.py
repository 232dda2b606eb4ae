"""What a run that died left behind is cleared, and Dagster's queue goes on."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus

from activations.channels.file import FileDestination, part_of
from activations.ledger import Ledger
from orchestration import recovery
from orchestration.jobs import dead_runs
from orchestration.recovery import (
    fail_dead_runs,
    home_lock,
    server_folder,
    show_at_work,
)
from orchestration.resources import Home
from orchestration.run import prepare_instance
from orchestration.settings import wall_clock
from orchestration.warehouse import Warehouse
from tests.conftest import HomeAt, TestHome
from tests.test_reconcile import a_send, try_to_send

# A run of one step that holds the home until it is killed.
ENDLESS = """
    import os, sys, time
    import dagster as dg
    from orchestration.resources import Home
    from tests.conftest import HomeAt

    @dg.asset
    def endless(home: Home) -> None:
        print("at work", flush=True)
        time.sleep(600)

    with dg.DagsterInstance.get() as instance:
        at = HomeAt(as_of="2026-06-30")
        dg.materialize([endless], resources={"home": at}, instance=instance)
"""


@pytest.fixture
def instance(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    monkeypatch.setenv("DAGSTER_HOME", str(home.settings.dagster_home))
    prepare_instance(home.settings)
    with dg.DagsterInstance.get() as instance:
        yield instance


def statuses(instance: dg.DagsterInstance) -> list[DagsterRunStatus]:
    return [run.status for run in instance.get_runs()]


def begin(instance: dg.DagsterInstance, status: DagsterRunStatus) -> str:
    """A run as Dagster records one, of which no process is at work."""

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def loop() -> None:
        nothing()

    run = instance.create_run_for_job(loop, status=status)
    return run.run_id


def kill_amid_run() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "at work\n"
    process.kill()
    process.wait()


def test_a_run_killed_at_work_is_failed_by_the_next_run_and_the_next_one_by_hand(
    home: TestHome, instance: dg.DagsterInstance
) -> None:
    kill_amid_run()
    assert statuses(instance) == [DagsterRunStatus.STARTED]

    @dg.asset
    def short(home: Home) -> None: ...

    after = dg.materialize(
        [short], resources={"home": HomeAt(as_of="2026-06-30")}, instance=instance
    )
    assert after.success
    assert statuses(instance) == [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE]
    died = instance.get_runs()[1]
    messages = [event.message for event in instance.all_logs(died.run_id)]
    assert any("died" in message for message in messages if message)
    # its own process is still there
    marks = [mark.name for mark in home.settings.runs_at_work.iterdir()]
    assert marks == [after.run_id]

    # nor does a command that takes the home leave a dead run started
    mark = home.settings.runs_at_work / begin(instance, DagsterRunStatus.STARTED)
    mark.touch()
    with home_lock(home.settings):
        assert statuses(instance)[0] == DagsterRunStatus.FAILURE


def test_only_runs_without_a_living_process_are_failed(
    home: TestHome,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive = begin(instance, DagsterRunStatus.STARTED)
    finished = begin(instance, DagsterRunStatus.SUCCESS)
    starting = begin(instance, DagsterRunStatus.STARTING)
    dead = begin(instance, DagsterRunStatus.STARTED)
    (home.settings.runs_at_work).mkdir()
    (home.settings.runs_at_work / dead).touch()
    sensor = dead_runs(home.settings)
    show_at_work(home.settings, alive)
    look = sensor.evaluate_tick(dg.build_sensor_context(instance))
    assert dead in str(look.skip_message)
    # a process is on its way to the run that was launched last
    assert fail_dead_runs(home.settings, instance) == []
    later = wall_clock() + timedelta(minutes=10)
    monkeypatch.setattr(recovery, "wall_clock", lambda: later)
    assert fail_dead_runs(home.settings, instance) == [starting]
    kept = {run.run_id: run.status for run in instance.get_runs()}
    assert kept[alive] == DagsterRunStatus.STARTED
    assert kept[finished] == DagsterRunStatus.SUCCESS
    assert kept[dead] == DagsterRunStatus.FAILURE


def test_what_a_dead_run_had_half_written_is_cleared(home: TestHome) -> None:
    settings = home.settings
    half_written = [
        settings.root / "warehouse.duckdb.tmp" / "spilled",
        settings.published.parent / "warehouse.tmp",
        settings.landing / "receipts" / "sends-20260601T090000000000Z.tmp",
        settings.estimators / ".partial-abc" / "churn.skops",
    ]
    whole = [
        settings.published,
        settings.landing / "mine.tmp",
        settings.estimators / "abc" / "churn.skops",
        settings.root / "warehouse.duckdb.wal",
    ]
    for path in (*half_written, *whole):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with home_lock(settings):
        assert [path for path in half_written if path.exists()] == []
        assert [path for path in whole if not path.exists()] == []
    assert not (settings.estimators / ".partial-abc").exists()


def test_a_half_written_message_goes_when_its_send_is_recalled(home: TestHome) -> None:
    as_of = wall_clock()
    assert try_to_send(home, "ada", as_of)
    files = FileDestination(home.settings.outbox, email_from="shop@mail.example")
    with Ledger(home.settings.ledger) as ledger:
        (send,) = ledger.inflight("email")
    part = part_of(files._path("email", as_of, "ada"))
    part.parent.mkdir(parents=True)
    part.write_text("half")
    assert files.look_up(send) == "not_sent"
    assert not part.exists()
    assert a_send("ada", as_of)["send_id"] == send.send_id


def test_the_socket_of_a_dead_server_is_removed_and_no_living_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as temp:
        monkeypatch.setattr(tempfile, "tempdir", temp)
        foreign = Path(temp) / "rekindle-dbt-mine"
        foreign.mkdir()
        (foreign / "notes").write_text("mine")
        with socket.socket(socket.AF_UNIX) as listening:
            with server_folder() as (living, _lock):
                assert living.parent == Path(temp)
                listening.bind(str(living / "dbt"))
                recovery.clear_server_folders()
                assert (living / "dbt").exists()
            recovery.clear_server_folders()
            assert not living.exists()
        assert (foreign / "notes").exists()


def test_a_temp_folder_of_a_long_name_has_its_sockets_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with socket.socket(socket.AF_UNIX) as listening:
        with server_folder() as (folder, _lock):
            listening.bind(str(folder / "dbt"))
        recovery.clear_server_folders()
        assert not folder.exists()


def test_an_invocation_of_dbt_dies_with_its_run(tmp_path: Path) -> None:
    # no server answers there, so the client becomes `sleep`, as it would become dbt
    run = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; from orchestration.dbt import served_dbt; "
            f"p = subprocess.Popen([*served_dbt('{tmp_path}/none', 'sleep'), '60']); "
            "print(p.pid, flush=True); p.wait()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    client = psutil.Process(int(run.stdout.readline()))
    while client.name() != "sleep":
        time.sleep(0.05)
    run.kill()
    run.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        client.wait(20)
    assert not psutil.pid_exists(client.pid)


def test_a_run_waits_for_a_reader_to_let_go_of_the_warehouse(home: TestHome) -> None:
    with home.warehouse() as connection:
        connection.execute("create table raw.one as select 1 as one")
    hold = (
        "import duckdb, sys, time; "
        f"c = duckdb.connect('{home.settings.warehouse}'); "
        "print('held', flush=True); time.sleep(2)"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout
    reader.stdout.readline()
    assert Warehouse(home.settings.warehouse).read("select * from raw.one").item() == 1
    assert reader.wait() == 0
