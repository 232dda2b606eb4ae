"""A ledger that is behind what went out sends nothing, and is brought up from the rest.

Three runs have been: the first sent `ada`, whose receipt was landed; the second sent
`bob`, and the warehouse has a copy of that; the third claimed `cy` and died; `dot` was
decided and never came into the ledger.
"""

import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations.claims import FIELDS, Claims
from activations.ledger import (
    DamagedLedgerError,
    Ledger,
    LedgerError,
    Outcome,
    StaleLedgerError,
)
from activations.reconcile import recover, witness
from orchestration.reconcile import assert_ledger_holds, reconcile
from orchestration.sources.receipts import land_receipts
from orchestration.sources.run_inputs import bring_back_runs, listed_sends
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import TestHome
from tests.test_activate import World
from tests.test_activate import world as world  # noqa: PLC0414

FIRST = datetime.fromisoformat("2026-06-01T09:00:00")
SECOND, THIRD, FOURTH = (FIRST + timedelta(hours=hours) for hours in (1, 2, 3))
WENT_OUT = {"ada", "bob", "cy"}


def a_send(name: str, as_of: datetime) -> dict[str, Any]:
    return {
        "send_id": name,
        "enrollment_id": f"enrollment-{name}",
        "journey": "win_back",
        "step": "hello",
        "channel": "email",
        "profile_id": f"profile-{name}",
        "identifier_type": "user_id",
        "identifier": f"user-{name}",
        "address": f"{name}@mail.example",
        "content_id": "hello",
        "message_class": "marketing",
        "payload": "{}",
        "as_of": as_of,
    }


def try_to_send(home: TestHome, name: str, as_of: datetime) -> bool:
    """Whether the ledger would have this send go out."""
    with Ledger(home.settings.ledger) as ledger:
        ledger.enqueue([a_send(name, as_of)], destination="smtp", as_of=as_of)
        return bool(ledger.claim([name], destination="smtp"))


def send(home: TestHome, name: str, as_of: datetime) -> None:
    assert try_to_send(home, name, as_of)
    with Ledger(home.settings.ledger) as ledger:
        ledger.complete([Outcome(name, "sent")], as_of=as_of)


def copy_ledger(home: TestHome) -> None:
    decided = [("ada", FIRST), ("bob", SECOND), ("cy", THIRD), ("dot", THIRD)]
    listed = [a_send(name, as_of) for name, as_of in decided]
    with Ledger(home.settings.ledger) as ledger, home.warehouse() as connection:
        replace_table(connection, "activations.sends", ledger.copy())
        replace_table(connection, "decisions.send_list", pl.DataFrame(listed))


@pytest.fixture
def used(home: TestHome) -> TestHome:
    """The home after three runs; `older.sqlite` is its ledger after the first."""
    ledger = home.settings.ledger
    send(home, "ada", FIRST)
    shutil.copy(ledger, home.settings.root / "older.sqlite")
    with Ledger(ledger) as opened:
        land_receipts(opened.receipts_before(SECOND), home.settings.landing)
    send(home, "bob", SECOND)
    copy_ledger(home)
    assert try_to_send(home, "cy", THIRD)
    return home


def put_back(home: TestHome) -> None:
    shutil.copy(home.settings.root / "older.sqlite", home.settings.ledger)


def delete(home: TestHome) -> None:
    home.settings.ledger.unlink()


def spoil(home: TestHome) -> None:
    home.settings.ledger.write_bytes(b"no ledger" * 1000)


