"""The ledger: one row per send, legal steps only, nothing forgotten, nothing twice."""

import shutil
import sqlite3
import stat
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from activations.ledger import MIGRATIONS, Ledger, LedgerError, Outcome

MONDAY = datetime.fromisoformat("2026-06-01T09:00:00")
TUESDAY = MONDAY + timedelta(days=1)
WEDNESDAY = MONDAY + timedelta(days=2)


def a_send(send_id: str, as_of: datetime = MONDAY, **changes: Any) -> dict[str, Any]:
    return {
        "send_id": send_id,
        "enrollment_id": f"enrollment-{send_id}",
        "journey": "cart_recovery",
        "step": "email_offer",
        "channel": "email",
        "profile_id": f"profile-{send_id}",
        "identifier_type": "user_id",
        "identifier": f"user-{send_id}",
        "address": f"{send_id}@example.com",
        "content_id": "cart_offer",
        "message_class": "marketing",
        "payload": '{"first_name": "Ada"}',
        "as_of": as_of,
        **changes,
    }


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def enqueue(ledger: Ledger, *send_ids: str, as_of: datetime = MONDAY) -> int:
    return ledger.enqueue(
        [a_send(send_id, as_of) for send_id in send_ids],
        destination="file",
        as_of=as_of,
    )


def states(ledger: Ledger) -> dict[str, str]:
    return dict(ledger.copy().select("send_id", "state").iter_rows())


def test_a_send_is_recorded_once_however_often_it_is_enqueued(ledger):
    assert enqueue(ledger, "a", "b") == 2
    assert enqueue(ledger, "a", "b", "c", as_of=TUESDAY) == 1
    assert ledger.copy()["enqueued_at"].to_list() == [MONDAY, MONDAY, TUESDAY]


def test_a_claimed_send_cannot_be_claimed_again(ledger):
    enqueue(ledger, "a", "b")
    assert [send.send_id for send in ledger.claim(["a"], destination="smtp")] == ["a"]
    assert [send.send_id for send in ledger.claim(["a", "b"], destination="smtp")] == [
        "b"
    ]


def test_a_claim_remembers_its_destination_and_counts_attempts(ledger):
    enqueue(ledger, "a")
    ledger.claim(["a"], destination="file")
    ledger.complete([Outcome("a", "pending", "smtp_451")], as_of=MONDAY)
    (send,) = ledger.claim(["a"], destination="smtp")
    assert (send.destination, send.attempts) == ("smtp", 2)


def test_a_settled_send_is_never_settled_again(ledger):
    enqueue(ledger, "a")
    ledger.claim(["a"], destination="file")
    ledger.complete([Outcome("a", "sent")], as_of=MONDAY)
    with pytest.raises(LedgerError, match="not in flight"):
        ledger.complete([Outcome("a", "dead", "late")], as_of=TUESDAY)
    assert ledger.withdraw(["a"], state="dead", reason="x", as_of=TUESDAY) == 0
    assert states(ledger) == {"a": "sent"}


def test_a_failing_batch_settles_nothing(ledger):
    enqueue(ledger, "a", "b")
    ledger.claim(["a"], destination="file")
    with pytest.raises(LedgerError):
        ledger.complete([Outcome("a", "sent"), Outcome("b", "sent")], as_of=MONDAY)
    assert states(ledger) == {"a": "inflight", "b": "pending"}


@pytest.mark.parametrize(
    "change",
    [
        "state = 'sent'",
        "state = 'lost'",
        "state = 'suppressed'",
        "sent_at = '2026-06-01'",
        "send_id = 'z'",
        "as_of = '2026-06-02'",
        "attempts = -1",
    ],
)
def test_the_file_itself_refuses_what_contradicts_itself(tmp_path, change):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        enqueue(ledger, "a")
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"update sends set {change}")
    connection.close()


@pytest.mark.parametrize("state", ["sent", "dead", "unknown"])
def test_what_has_ended_cannot_be_reopened_even_by_hand(tmp_path, state):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        enqueue(ledger, "a")
        ledger.claim(["a"], destination="file")
        ledger.complete([Outcome("a", state, "why")], as_of=MONDAY)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="cannot take this step"):
        connection.execute(
            "update sends set state = 'pending', settled_at = null, sent_at = null"
        )
    connection.close()


def test_the_words_are_forgotten_as_soon_as_they_are_no_longer_needed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    secret = "Wilhelmina-of-the-payload"
    with Ledger(path) as ledger:
        for number in range(20):
            ledger.enqueue(
                [a_send(str(number), payload=f'{{"first_name": "{secret}"}}')],
                destination="file",
                as_of=MONDAY,
            )
            ledger.claim([str(number)], destination="file")
            ledger.complete([Outcome(str(number), "sent")], as_of=MONDAY)
    held = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"user-7" in held
    assert secret.encode() not in held


def test_the_ledger_is_its_owners_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        enqueue(ledger, "a")
        modes = [stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()]
    assert set(modes) == {0o600}


def test_the_copy_holds_no_address_and_no_words(ledger):
    enqueue(ledger, "a")
    shown = str(ledger.copy().to_dicts()) + str(ledger.run_rows(MONDAY, "email"))
    assert "a@example.com" not in shown
    assert "Ada" not in shown


def test_a_run_knows_only_what_earlier_runs_recorded(ledger):
    enqueue(ledger, "a")
    enqueue(ledger, "b", as_of=TUESDAY)
    assert ledger.rows_before(MONDAY).is_empty()
    assert ledger.rows_before(TUESDAY)["send_id"].to_list() == ["a"]


