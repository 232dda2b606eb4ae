"""What is to go of a person who is erased, as it is found before any of it goes."""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import polars as pl

from activations.ledger import opened_copy
from orchestration.erasures import TOKEN
from orchestration.settings import Settings
from orchestration.sources.redaction import ERASED, SHORTEST, Person
from orchestration.warehouse import (
    Connection,
    Warehouse,
    fetch_frame,
    has_table,
    require_table,
)
from orchestration.why import NEWEST, find_profile

# Columns that name one thing of one person: where a table has the person's profile, its
# values are the person's, and rows of other tables with one of them too.
KEYS = (
    *("message_id", "send_id", "enrollment_id", "decision_id", "candidate_id"),
    *("session_id", "touchpoint_id", "conversion_id", "path_id", "order_id"),
    *("misstep_id", "phase_change_id", "thread_id", "refund_id"),
)
ID = re.compile(rf"[\w-]{{{SHORTEST},}}")
MESSAGES = {"message_id": pl.String}
IDENTIFIERS = """
    select identifier_type, identifier from identity.identity_map
    where profile_id = $profile_id
    order by all
"""
PROFILE_IDS = """
    select $profile_id as profile_id
    union
    select former_profile_id from identity.profile_aliases
    where profile_id = $profile_id
"""
# However an identifier was written, and where they are reached.
SPELLINGS = {
    "identity.identity_map": """
        select identifier from identity.identity_map where profile_id = $profile_id
    """,
    "staging.stg_phone_numbers": """
        select numbers.spelling from staging.stg_phone_numbers as numbers
        inner join identity.identity_map as identity_map
            on
                identity_map.identifier_type = 'phone'
                and numbers.phone = identity_map.identifier
        where identity_map.profile_id = $profile_id
    """,
    "profiles.mail_addresses": """
        select mail_addresses.wire_address from profiles.mail_addresses
        inner join identity.identity_map as identity_map
            on mail_addresses.address = identity_map.identifier
        where identity_map.profile_id = $profile_id
    """,
    "profiles.addresses": """
        select address from profiles.addresses where profile_id = $profile_id
    """,
    "profiles.app_devices": """
        select unnest([device_token, advertising_id]) from profiles.app_devices
        where profile_id = $profile_id
    """,
}
NAMES = """
    select first_name || ' ' || last_name as name from profiles.profiles
    where profile_id = $profile_id
    union
    select street from profiles.profiles where profile_id = $profile_id
"""
ORDERS = """
    select
        orders.order_id,
        date_trunc('day', orders.ordered_at) as ordered_on,
        orders.gross_revenue_amount,
        orders.discount_amount,
        orders.shipping_amount,
        orders.currency,
        orders.store_id,
        orders.status = 'cancelled' as is_cancelled,
        list({
            product_id: lines.product_id,
            name: lines.product_name,
            category: lines.category,
            brand: lines.brand,
            price: lines.price,
            quantity: lines.quantity,
            currency: lines.currency
        } order by lines.line_number) filter (lines.order_id is not null) as products
    from staging.stg_orders as orders
    inner join identity.profile_events as events
        on orders.message_id = events.message_id
    left join staging.stg_order_lines as lines on orders.order_id = lines.order_id
    where events.profile_id = $profile_id
    group by all
    order by ordered_on, orders.order_id
"""
REFUNDS = """
    select
        refunds.refund_id,
        refunds.order_id,
        date_trunc('day', refunds.refunded_at) as refunded_on,
        refunds.refund_amount,
        refunds.currency
    from staging.stg_refunds as refunds
    inner join identity.profile_events as events
        on refunds.message_id = events.message_id
    where events.profile_id = $profile_id
    order by refunded_on, refunds.refund_id
"""
# messages of others in which the person is named
MENTIONS = """
    select message_id from raw.events
    where
        message_id not in (select message_id from own_messages)
        and regexp_matches(
            concat_ws(
                ' ', '', user_id, anonymous_id,
                cast(context as varchar), cast(properties as varchar),
                cast(traits as varchar), ''
            ),
            $hint,
            'i'
        )
"""
EVENTS = """
    select message_id, event, anonymous_id, user_id, context, properties, traits
    from raw.events semi join mentions using (message_id)
"""


class EraseError(Exception):
    """A person cannot be erased, or not everywhere: what to do, in one line."""


