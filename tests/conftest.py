"""Homes to test in: an empty one, one with landed events, the demo's.

Two workers share the files of the suite; what is dear to make is made by one of them,
for both. Neither processes nor folders of theirs outlive them.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import psutil
import pytest
from filelock import FileLock

from activations.links import Links
from orchestration.resources import Home
from orchestration.settings import Settings
from orchestration.warehouse import Connection, Warehouse

Event = Mapping[str, Any]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]

pytest_plugins = ("tests.resolving", "tests.deciding")

BEGIN_WITH = ("demo", "crash", "docs", "identity", "ui", "fuzz", "reconcile")
"""The files that take longest; one begun last would leave the other worker idle."""
PR_SET_CHILD_SUBREAPER = 36
LINKS = Links("https://shop.example", ["a key of tests".ljust(32, ".")])
SECOND_DAY = "second_day.duckdb"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    first = [f"test_{name}" for name in BEGIN_WITH]
    items.sort(
        key=lambda item: (
            first.index(item.path.stem) if item.path.stem in first else len(first)
        )
    )


def pytest_sessionstart() -> None:
    """Inherit what processes of the tests leave behind; end in order when killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every process that the tests began, and remove their folders.

    A folder that was asked for by `--basetemp` stays, to be looked into.
    """
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    if session.config.option.basetemp is None:
        made = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        shutil.rmtree(made, ignore_errors=True)


class TestHome:
    """A home of its own for one test: land events, run commands, read tables."""

    __test__ = False

    def __init__(self, root: Path) -> None:
        self.settings = Settings(home=root, _env_file=None)
        self.settings.landing.mkdir(parents=True, exist_ok=True)

    def land(self, events: Iterable[Event], name: str = "events.ndjson") -> Path:
        """Write events as one landing file."""
        path = self.settings.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        return path

    def rekindle(
        self, *arguments: str, check: bool = True, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `rekindle …` on this home, as a user would."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("REKINDLE_")},
            "REKINDLE_HOME": str(self.settings.root),
            **settings,
        }
        finished = subprocess.run(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if check and finished.returncode:
            pytest.fail(f"rekindle {' '.join(arguments)}\n{finished.stderr}")
        return finished

    def run(self, as_of: str, **settings: str) -> None:
        """One run of the loop."""
        self.rekindle("run", "--as-of", as_of, **settings)

    def warehouse(self) -> AbstractContextManager[Connection]:
        """The warehouse, opened to be written."""
        return Warehouse(self.settings.warehouse).connect()

    def read(self, query: str) -> pl.DataFrame:
        """Rows of the warehouse."""
        return Warehouse(self.settings.warehouse).read(query)


class HomeAt(Home):
    """The home of a run of single assets, over tables that a test wrote."""

    def begin(self, run: dg.DagsterRun) -> datetime:
        """The moment that the test states."""
        return moment(str(self.as_of))


@pytest.fixture
def home(tmp_path: Path) -> TestHome:
    """An empty home."""
    return TestHome(tmp_path / "home")


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TestHome]:
    """Makes empty homes that live as long as the test session."""
    return lambda name: TestHome(tmp_path_factory.mktemp(name) / "home")


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all workers; what dbt parsed of the models is kept below it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    os.environ["REKINDLE_HOME"] = str(folder / "parsed")
    return folder


@pytest.fixture(scope="session")
def make_once(shared_folder: Path) -> MakeOnce:
    """Makes a folder in one worker, for all; nobody may change what is in it."""

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared_folder / name
        made = shared_folder / f"{name}.made"
        with FileLock(shared_folder / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def demo_home(make_once: MakeOnce) -> TestHome:
    """A home in which `rekindle demo` has lived its three days."""

    def live(folder: Path) -> None:
        home = TestHome(folder)
        home.rekindle("demo", "--days", "2")
        shutil.copyfile(home.settings.warehouse, folder.with_name(SECOND_DAY))
        home.rekindle("demo", "--days", "1")

    return TestHome(make_once("demo", live))


@pytest.fixture(scope="session")
def second_day(demo_home: TestHome) -> Path:
    """The warehouse of the demo's home as its second day left it."""
    return demo_home.settings.root.with_name(SECOND_DAY)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser of this machine."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("REKINDLE_TEST_BROWSER") == "required":
            pytest.fail("no chromium on this machine, and this run requires it")
        pytest.skip("no chromium on this machine: install Debian's chromium")
    return found


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may mount no file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def moment(text: str) -> datetime:
    """A naive UTC moment."""
    return datetime.fromisoformat(text)
