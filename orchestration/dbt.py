"""dbt on a home: how it is called, and when its project is parsed anew."""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock

from orchestration import dbt_client
from orchestration.fingerprint import fingerprint
from orchestration.recovery import SOCKET, server_folder
from orchestration.settings import PROJECT, Settings

DBT_FOLDER = PROJECT / "dbt_project"
DBT_SOURCES = (
    DBT_FOLDER / "dbt_project.yml",
    DBT_FOLDER / "profiles.yml",
    DBT_FOLDER / "macros",
    DBT_FOLDER / "seeds",
    DBT_FOLDER / "tests",
    PROJECT / "models",
)
DBT_SUFFIXES = frozenset({".sql", ".py", ".yml", ".csv"})


@contextmanager
def parsing(settings: Settings) -> Iterator[bool]:
    """Hold what dbt parsed for this home: true where its sources changed since.

    Who gets true has to parse them before the block ends.
    """
    export_to_dbt(settings)
    settings.dbt_target.mkdir(parents=True, exist_ok=True)
    parsed = settings.dbt_target / "parsed.sha256"
    with FileLock(settings.dbt_target / "parse.lock"):
        current = fingerprint(DBT_SOURCES, DBT_SUFFIXES)
        has_changed = not parsed.exists() or parsed.read_text() != current
        if has_changed:
            # dbt looks for models that are gone, where a unit test of them was kept
            (settings.dbt_target / "partial_parse.msgpack").unlink(missing_ok=True)
        yield has_changed
        if has_changed:
            parsed.write_text(current)


def parse_changes(settings: Settings) -> None:
    """Have dbt parse the project where its sources changed since.

    Raises:
        RuntimeError: with what dbt printed, if it cannot.
    """
    with parsing(settings) as has_changed:
        if has_changed:
            run_dbt(settings, "parse")


def export_to_dbt(settings: Settings, warehouse: Path | None = None) -> None:
    """The environment, all that dbt reads: which warehouse to build, and how."""
    path = warehouse or settings.warehouse
    os.environ["REKINDLE_WAREHOUSE"] = str(path)
    os.environ["REKINDLE_WAREHOUSE_SPILL"] = str(settings.spill(path))
    os.environ.pop("REKINDLE_WAREHOUSE_MEMORY", None)
    if settings.memory_limit:
        os.environ["REKINDLE_WAREHOUSE_MEMORY"] = settings.memory_limit
    # A test runs in the invocation that builds the last of its parents.
    os.environ["DBT_INDIRECT_SELECTION"] = "buildable"
    # Dagster keeps what dbt says; its own debug log costs a tenth of a build.
    os.environ["DBT_LOG_LEVEL_FILE"] = "none"


def run_dbt(settings: Settings, *arguments: str) -> None:
    """Run dbt on this home, outside of any run.

    Raises:
        RuntimeError: with what dbt printed, if it fails.
    """
    finished = subprocess.run(
        dbt_command(settings, *arguments), capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise RuntimeError(f"dbt {' '.join(arguments)} failed:\n{finished.stdout}")


def dbt_command(settings: Settings, *arguments: str) -> list[str]:
    """The words that run dbt on this home; exports what dbt reads of it."""
    export_to_dbt(settings)
    return [dbt_executable(), *dbt_arguments(settings, *arguments)]


def dbt_arguments(settings: Settings, *arguments: str) -> list[str]:
    """What follows `dbt` to have it work on this home."""
    return [
        *arguments,
        *("--project-dir", str(DBT_FOLDER), "--profiles-dir", str(DBT_FOLDER)),
        *("--target-path", str(settings.dbt_target)),
        *("--log-path", str(settings.dbt_target)),
    ]


def dbt_executable() -> str:
    """The dbt beside this Python, else the one on the path."""
    beside = Path(sys.executable).parent / "dbt"
    return str(beside) if beside.exists() else "dbt"


@cache
def start_server() -> str:
    """Begin the dbt server of this process, once: the address at which it answers.

    It removes the socket and its folder, which no other user may enter, when it ends;
    killed, it leaves them to the next run. What it might complain of, dbt says again
    when it is asked without one.
    """
    with server_folder() as (folder, lock), socket.socket(socket.AF_UNIX) as listening:
        address = folder / SOCKET
        listening.bind(str(address))
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "orchestration.dbt_server", str(listening.fileno())],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno(), lock],
            start_new_session=True,
        )
    atexit.register(server.communicate)
    return str(address)


def served_dbt(address: str, executable: str) -> list[str]:
    """The words that have a server do what `executable`, dbt, does."""
    client = str(dbt_client.__file__)
    return [sys.executable, "-S", "-E", client, address, executable]
