"""A journey tried on past runs: what is made again is what was decided."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from activations.channels.rehearsal import RehearsalDestination
from activations.ledger import Ledger, Outcome
from orchestration.assets.activate import destinations
from orchestration.backtest import BacktestError, choose_moments, find_file
from tests.conftest import TestHome

NOON = datetime.fromisoformat("2026-05-04T12:00:00")
DAY = timedelta(days=1)


def test_the_journey_in_use_decides_again_what_was_decided(
    demo_home: TestHome, new_home: Callable[[str], TestHome]
) -> None:
    home = new_home("backtested")
    shutil.rmtree(home.settings.root)
    shutil.copytree(demo_home.settings.root, home.settings.root)
    runs = home.read("select as_of from raw.runs order by as_of")["as_of"]
    told = home.rekindle(
        *("backtest", "cart_recovery", "--from", runs[1].isoformat(), "--json")
    ).stdout
    found = json.loads(told)
    assert [datetime.fromisoformat(run) for run in found["runs"]] == [*runs[1:]]
    assert found["different_decisions"] == 0
    compared = {**found["compared"], "name": "tried"}
    assert found["tried"] == compared
    assert compared["sends"]
    assert not (home.settings.rehearsal / "home").exists()


def test_the_runs_of_a_window_are_made_again(home: TestHome) -> None:
    runs = [NOON + number * DAY / 2 for number in range(20)]
    with home.warehouse() as connection:
        connection.execute("create table raw.runs (as_of timestamp)")
        connection.executemany("insert into raw.runs values (?)", [[at] for at in runs])
        assert choose_moments(connection, None, None, None) == runs[-15:]
        assert choose_moments(connection, runs[3], runs[5], None) == runs[3:6]
        assert choose_moments(connection, runs[0], runs[5], DAY) == runs[1:6:2]
        with pytest.raises(BacktestError, match="no run between"):
            choose_moments(connection, NOON - 9 * DAY, NOON - DAY, None)


def test_a_journey_is_named_or_a_file(home: TestHome, tmp_path: Path) -> None:
    assert find_file(home.settings, "win_back").name == "win_back.yml"
    with pytest.raises(BacktestError, match="did you mean win_back"):
        find_file(home.settings, "winback")
    with pytest.raises(BacktestError, match="is not there"):
        find_file(home.settings, str(tmp_path / "mine.yml"))


def test_a_home_of_rehearsals_contacts_nobody(home: TestHome) -> None:
    home.settings.rehearsal_marker.touch()
    live = home.settings.model_copy(update={"live": True, "smtp_host": "localhost"})
    for settings in (home.settings, live):
        destination, others = destinations("email", settings)
        assert isinstance(destination, RehearsalDestination)
        assert not others
    assert destinations("sms", live) == (None, ())


def test_a_ledger_takes_rows_as_they_stood_before_a_moment(tmp_path: Path) -> None:
    real, own = tmp_path / "real.sqlite", tmp_path / "own.sqlite"
    with Ledger(real) as ledger:
        for number in range(3):
            as_of = NOON + number * DAY
            row = dict.fromkeys(("journey", "step", "channel", "profile_id"), "x")
            row |= dict.fromkeys(("identifier_type", "identifier", "address"), "x")
            row |= {"enrollment_id": "e", "content_id": "c", "message_class": "service"}
            send = {**row, "send_id": f"s{number}", "payload": "{}", "as_of": as_of}
            ledger.enqueue([send], destination="file", as_of=as_of)
            claimed = ledger.claim([f"s{number}"], destination="file")
            outcomes = [Outcome(each.send_id, "dead", "bounced") for each in claimed]
            ledger.complete(outcomes, as_of=as_of + DAY / 2)
    with Ledger(own) as ledger:
        ledger.adopt(real, before=NOON + 1.25 * DAY)
        states = dict(ledger.copy().select("send_id", "state").iter_rows())
        assert states == {"s0": "dead", "s1": "pending"}
        ledger.adopt(real, before=NOON + 9 * DAY, is_known_only=True)
        states = dict(ledger.copy().select("send_id", "state").iter_rows())
        assert states == {"s0": "dead", "s1": "dead"}
