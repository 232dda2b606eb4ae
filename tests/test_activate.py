"""The activation assets: the newest run pushes, once, and only what is in balance."""

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from activations.channels import CHANNELS
from activations.channels.smtp import SmtpOptions
from activations.delivery import ImbalanceError
from activations.destinations import (
    DESTINATIONS,
    DestinationsError,
    read_destinations,
)
from activations.ledger import COPY_SCHEMA, Ledger
from orchestration.assets import activate
from orchestration.assets.activate import COLUMNS
from orchestration.sources import landing, run_inputs
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import HomeAt, TestHome
from tests.test_guard import Street

FIRST = datetime.fromisoformat("2026-06-01T09:00:00")
SECOND = FIRST + timedelta(hours=6)

TABLES: dict[str, dict[str, Any]] = {
    "staging.stg_run": {
        "as_of": pl.Datetime("us"),
        "is_newest": pl.Boolean,
        "base_currency": pl.String,
    },
    "raw.sends": {
        "send_id": pl.String,
        "enrollment_id": pl.String,
        "state": pl.String,
        "as_of": pl.Datetime("us"),
    },
    "decisions.verdicts": {
        "send_id": pl.String,
        "candidate_id": pl.String,
        "verdict": pl.String,
        "reason": pl.String,
        "message_class": pl.String,
    },
    "decisions.deliverable_sends": {
        "send_id": pl.String,
        "verdict": pl.String,
        "reason": pl.String,
    },
    "decisions.send_payloads": {
        "send_id": pl.String,
        "address": pl.String,
        "payload": pl.String,
    },
    "decisions.candidates": {
        "candidate_id": pl.String,
        "as_of": pl.Datetime("us"),
        "enrollment_id": pl.String,
        "step": pl.String,
        "channel": pl.String,
        "decision_id": pl.String,
    },
    "decisions.decisions": {
        "decision_id": pl.String,
        "enrollment_id": pl.String,
        "step": pl.String,
        "channel": pl.String,
        "verdict": pl.String,
    },
    "decisions.send_list": {
        "send_id": pl.String,
        "decision_id": pl.String,
        "as_of": pl.Datetime("us"),
        "enrollment_id": pl.String,
        "profile_id": pl.String,
        "identifier_type": pl.String,
        "identifier": pl.String,
        "channel": pl.String,
        "journey": pl.String,
        "step": pl.String,
        "message_class": pl.String,
        "content_id": pl.String,
        "address": pl.String,
        "payload": pl.String,
    },
}