def truncate(home: TestHome) -> None:
    content = home.settings.ledger.read_bytes()
    home.settings.ledger.write_bytes(content[: len(content) // 2])


def hold(home: TestHome) -> None:
    """What a run does before anything else."""
    with (
        Warehouse(home.settings.warehouse).connect() as connection,
        Ledger(home.settings.ledger) as ledger,
    ):
        assert_ledger_holds(home.settings, ledger, connection)


HARMS = (put_back, delete, spoil, truncate)
LOSSES = [
    losses
    for count in range(3)
    for losses in itertools.combinations(("warehouse", "claims"), count)
]


def lose(home: TestHome, losses: tuple[str, ...]) -> None:
    for name in losses:
        {
            "warehouse": home.settings.warehouse.unlink,
            "claims": home.settings.claims.unlink,
        }[name]()


@pytest.mark.parametrize(
    ("harm", "losses"),
    [
        pytest.param(harm, losses, id="+".join((harm.__name__, *losses)))
        for harm in HARMS
        for losses in LOSSES
        # put back as a whole, a home holds nothing that could show it
        if harm is not put_back or len(losses) < 2
    ],
)
def test_a_ledger_behind_is_refused_brought_up_and_sends_nothing_twice(
    used: TestHome, harm: Callable[[TestHome], None], losses: tuple[str, ...]
) -> None:
    harm(used)
    lose(used, losses)
    with pytest.raises((StaleLedgerError, DamagedLedgerError), match="rekindle reconc"):
        hold(used)
    told = reconcile(used.settings, dry_run=True)
    assert told.behind
    with pytest.raises((StaleLedgerError, DamagedLedgerError)):
        hold(used)
    done = reconcile(used.settings)
    hold(used)
    assert reconcile(used.settings).behind == []
    known = WENT_OUT if len(losses) < 2 else {"ada"}
    for name in known:
        assert not try_to_send(used, name, FOURTH), name
    with Ledger(used.settings.ledger) as ledger:
        states = dict(ledger.copy().select("send_id", "state").iter_rows())
    assert states["ada"] == "sent"
    if "warehouse" not in losses:
        assert states["bob"] == "sent"
        assert states["dot"] == "unknown"
    if len(losses) < 2:
        assert states["cy"] == "unknown"
    # of what nothing is left, nobody may believe that it did not go out
    assert done.is_doubtful == (len(losses) == 2)
    is_damage = harm in (spoil, truncate)
    assert [path.name for path in done.set_aside] == (
        ["ledger.sqlite.damaged-1"] if is_damage else []
    )
    assert (used.settings.root / "ledger.sqlite.damaged-1").exists() == is_damage


def test_a_message_in_the_outbox_is_known_to_have_gone_out(used: TestHome) -> None:
    folder = used.settings.outbox / "push" / "20260601T110000Z"
    folder.mkdir(parents=True)
    (folder / "eve.json").write_text("{}")
    (folder / ".fay.json.part").write_text("{")
    with pytest.raises(StaleLedgerError, match=r"the outbox shows 1 .*eve"):
        hold(used)
    reconcile(used.settings)
    hold(used)
    with Ledger(used.settings.ledger) as ledger:
        row = ledger.copy().filter(send_id="eve").row(0, named=True)
    assert (row["state"], row["channel"], row["sent_at"]) == ("sent", "push", THIRD)


def test_a_home_in_order_is_left_alone(used: TestHome) -> None:
    hold(used)
    before = used.settings.ledger.read_bytes()
    done = reconcile(used.settings)
    assert (done.behind, done.set_aside, done.is_doubtful) == ([], [], False)
    assert done.rows.is_empty()
    assert used.settings.ledger.read_bytes() == before
    assert try_to_send(used, "dot", FOURTH)


def test_a_new_home_needs_no_reconciliation(home: TestHome) -> None:
    hold(home)
    assert reconcile(home.settings).behind == []


def test_a_crash_between_claim_and_its_record_is_no_older_ledger(
    used: TestHome,
) -> None:
    lines = used.settings.claims.read_bytes().splitlines(keepends=True)
    used.settings.claims.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    hold(used)
    assert try_to_send(used, "eve", FOURTH)
    claimed = Claims(used.settings.claims).read()
    assert claimed["send_id"].to_list() == ["ada", "bob", "eve"]
    hold(used)


def test_a_claim_names_no_address_and_no_identifier(used: TestHome) -> None:
    text = used.settings.claims.read_text()
    assert "mail.example" not in text
    assert "user-" not in text
    assert used.settings.claims.stat().st_mode & 0o077 == 0


def test_a_claim_is_refused_while_the_ledger_is_behind(used: TestHome) -> None:
    put_back(used)
    with pytest.raises(StaleLedgerError):
        try_to_send(used, "bob", FOURTH)


def test_a_damaged_warehouse_is_told_and_set_aside(used: TestHome) -> None:
    warehouse = used.settings.warehouse
    warehouse.write_bytes(warehouse.read_bytes()[:9000])
    with pytest.raises(Exception, match="rekindle reconcile") as told:
        hold(used)
    assert "\n" not in str(told.value)
    done = reconcile(used.settings)
    assert [path.name for path in done.set_aside] == ["warehouse.duckdb.damaged-1"]
    assert not warehouse.exists()
    hold(used)


def test_an_older_warehouse_gets_its_runs_back_and_says_what_is_lost(
    used: TestHome,
) -> None:
    with Ledger(used.settings.ledger) as ledger, used.warehouse() as connection:
        assert bring_back_runs(connection, ledger, listed_sends(connection)) is None
        connection.execute("delete from decisions.send_list where send_id <> 'ada'")
        lost = bring_back_runs(connection, ledger, listed_sends(connection))
        assert lost
        assert "2 sends" in lost
        assert "decisions.entries" in lost
        runs = connection.execute("select as_of from raw.runs order by 1").fetchall()
        assert runs == [(FIRST,), (SECOND,), (THIRD,)]
        earlier = ledger.rows_before(SECOND, listed_sends(connection))
    assert earlier["send_id"].to_list() == ["ada", "bob", "cy"]


def test_a_newer_schema_is_not_taken_for_damage(used: TestHome) -> None:
    connection = sqlite3.connect(used.settings.ledger)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="upgrade"):
        reconcile(used.settings)


def test_in_doubt_only_what_began_later_is_sent(world: World) -> None:
    later = datetime.fromisoformat("2026-06-03T09:00:00")
    with Ledger(world.home.settings.ledger) as ledger:
        ledger.enqueue([a_send("waiting", FIRST)], destination="smtp", as_of=FIRST)
        ledger.begin_doubt("may_have_been_sent")

    def began(*names: str, at: datetime | None) -> None:
        with world.home.warehouse() as connection:
            rows = pl.DataFrame(
                {"enrollment_id": names, "evidence_at": [at] * len(names)},
                schema={"enrollment_id": pl.String, "evidence_at": pl.Datetime("us")},
            )
            replace_table(connection, "decisions.entries", rows)

    began("ada", at=SECOND - timedelta(days=1))
    world.decide("ada", "email", SECOND)
    world.run(SECOND)
    began("ada", at=SECOND)
    world.decide("ada", "push", later)
    began("bob", at=later)
    world.decide("bob", "email", later)
    world.run(later, channels=("email",))
    states = world.states()
    assert states["waiting"] == ("unknown", "may_have_been_sent")
    assert states["ada-email"] == ("unknown", "may_have_been_sent")
    assert states["bob-email"] == ("sent", None)
    assert world.outbox() == ["bob-email"]


FATES = st.sampled_from(["sent", "dead", "suppressed", "unknown", "pending", None])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([None, "pending", "inflight", "sent", "dead"]),
    st.lists(st.tuples(FATES, st.integers(0, 3)), max_size=4),
    st.integers(0, 2),
)
def test_whoever_speaks_the_ledger_ends_with_a_send_that_is_never_claimed(
    held: str | None, said: list[tuple[str | None, int]], attempts: int
) -> None:
    """An oracle of one send: settled rows stay, proof of sending wins, else doubt."""
    known = pl.DataFrame(
        [("a", held, attempts)] if held else [],
        schema={"send_id": pl.String, "state": pl.String, "attempts": pl.Int64},
        orient="row",
    )
    witnesses = [
        witness(
            pl.DataFrame(
                [{"send_id": "a", "state": state, "attempts": tried, "as_of": FIRST}],
                schema_overrides={"state": pl.String, "as_of": pl.Datetime("us")},
            )
        )
        for state, tried in said
    ] or [witness(None)]
    rows = recover(known, witnesses)
    fates = [state for state, _ in said if state not in (None, "pending")]
    if held in ("sent", "dead") or not said:
        assert rows.is_empty()
    elif "sent" in fates:
        assert rows["state"].to_list() == ["sent"]
        assert rows["sent_at"].to_list() == [FIRST]
    elif fates:
        assert rows["state"].to_list() == fates[:1]
    elif held is None or max(tried for _, tried in said) > attempts:
        assert rows["state"].to_list() == ["unknown"]
        assert rows["reason"].to_list() == ["ledger_put_back"]
    else:
        assert rows.is_empty()


def test_a_claim_holds_the_fields_that_the_ledger_is_brought_up_from(
    used: TestHome,
) -> None:
    for line in used.settings.claims.read_text().splitlines():
        assert set(json.loads(line)) == {"mark", *FIELDS}
