"""Malformed lines and files among good ones: what landing and the loop make of them.

Every value that a model reads is replaced by any other, texts and bytes are damaged,
files are cut, garbled, renamed and wrapped. Landing must keep every good message and
give a reason for every line and file that it does not keep; a run must end well, and a
second one change nothing.
"""

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.warehouse import Warehouse
from tests.conftest import TestHome
from tests.tables import fingerprints

AS_OF = "2026-07-01"
START = datetime(2026, 6, 1)
GOOD_PER_FILE = 5
LINES_PER_FILE = 500
PERSONS = 50

DEEP = 2_000
TEXTS = (
    *("", " ", "0", "-1", "NaN", "Infinity", "null", "true", "[]", "{}", "[1,2]"),
    *("'; drop table x; --", '"', "\\", "%s %d {0} {{x}} {% x %}", "$.a", "../..", "*"),
    *("\0", "\ud83d", "\udc00\ud800", "\u202e", "\ufeff", "\uffff", "🦊" * 9, "é", "ß"),
    *("1e400", "-0.0", "00012", "1,5", "0x1F", "9" * 400, "x" * 100_000),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "292278-01-01", "0000-00-00"),
    *("1970-01-01T00:00:00Z", "1717200000", "1717200000000", "2026-06-31", "now"),
    *("a@b", "@", "x" * 300 + "@example.com", "+", "+47 " * 20, "12345678901234567890"),
)
NUMBERS = (0, -1, 1, 0.1, -0.0, 1e308, -1e308, 2**63, -(2**63), 2**64, 10**400, 1e-300)
KEYS = ("", " ", "a.b", "$", '"', "'", "\\", "*", "[0]", "\0", "\ud800", "x" * 5_000)


