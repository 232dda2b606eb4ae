"""Homes to test in: an empty one, one with landed events, the demo's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration.settings import Settings
from orchestration.warehouse import Connection, Warehouse

Event = Mapping[str, Any]

pytest_plugins = ("tests.deciding", "tests.resolving")


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


@pytest.fixture
def home(tmp_path: Path) -> TestHome:
    """An empty home."""
    return TestHome(tmp_path / "home")


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TestHome]:
    """Makes empty homes that live as long as the test session."""
    return lambda name: TestHome(tmp_path_factory.mktemp(name) / "home")


@pytest.fixture(scope="session")
def demo_home(new_home: Callable[[str], TestHome]) -> TestHome:
    """A home in which `rekindle demo` has lived its three days."""
    home = new_home("demo")
    home.rekindle("demo")
    return home


def moment(text: str) -> datetime:
    """A naive UTC moment."""
    return datetime.fromisoformat(text)
