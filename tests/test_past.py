"""The main warehouse goes forward only; a moment of the past gets one of its own."""

import hashlib
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.past import RECORDED, PastError, begin_past, is_past
from orchestration.recovery import home_lock
from orchestration.settings import PROJECT
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome, moment
from tests.tables import fingerprints

# told of what the newest run alone does: what may go out, before and by its rules
OF_THE_NEWEST = re.compile(
    r"^(staging\.stg_run$|raw\.|decisions\.(?!phase|enrollments|entries|"
    r"enrollment_exits|journey_versions|decisions$|send_list|send_choices))"
)


@pytest.fixture(scope="module")
def looked_back(
    demo_home: TestHome, new_home: Callable[[str], TestHome]
) -> tuple[TestHome, dict[str, str], dict[str, str], Path, str]:
    """The demo's home, looked at as of its second day; its files before and after."""
    home = new_home("looked_back")
    shutil.rmtree(home.settings.root)
    shutil.copytree(demo_home.settings.root, home.settings.root)
    second = home.read("select as_of from raw.runs order by as_of").item(1, 0)
    before = hashes(home)
    told = home.rekindle("run", "--as-of", second.isoformat()).stdout
    return home, before, hashes(home), home.settings.past_warehouse(second), told


def hashes(home: TestHome) -> dict[str, str]:
    """All files of a home but those that Dagster and dbt keep, and of the past."""
    root = home.settings.root
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
        and (name := path.relative_to(root).as_posix()).split("/")[0]
        not in {"dagster", "dbt", "past", "dry_run", "run.lock"}
    }


def test_a_run_of_the_past_writes_nothing_but_its_own_warehouse(
    looked_back: tuple[TestHome, dict[str, str], dict[str, str], Path, str],
) -> None:
    home, before, after, path, told = looked_back
    assert after == before
    assert {"warehouse.duckdb", "ledger.sqlite", "published/warehouse.duckdb"} < set(
        after
    )
    assert any(name.startswith("estimators/") for name in after)
    assert [file for file in home.settings.past.rglob("*") if file.is_file()] == [path]
    assert str(path) in told


def test_it_holds_what_the_home_held_when_it_was_that_day(
    looked_back: tuple[TestHome, dict[str, str], dict[str, str], Path, str],
    second_day: Path,
) -> None:
    expected = fingerprints(second_day)
    found = fingerprints(looked_back[3])
    compared = {table for table in expected if not OF_THE_NEWEST.match(table)}
    assert {table.split(".")[0] for table in compared} >= {
        *("staging", "identity", "profiles", "ml"),
        *("decisions", "activations", "attribution"),
    }
    # what later became of a send that was then on its way
    compared -= {table for table in compared if table.startswith("activations.")}
    assert {table: found[table] for table in compared} == {
        table: expected[table] for table in compared
    }


def test_every_append_only_table_is_cut_at_the_moment() -> None:
    append_only = {
        f"{path.parent.name}.{path.stem}"
        for path in (PROJECT / "models").rglob("*.sql")
        if "full_refresh=false" in path.read_text()
    }
    assert append_only == set(RECORDED)


def test_the_past_is_looked_at_whole_and_only_where_it_is_asked_for(
    demo_home: TestHome,
) -> None:
    newest = demo_home.read("select max(as_of) from raw.runs").item()
    settings, past = demo_home.settings, newest - timedelta(hours=1)
    assert not is_past(settings, newest, is_stated=False, is_whole=False)
    assert is_past(settings, past, is_stated=True, is_whole=True)
    with pytest.raises(PastError, match="state the moment"):
        is_past(settings, past, is_stated=False, is_whole=True)
    with pytest.raises(PastError, match="built whole"):
        is_past(settings, past, is_stated=True, is_whole=False)


def test_a_home_without_runs_has_no_past(home: TestHome) -> None:
    early = moment("1999-01-01")
    assert not is_past(home.settings, early, is_stated=True, is_whole=True)


def test_a_killed_run_of_the_past_leaves_the_finished_one_and_nothing_more(
    home: TestHome,
) -> None:
    as_of = moment("2026-06-01")
    with home.warehouse() as connection:
        connection.execute("create table raw.runs (as_of timestamp)")
    finished = home.settings.past_warehouse(as_of)
    with Warehouse(finished).connect():
        pass
    (finished.parent / "warehouse.tmp").touch()
    begin_past(home.settings, as_of)
    with home_lock(home.settings):
        left = [path for path in home.settings.past.rglob("*") if path.is_file()]
    assert left == [finished]


def test_a_dry_run_lists_what_the_run_sends_and_leaves_the_home_alone(
    looked_back: tuple[TestHome, dict[str, str], dict[str, str], Path, str],
) -> None:
    home, before, *_ = looked_back
    newest = home.read("select max(as_of) from raw.runs").item()
    as_of = (newest + timedelta(hours=6)).isoformat()
    told = home.rekindle("dry-run", "--as-of", as_of).stdout
    assert "What would go out" in told
    assert "Nothing was sent or kept" in told
    assert hashes(home) == before
    listed = (
        f"select send_id from decisions.send_list where as_of = '{as_of}' order by 1"
    )
    dry = Warehouse(home.settings.dry_run).read(listed)["send_id"].to_list()
    assert dry
    home.run(as_of)
    assert home.read(listed)["send_id"].to_list() == dry


def test_a_dry_run_needs_no_run_before_it(home: TestHome) -> None:
    begin_past(home.settings, moment("2026-01-01"))
    assert not home.settings.warehouse.exists()
