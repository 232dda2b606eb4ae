"""A backup is whole or refused, harms no home, and repeats no message."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

from activations.ledger import Ledger, StaleLedgerError
from orchestration import backup
from orchestration.backup import BackupError, back_up, copy_file, restore
from orchestration.recovery import UnfinishedRestoreError, home_lock
from orchestration.settings import Settings
from orchestration.sources.receipts import land_receipts
from tests.conftest import TestHome
from tests.test_reconcile import (
    FIRST,
    FOURTH,
    SECOND,
    a_send,
    copy_ledger,
    hold,
    send,
    try_to_send,
)

ESTIMATOR = "estimators/e1/metadata.json"
MESSAGE = "outbox/email/20260601T090000Z/ada.eml"


@pytest.fixture
def used(home: TestHome) -> TestHome:
    """A home that has sent one message and claimed another."""
    send(home, "ada", FIRST)
    copy_ledger(home)
    assert try_to_send(home, "bob", SECOND)
    home.land([{"type": "track"}], "day/one.ndjson")
    for path in (ESTIMATOR, MESSAGE):
        place = home.settings.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
    for path in ("published/warehouse.duckdb", "dbt/target/a", "published/x.tmp"):
        place = home.settings.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("rebuilt")
    return home


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in {"run.lock", "manifest.json"}
    }


def new_home(tmp_path: Path) -> TestHome:
    home = TestHome(tmp_path / "another")
    home.settings.landing.rmdir()
    return home


def test_a_backup_put_back_is_the_home_without_what_can_be_rebuilt(
    used: TestHome, tmp_path: Path
) -> None:
    copied = back_up(used.settings, tmp_path / "safe")
    backed = contents(tmp_path / "safe")
    assert copied.file_count == len(backed)
    assert set(backed) == {
        *("claims.ndjson", "ledger.sqlite", "warehouse.duckdb"),
        *("landing/day/one.ndjson", ESTIMATOR, MESSAGE),
    }
    assert (tmp_path / "safe").stat().st_mode & 0o077 == 0
    for path in (path for path in (tmp_path / "safe").rglob("*") if path.is_file()):
        assert path.stat().st_mode & 0o077 == 0, path
    home = new_home(tmp_path)
    restore(home.settings, tmp_path / "safe", nothing_sent_since=True)
    assert contents(home.settings.root) == backed
    landed = "landing/day/one.ndjson"
    assert (home.settings.root / landed).stat().st_mtime_ns == (
        (used.settings.root / landed).stat().st_mtime_ns
    )
    sends = home.read("select send_id from activations.sends")
    assert sends["send_id"].to_list() == ["ada"]
    hold(home)


def test_a_ledger_is_copied_whole_while_its_log_holds_the_last_of_it(
    used: TestHome, tmp_path: Path
) -> None:
    at_work = Ledger(used.settings.ledger)
    at_work.enqueue([a_send("cy", SECOND)], destination="smtp", as_of=SECOND)
    assert used.settings.ledger.with_name("ledger.sqlite-wal").stat().st_size
    back_up(used.settings, tmp_path / "safe")
    at_work.close()
    with Ledger(tmp_path / "safe" / "ledger.sqlite") as copy:
        assert copy.known() == {"ada", "bob", "cy"}


def test_what_was_sent_since_the_backup_is_not_repeated(
    used: TestHome, tmp_path: Path
) -> None:
    back_up(used.settings, tmp_path / "safe")
    home = new_home(tmp_path)
    restore(home.settings, tmp_path / "safe")
    with Ledger(home.settings.ledger) as ledger:
        assert ledger.waiting("email") == []
        assert ledger.inflight("email") == []
        assert ledger.doubt(FOURTH) == FOURTH
    assert not try_to_send(home, "bob", FOURTH)


@pytest.mark.parametrize("is_sure", [True, False])
@pytest.mark.parametrize("at", ["ledger.sqlite", "warehouse.duckdb", "one.ndjson"])
def test_a_restore_that_breaks_off_is_gone_on_with_before_anything_else(
    used: TestHome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    is_sure: bool,
) -> None:
    back_up(used.settings, tmp_path / "safe")
    home = new_home(tmp_path)

    def break_off(path: Path, target: Path) -> dict[str, object]:
        if path.name != at:
            return copy_file(path, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes()[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backup, "copy_file", break_off)
        with pytest.raises(KeyboardInterrupt, match="give the same command again"):
            restore(home.settings, tmp_path / "safe", nothing_sent_since=is_sure)
    with (
        pytest.raises(UnfinishedRestoreError, match="broke off"),
        home_lock(home.settings),
    ):
        pass
    back_up(used.settings, tmp_path / "newer")
    (tmp_path / "newer" / "manifest.json").write_text(
        (tmp_path / "safe" / "manifest.json").read_text() + " "
    )
    with pytest.raises(BackupError, match="of another backup"):
        restore(home.settings, tmp_path / "newer")
    restore(home.settings, tmp_path / "safe", nothing_sent_since=is_sure)
    with home_lock(home.settings), Ledger(home.settings.ledger) as ledger:
        assert ledger.doubt(FOURTH) == (None if is_sure else FOURTH)
        assert ledger.known() == {"ada", "bob"}
    restored = contents(home.settings.root)
    backed = contents(tmp_path / "safe")
    assert restored.keys() == backed.keys()
    for name in backed.keys() - {"ledger.sqlite"}:
        assert restored[name] == backed[name]


def test_a_full_disk_ends_a_restore_with_what_to_do(
    used: TestHome, tmp_path: Path, full_disk: Path
) -> None:
    back_up(used.settings, tmp_path / "safe")
    settings = Settings(home=full_disk / "home", _env_file=None)
    with pytest.raises(BackupError, match="give the same command again"):
        restore(settings, tmp_path / "safe")
    with pytest.raises(UnfinishedRestoreError), home_lock(settings):
        pass


def test_receipts_that_outlived_the_home_make_the_restored_ledger_refuse(
    used: TestHome, tmp_path: Path
) -> None:
    back_up(used.settings, tmp_path / "safe")
    send(used, "cy", SECOND)
    home = new_home(tmp_path)
    with Ledger(used.settings.ledger) as ledger:
        land_receipts(ledger.receipts_before(FOURTH), home.settings.landing)
    restore(home.settings, tmp_path / "safe", nothing_sent_since=True)
    with pytest.raises(StaleLedgerError, match="rekindle reconcile"):
        hold(home)


def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_written(
    used: TestHome, tmp_path: Path
) -> None:
    safe = tmp_path / "safe"
    back_up(used.settings, safe)
    manifest = (safe / "manifest.json").read_text()
    ledger = (safe / "ledger.sqlite").read_bytes()
    outside = json.loads(manifest)
    outside["files"]["../outside"] = outside["files"]["claims.ndjson"]
    home = new_home(tmp_path)

    def refused(match: str) -> None:
        with pytest.raises(BackupError, match=match):
            restore(home.settings, safe)
        assert contents(home.settings.root) == {}

    (safe / "ledger.sqlite").write_bytes(ledger[:-1] + b"x")
    refused("is damaged")
    (safe / "ledger.sqlite").unlink()
    refused("is damaged")
    (safe / "ledger.sqlite").write_bytes(ledger)
    (safe / "manifest.json").write_text(manifest[:100])
    refused("cannot be read")
    undated = json.loads(manifest)
    del undated["made_at"]
    (safe / "manifest.json").write_text(json.dumps(undated))
    refused("cannot be read")
    (safe / "manifest.json").write_text(json.dumps(outside))
    refused("outside")
    (safe / "manifest.json").unlink()
    refused("is no backup")


def test_neither_a_home_nor_a_folder_in_use_is_overwritten(
    used: TestHome, tmp_path: Path
) -> None:
    safe = tmp_path / "safe"
    back_up(used.settings, safe)
    with pytest.raises(BackupError, match="is not empty"):
        back_up(used.settings, safe)
    with pytest.raises(BackupError, match="lies in the home"):
        back_up(used.settings, used.settings.root / "safe")
    with pytest.raises(BackupError, match="is no home"):
        back_up(Settings(home=tmp_path / "none", _env_file=None), tmp_path / "other")
    send(used, "cy", SECOND)
    before = contents(used.settings.root)
    with pytest.raises(BackupError, match="is in use"):
        restore(used.settings, safe)
    assert contents(used.settings.root) == before


def test_a_link_out_of_the_landing_is_left_out_and_damage_is_named(
    used: TestHome, tmp_path: Path
) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (used.settings.landing / "link.json").symlink_to(tmp_path / "secret.json")
    back_up(used.settings, tmp_path / "safe")
    assert "landing/link.json" not in contents(tmp_path / "safe")
    used.settings.ledger.write_bytes(b"no database")
    with pytest.raises(BackupError, match=r"ledger.sqlite is damaged"):
        back_up(used.settings, tmp_path / "other")


def test_a_landed_file_is_copied_by_its_bytes_whatever_its_name(
    used: TestHome, tmp_path: Path
) -> None:
    names = ("a.sqlite", "b.db", "c.duckdb", "d.wal", "e-shm", "f.damaged-1.json")
    landed = [used.settings.landing / name for name in names]
    for path in landed:
        path.write_text("a customer's own")
    (used.settings.landing / "half.json.part").write_text("{")
    (used.settings.root / "ledger.sqlite.damaged-1").write_text("set aside")
    back_up(used.settings, tmp_path / "safe")
    backed = contents(tmp_path / "safe")
    for path in landed:
        assert backed[f"landing/{path.name}"] == b"a customer's own"
    assert not [name for name in backed if "half" in name or "ledger.sqlite." in name]
    home = new_home(tmp_path)
    restore(home.settings, tmp_path / "safe", nothing_sent_since=True)
    assert contents(home.settings.root) == backed


def test_what_no_run_can_read_is_left_out_by_name(
    used: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(used.settings.landing / "pipe.ndjson")
    (used.settings.landing / "gone.json").symlink_to(tmp_path / "nothing")
    shut = {used.settings.landing / "day" / "one.ndjson"}
    open_path = Path.open

    def refuse(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path in shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_path(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    copied = back_up(used.settings, tmp_path / "safe")
    assert copied.left_out == {
        "landing/day/one.ndjson": "cannot be read (Permission denied)",
        "landing/gone.json": "is a link that leads out",
        "landing/pipe.ndjson": "is no regular file",
    }
    # of what is our own nothing may lack
    shut.add(used.settings.root / MESSAGE)
    with pytest.raises(BackupError, match=r"ada.eml cannot be read"):
        back_up(used.settings, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backup_that_breaks_off_leaves_its_folder_empty_or_marked(
    used: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = tmp_path / "safe"

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backup, "hash_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            back_up(used.settings, safe)
        assert list(safe.iterdir()) == []
        # as a kill leaves it
        patch.setattr(backup, "empty", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            back_up(used.settings, safe)
    assert (safe / "claims.ndjson").exists()
    with pytest.raises(BackupError, match="is no backup"):
        restore(new_home(tmp_path).settings, safe)
    back_up(used.settings, safe)
    assert not (safe / ".unfinished").exists()
    shutil.rmtree(tmp_path / "another")
    restore(new_home(tmp_path).settings, safe)


def test_a_full_disk_ends_a_backup_in_one_line_and_leaves_nothing(
    used: TestHome, full_disk: Path
) -> None:
    with pytest.raises(BackupError, match="no backup was made") as told:
        back_up(used.settings, full_disk / "safe")
    assert str(full_disk) in str(told.value)
    assert list((full_disk / "safe").iterdir()) == []


def test_a_home_without_anything_has_no_backup(home: TestHome, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing to back up"):
        back_up(home.settings, tmp_path / "safe")
    assert not (tmp_path / "safe").exists()
    home.land([{"type": "track"}])
    assert back_up(home.settings, tmp_path / "safe").file_count == 1


def test_both_are_commands(used: TestHome, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    assert "6 files" in used.rekindle("backup", str(safe)).stdout
    home = new_home(tmp_path)
    told = home.rekindle("restore", str(safe)).stdout
    assert "recorded as unknown" in told
    refused = used.rekindle("restore", str(tmp_path / "none"), check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
