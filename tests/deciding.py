"""Runs the decision models, and the overrides they obey, on hand-made profiles."""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from activations.audiences import audience_frames, read_audiences
from activations.blueprint import journey_frames, load_journeys
from activations.channels import CHANNELS
from orchestration.settings import PROJECT, Settings
from orchestration.sources.authored import Authored, known_words
from orchestration.warehouse import Connection, Warehouse, fetch_frame
from tests.conftest import MakeOnce
from tests.resolving import run_dbt

Row = Mapping[str, Any]

OVERRIDES = (
    *("condition_events", "condition_traits"),
    *("audience_members", "stated_overrides", "overrides"),
)
APPEND_ONLY = (
    *("decisions.entries", "decisions.enrollment_exits"),
    *("decisions.journey_versions", "decisions.decisions"),
    "decisions.rule_verdicts",
    *("decisions.send_list", "decisions.send_choices"),
)

SEED_FOLDER = PROJECT / "dbt_project" / "seeds"
SEEDS = ("decisions", "identity", "overrides", "staging")


def stated_columns(layer: str, tables: Collection[str]) -> dict[str, str]:
    """Columns of these tables of a layer, as their contracts state them."""
    columns = {}
    for path in (PROJECT / "models" / layer).glob(f"_{layer}__*.yml"):
        for model in yaml.load(path.read_text(), yaml.CSafeLoader).get("models", []):
            table = f"{layer}.{model['name']}"
            if table in tables:
                columns[table] = ", ".join(
                    f"{column['name']} {column['data_type']}"
                    for column in model["columns"]
                )
    return columns


PARENTS = {
    **stated_columns("profiles", ["profiles.profiles"]),
    "staging.stg_run": """
        as_of timestamp, is_newest boolean, base_currency varchar, time_zone varchar
    """,
    "staging.stg_events": """
        message_id varchar, type varchar, event varchar, kind varchar, action varchar,
        implied_channel varchar, occurred_at timestamp, is_bot boolean,
        properties json, traits json
    """,
    "staging.stg_destinations": "channel varchar, destination varchar",
    "staging.stg_stopped_channels": """
        channel varchar, stopped_at timestamp, reason varchar
    """,
    "staging.stg_message_events": """
        message_id varchar, occurred_at timestamp, effective_at timestamp,
        channel varchar, interaction varchar,
        message_class varchar default 'marketing', send_id varchar, campaign_id varchar,
        campaign_name varchar, email_id varchar, is_machine boolean
    """,
    "staging.stg_product_views": "message_id varchar",
    "staging.stg_cart_events": "message_id varchar, action varchar",
    "staging.stg_checkout_events": "message_id varchar",
    "staging.stg_orders": """
        order_id varchar, message_id varchar, ordered_at timestamp, status varchar
    """,
    "staging.stg_service_events": "message_id varchar, kind varchar, score integer",
    "staging.stg_high_stakes_events": """
        message_id varchar, event varchar, occurred_at timestamp
    """,
    "staging.stg_sends": """
        send_id varchar, enrollment_id varchar, journey varchar, step varchar,
        channel varchar, profile_id varchar, identifier_type varchar,
        identifier varchar, content_id varchar, message_class varchar, address varchar,
        state varchar, as_of timestamp, waits_since timestamp, sent_at timestamp,
        is_in_doubt boolean
    """,
    "identity.identity_map": """
        identifier_type varchar, identifier varchar, profile_id varchar
    """,
    "identity.erased_profiles": "profile_id varchar, erased_at timestamp",
    "identity.profile_events": """
        message_id varchar, profile_id varchar, occurred_at timestamp
    """,
    "identity.message_identifier_sets": """
        message_id varchar, occurred_at timestamp, identifier_set_id uhugeint
    """,
    "identity.identifier_set_members": """
        identifier_set_id uhugeint, identifier_type varchar, identifier varchar
    """,
    "profiles.sessions": """
        session_id varchar, profile_id varchar, started_at timestamp,
        ended_at timestamp, product_view_count bigint, order_count bigint,
        first_message_id varchar, last_message_id varchar, campaign_name varchar,
        max_category_views bigint, is_store boolean
    """,
    "profiles.missteps": """
        profile_id varchar, kind varchar, opened_at timestamp, resolved_at timestamp,
        evidence_message_id varchar, resolved_message_id varchar, is_open boolean
    """,
    "profiles.intents": """
        profile_id varchar, intent varchar, evidence_message_id varchar,
        intent_at timestamp, product_id varchar, product_name varchar,
        category varchar, price decimal(18, 2), cart_value_amount decimal(18, 2)
    """,
    "profiles.consents": """
        profile_id varchar, channel varchar, purpose varchar, status varchar,
        message_id varchar, updated_at timestamp
    """,
    "profiles.contact_points": """
        profile_id varchar, channel varchar, address varchar, is_reachable boolean,
        unreachable_reason varchar, unsubscribe_message_id varchar
    """,
    "profiles.product_stats": """
        product_id varchar, product_name varchar, category varchar,
        price decimal(18, 2), recent_buyer_count bigint
    """,
    "profiles.product_prices": """
        product_id varchar, currency varchar, product_name varchar, category varchar,
        price decimal(18, 2)
    """,
    "profiles.product_interactions": """
        message_id varchar, profile_id varchar, occurred_at timestamp, action varchar,
        product_id varchar, product_name varchar, category varchar,
        price decimal(18, 2), currency varchar
    """,
    "profiles.cart_messages": """
        message_id varchar, profile_id varchar, occurred_at timestamp,
        order_message_id varchar, ordered_at timestamp
    """,
    "profiles.cart_items": """
        profile_id varchar, product_id varchar, price decimal(18, 2), currency varchar,
        quantity decimal(18, 3), added_at timestamp, message_id varchar
    """,
    "profiles.product_affinities": """
        profile_id varchar, product_id varchar, affinity double
    """,
    "profiles.related_products": """
        product_id varchar, related_product_id varchar, related_product_name varchar,
        related_price decimal(18, 2), rank bigint
    """,
    "profiles.next_products": """
        profile_id varchar, product_id varchar, product_name varchar,
        price decimal(18, 2), rank bigint
    """,
    "ml.scores": """
        profile_id varchar, purchase_propensity double, churn_propensity double
    """,
    "ml.channel_scores": """
        profile_id varchar, channel varchar, channel_propensity double
    """,
    "ml.send_time_scores": """
        profile_id varchar, weekday_group varchar, slot bigint,
        send_time_propensity double
    """,
}


