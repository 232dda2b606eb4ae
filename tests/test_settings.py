"""A wrong setting or home ends a command in one clear line, without any value."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.one_line import describe
from orchestration.run import RunFailedError, prepare_instance, run_loop
from orchestration.settings import Settings, SettingsError
from orchestration.sources.run_inputs import FutureError, refuse_future
from tests.conftest import TestHome, moment

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
        ("SHOP_URL", ""),
        ("SHOP_URL", "shop.example"),
        ("MATCH_THRESHOLD", "nan"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"REKINDLE_{name}", value)
    assert refusal().count(f"REKINDLE_{name}") == 1
    monkeypatch.delenv(f"REKINDLE_{name}")
    (folder / ".env").write_text(f"REKINDLE_{name}={value}\n")
    assert refusal().count(f"REKINDLE_{name}") == 1


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
    future = home.rekindle("run", "--as-of", "2200-01-01", check=False)
    for finished in (wrong, future):
        assert finished.returncode == 1
        assert finished.stdout == ""
        assert finished.stderr.count("\n") == 1
        assert SECRET not in finished.stderr
    assert "REKINDLE_SMTP_PORT" in wrong.stderr
    assert "--allow-future" in future.stderr


def test_a_moment_to_come_is_for_a_demo_alone(home: TestHome) -> None:
    refuse_future(home.settings, moment("2026-01-01"))
    with pytest.raises(FutureError, match="2200-01-01T00:00:00Z is to come"):
        refuse_future(home.settings, moment("2200-01-01"))
    home.settings.demo_marker.write_text("")
    refuse_future(home.settings, moment("2200-01-01"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may mount no file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_or_read_only_disk_ends_a_run_before_it_begins(full_disk: Path) -> None:
    settings = Settings(home=full_disk / "home", _env_file=None)
    (full_disk / "ballast").write_bytes(bytes(30_000))
    with pytest.raises(RunFailedError, match="No space left on device"):
        run_loop(settings)
    (full_disk / "ballast").unlink()
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