class World:
    """A home whose decisions are written by hand."""

    def __init__(self, home: TestHome) -> None:
        self.home = home
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}

    def decide(self, name: str, channel: str, as_of: datetime = FIRST) -> None:
        """One candidate of `name` on `channel` with the verdict to send."""
        key = {"enrollment_id": name, "step": "a_step", "channel": channel}
        decision_id = f"decision-{name}-{channel}"
        candidate_id = f"candidate-{name}-{channel}"
        self.rows["decisions.verdicts"].append(
            {
                "send_id": f"{name}-{channel}",
                "candidate_id": candidate_id,
                "verdict": "send",
                "reason": "due",
                "message_class": "marketing",
            }
        )
        self.rows["decisions.candidates"].append(
            key
            | {"candidate_id": candidate_id, "as_of": as_of, "decision_id": decision_id}
        )
        self.rows["decisions.decisions"].append(
            key | {"decision_id": decision_id, "verdict": "send"}
        )
        self.rows["decisions.send_list"].append(
            key
            | {
                "send_id": f"{name}-{channel}",
                "decision_id": decision_id,
                "as_of": as_of,
                "profile_id": name,
                "identifier_type": "user_id",
                "identifier": f"user-{name}",
                "journey": "cart_recovery",
                "message_class": "marketing",
                "content_id": {"email": "cart_offer", "push": "cart_reminder"}[channel],
                "address": f"{name}@mail.example",
                "payload": json.dumps({"first_name": name.title()}),
            }
        )

    def repeat(self, table: str) -> None:
        """Its first row a second time."""
        self.rows[table].append(dict(self.rows[table][0]))

    def write(self, as_of: datetime, *, is_newest: bool = True) -> None:
        """The tables that activation reads."""
        self.rows["staging.stg_run"] = [
            {"as_of": as_of, "is_newest": is_newest, "base_currency": "USD"}
        ]
        with Ledger(self.home.settings.ledger) as ledger:
            earlier = ledger.rows_before(as_of)
        self.rows["raw.sends"] = earlier.select(*TABLES["raw.sends"]).to_dicts()
        with Warehouse(self.home.settings.warehouse).connect() as connection:
            connection.execute(landing.TABLES)
            for name, schema in TABLES.items():
                frame = pl.DataFrame(self.rows[name], schema=schema)
                replace_table(connection, name, frame)

    def run(
        self,
        as_of: datetime = FIRST,
        *,
        is_newest: bool = True,
        channels: Sequence[str] = ("email",),
    ) -> dg.ExecuteInProcessResult:
        """What a run does from the decisions on, on some channels."""
        self.write(as_of, is_newest=is_newest)
        pushed = [activate.channel_asset(channel) for channel in channels]
        return dg.materialize(
            [*pushed, activate.sends],
            resources={"home": HomeAt(as_of=as_of.isoformat())},
        )

    def states(self) -> dict[str, tuple[str, str | None]]:
        sends = self.home.read("select * from activations.sends order by send_id")
        return {
            row["send_id"]: (row["state"], row["reason"]) for row in sends.to_dicts()
        }

    def outbox(self) -> list[str]:
        folder = self.home.settings.outbox
        return sorted(path.stem for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def world(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("LIVE", "SMTP_HOST"):
        monkeypatch.delenv(f"REKINDLE_{name}", raising=False)
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    return World(home)


def test_each_channel_pushes_its_part_of_the_send_list(world):
    world.decide("ada", "email")
    world.decide("ada", "push")
    world.decide("bob", "push")
    world.run(channels=CHANNELS)
    counts = {
        channel: world.home.read(f"select * from activations.{channel}").height
        for channel in CHANNELS
    }
    assert counts == dict.fromkeys(CHANNELS, 0) | {"email": 1, "push": 2}
    assert world.outbox() == ["ada-email", "ada-push", "bob-push"]
    assert set(world.states().values()) == {("sent", None)}


def test_a_second_run_sends_nothing_and_changes_no_table(world):
    world.decide("ada", "email")

    def tables() -> list[dict[str, Any]]:
        return [
            row
            for name in ("email", "sends")
            for row in world.home.read(f"select * from activations.{name}").to_dicts()
        ]

    world.run()
    first, (path,) = tables(), world.home.settings.outbox.rglob("*.eml")
    written_at = path.stat().st_mtime_ns
    world.run()
    assert tables() == first
    assert path.stat().st_mtime_ns == written_at


def test_a_run_that_is_not_the_newest_activates_nothing(world):
    world.decide("ada", "email")
    world.run(is_newest=False)
    assert world.outbox() == []
    assert world.states() == {}


@pytest.mark.parametrize(
    ("broken", "rules"),
    [
        ("nothing", set()),
        (
            "no verdict",
            {
                "candidates without exactly one verdict",
                "sends without the verdict to send",
            },
        ),
        ("two verdicts", {"candidates without exactly one verdict"}),
        ("held", {"sends without the verdict to send"}),
        ("no candidate", {"sends of no candidate"}),
        (
            "two candidates",
            {"candidates without exactly one verdict", "candidates listed twice"},
        ),
        ("listed twice", {"sends listed twice"}),
    ],
)
def test_every_imbalance_of_the_decisions_is_seen(world, broken, rules):
    world.decide("ada", "email")
    world.decide("bob", "email")
    if broken == "no verdict":
        world.rows["decisions.decisions"].pop()
    elif broken == "two verdicts":
        world.repeat("decisions.decisions")
    elif broken == "held":
        world.rows["decisions.decisions"][0]["verdict"] = "held"
    elif broken == "no candidate":
        world.rows["decisions.candidates"].pop()
    elif broken == "two candidates":
        world.repeat("decisions.candidates")
    elif broken == "listed twice":
        world.repeat("decisions.send_list")
    world.write(FIRST)
    balances = world.home.read(activate.BALANCES)
    assert set(balances.filter(pl.col("broken_count") > 0)["rule"]) == rules


def test_nothing_is_sent_when_the_decisions_are_out_of_balance(world):
    world.decide("ada", "email")
    world.rows["decisions.decisions"].pop()
    with pytest.raises(ImbalanceError, match="nothing was sent"):
        world.run()
    assert world.outbox() == []
    with Ledger(world.home.settings.ledger) as ledger:
        assert ledger.copy().is_empty()


def test_a_send_whose_run_died_goes_out_only_if_decided_again(world):
    world.decide("ada", "email")
    world.decide("bob", "email")
    still_due, *_ = world.rows["decisions.candidates"]
    world.rows["decisions.candidates"] = [
        still_due | {"as_of": SECOND, "candidate_id": "again"}
    ]
    ada, _ = world.rows["decisions.verdicts"]
    world.rows["decisions.verdicts"] = [ada | {"candidate_id": "again"}]
    world.run(SECOND)
    assert world.outbox() == ["ada-email"]
    assert world.states()["bob-email"] == ("suppressed", "run_did_not_finish")


def test_who_bought_since_waits_for_the_next_run_and_that_is_recorded(world):
    for name in ("ada", "bob"):
        world.decide(name, "email")
    street = Street(world.home, ["ada", "bob"])
    street.land(street.line("ada", "Order Completed"))
    world.run()
    assert world.outbox() == ["bob-email"]
    assert world.states() == {
        "ada-email": ("pending", "guard: Order Completed has landed since"),
        "bob-email": ("sent", None),
    }
    stops = world.home.read("""
        select send_id, channel, event, as_of, stopped_at >= landed_at as is_in_order
        from activations.guard_stops
    """)
    assert stops.rows() == [("ada-email", "email", "Order Completed", FIRST, True)]


def let_wait(world: World) -> None:
    """What an earlier run listed and could not deliver."""
    world.rows["decisions.candidates"] = []
    with Ledger(world.home.settings.ledger) as ledger:
        ledger.enqueue(
            world.rows["decisions.send_list"], destination="smtp", as_of=FIRST
        )
    for verdict in world.rows["decisions.verdicts"]:
        verdict["candidate_id"] = None
        judge_again(world, verdict["send_id"], "send", "due")


def judge_again(world: World, send_id: str, verdict: str, reason: str) -> None:
    """What the rules say now of a send that waits."""
    waiting = world.rows["decisions.deliverable_sends"]
    waiting[:] = [row for row in waiting if row["send_id"] != send_id]
    waiting.append({"send_id": send_id, "verdict": verdict, "reason": reason})


def test_what_could_not_be_delivered_goes_out_later_if_the_rules_let_it(world):
    for name in ("ada", "gone", "asleep", "unknown"):
        world.decide(name, "email")
    let_wait(world)
    judge_again(world, "gone-email", "suppressed", "unsubscribed")
    judge_again(world, "asleep-email", "held", "quiet_hours")
    for table in ("decisions.deliverable_sends", "decisions.verdicts"):
        world.rows[table] = [
            row for row in world.rows[table] if row["send_id"] != "unknown-email"
        ]
    world.run(SECOND)
    assert world.outbox() == ["ada-email"]
    assert world.states() == {
        "ada-email": ("sent", None),
        "asleep-email": ("pending", "quiet_hours"),
        "gone-email": ("suppressed", "unsubscribed"),
        "unknown-email": ("suppressed", "no_longer_due"),
    }


def test_a_send_goes_out_with_what_is_true_by_then(world):
    world.decide("ada", "email")
    world.decide("bob", "email")
    let_wait(world)
    world.rows["decisions.send_payloads"] = [
        {
            "send_id": "ada-email",
            "address": "ada@elsewhere.example",
            "payload": json.dumps({"first_name": "Augusta"}),
        }
    ]
    world.run(SECOND)
    (written,) = world.home.settings.outbox.rglob("ada-email.eml")
    assert "To: ada@elsewhere.example" in written.read_text()
    assert "Augusta" in written.read_text()


def test_a_send_that_is_decided_again_goes_where_the_person_is_now(world):
    world.decide("ada", "email")
    (decided,) = world.rows["decisions.candidates"]
    decided["as_of"] = SECOND
    world.rows["decisions.send_payloads"] = [
        {"send_id": "ada-email", "address": "ada@elsewhere.example", "payload": "{}"}
    ]
    world.run(SECOND)
    (written,) = world.home.settings.outbox.rglob("ada-email.eml")
    assert "To: ada@elsewhere.example" in written.read_text()


def test_a_run_that_is_repeated_judges_what_it_could_not_deliver(world):
    """Files may land between two runs at one moment."""
    for name in ("ada", "asleep", "gone"):
        world.decide(name, "email")
    with Ledger(world.home.settings.ledger) as ledger:
        ledger.enqueue(
            world.rows["decisions.send_list"], destination="smtp", as_of=FIRST
        )
    verdicts = {row["send_id"]: row for row in world.rows["decisions.verdicts"]}
    verdicts["asleep-email"] |= {"verdict": "held", "reason": "quiet_hours"}
    verdicts["gone-email"] |= {"verdict": "suppressed", "reason": "unsubscribed"}
    world.run()
    assert world.states() == {
        "ada-email": ("sent", None),
        "asleep-email": ("pending", "quiet_hours"),
        "gone-email": ("suppressed", "unsubscribed"),
    }


def test_a_channel_without_a_destination_sends_nothing(world, monkeypatch):
    monkeypatch.setenv("REKINDLE_LIVE", "true")
    world.decide("ada", "push")
    world.decide("bob", "push")
    with Ledger(world.home.settings.ledger) as ledger:
        waiting, _ = world.rows["decisions.send_list"]
        ledger.enqueue([waiting], destination="file", as_of=FIRST)
    world.run(channels=["push"])
    assert world.outbox() == []
    assert world.states() == dict.fromkeys(
        ("ada-push", "bob-push"), ("suppressed", "no_destination")
    )


def test_retry_has_a_dead_send_tried_again_by_the_next_run(world):
    for name in ("ada", "bob"):
        world.decide(name, "email")
        world.rows["decisions.send_list"][-1]["address"] = None
    world.run()
    assert {state for state, _ in world.states().values()} == {"dead"}
    home = world.home
    with home.warehouse() as connection:
        runs = pl.DataFrame({"as_of": [FIRST]})
        replace_table(connection, "raw.runs", runs)
    assert "render_failed: no address" in home.rekindle("retry").stdout
    printed = home.rekindle("retry", "ada-email").stdout
    assert printed.startswith("1 to be tried again by the next run")
    again = home.rekindle("retry", "ada-email", check=False)
    assert again.returncode == 1
    assert "no dead send" in again.stderr
    judge_again(world, "ada-email", "send", "due")
    world.rows["decisions.send_payloads"] = [
        {"send_id": "ada-email", "address": "ada@mail.example", "payload": "{}"}
    ]
    world.run(SECOND)
    assert world.outbox() == ["ada-email"]
    assert world.states()["bob-email"] == ("dead", "render_failed: no address")


def test_metadata_tells_counts_and_no_person(world):
    world.decide("ada", "email")
    result = world.run()
    (event,) = result.asset_materializations_for_node("activations__email")
    metadata = {key: value.value for key, value in event.metadata.items()}
    assert metadata["dagster/row_count"] == 1
    assert metadata["sent_count"] == 1
    assert "| Cart recovery | A step | Sent |" in metadata["table"]
    (copied,) = result.asset_materializations_for_node("activations__sends")
    assert "image/svg" in copied.metadata["chart"].value
    shown = str(metadata) + str(
        {key: value.value for key, value in copied.metadata.items()}
    )
    assert "mail.example" not in shown
    assert "Ada" not in shown


def test_nothing_real_is_contacted_unless_live_is_said(world):
    settings = world.home.settings
    opened = {
        (channel, live, host): activate.destinations(
            channel, settings.model_copy(update={"live": live, "smtp_host": host})
        )[0]
        for channel in ("email", "push")
        for live in (False, True)
        for host in (None, "mail.example")
    }
    assert {case: found.name for case, found in opened.items() if found} == {
        ("email", False, None): "file",
        ("email", False, "mail.example"): "file",
        ("email", True, "mail.example"): "smtp",
        ("push", False, None): "file",
        ("push", False, "mail.example"): "file",
    }


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("sms: smtp", "sms: smtp takes email alone"),
        ("sms: carrier_pigeon", "sms: carrier_pigeon is none of smtp, file, webhook"),
        ("sms: [file]", "sms: ['file'] is none of smtp, file, webhook"),
        ("sms: none\nsms: file", "sms: is there twice"),
        ("sms: none\nfax: file", "fax: there is no such channel; it is one of email"),
        ("sms: {", "cannot be read"),
    ],
)
def test_a_mistake_in_the_destinations_is_named_in_one_line(tmp_path, line, mend):
    path = tmp_path / "destinations.yml"
    path.write_text(DESTINATIONS.read_text().replace("sms: none", line))
    with pytest.raises(DestinationsError, match=re.escape(mend)) as error:
        read_destinations(path)
    assert "\n" not in str(error.value)
    assert set(read_destinations()) <= set(CHANNELS)


