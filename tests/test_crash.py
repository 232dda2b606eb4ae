"""A whole run killed, and a home of which parts were put back, lost or damaged.

`make crash` kills thirty. What else may be put back or lost is tried in
`test_reconcile`, on ledgers alone.
"""

import random
import shutil
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
    moment = random.uniform(0.1, 1) * seconds
    print(f"killed at {moment} of {seconds} s")
    crash.crash(before, after, tmp_path, [moment])


def test_an_older_ledger_a_lost_warehouse_and_damaged_estimators_end_well(
    homes: Homes, tmp_path: Path
) -> None:
    before, after, _ = homes
    home = TestHome(tmp_path / "home")
    root = home.settings.root
    shutil.rmtree(root)
    shutil.copytree(after, root, symlinks=True)
    sent, sends = crash.messages(root), crash.sends(root)
    shutil.copy(before / "ledger.sqlite", home.settings.ledger)
    home.settings.warehouse.unlink()
    for metadata in home.settings.estimators.glob("*/metadata.json"):
        metadata.write_bytes(metadata.read_bytes()[:100])

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
    listed = home.read("select send_id, decision_id from decisions.send_list")
    back = listed.filter(listed["decision_id"].is_null())
    assert set(back["send_id"]) == {row[0] for row in sends}
    published = fingerprints(home.settings.published)
    assert published["decisions.send_list"].split()[0] == str(listed.height)
    damaged = home.read("from ml.estimators where refusal_reason = 'damaged'")
    assert damaged.height > 0
