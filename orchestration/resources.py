"""What the assets are handed: the home they work in and the dbt that builds it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject
from filelock import FileLock
from packaging.version import Version

from orchestration.fingerprint import fingerprint
from orchestration.settings import PROJECT, Settings
from orchestration.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Generator

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


class Home(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The home of a run, locked for as long as the run lasts."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return Settings()

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse file of the home."""
        return Warehouse(self.settings.warehouse)

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> "Generator[Home, None, None]":
        """Hold the home's lock: a second run waits here until the first is through."""
        with home_lock(self.settings):
            yield self


@contextmanager
def home_lock(settings: Settings) -> Iterator[None]:
    """Hold the home for one run or one change by hand; others wait."""
    settings.root.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.root / "run.lock"):
        yield


def dbt_project(settings: Settings) -> DbtProject:
    """The dbt project, compiled for this home; parsed anew where sources changed."""
    export_to_dbt(settings)
    project = DbtProject(
        project_dir=DBT_FOLDER,
        target_path=settings.dbt_target,
        profiles_dir=DBT_FOLDER,
    )
    settings.dbt_target.mkdir(parents=True, exist_ok=True)
    parsed = settings.dbt_target / "parsed.sha256"
    with FileLock(settings.dbt_target / "parse.lock"):
        current = fingerprint(DBT_SOURCES, DBT_SUFFIXES)
        if not parsed.exists() or parsed.read_text() != current:
            run_dbt(settings, "parse")
            parsed.write_text(current)
    return project


def export_to_dbt(settings: Settings) -> None:
    """Tell dbt, which reads only the environment, where this home is."""
    os.environ["REKINDLE_WAREHOUSE"] = str(settings.warehouse)
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
    return [
        *(dbt_executable(), *arguments),
        *("--project-dir", str(DBT_FOLDER), "--profiles-dir", str(DBT_FOLDER)),
        *("--target-path", str(settings.dbt_target)),
        *("--log-path", str(settings.dbt_target)),
    ]


def dbt_executable() -> str:
    """The dbt beside this Python, else the one on the path."""
    beside = Path(sys.executable).parent / "dbt"
    return str(beside) if beside.exists() else "dbt"


class InstalledDbt(DbtCliResource):
    """dbt as a subprocess, so that it lets go of the warehouse when it ends."""

    @cached_property
    def _cli_version(self) -> Version:
        """As installed; `dbt --version` asks the package index and takes seconds."""
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(  # type: ignore[override]
        self, args: Sequence[str]
    ) -> None:
        """Load none: nothing here asks the warehouse through dbt, and it takes long."""


def dbt_resource(project: DbtProject) -> DbtCliResource:
    """The dbt that builds the models."""
    return InstalledDbt(
        project_dir=str(project.project_dir), dbt_executable=dbt_executable()
    )
