"""A command ends when it is told to, with all that it started."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from tests.conftest import TestHome

SOON = 180
STARTS_OTHERS = """
    import sys
    from orchestration.processes import heed_signals, run_to_the_end
    heed_signals()
    sys.exit(run_to_the_end(["sh", "-c", "sleep 1000 & sleep 1001; exit 3"]))
"""


@contextlib.contextmanager
def in_the_background(
    command: list[str], **settings: Any
) -> Iterator["subprocess.Popen[str]"]:
    """A process as a shell script starts it with `&`: interrupts are ignored."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    with subprocess.Popen([*ignoring, *command], text=True, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def words(processes: list[psutil.Process]) -> set[str]:
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= set(process.cmdline())
    return found


def is_building(run: "subprocess.Popen[str]") -> bool:
    """Whether a run has asked dbt for its models."""
    return any(word.endswith("dbt_client.py") for word in words(descendants(run)))


def ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, SOON)
    return not [process for process in alive if process.status() != "zombie"]


def test_what_a_program_started_ends_with_the_command_that_ran_it() -> None:
    script = textwrap.dedent(STARTS_OTHERS)
    with in_the_background([sys.executable, "-c", script]) as command:
        wait_for(lambda: {"1000", "1001"} <= words(descendants(command)))
        started = descendants(command)
        command.terminate()
        command.wait(SOON)
        assert ended(started)


def test_a_program_that_ends_by_itself_leaves_nobody_and_its_exit_code() -> None:
    script = textwrap.dedent(STARTS_OTHERS).replace("sleep 1001", "sleep 1")
    with in_the_background([sys.executable, "-c", script]) as command:
        wait_for(lambda: "1000" in words(descendants(command)))
        started = descendants(command)
        assert command.wait(SOON) == 3
        assert ended(started)


def test_a_run_in_the_background_ends_on_termination_and_frees_its_home(
    home: TestHome, tmp_path: Path
) -> None:
    home.land([])
    errors = tmp_path / "stderr"
    with (
        errors.open("w") as stderr,
        in_the_background(
            [sys.executable, "-m", "orchestration.cli", "run"],
            env={**os.environ, "REKINDLE_HOME": str(home.settings.root)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as run,
    ):
        wait_for(lambda: is_building(run) or run.poll() is not None)
        started = descendants(run)
        assert "orchestration.dbt_server" in words(started)
        run.terminate()
        assert run.wait(SOON) == 130
        assert ended(started)
    assert "rekindle: transform was interrupted; the next" in errors.read_text()
    with FileLock(home.settings.root / "run.lock", timeout=0):
        pass


def test_who_waits_for_a_home_says_so_and_ends_when_told(home: TestHome) -> None:
    command = [sys.executable, "-m", "orchestration.cli", "backup", "safe"]
    with (
        FileLock(home.settings.root / "run.lock"),
        in_the_background(
            command,
            cwd=home.settings.root.parent,
            env={**os.environ, "REKINDLE_HOME": str(home.settings.root)},
            stderr=subprocess.PIPE,
        ) as waiting,
    ):
        assert waiting.stderr
        assert "waiting for the run or command" in waiting.stderr.readline()
        waiting.terminate()
        assert waiting.wait(SOON) == 130
        assert waiting.stderr.read() == "rekindle: interrupted\n"