def test_a_live_run_looks_for_every_secret_before_it_decides(
    world, tmp_path, monkeypatch
):
    path = tmp_path / "destinations.yml"
    path.write_text("email: {destination: sendgrid, api_key: {env: SENDGRID_KEY}}\n")
    monkeypatch.setattr(
        run_inputs, "read_destinations", lambda: read_destinations(path)
    )
    settings = world.home.settings
    assert run_inputs.destinations_in_use(settings)["email"].destination == "file"
    live = settings.model_copy(update={"live": True})
    with pytest.raises(DestinationsError, match=r"email\.api_key: SENDGRID_KEY is not"):
        run_inputs.destinations_in_use(live)
    monkeypatch.setenv("SENDGRID_KEY", "SG.key")
    (options,) = run_inputs.destinations_in_use(live).values()
    destination = options.open(run_inputs.surroundings(live))
    assert destination.name == "sendgrid"
    assert "SG.key" not in repr(run_inputs.surroundings(live))
    destination.close()


def test_a_channel_that_no_line_names_goes_nowhere(tmp_path):
    path = tmp_path / "destinations.yml"
    path.write_text("email: smtp\n")
    assert read_destinations(path) == {"email": SmtpOptions()}


def test_every_asset_says_what_a_row_is_and_what_its_columns_mean():
    assets = [*activate.channels, activate.sends]
    assert [asset.key.path[1] for asset in assets] == [*CHANNELS, "sends"]
    for asset in assets:
        (spec,) = asset.specs
        assert spec.description.startswith("One row per send")
        assert spec.owners
        assert spec.group_name == "activations"
    assert list(COLUMNS) == list(COPY_SCHEMA)