@dataclass
class World:
    """Landing files, the good messages in them, and how many lines a file has."""

    landing: Path
    good_ids: set[str] = field(default_factory=set)
    line_counts: dict[str, int] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)

    def put(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        # The same content is one file, known by one of its paths.
        if content not in self.contents:
            self.paths.add(path)
        self.contents.add(content)


def make_world(landing: Path, *, lines: int, files: int, seed: int) -> World:
    """Write malformed lines and files with good neighbours; the same for a seed."""
    dice = random.Random(seed)
    world = World(landing)
    for start in range(0, lines, LINES_PER_FILE):
        path = f"lines/{start:06}.ndjson"
        written = []
        for number in range(start, min(start + LINES_PER_FILE, lines)):
            written.append(bad_line(dice, f"bad-{number}", number))
            if number % 2:
                world.good_ids.add(f"good-{number}")
                written.append(encode(message(f"good-{number}", number)))
        world.put(path, b"".join(line + b"\n" for line in written))
        world.line_counts[path] = sum(1 for line in written if line.strip())
    for number in range(files):
        ids = [f"file-{number}-{at}" for at in range(GOOD_PER_FILE)]
        messages = [message(name, number * 7 + at) for at, name in enumerate(ids)]
        wrap = dice.choice((*HARMLESS, *HARMFUL))
        path, content = wrap(dice, messages)
        world.put(f"files/{number:04}/{path}", content)
        neighbour = f"neighbour-{number}"
        world.put(f"files/{number:04}/beside.ndjson", ndjson([message(neighbour, 1)]))
        world.good_ids |= {neighbour, *(ids if wrap in HARMLESS else [])}
    odd_entries(world)
    return world


def message(message_id: str, number: int) -> dict[str, Any]:
    """A good message of one of some shoppers, with every field that models read."""
    at = START + timedelta(minutes=number % 40_000)
    person = number % PERSONS
    kinds: tuple[tuple[str, str | None], ...] = (
        *(("track", "Product Viewed"), ("track", "Product Added")),
        *(("track", "Checkout Started"), ("track", "Order Completed")),
        *(("track", "Order Refunded"), ("track", "Email Link Clicked")),
        *(("track", "Channel Consent Updated"), ("track", "NPS Submitted")),
        *(("track", "Email Bounced"), ("track", "SMS Received")),
        *(("track", "Support Ticket Opened"), ("track", "Coupon Applied")),
        *(("page", None), ("identify", None), ("alias", None), ("group", None)),
    )
    kind, event = kinds[number % len(kinds)]
    product = {
        "product_id": f"p{number % 9}",
        "sku": f"s{number % 9}",
        "name": "Kettle",
        "category": "Kitchen",
        "brand": "Acme",
        "price": 19.5,
        "quantity": 2,
    }
    traits = {
        "email": f"shopper{person}@example.com",
        "phone": f"+4790{person:06}",
        "firstName": "Ada",
        "lastName": "Berg",
        "birthday": "1990-02-03",
        "createdAt": "2025-01-01T00:00:00Z",
        "loyaltyId": f"l{person}",
        "preferredChannel": "email",
        "emailOptIn": True,
        "consent": {"email": {"marketing": True}, "topics": [{"news": True}]},
        "address": {"street": "Gate 1", "city": "Oslo", "postalCode": "0150"},
    }
    return {
        "type": kind,
        "event": event,
        "messageId": message_id,
        "userId": f"u{person}",
        "anonymousId": f"a{person}",
        "previousId": f"a{person}",
        "groupId": "g1",
        "name": "Home" if kind == "page" else None,
        "timestamp": at.isoformat() + "Z",
        "originalTimestamp": at.isoformat() + "Z",
        "sentAt": at.isoformat() + "Z",
        "receivedAt": (at + timedelta(seconds=5)).isoformat() + "Z",
        "context": {
            "sessionId": f"s{number % 200}",
            "ip": "203.0.113.9",
            "device": {"id": f"d{person}", "type": "ios", "token": f"t{person}"},
            "campaign": {"name": "spring", "source": "google", "medium": "cpc"},
            "timezone": "Europe/Oslo",
            "locale": "nb-NO",
            "location": {"country": "NO", "region": "03", "city": "Oslo"},
            "page": {"path": "/p", "url": "https://shop.example/p"},
            "userAgent": "Mozilla/5.0",
            "traits": traits,
            "consent": {"categoryPreferences": {"Advertising": True}},
            "consentManagement": {"deniedConsentIds": ["analytics"]},
            "externalIds": [{"type": "phone", "id": f"+4790{person:06}"}],
        },
        "properties": {
            **product,
            "order_id": f"o{number}",
            "revenue": 39,
            "total": 49.0,
            "shipping": 5,
            "currency": "EUR",
            "coupon": "TEN",
            "products": [product],
            "cart_id": "c1",
            "checkout_id": "k1",
            "channel": "email",
            "purpose": "marketing",
            "status": "granted",
            "subscribed": True,
            "preferences": [{"channel": "email", "enabled": True}],
            "list_id": "l9",
            "reason": "452 4.2.2 mailbox full",
            "body": "Thanks",
            "score": 9,
            "campaign_id": "c9",
            "email_id": "e9",
            "ticket_id": "t9",
        },
        "traits": traits,
    }


def any_value(dice: random.Random, depth: int = 0) -> Any:
    """Any JSON value at all."""
    roll = dice.random()
    if roll < 0.35:
        return dice.choice(TEXTS)
    if roll < 0.55:
        return dice.choice(NUMBERS)
    if roll < 0.7:
        return dice.choice((None, True, False, [], {}, [[]], [None], [{}], {"": {}}))
    if depth > 2:
        return None
    if roll < 0.85:
        return [any_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {
        dice.choice((*KEYS, "email", "price")): any_value(dice, depth + 1)
        for _ in range(dice.randrange(4))
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field of a message, nested ones too."""
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        return [path]
    below = [place for key, child in children for place in places(child, (*path, key))]
    return [path, *below] if path else below


def bad_line(dice: random.Random, message_id: str, number: int) -> bytes:
    """A line with something odd about it; it holds no line feed."""
    changed = message(message_id, number)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        *way, last = dice.choice(places(changed))
        spot: Any = changed
        for key in way:
            spot = spot[key]
        turn = dice.random()
        if turn < 0.8:
            spot[last] = any_value(dice)
        elif turn < 0.9:
            del spot[last]
        elif isinstance(spot, dict):
            spot[dice.choice(KEYS)] = spot[last]
    line = encode(changed)
    damage = dice.random()
    if damage < 0.6:
        return line
    return dice.choice(DAMAGES)(dice, line).replace(b"\n", b"")


def encode(value: Any) -> bytes:
    """A value as one line of JSON, half characters as JavaScript writes them."""
    return json.dumps(value).encode()


def ndjson(messages: list[dict[str, Any]]) -> bytes:
    """Messages as lines."""
    return b"".join(encode(message) + b"\n" for message in messages)


def deep(dice: random.Random, line: bytes) -> bytes:
    """A line with a value that is nested deeply."""
    opening, closing = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    nested = opening * DEEP + b"1" + closing * DEEP
    field_name = dice.choice((b'"properties": {', b'"context": {', b'"traits": {'))
    return line.replace(field_name, field_name + b'"deep": ' + nested + b", ")


def flip(dice: random.Random, line: bytes) -> bytes:
    """A line with some bytes changed."""
    flipped = bytearray(line)
    for _ in range(dice.randrange(1, 4)):
        flipped[dice.randrange(len(flipped))] = dice.randrange(256)
    return bytes(flipped)


DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    deep,
    flip,
    lambda dice, line: line[: dice.randrange(len(line))],
    lambda dice, line: line[dice.randrange(1, len(line)) :],
    lambda _, line: line + b"}",
    lambda _, line: line[:-1] + b",}",
    lambda _, line: b"[" + line + b"]",
    lambda _, line: line.decode().encode("utf-16"),
    lambda _, line: line.replace(b'"Ada"', b"NaN"),
    lambda _, line: line.replace(b"19.5", b"-Infinity"),
    lambda _, line: line[:-1] + b', "userId": "twice", "properties": {"a": 1, "a": 2}}',
    lambda _, line: line.replace(b"Oslo", b"Os\xe5lo"),
    lambda _, line: b"\xef\xbb\xbf" + line,
    lambda dice, _: bytes(dice.randrange(256) for _ in range(dice.randrange(1, 99))),
)

Wrap = Callable[[random.Random, list[dict[str, Any]]], tuple[str, bytes]]


def parquet(messages: list[dict[str, Any]], *, as_bytes: bool = False) -> bytes:
    """Messages as a Parquet file, texts as bytes where asked."""
    rows = [
        {
            key: json.dumps(value) if isinstance(value, dict) else value
            for key, value in row.items()
        }
        for row in messages
    ]
    table = pa.Table.from_pylist(rows)
    if as_bytes:
        table = table.cast(
            pa.schema([(name, pa.binary()) for name in table.schema.names])
        )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def garbled(dice: random.Random, content: bytes) -> bytes:
    """A file with a stretch of bytes overwritten."""
    at = dice.randrange(len(content))
    return content[:at] + dice.randbytes(dice.randrange(1, 40)) + content[at + 20 :]


HARMLESS: tuple[Wrap, ...] = (
    lambda _, rows: ("a[1].ndjson", ndjson(rows)),
    lambda _, rows: ("*?.ndjson", ndjson(rows)),
    lambda _, rows: ("a 'b' \"c\" %d\n.ndjson", ndjson(rows)),
    lambda _, rows: ("type=track/userId=x.jsonl", ndjson(rows)),
    lambda _, rows: ("bare.gz", gzip.compress(ndjson(rows))),
    lambda _, rows: ("zipped.json", gzip.compress(ndjson(rows))),
    lambda _, rows: ("plain.json.gz", ndjson(rows)),
    lambda _, rows: ("table.json", parquet(rows)),
    lambda _, rows: ("lines.parquet", ndjson(rows)),
    lambda _, rows: ("bytes.parquet", parquet(rows, as_bytes=True)),
    lambda _, rows: ("array.json", encode(rows)),
    lambda _, rows: ("laid_out.ndjson", json.dumps(rows, indent=1).encode()),
    lambda _, rows: (
        "objects.json",
        "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    ),
    lambda _, rows: ("in_a_row.json", b"".join(map(encode, rows))),
    lambda _, rows: ("returns.ndjson", ndjson(rows).replace(b"\n", b"\r")),
    lambda _, rows: ("windows.ndjson", ndjson(rows).replace(b"\n", b"\r\n")),
    lambda _, rows: ("marked.ndjson", b"\xef\xbb\xbf" + ndjson(rows)),
    lambda _, rows: ("wide.ndjson", ndjson(rows).decode().encode("utf-16")),
    lambda _, rows: ("wide_le.ndjson", ndjson(rows).decode().encode("utf-16-le")),
    lambda _, rows: (
        "members.ndjson.gz",
        b"".join(gzip.compress(ndjson([row])) for row in rows) + b"\0" * 9,
    ),
    lambda _, rows: ("tail.ndjson.gz", gzip.compress(ndjson(rows)) + b"tail"),
    lambda _, rows: ("nul.ndjson", ndjson(rows) + b"\0" * 9),
)
HARMFUL: tuple[Wrap, ...] = (
    lambda _, __: ("empty.parquet", b""),
    lambda _, rows: ("notes.txt", ndjson(rows)),
    lambda _, rows: ("events.csv", ndjson(rows)),
    lambda dice, _: ("noise.ndjson", dice.randbytes(2_000)),
    lambda dice, _: ("noise.gz", b"\x1f\x8b" + dice.randbytes(2_000)),
    lambda dice, rows: (
        "cut.gz",
        gzip.compress(ndjson(rows))[: dice.randrange(9, 300)],
    ),
    lambda dice, rows: ("cut.parquet", parquet(rows)[: dice.randrange(9, 3_000)]),
    lambda dice, rows: ("odd.gz", garbled(dice, gzip.compress(ndjson(rows)))),
    lambda dice, rows: ("odd.parquet", garbled(dice, parquet(rows))),
    lambda dice, rows: ("odd.ndjson", garbled(dice, ndjson(rows))),
    lambda dice, rows: ("cut.json", encode(rows)[: dice.randrange(9, 3_000)]),
    lambda dice, rows: ("odd.json", garbled(dice, json.dumps(rows, indent=1).encode())),
)


def odd_entries(world: World) -> None:
    """Add what is no file, leads elsewhere or has a name that is no text."""
    os.mkfifo(world.landing / "pipe.ndjson")
    (world.landing / "out.ndjson").symlink_to("/etc/hostname")
    (world.landing / "round.ndjson").symlink_to("round.ndjson")
    (world.landing / "up").symlink_to("..")
    world.paths |= {"pipe.ndjson", "out.ndjson", "round.ndjson", "up"}
    name = os.fsencode(world.landing) + b"/caf\xe9.ndjson"
    Path(os.fsdecode(name)).write_bytes(ndjson([message("latin-name", 1)]))
    world.good_ids.add("latin-name")


def complaints(world: World, warehouse: Path) -> list[str]:
    """What landing lost or left without a reason."""
    database = Warehouse(warehouse)
    landed = set(database.read("select message_id from raw.events")["message_id"])
    found = [f"good message lost: {name}" for name in sorted(world.good_ids - landed)]
    files = database.read("select path, row_count, rejected_count from raw.files")
    counts = {path: (rows, rejects) for path, rows, rejects in files.iter_rows()}
    found += [f"file unsaid: {path!r}" for path in sorted(world.paths - counts.keys())]
    for path, line_count in world.line_counts.items():
        rows, _ = counts.get(path, (0, 0))
        if rows < line_count:
            found.append(f"{path}: {line_count} lines, {rows} read")
    rejects = database.read(
        "select path, rejected_count, count(reason) as reasons from raw.files "
        "left join raw.rejected_events using (file_id) group by all "
        "having rejected_count <> count(reason)"
    )
    return [*found, *(f"rejects without reason: {row}" for row in rejects.iter_rows())]


def main() -> None:
    """Make a world, run the loop over it twice, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = TestHome(Path(folder) / "home")
        world = make_world(
            home.settings.landing,
            lines=chosen.lines,
            files=chosen.files,
            seed=chosen.seed,
        )
        first = home.rekindle("run", "--as-of", AS_OF, check=False)
        if first.returncode:
            sys.exit(f"the run failed\n{first.stderr[-5000:]}")
        found = complaints(world, home.settings.warehouse)
        before = fingerprints(home.settings.warehouse)
        second = home.rekindle("run", "--as-of", AS_OF, check=False)
        if second.returncode:
            sys.exit(f"the second run failed\n{second.stderr[-5000:]}")
        after = fingerprints(home.settings.warehouse)
    found += [
        f"the second run changed {table}"
        for table in sorted(before.keys() | after.keys())
        if before.get(table) != after.get(table)
    ]
    if found:
        sys.exit("\n".join(found))
    print(
        f"{chosen.lines} malformed lines, {chosen.files} files, seed {chosen.seed}: "
        f"{len(world.good_ids)} good messages landed, every other line has its reason"
    )


if __name__ == "__main__":
    main()