@dataclass(frozen=True)
class Plan:
    """All that is to go, as it was found before any of it went.

    `erased_at` is the newest run: what had been received by then is what goes. `keys`
    are values by the column that holds them; `orders` the landed lines by which
    money stays, `token` the id that they are under.
    """

    erased_at: str
    token: str
    profile_ids: list[str]
    identifiers: list[list[str]]
    spellings: list[str]
    names: list[str]
    mentioned_in: list[str]
    keys: dict[str, list[str]]
    orders: list[str]

    def __repr__(self) -> str:
        return f"Plan({len(self.identifiers)} identifiers)"

    @cached_property
    def person(self) -> Person:
        """What the person is known by in landed lines."""
        return Person(
            frozenset(self.spellings),
            frozenset(self.keys["message_id"]),
            frozenset(self.mentioned_in),
        )

    @cached_property
    def typed(self) -> frozenset[str]:
        """The identifiers as `type:identifier`, however they are written."""
        letters = {letters_of(value): kind for kind, value in self.identifiers}
        return frozenset(
            f"{kind}:{text.strip().lower()}"
            for text in (*self.spellings, *(value for _, value in self.identifiers))
            if (kind := letters.get(letters_of(text)))
        )

    @cached_property
    def named(self) -> Person:
        """The same in texts about them, which may call them by name."""
        return Person(frozenset([*self.spellings, *self.names, *self.profile_ids]))

    @cached_property
    def ids(self) -> frozenset[str]:
        """Ids of all that was theirs."""
        return frozenset(chain.from_iterable(self.keys.values()))

    def cut_from(self, text: str) -> str:
        """A text of a log without the person and the ids of what was theirs."""
        return ID.sub(
            lambda found: ERASED if found[0] in self.ids else found[0],
            self.named.cut_from(text),
        )


def make_plan(settings: Settings, person: str) -> Plan:
    """What is known of a person, and thereby to go.

    Raises:
        EraseError: if it is an identifier that many share.
    """
    token = f"{TOKEN}{secrets.token_hex(16)}"
    with Warehouse.of(settings).connect(read_only=True) as connection:
        require_table(connection, "decisions", "rule_verdicts")
        newest = fetch_frame(connection, NEWEST).item()
        who = {"profile_id": find_profile(connection, person)}
        hub = "select is_hub from profiles.profiles where profile_id = $profile_id"
        if True in fetch_frame(connection, hub, who)["is_hub"]:
            raise EraseError(
                f"{person!r} is shared by many and no person: erase each of them by "
                "an identifier of their own"
            )
        identifiers = fetch_frame(connection, IDENTIFIERS, who).rows()
        profile_ids = fetch_frame(connection, PROFILE_IDS, who)["profile_id"].to_list()
        spellings = spellings_of(connection, who["profile_id"])
        keys = keys_of(connection, profile_ids)
        spellings |= written_ids(connection, keys["message_id"], spellings)
        names = fetch_frame(connection, NAMES, who)["name"].drop_nulls().to_list()
        mentioned_in = find_mentions(connection, spellings, keys["message_id"])
        orders = fetch_frame(connection, ORDERS, who).to_dicts()
        refunds = fetch_frame(connection, REFUNDS, who).to_dicts()
    for name, rows in (("order_id", orders), ("refund_id", refunds)):
        keys[name] = sorted({*keys[name], *(row[name] for row in rows)})
    if settings.ledger.exists():
        with opened_copy(settings.ledger) as ledger:
            sends = ledger.sends_of(set(profile_ids), set(identifiers))
        keys["send_id"] = sorted({*keys["send_id"], *sends})
    return Plan(
        erased_at=newest.isoformat(),
        token=token,
        profile_ids=profile_ids,
        identifiers=[list(row) for row in identifiers],
        spellings=sorted(spellings),
        names=names,
        mentioned_in=mentioned_in,
        keys=keys,
        orders=kept_orders(token, orders, refunds),
    )


def spellings_of(connection: Connection, profile_id: str) -> set[str]:
    """Identifiers and addresses of a profile, however they were written."""
    return {
        text
        for table, query in SPELLINGS.items()
        if has_table(connection, *table.split("."))
        for (text,) in fetch_frame(
            connection, query, {"profile_id": profile_id}
        ).iter_rows()
        if text
    }


