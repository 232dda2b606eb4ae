"""One run of the loop in this process, recorded so that the UI shows it."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.dbt import start_server
from orchestration.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

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
  class: KeptEventLog
"""


class RunFailedError(Exception):
    """A run of the loop ended without success; the message says where and why."""


def prepare_instance(settings: Settings) -> None:
    """Make the home and its Dagster instance, where they do not exist."""
    settings.landing.mkdir(parents=True, exist_ok=True)
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    instance = settings.dagster_home / "dagster.yaml"
    if not instance.exists():
        instance.write_text(INSTANCE)


def run_loop(settings: Settings, as_of: datetime | None = None) -> None:
    """Run the loop once and record it in the home's Dagster instance.

    Raises:
        RunFailedError: naming the step that failed and its first line of error.
    """
    start_server()
    prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    import dagster as dg

    from orchestration.definitions import defs

    land = {"config": {"as_of": as_of.isoformat()}} if as_of else {}
    log = settings.dagster_home / "run.log"
    with dg.DagsterInstance.get() as instance, quiet(log):
        result = defs.resolve_job_def("loop").execute_in_process(
            instance=instance,
            run_config={
                "ops": {"land": land},
                "loggers": {"progress": {}},
            },
            raise_on_error=False,
        )
    if not result.success:
        raise RunFailedError(f"{describe_failure(result)}; what dbt printed: {log}")


def describe_failure(result: "dg.ExecuteInProcessResult") -> str:
    """The step that failed and its innermost error, in one line."""
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error and error.cause:
                error = error.cause
            message = error.message if error else "no error was recorded"
            told = message.rpartition("Errors parsed from dbt logs:")[2]
            return f"{event.step_key} failed: {' '.join(told.split())}"
    return "the run failed before its first step"


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what dbt prints through this process to a file."""
    with log.open("a") as stream, contextlib.redirect_stdout(stream):
        yield
