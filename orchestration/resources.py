"""What the assets are handed: the home they work in and the dbt that builds it."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject
from packaging.version import Version
from pydantic import Field, PrivateAttr

from activations.ledger import Ledger, opened_copy
from orchestration.dbt import (
    DBT_FOLDER,
    dbt_executable,
    parse_changes,
    served_dbt,
    start_server,
)
from orchestration.event_log import prune_runs
from orchestration.moment import (
    LAND,
    built_assets,
    choose_as_of,
    record_built,
    refuse_mixture,
)
from orchestration.past import PastError, begin_past, is_past
from orchestration.recovery import fail_dead_runs, home_lock, show_at_work
from orchestration.settings import Settings, wall_clock
from orchestration.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Generator


ASIDE = "aside"
"""The tag of a run that built a warehouse of its own: the file."""


class Home(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The home of a run and its moment, locked for as long as the run lasts."""

    as_of: str | None = Field(
        default=None,
        description=(
            "The moment that the run looks from, UTC, ISO 8601. Unset: the clock if "
            "the run lands, else the moment of the tables that it reads."
        ),
    )
    allow_future: bool = Field(
        default=False,
        description="Look from a moment to come; runs before it then send nothing.",
    )
    dry_run: bool = Field(
        default=False,
        description="Decide, and send nothing: the tables go into a file of their own.",
    )
    _moment: datetime = PrivateAttr()
    _is_aside: bool = PrivateAttr(default=False)

    @property
    def moment(self) -> datetime:
        """The `as_of` of the run, stated or not, decided once when it began."""
        return self._moment

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return Settings()

    @property
    def is_aside(self) -> bool:
        """Whether the run builds a warehouse of its own, and writes nothing else.

        A dry run does, and one for a moment of the past.
        """
        return self._is_aside

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse that the run builds."""
        settings = self.settings
        if not self.is_aside:
            return Warehouse.of(settings)
        return Warehouse.of(settings, settings.past_work / settings.warehouse.name)

    @property
    def published(self) -> Path:
        """Where the warehouse goes that the run has built."""
        if self.dry_run:
            return self.settings.dry_run
        if self.is_aside:
            return self.settings.past_warehouse(self.moment)
        return self.settings.published

    @property
    def estimators(self) -> Path:
        """Where the run finds and leaves estimators."""
        settings = self.settings
        return (settings.past_work if self.is_aside else settings.root) / "estimators"

    def ledger(self) -> AbstractContextManager[Ledger]:
        """The ledger, opened; for a run aside a copy that is gone afterwards."""
        opened = opened_copy if self.is_aside else Ledger
        return opened(self.settings.ledger)

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> "Generator[Home, None, None]":
        """Hold the home's lock: a second run waits here until the first is through."""
        settings, instance, run = self.settings, context.instance, context.run
        if instance is None or run is None:
            raise ValueError("a home is held by a run")
        show_at_work(settings, run.run_id)
        with home_lock(settings):
            fail_dead_runs(settings, instance)
            kept = timedelta(days=settings.keep_runs_days)
            prune_runs(instance, wall_clock() - kept)
            self._moment = self.begin(run)
            tags = {"as_of": f"{self.moment.isoformat()}Z"}
            if self.is_aside:
                tags[ASIDE] = str(self.published)
                begin_past(settings, self.moment)
            instance.add_run_tags(run.run_id, tags)
            try:
                yield self
            finally:
                shutil.rmtree(settings.past_work, ignore_errors=True)

    def begin(self, run: dg.DagsterRun) -> datetime:
        """Decide the moment of a run, before any of it is done.

        Raises:
            MixedMomentsError: if it would build tables from those of another moment.
        """
        steps = run.step_keys_to_execute
        as_of = choose_as_of(
            self.settings,
            self.as_of,
            None if steps is None else set(steps),
            may_be_future=self.allow_future,
        )
        is_whole = False
        if steps != [LAND]:
            from orchestration.definitions import defs

            graph = defs.resolve_asset_graph()
            built = built_assets(run, graph)
            refuse_mixture(self.warehouse, graph, built, as_of)
            is_whole = built == graph.materializable_asset_keys
        if self.dry_run and not is_whole:
            raise PastError("a dry run is built whole; start the job `loop`")
        self._is_aside = self.dry_run or is_past(
            self.settings, as_of, is_stated=bool(self.as_of), is_whole=is_whole
        )
        return as_of

    def record(self, context: dg.AssetExecutionContext) -> None:
        """Record that the assets of a step are now built for the moment of the run."""
        with self.warehouse.connect() as connection:
            record_built(connection, context.selected_asset_keys, self.moment)


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
