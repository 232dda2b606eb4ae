"""Nothing that is written for operators names a person or holds a secret."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.erase import erase
from orchestration.erasure_plan import EraseError, make_plan
from orchestration.erasures import read_erasures, record_erased
from orchestration.export import export
from orchestration.preview import preview
from orchestration.sources.redaction import Person
from tests.conftest import TestHome
from tests.test_erase import FIRST, PEOPLE, copy_of, secrets_of, traces, words
from tests.test_erase import lived as lived  # noqa: PLC0414, the fixture
from tests.test_erase import number as number  # noqa: PLC0414, the fixture

PASSWORD = "canary-of-the-server"
ALL = [word for person in PEOPLE for word in secrets_of(person)]


def test_no_log_no_record_of_a_run_and_no_compiled_model_names_anybody(
    lived: TestHome, tmp_path: Path
) -> None:
    for folder in (lived.settings.dagster_home, lived.settings.dbt_target):
        shutil.copytree(folder, tmp_path / folder.name)
    # the log that the home was given beforehand
    log = tmp_path / "dagster" / "run.log"
    planted = log.read_text().splitlines(keepends=True)[: len(PEOPLE)]
    log.write_text(log.read_text().removeprefix("".join(planted)))
    assert traces(tmp_path, ALL) == set()


def test_no_repr_names_anybody(lived: TestHome, number: int, home: TestHome) -> None:
    record_erased(home.settings.erasures, [("email", "a@mail.example")], FIRST)
    erasures = read_erasures(home.settings.erasures)
    shown = repr(
        [
            make_plan(lived.settings, str(number)),
            Person(frozenset(secrets_of(number))),
            export(lived.settings, str(number)),
            preview(lived.settings, "cart_recovery", person=str(number)),
            erasures,
        ]
    )
    assert not [word for word in secrets_of(number) if word in shown]
    assert repr(erasures.pepper) not in shown


@pytest.mark.parametrize(
    "command",
    [
        lambda email: ("erase", email),
        lambda email: ("export", email, "--out", "x"),
        lambda email: ("preview", "cart_recovery", "--all", "--out", "x", "--send"),
        lambda email: ("stop", "email"),
    ],
)
def test_a_command_that_fails_keeps_persons_and_secrets_out_of_the_log(
    lived: TestHome,
    number: int,
    tmp_path: Path,
    command: Callable[[str], tuple[str, ...]],
) -> None:
    home = copy_of(lived, tmp_path)
    (home.settings.dagster_home / "run.log").unlink()
    home.settings.seed_list.write_text(f"email: [{words(number)['email']}]\n")
    with home.settings.warehouse.open("rb+") as stream:
        stream.write(b"\0" * 5000)
    home.settings.ledger.write_bytes(b"\0" * 5000)
    failed = home.rekindle(
        *command(words(number)["email"]),
        check=False,
        REKINDLE_SMTP_HOST="127.0.0.1",
        REKINDLE_SMTP_USER="me",
        REKINDLE_SMTP_PASSWORD=PASSWORD,
        REKINDLE_LIVE="true",
    )
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    said += "".join(
        path.read_text() for path in home.settings.dagster_home.glob("*.log")
    )
    assert not [word for word in [*ALL, PASSWORD] if word in said]


def test_a_refusal_to_erase_a_shared_identifier_is_one_line(
    lived: TestHome, tmp_path: Path
) -> None:
    home = copy_of(lived, tmp_path)
    with home.warehouse() as connection:
        connection.execute("update profiles.profiles set is_hub = true")
    with pytest.raises(EraseError, match="is shared by many and no person"):
        erase(home.settings, str(PEOPLE[0]))
    assert not home.settings.erasing.exists()
