"""A whole run killed twice, and homes of which a part was put back or lost.

`make crash` does more of it.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import crash
from tests.conftest import TestHome
from tests.tables import fingerprints

CUSTOMERS = 100
THIRD = "2026-07-01T20:00:00Z"

Homes = tuple[Path, Path, float]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """A home after one run, the same after two, and the seconds of the second run."""
    return crash.make_homes(tmp_path_factory.mktemp("crash"), CUSTOMERS)


def test_a_run_killed_at_any_moment_leaves_no_trace_after_the_next(
    homes: Homes, tmp_path: Path
) -> None:
    before, after, seconds = homes
    assert len(crash.sends(after)) > len(crash.sends(before)) > 0
    # once anywhere, once where messages go out
    moments = [random.uniform(0.1, 0.7) * seconds, 0.93 * seconds]
    print(f"killed at {moments} of {seconds} s")
    crash.crash(before, after, tmp_path, moments)


def lose_older_ledger(root: Path, older: Path) -> None:
    """Put ledger and warehouse back as they were a run ago."""
    shutil.copy(older / "ledger.sqlite", root / "ledger.sqlite")
    shutil.copy(older / "warehouse.duckdb", root / "warehouse.duckdb")


def lose_warehouse_and_estimators(root: Path, _older: Path) -> None:
    """Delete the one, truncate the others."""
    (root / "warehouse.duckdb").unlink()
    for metadata in (root / "estimators").glob("*/metadata.json"):
        metadata.write_bytes(metadata.read_bytes()[:100])


@pytest.mark.parametrize(
    ("lose", "is_refused"),
    [(lose_older_ledger, True), (lose_warehouse_and_estimators, False)],
)
def test_what_was_put_back_or_lost_ends_in_a_run_that_sends_nothing_twice(
    homes: Homes,
    tmp_path: Path,
    lose: Callable[[Path, Path], None],
    is_refused: bool,
) -> None:
    before, after, _ = homes
    home = TestHome(tmp_path / "home")
    root = home.settings.root
    shutil.rmtree(root)
    shutil.copytree(after, root, symlinks=True)
    sent, sends = crash.messages(root), crash.sends(root)
    lose(root, before)
    if is_refused:
        refused = home.rekindle("run", "--as-of", THIRD, check=False)
        assert refused.returncode == 1
        (line,) = [x for x in refused.stderr.splitlines() if x.startswith("rekindle:")]
        assert "is older than what went out" in line
        assert "`rekindle reconcile`" in line
        assert crash.messages(root) == sent
        home.rekindle("reconcile")
        assert {row[0] for row in crash.sends(root)} == {row[0] for row in sends}
    told = home.rekindle("run", "--as-of", THIRD).stderr
    assert "The warehouse is older than the ledger" in told
    later = crash.messages(root)
    assert {path: later[path] for path in sent} == sent
    assert len({Path(path).stem for path in later}) == len(later)
    listed = home.read(
        "select send_id, decision_id is null as is_back from decisions.send_list"
    )
    assert {row[0] for row in sends} <= set(listed["send_id"])
    assert listed["is_back"].any()
    published = fingerprints(home.settings.published)
    assert published["decisions.send_list"].split()[0] == str(listed.height)
    if not is_refused:
        damaged = home.read("from ml.estimators where refusal_reason = 'damaged'")
        assert damaged.height == 1