def keys_of(connection: Connection, profile_ids: list[str]) -> dict[str, list[str]]:
    """Values of the key columns in the rows of a profile, by column."""
    found: dict[str, set[str]] = {name: set() for name in KEYS}
    for table, columns in tables_of(connection).items():
        held = [name for name in KEYS if name in columns]
        if "profile_id" not in columns or not held:
            continue
        rows = fetch_frame(
            connection,
            f"select {', '.join(held)} from {table} "
            "where list_contains($profile_ids, profile_id)",
            {"profile_ids": profile_ids},
        )
        for name in held:
            found[name].update(rows[name].drop_nulls().cast(pl.String))
    return {name: sorted(values) for name, values in found.items()}


def tables_of(connection: Connection) -> dict[str, dict[str, str]]:
    """The columns of every table with their types, by its address."""
    rows = fetch_frame(
        connection,
        """
        select
            columns.schema_name || '.' || columns.table_name as name,
            columns.column_name,
            columns.data_type
        from duckdb_columns() as columns
        inner join duckdb_tables() as tables
            on
                columns.database_name = tables.database_name
                and columns.schema_name = tables.schema_name
                and columns.table_name = tables.table_name
        where columns.database_name = current_database() and not tables.temporary
        order by all
        """,
    )
    tables: dict[str, dict[str, str]] = {}
    for name, column, kind in rows.iter_rows():
        tables.setdefault(name, {})[column] = kind
    return tables


def written_ids(
    connection: Connection, message_ids: list[str], spellings: set[str]
) -> set[str]:
    """The ids of the person as their messages write them, where they mean the same."""
    own_messages = pl.DataFrame({"message_id": message_ids}, schema=MESSAGES)
    connection.register("own_messages", own_messages.to_arrow())
    rows = fetch_frame(
        connection,
        "select distinct unnest([user_id, anonymous_id]) as written "
        "from raw.events semi join own_messages using (message_id)",
    )
    letters = {letters_of(spelling) for spelling in spellings}
    return {
        text for text in rows["written"].drop_nulls() if letters_of(text) in letters
    }


def letters_of(text: str) -> str:
    """The letters and digits of an identifier."""
    return re.sub(r"[\W_]", "", text).casefold()


def find_mentions(
    connection: Connection, spellings: set[str], message_ids: list[str]
) -> list[str]:
    """The messages of others that name the person."""
    person = Person(frozenset(spellings), frozenset(message_ids))
    connection.register(
        "mentions",
        fetch_frame(connection, MENTIONS, {"hint": person.hint.pattern}).to_arrow(),
    )
    rows = fetch_frame(connection, EVENTS).to_dicts()
    return sorted(
        row["message_id"] for row in rows if person.is_named_in(read_event(row))
    )


def read_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `raw.events` with its objects read."""
    return {
        name: json.loads(value)
        if name in ("context", "properties", "traits") and value is not None
        else value
        for name, value in row.items()
    }


def kept_orders(
    token: str, orders: list[dict[str, Any]], refunds: list[dict[str, Any]]
) -> list[str]:
    """Lines of the Segment spec by which the money of orders stays, and no more.

    An order keeps its day, its amounts, its products and its store.
    """
    tokens = {row["order_id"]: secrets.token_hex(16) for row in orders}
    lines = []
    for row in orders:
        properties = {
            "order_id": tokens[row["order_id"]],
            "revenue": row["gross_revenue_amount"],
            "discount": row["discount_amount"],
            "shipping": row["shipping_amount"],
            "currency": row["currency"],
            "store_id": row["store_id"],
            "products": row["products"] or [],
        }
        lines.append(("Order Completed", row["ordered_on"], properties))
        if row["is_cancelled"]:
            cancelled = {"order_id": tokens[row["order_id"]]}
            lines.append(("Order Cancelled", row["ordered_on"], cancelled))
    for row in refunds:
        properties = {
            "order_id": tokens.get(row["order_id"]),
            "refund_id": secrets.token_hex(16),
            "refund_amount": row["refund_amount"],
            "currency": row["currency"],
        }
        lines.append(("Order Refunded", row["refunded_on"], properties))
    return [
        json.dumps(
            {
                "type": "track",
                "event": event,
                "messageId": secrets.token_hex(16),
                "anonymousId": token,
                "timestamp": f"{day:%Y-%m-%dT%H:%M:%SZ}",
                "receivedAt": f"{day:%Y-%m-%dT%H:%M:%SZ}",
                "properties": without_nulls(properties),
            },
            default=str,
            ensure_ascii=False,
        )
        for event, day, properties in lines
    ]


def without_nulls(value: Any) -> Any:
    """A value of JSON without the fields that hold nothing."""
    if isinstance(value, dict):
        return {
            key: without_nulls(item) for key, item in value.items() if item is not None
        }
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
