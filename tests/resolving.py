"""Takes a home from landed files to profiles, without the rest of the loop."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars.selectors as cs
import pytest
from polars.testing import assert_frame_equal

from activations.audiences import read_audiences
from activations.blueprint import load_journeys
from activations.ledger import Ledger
from orchestration.dbt import DBT_FOLDER, dbt_executable, served_dbt, start_server
from orchestration.sources.authored import Authored, bring_authored, known_words
from orchestration.sources.landing import land
from orchestration.sources.run_inputs import (
    begin_run,
    bring_seeds,
    invalidate_identity_state,
    snapshot_sends,
)
from orchestration.warehouse import Warehouse
from tests.conftest import Event, TestHome

LAYERS = ("path:seeds", "staging", "identity", "profiles")
RETAIL_AS_OF = datetime.fromisoformat("2011-12-15")
IDENTITY_MODELS = (
    *("stg_run", "stg_events", "stg_phone_numbers", "stg_identity_rules"),
    *("stg_event_names", "stg_identifiers", "stg_identify_calls"),
    "identity",
)
IDENTITY = (
    *("click_ids", "currencies", "identifier_types", "identity_rules", "match_fields"),
    *("machine_user_agents", "placeholders", "semantic_events", "spellings"),
    *IDENTITY_MODELS,
)


def resolve(home: TestHome, as_of: datetime, layers: tuple[str, ...] = LAYERS) -> None:
    """Land what is there and build up to profiles, or less, tests included."""
    settings = home.settings
    with Ledger(settings.ledger) as ledger:
        sends = ledger.rows_before(as_of)
    with Warehouse(settings.warehouse).connect() as connection:
        land(connection, settings.landing, as_of)
        bring_seeds(connection, settings)
        begin_run(connection, as_of, settings)
        snapshot_sends(connection, sends)
        journeys = load_journeys(settings.journeys)
        audiences, _ = read_audiences(settings.audiences, known_words(settings))
        bring_authored(connection, Authored(audiences, [], journeys, []))
        full_refresh = invalidate_identity_state(connection)
    dbt(
        home,
        "build",
        *(["--full-refresh"] if full_refresh else []),
        *("--select", *layers),
        *("--exclude-resource-type", "unit_test"),
        *("--indirect-selection", "cautious"),
    )


def dbt(home: TestHome, *arguments: str) -> Path:
    """Run dbt on a home; returns the folder that holds what it compiled."""
    return run_dbt(home.settings.warehouse, *arguments)


def run_dbt(warehouse: Path, *arguments: str) -> Path:
    """Run dbt on a warehouse; returns the folder that holds what it compiled.

    To dbt, all warehouses of the tests are one, each in a folder of its own: the models
    are parsed once. So they must have the name that the compiled models hold.
    """
    assert warehouse.name == "warehouse.duckdb"
    finished = subprocess.run(
        [
            *served_dbt(start_server(), dbt_executable()),
            *arguments,
            *("--project-dir", str(DBT_FOLDER), "--profiles-dir", str(DBT_FOLDER)),
            *("--target-path", str(warehouse.parent / "target")),
            *("--log-path", str(warehouse.parent / "logs")),
        ],
        cwd=warehouse.parent,
        env={**os.environ, "REKINDLE_WAREHOUSE": warehouse.name},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        pytest.fail(finished.stdout[-5000:])
    return warehouse.parent / "target" / "compiled" / "rekindle" / "models"


def assert_same_tables(
    home: TestHome, other: TestHome, schemas: tuple[str, ...]
) -> None:
    """Every table holds the same rows; numbers and the log of changes are internal."""
    tables = other.read(
        "select table_schema || '.' || table_name from information_schema.tables "
        f"where table_schema in {schemas} and table_name <> 'identity_merges'"
    )
    for table in tables.to_series():
        columns = cs.exclude(cs.ends_with("_seq", "_config_hash"))
        rows, others = (
            one.read(f"select * from {table}").select(columns) for one in (home, other)
        )
        assert_frame_equal(rows, others, check_row_order=False)


@pytest.fixture(scope="session")
def retail_home(new_home: Callable[[str], TestHome]) -> TestHome:
    """Real customers, up to their profiles."""
    if not {"REKINDLE_TEST_RETAIL", "REKINDLE_TEST_RETAIL_EVENTS"} <= os.environ.keys():
        pytest.skip(
            "needs REKINDLE_TEST_RETAIL (UCI Online Retail as Parquet) and "
            "REKINDLE_TEST_RETAIL_EVENTS (the same as landing files)"
        )
    home = new_home("retail")
    events = Path(os.environ["REKINDLE_TEST_RETAIL_EVENTS"])
    shutil.copytree(events, home.settings.landing / "retail")
    resolve(home, RETAIL_AS_OF)
    return home


class Journal:
    """Writes events of the Segment spec, one id after the other."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.events: list[Event] = []

    def add(
        self,
        at: datetime,
        event: str,
        properties: dict[str, Any] | None = None,
        **envelope: Any,
    ) -> str:
        """One track call; returns its message id. `user` and `browser` say who."""
        return self.write(
            at, type="track", event=event, properties=properties or {}, **envelope
        )

    def identify(self, at: datetime, **envelope: Any) -> str:
        """One identify call with `traits`."""
        return self.write(at, type="identify", **envelope)

    def write(
        self,
        at: datetime,
        *,
        user: str | None = None,
        browser: str | None = None,
        device: str | None = None,
        context: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """One call of any type; returns its message id."""
        message_id = f"{self.prefix}-{len(self.events):04}"
        context = dict(context or {})
        if device:
            context["device"] = {"id": device, **context.get("device", {})}
        timestamp = at.isoformat() + "Z"
        event = {
            "messageId": message_id,
            "userId": user,
            "anonymousId": browser,
            "timestamp": timestamp,
            "receivedAt": (at + timedelta(seconds=1)).isoformat() + "Z",
            "context": context,
            **fields,
        }
        self.events.append({k: v for k, v in event.items() if v is not None})
        return message_id
