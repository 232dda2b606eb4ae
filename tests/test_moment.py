"""A run has one moment, whichever of its assets it builds."""

import shutil
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import dagster as dg
import pytest

from orchestration.moment import (
    DemoClockError,
    MixedMomentsError,
    choose_as_of,
    record_built,
    refuse_mixture,
)
from orchestration.run import failure
from orchestration.settings import wall_clock
from orchestration.sources.landing import land
from orchestration.sources.run_inputs import FutureError, begin_run
from orchestration.warehouse import DatabaseError, Warehouse
from tests.conftest import TestHome, moment
from tests.tables import fingerprints, newest_as_of

FIRST, SECOND = moment("2026-06-01T12:00:00"), moment("2026-06-02T12:00:00")


@dg.asset(key=["raw", "facts"])
def facts() -> None: ...


@dg.asset(key=["profiles", "people"], deps=[facts])
def people() -> None: ...


@dg.asset(key=["seeds", "rules"])
def rules() -> None: ...


@dg.asset(key=["decisions", "letters"], deps=[people, facts, rules])
def letters() -> None: ...


ALL = (facts, people, rules, letters)
GRAPH = dg.Definitions(assets=ALL).resolve_asset_graph()


def record(home: TestHome, as_of: datetime, *built: dg.AssetsDefinition) -> None:
    with home.warehouse() as connection:
        record_built(connection, [asset.key for asset in built], as_of)


def build(home: TestHome, as_of: datetime, *built: dg.AssetsDefinition) -> None:
    warehouse = Warehouse(home.settings.warehouse)
    refuse_mixture(warehouse, GRAPH, {asset.key for asset in built}, as_of)


def test_what_a_run_builds_whole_needs_nothing_of_another(home: TestHome) -> None:
    build(home, FIRST, *ALL)
    record(home, FIRST, *ALL)
    build(home, SECOND, *ALL)


def test_a_table_is_built_from_tables_of_its_own_moment_alone(home: TestHome) -> None:
    with pytest.raises(MixedMomentsError, match=r"profiles\.people .*was never built"):
        build(home, FIRST, facts, letters)
    record(home, FIRST, facts, people)
    build(home, FIRST, letters)
    with pytest.raises(MixedMomentsError) as refused:
        build(home, SECOND, letters)
    assert "profiles.people (and 1 more like it)" in str(refused.value)
    assert "for 2026-06-01T12:00:00Z" in str(refused.value)
    assert "looks from 2026-06-02T12:00:00Z" in str(refused.value)
    # landed for the second moment, and the profiles left at the first
    record(home, SECOND, facts)
    for as_of in (FIRST, SECOND):
        with pytest.raises(MixedMomentsError):
            build(home, as_of, letters)
    build(home, SECOND, people)
    record(home, SECOND, people)
    build(home, SECOND, letters)


def choose(
    home: TestHome,
    stated: str | None = None,
    steps: Collection[str] | None = None,
    *,
    may_be_future: bool = False,
) -> datetime:
    named = None if steps is None else set(steps)
    return choose_as_of(home.settings, stated, named, may_be_future=may_be_future)


@pytest.fixture
def landed(home: TestHome) -> TestHome:
    """A home whose last landing was for the first moment."""
    with home.warehouse() as connection:
        land(connection, home.settings.landing, FIRST)
        begin_run(connection, FIRST, home.settings)
    return home


def test_a_run_that_lands_looks_from_the_clock_unless_a_moment_is_stated(
    landed: TestHome,
) -> None:
    for steps in (None, ["land"], ["land", "transform"]):
        began_at = wall_clock()
        assert began_at <= choose(landed, steps=steps) <= wall_clock()
        assert choose(landed, "2026-06-02T14:00+02:00", steps) == SECOND
    with pytest.raises(FutureError):
        choose(landed, "2199-01-01")
    assert choose(landed, "2199-01-01", may_be_future=True).year == 2199


def test_a_run_that_lands_nothing_looks_from_the_moment_of_what_landed(
    landed: TestHome,
) -> None:
    assert choose(landed, steps=["transform", "score"]) == FIRST
    assert choose(landed, "2026-06-02T12:00Z", ["transform"]) == SECOND


def test_nothing_is_sent_for_a_moment_that_has_passed_and_nobody_stated(
    landed: TestHome,
) -> None:
    with pytest.raises(MixedMomentsError, match="state 2026-06-01T12:00:00Z"):
        choose(landed, steps=["decide", "activations__email"])
    assert choose(landed, FIRST.isoformat(), ["activations__email"]) == FIRST


def test_a_demo_home_refuses_the_clock_and_knows_its_own_moment(
    landed: TestHome,
) -> None:
    landed.settings.demo_marker.touch()
    with pytest.raises(DemoClockError, match="rekindle demo"):
        choose(landed)
    assert choose(landed, steps=["score"]) == FIRST


def test_where_nothing_landed_a_part_of_the_loop_is_refused(home: TestHome) -> None:
    with pytest.raises(DatabaseError, match="`rekindle run` makes it"):
        choose(home, steps=["score"])


SCORED = [["ml", "channel_scores"], ["ml", "send_time_scores"]]


def test_assets_selected_in_the_ui_are_built_for_the_moment_of_their_tables(
    demo_home: TestHome,
    new_home: Callable[[str], TestHome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from orchestration.definitions import defs

    home = new_home("selected")
    shutil.rmtree(home.settings.root)
    shutil.copytree(demo_home.settings.root, home.settings.root)
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    newest = moment(newest_as_of(home.settings.warehouse))
    before = fingerprints(home.settings.warehouse)
    job = defs.resolve_implicit_global_asset_job_def()

    with dg.DagsterInstance.ephemeral() as instance:

        def attempt(
            *selected: list[str], as_of: datetime | None = None, dry_run: bool = False
        ) -> tuple[str | None, str | None]:
            """The moment that Dagster shows, and what was said against the run."""
            stated = {"config": {"dry_run": dry_run}}
            if as_of:
                stated["config"]["as_of"] = as_of.isoformat()
            result = job.execute_in_process(
                run_config={"resources": {"home": stated}},
                asset_selection=[dg.AssetKey(path) for path in selected],
                instance=instance,
                raise_on_error=False,
            )
            tag = instance.get_run_by_id(result.run_id).tags.get("as_of")
            if result.success:
                return tag, None
            return tag, str(failure(result, home.settings.root / "run.log"))

        shown = f"{newest.isoformat()}Z"
        assert attempt(*SCORED) == (shown, None)
        assert attempt(*SCORED, as_of=newest) == (shown, None)
        _, refused = attempt(*SCORED, as_of=newest + timedelta(hours=1))
        assert f"was built for {shown}" in str(refused)
        _, refused = attempt(*SCORED, dry_run=True)
        assert "a dry run is built whole" in str(refused)
        _, refused = attempt(["activations", "email"])
        assert "what goes out is judged by the hour" in str(refused)
    assert fingerprints(home.settings.warehouse) == before
