"""What a run that died left behind, cleared by who comes next.

A run holds a lock of its own as long as its process lives; the kernel lets go of it
however the process ends. So a run that Dagster holds for unfinished is dead exactly
when its lock is free.
"""

import atexit
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from filelock import FileLock, Timeout

from orchestration.settings import Settings, wall_clock

if TYPE_CHECKING:
    import dagster as dg

SERVER_FOLDERS = "rekindle-dbt-"
SOCKET = "dbt"
# The address of a socket has about a hundred bytes, of which its folder takes 25.
MAX_SOCKET_PARENT = 75
DIED = (
    "The process of this run died: it was killed, or the machine stopped. "
    "The next run goes on from what it left; nothing is sent twice."
)
# A run that the daemon launches is there before its process is.
LONGEST_START = timedelta(minutes=3)


class UnfinishedRestoreError(Exception):
    """The home is put back in part: nothing may be done but to go on with that."""


@contextmanager
def home_lock(settings: Settings) -> Iterator[None]:
    """Hold the home for one run or one change by hand; others wait.

    What a run that died left behind is cleared first, and an erasure that broke off
    brought to its end.

    Raises:
        UnfinishedRestoreError: if a restore into the home broke off.
    """
    with home_held(settings):
        if settings.restoring.exists():
            raise UnfinishedRestoreError(
                f"a restore into {settings.root} broke off: give the same "
                "`rekindle restore` again, which goes on with it"
            )
        clear_leftovers(settings)
        if settings.erasing.exists():
            from orchestration.erase import finish_erasure

            for path, problem in finish_erasure(settings).items():
                left = f"left to you by an erasure that broke off: {path} {problem}"
                print(left, file=sys.stderr, flush=True)
        if has_dead_runs(settings):
            import dagster as dg

            with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
                fail_dead_runs(settings, instance)
        yield


@contextmanager
def home_held(settings: Settings) -> Iterator[None]:
    """Hold the home, whatever state it is in."""
    settings.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.run_lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say_who_waits(settings)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def home_at_rest(settings: Settings) -> Iterator[None]:
    """Keep everybody from writing the home while it is looked into; leaves no trace."""
    if not settings.run_lock.exists():
        yield
        return
    with open_for_lock(settings.run_lock) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            say_who_waits(settings)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def say_who_waits(settings: Settings) -> None:
    """Print why nothing happens."""
    print(
        f"waiting for the run or command that holds {settings.root}",
        file=sys.stderr,
        flush=True,
    )


def show_at_work(settings: Settings, run_id: str) -> None:
    """Show until this process ends that the process of a run lives.

    Longer than the run holds the home: Dagster records only then that it has ended.
    """
    folder = settings.runs_at_work
    folder.mkdir(parents=True, exist_ok=True)
    mark, unlocked = folder / run_id, folder / f".{run_id}"
    stream = unlocked.open("w")
    fcntl.flock(stream, fcntl.LOCK_EX)
    # it appears locked: nobody sees it free before the process is gone
    unlocked.replace(mark)
    atexit.register(leave_work, mark, stream)


def leave_work(mark: Path, stream: IO[str]) -> None:
    """Take away the mark of a run whose process ends in order."""
    mark.unlink(missing_ok=True)
    stream.close()


def is_locked(path: Path) -> bool:
    """Whether a living process holds a file or folder."""
    with suppress(FileNotFoundError), open_for_lock(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def open_for_lock(path: Path) -> Iterator[int]:
    """A descriptor of a file or folder, which may be held."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_dead_runs(settings: Settings) -> bool:
    """Whether a run died and nobody has said so yet; costs no import of Dagster."""
    return any(not is_locked(mark) for mark in marks(settings))


def marks(settings: Settings) -> list[Path]:
    """One file per run that began and did not end."""
    return sorted(settings.runs_at_work.glob("[!.]*"))


def fail_dead_runs(settings: Settings, instance: "dg.DagsterInstance") -> list[str]:
    """Record that the runs whose process died have failed; returns their ids.

    Left started, they would hold the only place in the scheduler's queue for good.
    """
    from dagster import DagsterRunStatus, RunsFilter

    unfinished = RunsFilter(
        statuses=[
            DagsterRunStatus.NOT_STARTED,
            DagsterRunStatus.STARTING,
            DagsterRunStatus.STARTED,
            DagsterRunStatus.CANCELING,
        ]
    )
    dead = []
    for record in instance.get_run_records(unfinished):
        mark = settings.runs_at_work / record.dagster_run.run_id
        changed_at = record.update_timestamp.astimezone(UTC).replace(tzinfo=None)
        may_start = wall_clock() - changed_at < LONGEST_START
        if is_locked(mark) or (may_start and not mark.exists()):
            continue
        instance.report_run_failed(record.dagster_run, DIED)
        dead.append(record.dagster_run.run_id)
    for mark in marks(settings):
        if not is_locked(mark):
            mark.unlink(missing_ok=True)
    return dead


def clear_leftovers(settings: Settings) -> None:
    """Remove what dead runs had half written; the home's lock is held by the caller.

    DuckDB's and SQLite's own logs stay: they hold what was committed. A half-written
    message goes when its send is recalled.
    """
    shutil.rmtree(settings.spill(settings.warehouse), ignore_errors=True)
    shutil.rmtree(settings.past_work, ignore_errors=True)
    for folder, pattern in (
        (settings.published.parent, "*.tmp*"),
        (settings.past, "*/*.tmp*"),
        (settings.landing / "receipts", "*.tmp"),
        (settings.dbt_target, "*.tmp"),
        (settings.estimators, ".partial-*"),
    ):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    clear_server_folders()


def socket_parent() -> Path:
    """The temp folder, or the system's where a socket in it could not be addressed."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= MAX_SOCKET_PARENT else "/tmp")


@contextmanager
def server_folder() -> Iterator[tuple[Path, int]]:
    """A new folder for a dbt server's socket, and the lock that the server inherits.

    The folder appears under its name when it is locked.
    """
    unlocked = Path(tempfile.mkdtemp(prefix="rekindle-", dir=socket_parent()))
    with open_for_lock(unlocked) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = unlocked.rename(
            unlocked.with_name(unlocked.name.replace("rekindle-", SERVER_FOLDERS, 1))
        )
        yield folder, lock


def clear_server_folders() -> None:
    """Remove the sockets of dbt servers that were killed, of whatever home."""
    for folder in socket_parent().glob(f"{SERVER_FOLDERS}*"):
        # what is another user's, or holds anything else, stays
        with suppress(OSError):
            if is_locked(folder):
                continue
            address = folder / SOCKET
            if address.exists() and stat.S_ISSOCK(address.stat().st_mode):
                address.unlink()
            folder.rmdir()
