"""What is kept no longer is gone, and no run misses it or sends anything again."""

import os
from datetime import timedelta
from pathlib import Path

from activations.ledger import Ledger
from orchestration.retention import Purged, purge
from orchestration.settings import Settings, wall_clock
from orchestration.sources.landing import land
from orchestration.sources.run_inputs import begin_run, snapshot_sends
from orchestration.warehouse import fetch_frame
from tests.conftest import TestHome
from tests.test_erase import FIRST, SECOND, copy_of, told
from tests.test_erase import lived as lived  # noqa: PLC0414, the fixture

WHAT_IS_KNOWN = """
    select
        (select count(*) from raw.events where event <> 'Email Sent') as events,
        (select count(*) from identity.identity_map) as identifiers,
        (select count(*) from profiles.profiles) as profiles,
        (select sum(revenue_amount) from staging.stg_orders) as revenue
"""
DAYS = {"REKINDLE_KEEP_LANDED_DAYS": "30", "REKINDLE_KEEP_PAYLOADS_DAYS": "1"}


def sends(home: TestHome) -> set[tuple[object, ...]]:
    with Ledger(home.settings.ledger) as ledger:
        return set(ledger.copy().select("send_id", "state", "sent_at").iter_rows())


def test_a_run_after_a_purge_knows_the_same_and_repeats_nothing(
    lived: TestHome, tmp_path: Path
) -> None:
    home = copy_of(lived, tmp_path)
    known, sent = home.read(WHAT_IS_KNOWN).to_dicts(), sends(home)
    assert list((home.settings.outbox / "email").rglob("*.eml"))
    with home.warehouse() as connection:
        connection.execute(
            "update raw.files set landed_at = landed_at - interval 31 day"
        )
    fresh = home.land([told(9, SECOND - timedelta(days=1), "Page")], "fresh.ndjson")
    home.run(SECOND.isoformat(), **DAYS)
    landed = {path.name for path in home.settings.landing.rglob("*") if path.is_file()}
    receipts = {path.name for path in (home.settings.landing / "receipts").iterdir()}
    assert landed == receipts | {fresh.name}
    assert receipts
    assert not list((home.settings.outbox / "email").rglob("*.eml"))
    assert home.read("select count(payload) from decisions.send_list").item() == 0
    assert (
        home.read("select count(*) from raw.rejected_events where raw <> ''").item()
        == 0
    )
    (now,) = home.read(WHAT_IS_KNOWN).to_dicts()
    assert now == {
        **known[0],
        "events": known[0]["events"] + 1,
        "identifiers": known[0]["identifiers"] + 2,
        "profiles": known[0]["profiles"] + 1,
    }
    assert sends(home) == sent
    said = home.rekindle("reconcile", "--dry-run").stdout
    assert said == "the ledger knows all that went out\n"


def test_nothing_goes_before_its_time_or_without_being_asked_for(
    home: TestHome,
) -> None:
    """A file that was not read, or changed since, is no old one; nor is what waits."""
    root, landing = home.settings.root, home.settings.landing
    for name in ("old", "changed", "young"):
        home.land([told(1, FIRST, name)], f"{name}.ndjson")
    message = home.settings.outbox / "email" / "20260601T090000Z" / "waits.eml"
    message.parent.mkdir(parents=True)
    message.write_text("")
    with home.warehouse() as connection:
        land(connection, landing, wall_clock() - timedelta(days=31))
        begin_run(connection, SECOND, home.settings)
        with Ledger(home.settings.ledger) as ledger:
            snapshot_sends(connection, ledger.rows_before(SECOND))
        connection.execute(
            "insert into raw.sends (send_id, state) values ('waits', 'pending')"
        )
        connection.execute(
            "update raw.files set landed_at = landed_at + interval 2 day "
            "where path = 'young.ndjson'"
        )
        os.utime(landing / "changed.ndjson", (1, 1))
        home.land([told(1, FIRST, "unread")], "unread.ndjson")
        assert purge(home.settings, connection, SECOND) == Purged()
        asked = Settings(
            home=root, keep_landed_days=30, keep_payloads_days=1, _env_file=None
        )
        assert purge(asked, connection, SECOND) == Purged(file_count=1)
        assert message.exists()
        left = fetch_frame(connection, "select count(*) from raw.events").item()
    assert {path.stem for path in landing.iterdir()} == {"changed", "young", "unread"}
    assert left == 3