class DecisionLab:
    """A warehouse that holds only what decisions read, and the compiled models."""

    def __init__(self, connection: Connection, models: Mapping[str, str]) -> None:
        self.connection = connection
        self.models = models

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Add rows to a parent table; columns left out are null."""
        for row in rows:
            holes = ", ".join("?" for _ in row)
            self.connection.execute(
                f"insert into {table} ({', '.join(row)}) values ({holes})",
                list(row.values()),
            )

    def put_frames(self, frames: Mapping[str, pl.DataFrame]) -> None:
        """Replace all that the parent tables hold by these frames."""
        for table in PARENTS:
            self.change(f"delete from {table}")
        for table, frame in frames.items():
            self.connection.register("frame", frame.to_arrow())
            self.change(f"insert into {table} by name select * from frame")
            self.connection.unregister("frame")

    def keep_journeys(self, folder: Path) -> None:
        """Keep the journeys of a folder in place of all others."""
        frames = journey_frames(load_journeys(folder))
        self._replace_staged(frames, "journey is not null")

    def keep_audiences(self, folder: Path) -> None:
        """Keep the audiences of a folder in place of all others."""
        frames = audience_frames(*read_audiences(folder, known_words(Settings())))
        self._replace_staged(frames, "audience is not null")

    def _replace_staged(self, frames: Mapping[str, pl.DataFrame], former: str) -> None:
        for table, frame in frames.items():
            self.change(f"delete from staging.stg_{table} where {former}")
            self.connection.register("frame", frame.to_arrow())
            self.change(f"insert into staging.stg_{table} by name select * from frame")
            self.connection.unregister("frame")

    def change(self, statement: str) -> None:
        """Run one statement, to age or alter what is there."""
        self.connection.execute(statement)

    def build(
        self,
        as_of: datetime,
        *,
        is_newest: bool = True,
        only: str | tuple[str, ...] = "",
    ) -> None:
        """Build the tables whose name begins with `only` as a run at `as_of` would."""
        self.change("delete from staging.stg_run")
        self.put(
            "staging.stg_run",
            [
                {
                    "as_of": as_of,
                    "is_newest": is_newest,
                    "base_currency": "USD",
                    "time_zone": "UTC",
                }
            ],
        )
        for table, query in self.models.items():
            if not table.startswith(only):
                continue
            if table in APPEND_ONLY:
                self.change(f"insert into {table} by name {query}")
            else:
                self.change(f"create or replace table {table} as {query}")

    def send(self, as_of: datetime, state: str = "sent") -> None:
        """Record what this run decided to send, as the ledger would."""
        self.change(f"""
            insert into staging.stg_sends by name
            select
                send_id, enrollment_id, journey, step, channel, profile_id,
                message_class, content_id, address, as_of, as_of as waits_since,
                '{state}' as state
            from decisions.send_list
            where as_of = '{as_of.isoformat()}'
        """)

    def read(self, query: str) -> pl.DataFrame:
        """Rows of the lab's warehouse."""
        return fetch_frame(self.connection, query)


