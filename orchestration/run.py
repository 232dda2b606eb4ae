"""One run of the loop in this process, recorded so that the UI shows it."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.dbt import start_server
from orchestration.settings import PROJECT, Settings
from orchestration.sources.run_inputs import FutureError, refuse_future

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.remote_origin import RemoteJobOrigin

WORKSPACE = PROJECT / "workspace.yaml"
MAX_LOG_BYTES = 1_000_000

INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 1
event_log_storage:
  module: orchestration.event_log
  class: PooledSqliteEventLog
"""

PROBE_BYTES = 1 << 16
GOES_ON = "the next run goes on from there"
# our own errors say all; the name of one of a library may be all there is
OWN_ERROR = re.compile(r"^(?:orchestration|activations|ml)[.]\S+: ")


class RunFailedError(Exception):
    """A run of the loop ended without success; the message says where and why."""


def prepare_instance(settings: Settings) -> None:
    """Make the home and its Dagster instance, where they do not exist.

    Raises:
        RunFailedError: if the home cannot be written.
    """
    refuse_unwritable(settings.root)
    settings.landing.mkdir(parents=True, exist_ok=True)
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    instance = settings.dagster_home / "dagster.yaml"
    if not instance.exists():
        instance.write_text(INSTANCE)


def refuse_unwritable(root: Path) -> None:
    """See at once, by a block written and removed, what would end a run in its midst.

    Raises:
        RunFailedError: if the folder is read-only or its disk full.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise RunFailedError(
            f"the home {root} cannot be written: {error.strerror}"
        ) from None


def run_loop(
    settings: Settings,
    as_of: datetime | None = None,
    *,
    allow_future: bool = False,
    dry_run: bool = False,
) -> str:
    """Run the loop once and record it in the home's Dagster instance; returns its id.

    Raises:
        RunFailedError: naming the step that failed and its innermost error.
        KeyboardInterrupt: if it was interrupted, naming the step.
    """
    prepare_instance(settings)
    if as_of is not None and not allow_future:
        try:
            refuse_future(settings, as_of)
        except FutureError as error:
            raise RunFailedError(error) from None
    start_server()
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    import dagster as dg
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    from orchestration.definitions import defs

    loop = defs.resolve_job_def("loop")
    config: dict[str, object] = {"dry_run": dry_run}
    if as_of:
        config |= {"as_of": as_of.isoformat(), "allow_future": allow_future}
    log = settings.dagster_home / "run.log"
    with (
        naming_a_full_disk(settings.root),
        dg.DagsterInstance.get() as instance,
        quiet(log),
    ):
        run = instance.create_run_for_job(
            loop,
            run_config={
                "resources": {"home": {"config": config}},
                "loggers": {"progress": {}},
            },
            remote_job_origin=job_origin(loop.name),
        )
        result = execute_run(InMemoryJob(loop), run, instance)
        if not result.success:
            raise failure(result, log)
    return run.run_id


@contextlib.contextmanager
def naming_a_full_disk(root: Path) -> Iterator[None]:
    """Say of what failed because the home cannot be written any more that it did.

    Raises:
        RunFailedError: naming the home, whichever library met the end of the disk.
    """
    try:
        yield
    except Exception:
        refuse_unwritable(root)
        raise


def job_origin(name: str) -> "RemoteJobOrigin":
    """Where the UI, which opens the workspace, finds a job: what it files runs by."""
    from dagster._core.definitions.repository_definition import (
        SINGLETON_REPOSITORY_NAME,
    )
    from dagster._core.remote_origin import RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    (location,) = location_origins_from_yaml_paths([str(WORKSPACE)])
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(
        name
    )


def failure(
    result: "dg.JobExecutionResult", log: Path
) -> RunFailedError | KeyboardInterrupt:
    """What ended a run, in one line: its first step that failed and the cause."""
    import dagster as dg
    from dagster._core.events import RunFailureReason

    place, error = "the run", None
    for event in result.all_events:
        if event.is_step_failure:
            place, error = str(event.step_key), event.step_failure_data.error
            break
        if event.is_job_failure:
            error = event.job_failure_data.error
            if (
                event.job_failure_data.failure_reason
                == RunFailureReason.UNEXPECTED_TERMINATION
            ):
                return KeyboardInterrupt(f"the run was interrupted; {GOES_ON}")
    while error and error.cause:
        error = error.cause
    if error is None:
        return RunFailedError(f"{place} failed, and no error was recorded; see {log}")
    if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        return KeyboardInterrupt(f"{place} was interrupted; {GOES_ON}")
    said = OWN_ERROR.sub("", " ".join(error.message.split()))
    *_, errors = said.rpartition("Errors parsed from dbt logs:")
    printed = f"; what dbt printed: {log}" if "Dbt" in str(error.cls_name) else ""
    return RunFailedError(f"{place} failed: {errors.strip()}{printed}")


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what dbt prints through this process to a file, which begins anew when full.

    The one before it stays beside it.
    """
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".1.log"))
    with log.open("a") as stream, contextlib.redirect_stdout(stream):
        yield
