"""A wrong setting or home ends a command in one clear line, without any value."""

import errno
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from activations.ledger import Ledger
from orchestration.cli import app
from orchestration.one_line import describe
from orchestration.recovery import home_lock
from orchestration.run import (
    RunFailedError,
    naming_a_full_disk,
    prepare_instance,
    run_loop,
)
from orchestration.settings import Settings, SettingsError
from orchestration.sources.run_inputs import FutureError, refuse_future
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome, moment
from tests.test_reconcile import THIRD, a_send
from tests.test_reconcile import used as used  # noqa: PLC0414

SECRET = "hunter2-s3cret"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, and no settings."""
    for name in os.environ:
        if name.startswith("REKINDLE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal() -> str:
    with pytest.raises(SettingsError) as told:
        Settings()
    message = str(told.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_PORT", SECRET),
        ("LIVE", SECRET),
        ("HORIZON_DAYS", f"30,{SECRET}"),
        ("BASE_CURRENCY", SECRET),
        ("LOOKBACK_DAYS", "0"),
        ("LOOKBACK_DAYS", "9" * 20),
        ("KEEP_RUNS_DAYS", "9" * 20),
        ("HOME", ""),
        ("SMTP_PORT", "-5"),
        ("SMTP_PORT", "65536"),
        *[
            ("SHOP_URL", url)
            for url in (
                *("", "shop.example", "http://shop.example", "https://", "https://a b"),
                f"https://ada:{SECRET}@shop.example",
                f"https://shop.example/?key={SECRET}",
                *("https://shop.example/#top", "https://shop.example:99999"),
                *(
                    'https://shop.example/">',
                    "https://shop.example\\",
                    "//shop.example",
                ),
            )
        ],
        ("MATCH_THRESHOLD", "nan"),
        *[("MEMORY_LIMIT", size) for size in ("", "8", "0GB", "lots", "1.5GB", "80%")],
        ("TEMP_FOLDER", "/dev/null"),
        ("TEMP_FOLDER", f"/{SECRET}"),
        ("HORIZON_DAYS", "30,99999999999"),
        ("HORIZON_DAYS", "0"),
        ("BASE_CURRENCY", "eur"),
        ("PHONE_REGION", "XX"),
        ("HOME", "/dev/null"),
        ("HOME", "/dev/null/home"),
        ("HOME", f"~{SECRET}/home"),
        ("HOME", SECRET * 100),
        ("SMTP_HOST", ""),
        ("SMTP_HOST", "smtp://mail.example"),
        ("SMTP_HOST", "mail.example:25"),
        ("SMTP_USER", ""),
        ("SMTP_USER", "ädä"),
        ("SMTP_PASSWORD", f"{SECRET}ä"),
        ("EMAIL_FROM", SECRET),
        ("EMAIL_FROM", "A <a@shop.example>, B <b@shop.example>"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"REKINDLE_{name}", value)
    told = refusal()
    assert told.count("REKINDLE_") == told.count(f"REKINDLE_{name}: ") == 1
    field = Settings.model_fields[name.lower()]
    assert str(field.description) in told
    monkeypatch.delenv(f"REKINDLE_{name}")
    (folder / ".env").write_text(f"REKINDLE_{name}={value}\n")
    assert refusal().count(f"REKINDLE_{name}") == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"USER": "ada"}, "PASSWORD"),
        ({"USER": "ada", "PASSWORD": SECRET, "STARTTLS": "false"}, "STARTTLS"),
        ({"USER": "ada", "PASSWORD": SECRET, "STARTTLS": "0", "PORT": "465"}, None),
        ({"USER": "ada", "PASSWORD": SECRET}, None),
        ({"HOST": "::1"}, None),
        ({"HOST": "mail_server.internal"}, None),
    ],
)
def test_settings_that_need_each_other_are_looked_at_together(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    named: str | None,
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"REKINDLE_SMTP_{name}", value)
    if named is None:
        Settings()
    else:
        assert refusal().startswith(f"REKINDLE_SMTP_{named}: ")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("REKINDLE_LIV", "REKINDLE_LIVE"),
        ("rekindle_smtp_pasword", "REKINDLE_SMTP_PASSWORD"),
        ("REKINDLE_LOOKBACK", "REKINDLE_LOOKBACK_DAYS"),
        ("REKINDLE_XQZ", None),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None
) -> None:
    told = f"{name} is no setting" + (f": did you mean {nearest}?" if nearest else "")
    monkeypatch.setenv(name, SECRET)
    assert refusal() == told
    monkeypatch.delenv(name)
    (folder / ".env").write_text(f"OTHER=1\n{name}={SECRET}\n")
    assert refusal() == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"REKINDLE_LIVE=1\nREKINDLE SMTP " + SECRET.encode(), ".env, line 2"),
        (b"\xff\xfe\x00", ".env cannot be read: it is not UTF-8"),
        (None, ".env cannot be read: Is a directory"),
    ],
)
def test_an_env_file_that_cannot_be_read_is_refused(
    folder: Path, content: bytes | None, told: str
) -> None:
    if content is None:
        (folder / ".env").mkdir()
    else:
        (folder / ".env").write_bytes(content)
    assert told in refusal()


def test_what_dbt_and_tests_are_told_is_no_unknown_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REKINDLE_WAREHOUSE", "REKINDLE_TEST_BROWSER", "REKINDLES"):
        monkeypatch.setenv(name, "1")
    (folder / ".env").write_text("# a comment\nexport REKINDLE_SMTP_PORT='25'\n\nA=b\n")
    assert Settings().smtp_port == 25


def test_every_command_ends_in_one_line(home: TestHome) -> None:
    wrong = home.rekindle("run", check=False, REKINDLE_SMTP_PORT=SECRET)
    future = home.rekindle("run", "--as-of", "2200-01-01", "--json", check=False)
    for finished in (wrong, future):
        assert finished.returncode == 1
        assert finished.stderr.count("\n") == 1
        assert SECRET not in finished.stderr
    assert wrong.stdout == ""
    assert "REKINDLE_SMTP_PORT" in wrong.stderr
    assert "--allow-future" in future.stderr
    assert future.stderr == f"rekindle: {json.loads(future.stdout)['error']}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("runs", "Did you mean 'run'?"),
        ("--nope", "No such option: --nope"),
        ("run --nope", "No such option: --nope"),
        ("run extra", "unexpected extra argument"),
        ("sample", "Missing option '--out'"),
        ("sample --out new --end 0001-01-01", "leave the times of events"),
        ("demo --days 0", "greater than or equal to 1"),
        ("run --as-of yesterday", "is not an ISO 8601 moment"),
        ("run --as-of 0001-01-01T00:00+14:00", "is not between 1970-01-01 and"),
        ("run --as-of 9999-12-31T23:59-14:00", "is not between 1970-01-01 and"),
        ("run --as-of 1500-01-01", "is not between 1970-01-01 and"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line_and_leaves_nothing(
    folder: Path, words: str, told: str
) -> None:
    finished = CliRunner().invoke(app, words.split())
    assert finished.exit_code == 2
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert told in finished.stderr
    assert "--help`" in finished.stderr
    assert list(folder.iterdir()) == []


def test_what_no_run_has_made_is_said_to_be_for_a_run(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))

    def said(*words: str) -> str:
        finished = CliRunner().invoke(app, words)
        assert finished.exit_code == 1
        assert finished.stderr.count("\n") == 1
        return finished.stderr

    assert "warehouse.duckdb is not there: `rekindle run`" in said("unmerge", "a", "b")
    with home.warehouse():
        pass
    assert "identity.identity_map is not there" in said("unmerge", "a", "b")
    assert "nothing was ever sent" in said("retry", "send")
    with Ledger(home.settings.ledger):
        pass
    assert "raw.runs is not there: `rekindle run`" in said("retry", "send")


LOOKS = (
    "--help",
    "run --help",
    "check",
    "reconcile --dry-run",
    "reconcile --help",
    "retry",
    "unmerge a b --dry-run",
    "dbt --help",
    "dbt run --help",
)


def contents(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("is_new", [True, False])
def test_a_command_that_only_looks_writes_nothing(
    used: TestHome, folder: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    root = folder / "none" if is_new else used.settings.root
    monkeypatch.setenv("REKINDLE_HOME", str(root))
    # as a process leaves it that was killed
    at_work = Ledger(used.settings.ledger)
    at_work.enqueue([a_send("dot", THIRD)], destination="smtp", as_of=THIRD)
    before = contents(folder)
    assert before["home/ledger.sqlite-wal"]
    for words in LOOKS:
        finished = CliRunner().invoke(app, words.split())
        assert contents(folder) == before, words
        assert finished.exit_code in (0, 1), words
    # nor does what would mend, where there is nothing to mend
    if is_new:
        assert CliRunner().invoke(app, ["reconcile"]).exit_code == 0
        assert contents(folder) == before
    at_work.close()


def test_a_dry_run_finds_what_the_real_one_mends(
    used: TestHome, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_HOME", str(used.settings.root))
    used.settings.ledger.unlink()
    used.settings.warehouse.write_bytes(b"damaged")
    before = contents(folder)
    tried = CliRunner().invoke(app, ["reconcile", "--dry-run"]).stdout
    assert contents(folder) == before
    done = CliRunner().invoke(app, ["reconcile"]).stdout
    assert tried.replace("would be", "now") in done.replace(
        "set aside, damaged", "damaged"
    ).replace("warehouse.duckdb.damaged-1", "warehouse.duckdb")


def test_a_home_that_may_only_be_read_can_be_looked_into(
    used: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home_lock(used.settings):
        pass
    monkeypatch.setenv("REKINDLE_HOME", str(used.settings.root))
    place = str(used.settings.root)
    for options in ("bind", "remount,bind,ro"):
        mounted = subprocess.run(
            ["mount", "-o", options, place, place], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this user may mount no file system")
    try:
        for words in ("check", "reconcile --dry-run", "retry"):
            finished = CliRunner().invoke(app, words.split())
            assert finished.exit_code == 0, finished.stderr
        for words in ("retry send", f"backup {place}-safe"):
            finished = CliRunner().invoke(app, words.split())
            assert finished.exit_code == 1
            assert "Read-only file system" in finished.stderr
            assert finished.stderr.count("\n") == 1
    finally:
        subprocess.run(["umount", place], check=True)


LIMITS = "select current_setting('memory_limit'), current_setting('temp_directory')"


def test_both_writers_of_the_warehouse_keep_the_limits_that_are_set(
    home: TestHome, tmp_path: Path
) -> None:
    limits = {"REKINDLE_MEMORY_LIMIT": "512MiB", "REKINDLE_TEMP_FOLDER": str(tmp_path)}
    settings = Settings(
        home=home.settings.root,
        memory_limit="512MiB",
        temp_folder=tmp_path,
        _env_file=None,
    )
    with Warehouse.of(settings).connect() as connection:
        ((memory, spill),) = connection.execute(LIMITS).fetchall()
    assert memory == "512.0 MiB"
    assert Path(spill).parent == tmp_path
    shown = home.rekindle(
        "dbt", "show", "--output", "json", "--inline", LIMITS, **limits
    ).stdout
    assert "512.0 MiB" in shown
    assert spill in shown


def test_without_limits_duckdb_keeps_its_own(home: TestHome) -> None:
    with Warehouse(home.settings.warehouse).connect() as connection:
        its_own = connection.execute(LIMITS).fetchall()
    with Warehouse.of(home.settings).connect() as connection:
        assert connection.execute(LIMITS).fetchall() == its_own


def test_homes_that_share_a_temp_folder_share_no_file_in_it(tmp_path: Path) -> None:
    spills = {
        settings.spill(settings.warehouse)
        for settings in (
            Settings(home=tmp_path / name, temp_folder=tmp_path, _env_file=None)
            for name in ("one", "other")
        )
    }
    assert len(spills) == 2
    assert {spill.parent for spill in spills} == {tmp_path}


def test_a_moment_to_come_is_for_a_demo_alone(home: TestHome) -> None:
    refuse_future(home.settings, moment("2026-01-01"))
    with pytest.raises(FutureError, match="2200-01-01T00:00:00Z is to come"):
        refuse_future(home.settings, moment("2200-01-01"))
    home.settings.demo_marker.write_text("")
    refuse_future(home.settings, moment("2200-01-01"))


def test_a_full_or_read_only_disk_ends_a_run_before_it_begins(full_disk: Path) -> None:
    settings = Settings(home=full_disk / "home", _env_file=None)
    (full_disk / "ballast").write_bytes(bytes(30_000))
    with pytest.raises(RunFailedError, match="No space left on device"):
        run_loop(settings)
    with (
        pytest.raises(RunFailedError, match=f"the home {full_disk} cannot be written"),
        naming_a_full_disk(full_disk),
    ):
        (full_disk / "more").write_bytes(bytes(60_000))
    (full_disk / "ballast").unlink()
    (full_disk / "more").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    with pytest.raises(RunFailedError, match="Read-only file system"):
        run_loop(settings)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_home_that_takes_no_file_is_told_in_one_line(
    home: TestHome, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(RunFailedError, match=os.strerror(number)) as told:
        prepare_instance(home.settings)
    assert str(home.settings.root) in str(told.value)


def test_the_innermost_error_is_told_in_one_line() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/home/file")
        except OSError as error:
            raise ValueError("step failed\nwith a stack") from error
    except ValueError as error:
        assert describe(error) == "No space left on device: /home/file"
    assert describe(RuntimeError("one\n two")) == "one two"
    assert describe(RuntimeError()) == "RuntimeError"
