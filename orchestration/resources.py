"""What the assets are handed: the home they work in and the dbt that builds it."""

from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject
from packaging.version import Version

from orchestration.dbt import (
    DBT_FOLDER,
    dbt_executable,
    parse_changes,
    served_dbt,
    start_server,
)
from orchestration.event_log import prune_runs
from orchestration.recovery import fail_dead_runs, home_lock, show_at_work
from orchestration.settings import Settings, wall_clock
from orchestration.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Generator


class Home(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The home of a run, locked for as long as the run lasts."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return Settings()

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse file of the home."""
        return Warehouse.of(self.settings)

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> "Generator[Home, None, None]":
        """Hold the home's lock: a second run waits here until the first is through."""
        settings, instance = self.settings, context.instance
        run_id = context.run_id
        if instance is None or run_id is None:
            raise ValueError("a home is held by a run")
        show_at_work(settings, run_id)
        with home_lock(settings):
            fail_dead_runs(settings, instance)
            kept = timedelta(days=settings.keep_runs_days)
            prune_runs(instance, wall_clock() - kept)
            yield self


def dbt_project(settings: Settings) -> DbtProject:
    """The dbt project, compiled for this home; parsed anew where sources changed."""
    parse_changes(settings)
    return DbtProject(
        project_dir=DBT_FOLDER,
        target_path=settings.dbt_target,
        profiles_dir=DBT_FOLDER,
    )


class ForkServerDbtCli(DbtCliResource):
    """dbt as a process, which lets go of the warehouse when it ends."""

    @cached_property
    def _cli_version(self) -> Version:
        """As installed; `dbt --version` asks the package index and takes seconds."""
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(  # type: ignore[override]
        self, args: Sequence[str]
    ) -> None:
        """Load none: nothing here asks the warehouse through dbt, and it takes long."""


def dbt_resource(project: DbtProject) -> dg.ResourceDefinition:
    """The dbt that builds the models; its server parses from the run's beginning."""

    @dg.resource
    def dbt() -> DbtCliResource:
        python, *flags = served_dbt(start_server(), dbt_executable())
        return ForkServerDbtCli(
            project_dir=str(project.project_dir),
            dbt_executable=python,
            global_config_flags=flags,
        )

    return dbt