def keep_audience(folder: Path, audience: str, when: str) -> None:
    """Write the file of an audience, whose condition is YAML of one line."""
    folder.mkdir(exist_ok=True)
    (folder / f"{audience}.yml").write_text(
        f"audience: {audience}\nowner: crm\ndescription: Some.\nwhen: {when}\n"
    )


def compile_models(folder: Path) -> None:
    """Make an empty lab warehouse, and compile the decision models."""
    path = folder / "warehouse.duckdb"
    activations = PROJECT / "activations"
    audiences, _ = read_audiences(activations / "audiences", known_words(Settings()))
    journeys = load_journeys(activations / "journeys")
    frames = Authored(audiences, [], journeys, []).frames
    with Warehouse(path).connect() as connection:
        for schema in {table.split(".")[0] for table in PARENTS} | {"seeds"}:
            connection.execute(f"create schema if not exists {schema}")
        for table, columns in PARENTS.items():
            connection.execute(f"create table {table} ({columns})")
        for table, columns in stated_columns("decisions", APPEND_ONLY).items():
            connection.execute(f"create table {table} ({columns})")
        connection.executemany(
            "insert into staging.stg_destinations values (?, 'file')",
            [[channel] for channel in CHANNELS],
        )
        for table, frame in frames.items():
            connection.register("frame", frame.to_arrow())
            connection.execute(
                f"create table staging.stg_{table} as select * from frame"
            )
            connection.unregister("frame")
        for group in SEEDS:
            described = yaml.safe_load((SEED_FOLDER / f"_{group}.yml").read_text())
            for seed in described["seeds"]:
                csv = SEED_FOLDER / f"{seed['name']}.csv"
                types = json.dumps(seed["config"]["column_types"])
                connection.execute(f"""
                    create table seeds.{seed["name"]} as
                    select * from read_csv('{csv}', header = true, columns = {types})
                """)
    run_dbt(path, "compile", "--select", "path:models/decisions", *OVERRIDES)


def read_models(folder: Path) -> dict[str, str]:
    """The SQL of the decision models from first to last."""
    manifest = json.loads((folder / "target" / "manifest.json").read_text())
    return in_order(
        {
            node_id: node
            for node_id, node in manifest["nodes"].items()
            if node["resource_type"] == "model"
            and (node["schema"] == "decisions" or node["name"] in OVERRIDES)
        }
    )


def in_order(nodes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Table and compiled SQL of each model, parents before children."""
    ordered: dict[str, str] = {}

    def visit(node_id: str) -> None:
        node = nodes[node_id]
        table = f"{node['schema']}.{node['name']}"
        if table in ordered:
            return
        for parent in node["depends_on"]["nodes"]:
            if parent in nodes:
                visit(parent)
        ordered[table] = node["compiled_code"]

    for node_id in sorted(nodes):
        visit(node_id)
    return ordered


@pytest.fixture(scope="session")
def compiled_decisions(make_once: MakeOnce) -> tuple[Path, dict[str, str]]:
    """The decision models, compiled once for all tests."""
    folder = make_once("decisions", compile_models)
    return folder / "warehouse.duckdb", read_models(folder)


@pytest.fixture
def lab(
    compiled_decisions: tuple[Path, dict[str, str]], tmp_path: Path
) -> Iterator[DecisionLab]:
    """A lab of its own for one test."""
    path, models = compiled_decisions
    copy = Path(shutil.copy(path, tmp_path / path.name))
    with Warehouse(copy).connect() as connection:
        yield DecisionLab(connection, models)