def test_a_repeated_run_sees_the_same_past_though_it_settled_it(ledger):
    enqueue(ledger, "a")
    first = ledger.rows_before(TUESDAY)
    ledger.claim(["a"], destination="file")
    ledger.complete([Outcome("a", "sent")], as_of=TUESDAY)
    assert ledger.rows_before(TUESDAY).equals(first)
    (row,) = ledger.rows_before(WEDNESDAY).to_dicts()
    assert (row["state"], row["sent_at"], row["as_of"]) == ("sent", TUESDAY, MONDAY)


def test_a_receipt_carries_the_moment_of_the_run_that_sent(ledger):
    enqueue(ledger, "a", "b")
    ledger.claim(["a", "b"], destination="file")
    ledger.complete([Outcome("a", "sent"), Outcome("b", "dead", "x")], as_of=TUESDAY)
    assert ledger.receipts_before(TUESDAY).is_empty()
    (receipt,) = ledger.receipts_before(WEDNESDAY).to_dicts()
    assert receipt["send_id"] == "a"
    assert receipt["sent_at"] == TUESDAY
    assert (receipt["identifier_type"], receipt["identifier"]) == ("user_id", "user-a")


def test_frames_have_the_same_types_when_they_are_empty(ledger):
    empty = [ledger.copy(), ledger.rows_before(MONDAY), ledger.receipts_before(MONDAY)]
    enqueue(ledger, "a")
    ledger.claim(["a"], destination="file")
    ledger.complete([Outcome("a", "sent")], as_of=MONDAY)
    full = [
        ledger.copy(),
        ledger.rows_before(TUESDAY),
        ledger.receipts_before(TUESDAY),
    ]
    assert [frame.schema for frame in empty] == [frame.schema for frame in full]


def test_a_ledger_of_a_newer_release_is_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(LedgerError, match="upgrade rekindle"):
        Ledger(path)


def test_a_failed_migration_leaves_no_half_schema(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    monkeypatch.setattr(
        "activations.ledger.MIGRATIONS",
        (*MIGRATIONS, "create table extra (a text); create table sends (a text);"),
    )
    with pytest.raises(sqlite3.OperationalError):
        Ledger(path)
    monkeypatch.undo()
    with Ledger(path) as ledger:
        assert enqueue(ledger, "a") == 1
    connection = sqlite3.connect(path)
    tables = connection.execute("select name from sqlite_master where type = 'table'")
    assert tables.fetchall() == [("sends",), ("marks",), ("test_sends",)]
    connection.close()


def test_moments_must_be_naive_utc(ledger):
    with pytest.raises(LedgerError, match="naive UTC"):
        ledger.rows_before(datetime.fromisoformat("2026-06-01T00:00:00+02:00"))


class LedgerMachine(RuleBasedStateMachine):
    """Any order of steps, with crashes, against a dictionary that cannot be wrong."""

    send_ids = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "ledger.sqlite"
        self.ledger = Ledger(self.path)
        self.model: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.as_of = MONDAY

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def inflight(self) -> list[str]:
        return sorted(key for key, state in self.model.items() if state == "inflight")

    @rule(send_ids=send_ids)
    def enqueue(self, send_ids: list[str]) -> None:
        new = [send_id for send_id in send_ids if send_id not in self.model]
        assert enqueue(self.ledger, *send_ids, as_of=self.as_of) == len(new)
        self.model |= dict.fromkeys(new, "pending")

    @rule(send_ids=send_ids)
    def suppress(self, send_ids: list[str]) -> None:
        new = [send_id for send_id in send_ids if send_id not in self.model]
        count = self.ledger.enqueue(
            [a_send(send_id) for send_id in send_ids],
            destination="file",
            as_of=self.as_of,
            suppressed_for="run_did_not_finish",
        )
        assert count == len(new)
        self.model |= dict.fromkeys(new, "suppressed")

    @rule(send_ids=send_ids)
    def claim(self, send_ids: list[str]) -> None:
        claimed = [s.send_id for s in self.ledger.claim(send_ids, destination="file")]
        assert claimed == [s for s in send_ids if self.model.get(s) == "pending"]
        self.model |= dict.fromkeys(claimed, "inflight")

    @precondition(lambda self: self.inflight())
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        send_id = data.draw(st.sampled_from(self.inflight()))
        state = data.draw(st.sampled_from(["pending", "sent", "dead", "unknown"]))
        self.ledger.complete([Outcome(send_id, state, "why")], as_of=self.as_of)
        self.model[send_id] = state

    @rule(send_ids=send_ids)
    def withdraw(self, send_ids: list[str]) -> None:
        pending = [s for s in send_ids if self.model.get(s) == "pending"]
        count = self.ledger.withdraw(
            send_ids, state="dead", reason="expired", as_of=self.as_of
        )
        assert count == len(pending)
        self.model |= dict.fromkeys(pending, "dead")

    @rule()
    def crash(self) -> None:
        """The process dies: what is committed stays, also in the write-ahead log."""
        crashed = self.folder / "crashed"
        crashed.mkdir()
        for path in self.folder.glob("ledger.sqlite*"):
            shutil.copy(path, crashed / path.name)
        self.ledger.close()
        for path in self.folder.glob("ledger.sqlite*"):
            path.unlink()
        for path in crashed.iterdir():
            path.rename(self.folder / path.name)
        crashed.rmdir()
        self.ledger = Ledger(self.path)

    @rule()
    def next_run(self) -> None:
        self.as_of += timedelta(days=1)

    @invariant()
    def ledger_equals_model(self) -> None:
        assert states(self.ledger) == self.model

    @invariant()
    def what_ended_stays_ended(self) -> None:
        for send_id, state in self.ended.items():
            assert self.model[send_id] == state
        self.ended = {
            send_id: state
            for send_id, state in self.model.items()
            if state not in ("pending", "inflight")
        }


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None
)
