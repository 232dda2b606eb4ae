"""Landing loses no good line, keeps no message twice and says what is wrong."""

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.settings import Settings
from orchestration.sources import folder, landing, salvage
from orchestration.sources.landing import (
    Landed,
    land,
    landing_fingerprint,
    unreadable_files,
)
from orchestration.sources.receipts import land_receipts
from orchestration.sources.run_inputs import begin_run
from orchestration.warehouse import Warehouse, fetch_frame
from tests import fuzz

LANDED_AT = datetime(2026, 7, 1)


class House:
    """A landing folder and the warehouse that it is landed into."""

    def __init__(self, root: Path) -> None:
        self.landing = root / "landing"
        self.landing.mkdir(parents=True)
        self.warehouse = Warehouse(root / "warehouse.duckdb")

    def put(
        self, path: str, content: bytes | str | Iterable[dict[str, object]]
    ) -> Path:
        """Write one landing file."""
        if not isinstance(content, bytes | str):
            content = "".join(json.dumps(line) + "\n" for line in content)
        if isinstance(content, str):
            content = content.encode()
        target = self.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def land(self, landed_at: datetime = LANDED_AT) -> Landed:
        """Land what is new."""
        with self.warehouse.connect() as connection:
            return land(connection, self.landing, landed_at)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask the warehouse."""
        with self.warehouse.connect(read_only=True) as connection:
            return fetch_frame(connection, query).rows()

    def message_ids(self) -> list[object]:
        """What was kept, in order."""
        return [
            row[0]
            for row in self.rows("select message_id from raw.events order by all")
        ]

    def rejects(self) -> list[tuple[object, ...]]:
        """What was rejected, in order."""
        return self.rows(
            "select path, line_number, reason from raw.rejected_events "
            "inner join raw.files using (file_id) order by all"
        )

    def counts(self) -> list[tuple[object, ...]]:
        """What was read from where."""
        return self.rows(
            "select path, row_count, rejected_count from raw.files order by path"
        )


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def track(message_id: object, **changes: object) -> dict[str, object]:
    """A good line; a change to None leaves the field out."""
    line: dict[str, object] = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": message_id,
        "userId": "ada",
        "timestamp": "2026-06-01T10:00:00Z",
        "receivedAt": "2026-06-01T10:00:05Z",
        "context": {"sessionId": "s1"},
        "properties": {"product_id": "p1"},
        **changes,
    }
    return {name: value for name, value in line.items() if value is not None}


def ndjson(*lines: dict[str, object]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_every_format_lands_at_any_depth(house: House) -> None:
    house.put("a.ndjson", [track("a")])
    house.put("deep/er/b.jsonl", [track("b")])
    house.put("c.json", [track("c")])
    house.put("d.ndjson.gz", gzip.compress(ndjson(track("d"))))
    house.put("e.JSON.GZ", gzip.compress(ndjson(track("e"))))
    pq.write_table(pa.Table.from_pylist([track("f")]), house.landing / "f.parquet")
    landed = house.land()
    assert house.message_ids() == ["a", "b", "c", "d", "e", "f"]
    assert landed == Landed(6, 6, 0, 0)
    facts = house.rows(
        "select distinct on (type, event, user_id, occurred_at, received_at, "
        "context, properties) count(*) over () from raw.events"
    )
    assert len(facts) == 1


def test_unfinished_names_are_not_read(house: House) -> None:
    for name in (".hidden.ndjson", "a.ndjson.tmp", "b.ndjson.PART"):
        house.put(name, [track("a")])
    house.put(".work/c.ndjson", [track("c")])
    assert house.land() == Landed(0, 0, 0, 0)
    assert house.rejects() == []


def test_whatever_lies_unread_is_recorded_until_it_is_read_or_gone(
    house: House, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.ndjson"
    outside.write_bytes(ndjson(track("outside")))
    house.put("notes.txt", [track("notes")])
    house.put("tables.gz", gzip.compress(b"a,b\n1,2\n"))
    house.put("kept.ndjson", [track("kept")])
    os.mkfifo(house.landing / "pipe.ndjson")
    links: dict[str, str | Path] = {
        "dangling.ndjson": "nowhere",
        "inside.ndjson": "kept.ndjson",
        "outside.ndjson": outside,
        "round.ndjson": "round.ndjson",
        "up": "..",
        "same": ".",
    }
    for name, target in links.items():
        (house.landing / name).symlink_to(target)
    house.land()
    unread = {str(path): str(reason) for path, _, reason in house.rejects()}
    assert {path: reason.split(":")[0] for path, reason in unread.items()} == {
        "dangling.ndjson": "a link to nothing",
        "notes.txt": "not read",
        "outside.ndjson": "a link that leads out of the landing folder is not followed",
        "pipe.ndjson": "no regular file",
        "round.ndjson": "cannot be opened",
        "tables.gz": "not read",
        "up": "a link that leads out of the landing folder is not followed",
    }
    assert house.land() == Landed(0, 0, 0, 0)
    with house.warehouse.connect(read_only=True) as connection:
        assert set(unreadable_files(connection)["path"]) == unread.keys()
    assert house.message_ids() == ["kept"]
    (house.landing / "notes.txt").rename(house.landing / "notes.ndjson")
    (house.landing / "outside.ndjson").unlink()
    house.put("outside.ndjson", outside.read_bytes())
    (house.landing / "pipe.ndjson").unlink()
    house.land()
    assert house.message_ids() == ["kept", "notes", "outside"]
    assert {path for path, _, _ in house.rejects()} == {
        *("dangling.ndjson", "round.ndjson", "tables.gz", "up"),
    }


def test_folder_that_cannot_be_entered_is_recorded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.put("shut/a.ndjson", [track("a")])
    house.put("b.ndjson", [track("b")])
    scan = os.scandir

    def refuse(path: str | int) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        house.land()
    [(path, line_number, reason)] = house.rejects()
    assert (path, line_number) == ("shut", None)
    assert str(reason).startswith("cannot be entered")
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert house.rejects() == []


def test_file_that_vanishes_before_it_is_read_lands_when_it_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = house.put("a.ndjson", [track("a")])
    house.put("b.ndjson", [track("b")])
    looked = folder.inspect

    def look_and_lose(file: folder.FoundFile, prefix_bytes: int) -> folder.Content:
        content = looked(file, prefix_bytes)
        if file.path == "a.ndjson":
            away.rename(away.with_suffix(".tmp"))
        return content

    with monkeypatch.context() as patch:
        patch.setattr(landing, "inspect", look_and_lose)
        house.land()
    assert house.message_ids() == ["b"]
    assert [row[0] for row in house.rejects()] == ["a.ndjson"]
    away.with_suffix(".tmp").rename(house.landing / "again.ndjson")
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert house.rejects() == []


def test_name_is_a_name_and_no_pattern(house: House) -> None:
    names = (
        *("a1.ndjson", "a[1].ndjson", "a*.ndjson", "a?.ndjson", "{a,b}.jsonl"),
        *("a b.ndjson", "a'\"%s.ndjson", "a\nb.ndjson", "back\\slash.json"),
        *("type=identify/userId=x.ndjson", "**/deep.ndjson", "1780.0b43c5f7.gz"),
    )
    for name in names:
        house.put(name, [track(name)])
    bytes_name = os.fsencode(house.landing) + b"/caf\xe9.ndjson"
    Path(os.fsdecode(bytes_name)).write_bytes(ndjson(track("latin")))
    pq.write_table(
        pa.Table.from_pylist([track("t", filename="mine")]),
        house.landing / "type=[x]?.parquet",
    )
    house.land()
    assert house.message_ids() == sorted([*names, "latin", "t"])
    assert house.rejects() == []
    paths = {path for path, _, _ in house.counts()}
    assert paths == {*names, "caf\\xe9.ndjson", "type=[x]?.parquet"}


def test_what_no_text_can_hold_is_replaced(house: House) -> None:
    texts = {
        "half": r"caf\ud83d",
        "reversed": r"\udd8a\ud83e",
        "nul": r"a\u0000\u0000b",
        "whole": r"\ud83e\udd8a",
        "spelt": r"\\u0000\\ud83d",
    }
    lines = "".join(
        json.dumps(track(name, properties={"note": "@"})).replace("@", text) + "\n"
        for name, text in texts.items()
    )
    house.put("a.ndjson", lines)
    house.land()
    notes = house.rows(
        "select message_id, properties ->> '$.note' from raw.events order by all"
    )
    assert {str(name): note for name, note in notes} == {
        "half": "caf\ufffd",
        "reversed": "\ufffd\ufffd",
        "nul": "a\ufffd\ufffdb",
        "whole": "🦊",
        "spelt": r"\u0000\ud83d",
    }


def test_time_that_no_event_can_have_is_rejected(house: House) -> None:
    absurd = (
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "1969-12-31",
        "2200-01-01",
    )
    house.put("a.ndjson", [track(at, timestamp=at) for at in absurd])
    house.put("b.ndjson", [track(at, receivedAt=at) for at in absurd])
    # Sent by a clock of the next century, long before it was received.
    odd = {"receivedAt": "1970-01-02", "sentAt": "2199-01-01"}
    clock = track("clock", timestamp=None, originalTimestamp="1970-01-01", **odd)
    house.put("c.ndjson", [clock])
    house.put("d.ndjson", [track("unused", sentAt=absurd[0])])
    house.land()
    assert {reason for _, _, reason in house.rejects()} == {
        f'{name}: "{at}" is not between 1970-01-01 and 2200-01-01'
        for name in ("timestamp", "receivedAt")
        for at in absurd
    }
    assert house.rows(
        "select message_id, occurred_at from raw.events order by all"
    ) == [
        ("clock", datetime(1970, 1, 1)),
        ("unused", datetime(2026, 6, 1, 10)),
    ]


def test_parquet_texts_may_be_bytes_and_columns_of_any_type(house: House) -> None:
    table = pa.table(
        {
            "messageId": pa.array([b"a", b"b\xff"], pa.binary()),
            "type": ["track"] * 2,
            "userId": [1, 2],
            "timestamp": pa.array([0, 1], pa.timestamp("ns")),
            "properties": pa.array([b'{"a": 1}', b"\xff"], pa.binary()),
            "context": pa.array(
                [[("sessionId", "s")]] * 2, pa.map_(pa.string(), pa.string())
            ),
            "traits": [{"on": [datetime(2026, 1, 2)], "raw": b"x"}] * 2,
        }
    )
    pq.write_table(table, house.landing / "a.parquet")
    house.land()
    assert house.rows(
        "select message_id, properties, context, traits ->> '$.raw' from raw.events"
    ) == [("a", '{"a":1}', '{"sessionId":"s"}', "x")]
    assert house.rejects() == [
        ("a.parquet", 2, "properties is a string, not an object")
    ]


def test_same_content_lands_once(house: House) -> None:
    house.put("b/one.ndjson", [track("a")])
    house.put("a/copy.ndjson", [track("a")])
    house.land()
    house.put("c/copy.ndjson", [track("a")])
    assert house.land() == Landed(0, 0, 0, 0)
    assert house.counts() == [("a/copy.ndjson", 1, 0)]
    assert house.message_ids() == ["a"]


def test_file_id_is_the_hash_of_the_content(house: House) -> None:
    content = house.put("a.ndjson", [track("a")]).read_bytes()
    house.land()
    digest = hashlib.sha256(content).hexdigest()
    assert house.rows("select file_id, sha256 from raw.files") == [(digest, digest)]
    assert house.rows("select file_id from raw.events") == [(digest,)]


def test_landing_again_changes_nothing(house: House) -> None:
    house.put("a.ndjson", ndjson(track("a")) + b"broken\n")
    house.put("b.parquet", b"no parquet")
    house.land()
    before = [
        house.rows(
            f"select columns(lambda c: c <> 'landing_seq') from raw.{name} order by all"
        )
        for name in RAW_TABLES
    ]
    (house.landing / "a.ndjson").touch()
    assert house.land(datetime(2027, 1, 1)) == Landed(0, 0, 0, 0)
    paths_aside = RAW_TABLES[:-1]
    after = [
        house.rows(
            f"select columns(lambda c: c <> 'landing_seq') from raw.{name} order by all"
        )
        for name in paths_aside
    ]
    assert after == before[:-1]


RAW_TABLES = ("files", "events", "rejected_events", "landing_paths")


BAD_LINES = [
    ("nonsense", "not JSON"),
    ('{"type": "track"', "not JSON"),
    ('["track"]', "not a JSON object"),
    ("42", "not a JSON object"),
    ("null", "not a JSON object"),
    (json.dumps(track(None)), "messageId is missing"),
    (json.dumps(track("")), "messageId is missing"),
    (json.dumps(track({"a": 1})), "messageId is an object"),
    (json.dumps(track("a", type=None)), "type is missing"),
    (
        json.dumps(track("a", type="purchase")),
        'type: "purchase" is not one of track, identify, page, screen, alias, group',
    ),
    (json.dumps(track("a", userId=None)), "userId and anonymousId are missing"),
    (json.dumps(track("a", userId=" ")), "userId and anonymousId are missing"),
    (json.dumps(track("a", userId={"id": 1})), "userId is an object"),
    (json.dumps(track("a", anonymousId=["b"])), "anonymousId is an array"),
    (json.dumps(track("a", event=["b"])), "event is an array"),
    (
        json.dumps(track("a", timestamp="yesterday")),
        'timestamp: "yesterday" is not ISO 8601',
    ),
    (
        json.dumps(track("a", timestamp=1714579200)),
        'timestamp: "1714579200" is not ISO 8601',
    ),
    (
        json.dumps(track("a", timestamp="2026-02-30T10:00:00Z")),
        'timestamp: "2026-02-30T10:00:00Z" is not ISO 8601',
    ),
    (
        json.dumps(track("a", timestamp="infinity")),
        'timestamp: "infinity" is not ISO 8601',
    ),
    (
        json.dumps(track("a", receivedAt="soon")),
        'receivedAt: "soon" is not ISO 8601',
    ),
    (
        json.dumps(track("a", receivedAt=None, sentAt="soon")),
        'sentAt: "soon" is not ISO 8601',
    ),
    (
        json.dumps(track("a", timestamp=None, originalTimestamp="soon")),
        'originalTimestamp: "soon" is not ISO 8601',
    ),
    (
        json.dumps(track("a", timestamp=None, receivedAt=None)),
        "timestamp, receivedAt and sentAt are missing",
    ),
    (json.dumps(track("a", context=[[1]])), "context is an array, not an object"),
    (
        json.dumps(track("a", properties="{}")),
        "properties is a string, not an object",
    ),
    *(
        (
            json.dumps(track("a", properties=quoted)),
            "properties is a string, not an object",
        )
        for quoted in ('{"a": 1}', '{ "a": 1}', "{ }", '{\n"a": 1}')
    ),
    (
        json.dumps(track("a", properties=" text")),
        "properties is a string, not an object",
    ),
    (
        r'{"type":"track","messageId":"a","userId":"u",'
        r'"timestamp":"2026-06-01","properties":"\u007bx"}',
        "properties is a string, not an object",
    ),
    (json.dumps(track("a", traits=7)), "traits is a number, not an object"),
    (json.dumps(track("a", traits=True)), "traits is a boolean, not an object"),
    (
        json.dumps(track("a", properties={"price": float("nan")})),
        "not JSON: NaN or Infinity",
    ),
]


def test_bad_line_is_rejected_with_its_reason(house: House) -> None:
    lines = "".join(f"{line}\n" for line, _ in BAD_LINES).encode()
    house.put("a.ndjson", lines + ndjson(track("good")))
    house.put("b.ndjson.gz", gzip.compress(lines.replace(b"\n", b"\r\n\r\n")))
    house.land()
    assert house.message_ids() == ["good"]
    rejects = house.rows("select reason, trim(raw, e'\\r') from raw.rejected_events")
    assert sorted(rejects) == sorted((reason, line) for line, reason in BAD_LINES * 2)
    numbered = [
        *(("a.ndjson", at + 1, reason) for at, (_, reason) in enumerate(BAD_LINES)),
        *(
            ("b.ndjson.gz", 2 * at + 1, reason)
            for at, (_, reason) in enumerate(BAD_LINES)
        ),
    ]
    assert house.rejects() == numbered


GOOD_LINES: list[tuple[dict[str, object], str, object]] = [
    ({"messageId": 7}, "message_id", "7"),
    ({"userId": 12345678901234567890}, "user_id", "12345678901234567890"),
    ({"userId": "{ada}"}, "user_id", "{ada}"),
    ({"type": "Track"}, "type", "track"),
    ({"type": "page", "event": None, "name": "Home"}, "event", "Home"),
    ({"properties": {"a": {"b": [1]}}}, "properties", '{"a":{"b":[1]}}'),
    ({"properties": {"text": '"{'}}, "properties", '{"text":"\\"{"}'),
    ({"properties": {"text": "NaN"}}, "properties", '{"text":"NaN"}'),
    ({"context": None}, "context", None),
    (
        {"type": "alias", "properties": None, "previousId": "anon"},
        "properties",
        '{"previousId":"anon"}',
    ),
    ({"timestamp": "2026-06-01"}, "occurred_at", datetime(2026, 6, 1)),
    (
        {"timestamp": "2026-06-01T10:00:00+05:30"},
        "occurred_at",
        datetime(2026, 6, 1, 4, 30),
    ),
    (
        {"timestamp": "2026-06-01T10:00:00.5-0800"},
        "occurred_at",
        datetime(2026, 6, 1, 18, 0, 0, 500000),
    ),
    (
        {"timestamp": "2026-06-01t10:00:00,25z"},
        "occurred_at",
        datetime(2026, 6, 1, 10, 0, 0, 250000),
    ),
    (
        {"timestamp": "2026-06-01 10:00:00"},
        "occurred_at",
        datetime(2026, 6, 1, 10),
    ),
    (
        {
            "timestamp": None,
            "receivedAt": "2026-06-01T12:00:00Z",
            "sentAt": "2026-06-01T09:00:00Z",
            "originalTimestamp": "2026-06-01T08:00:00Z",
        },
        "occurred_at",
        datetime(2026, 6, 1, 11),
    ),
    (
        {"receivedAt": None, "sentAt": "2026-06-01T12:00:00Z"},
        "received_at",
        datetime(2026, 6, 1, 12),
    ),
    ({"receivedAt": None}, "received_at", datetime(2026, 6, 1, 10)),
    ({"originalTimestamp": "soon"}, "occurred_at", datetime(2026, 6, 1, 10)),
]


def test_good_line_is_read_as_meant(house: House) -> None:
    for at, (changes, _, _) in enumerate(GOOD_LINES):
        house.put(f"{at:03}.ndjson", [track(f"m{at:03}", **changes)])
    house.land()
    assert house.rejects() == []
    events = house.rows(
        "select "
        + ", ".join(
            f"max({field}) filter (where path = '{at:03}.ndjson')"
            for at, (_, field, _) in enumerate(GOOD_LINES)
        )
        + " from raw.events inner join raw.files using (file_id)"
    )
    assert list(events[0]) == [value for _, _, value in GOOD_LINES]


def test_snake_case_reads_like_camel_case(house: House) -> None:
    names = {
        "messageId": "message_id",
        "userId": "user_id",
        "receivedAt": "received_at",
    }
    line = {names.get(name, name): value for name, value in track("a").items()}
    house.put("a.ndjson", [line])
    house.put("b.ndjson", [track("b")])
    house.land()
    facts = "type, event, user_id, occurred_at, received_at, context, properties"
    assert len(house.rows(f"select distinct {facts} from raw.events")) == 1
    assert house.message_ids() == ["a", "b"]


def test_empty_file_is_a_file_without_rows(house: House) -> None:
    house.put("a.ndjson", b"")
    house.put("b.ndjson", b"\n \r\n\n")
    house.put("c.ndjson.gz", gzip.compress(b""))
    house.put("d.json", [track("d")])
    house.land()
    assert house.counts() == [
        ("a.ndjson", 0, 0),
        ("b.ndjson", 0, 0),
        ("c.ndjson.gz", 0, 0),
        ("d.json", 1, 0),
    ]


def test_byte_order_mark_and_carriage_returns_are_no_content(house: House) -> None:
    lines = ndjson(track("a"), track("b")).replace(b"\n", b"\r\n")
    house.put("healthy.ndjson", b"\xef\xbb\xbf" + lines)
    house.put("mixed.ndjson", b"\xef\xbb\xbf" + ndjson(track("c")) + lines + b"x\r\n")
    house.put("wide.ndjson", ndjson(track("d")).decode().encode("utf-16"))
    house.land()
    assert house.message_ids() == ["a", "b", "c", "d"]
    assert house.rejects() == [("mixed.ndjson", 4, "not JSON")]
    assert house.rows("select raw from raw.rejected_events") == [("x\r",)]


def test_other_encoding_rejects_its_lines_only(house: House) -> None:
    latin = json.dumps(track("x", event="Café"), ensure_ascii=False).encode("latin-1")
    house.put("a.ndjson", ndjson(track("a")) + latin + b"\n" + ndjson(track("b")))
    house.land()
    assert house.message_ids() == ["a", "b"]
    [(path, line_number, reason)] = house.rejects()
    assert (path, line_number) == ("a.ndjson", 2)
    assert str(reason).startswith("not UTF-8: byte 0xe9 at ")
    assert "Caf\\xe9" in str(house.rows("select raw from raw.rejected_events")[0][0])


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_very_long_line_lands(house: House, name: str) -> None:
    long = track("long", properties={"note": "x" * 20_000_000})
    content = ndjson(track("a"), long, track("b"))
    house.put(name, gzip.compress(content, 1) if name.endswith("gz") else content)
    house.land()
    assert house.message_ids() == ["a", "b", "long"]
    assert house.rejects() == []


def test_line_longer_than_the_readers_buffer_lands(house: House) -> None:
    note = {"note": "x" * 33_000_000}
    content = ndjson(track("a"), track("long", properties=note), track("b"))
    house.put("a.ndjson", content)
    house.put("b.ndjson.gz", gzip.compress(content.replace(b"long", b"zipped"), 1))
    house.land()
    assert house.message_ids() == ["a", "b", "long", "zipped"]
    assert house.rejects() == []


def test_line_beyond_all_measure_is_rejected(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "LONGEST", 3_000_000)
    long = track("long", properties={"note": "x" * 4_000_000})
    house.put("a.ndjson", [track("a"), long, track("b")])
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert house.rejects() == [("a.ndjson", 2, salvage.TOO_LONG)]


def test_separator_bytes_inside_a_line_cut_nothing_off(house: House) -> None:
    odd = b'{"a": "\x1f"}\n\x1e\n{"b":\r' + ndjson(track("x"))[1:]
    house.put("a.ndjson", odd + ndjson(track("a")))
    house.land()
    assert house.message_ids() == ["a"]
    assert house.rejects() == [("a.ndjson", number, "not JSON") for number in (1, 2, 3)]
    kept = house.rows("select raw from raw.rejected_events order by line_number")
    assert kept[0] == ('{"a": "\x1f"}',)


def test_truncated_gzip_yields_its_readable_prefix(house: House) -> None:
    lines = [track(f"m{number:04}", note=f"{number * 7919}") for number in range(3000)]
    whole = gzip.compress(ndjson(*lines))
    house.put("a.ndjson.gz", whole[: len(whole) // 2])
    house.put("b.ndjson", [track("b")])
    house.land()
    kept = house.message_ids()
    assert kept[1:] == [f"m{number:04}" for number in range(len(kept) - 1)]
    assert len(kept) > 1000
    assert house.rejects() == [
        ("a.ndjson.gz", len(kept), "gzip breaks off before its end")
    ]
    assert house.counts()[0] == ("a.ndjson.gz", len(kept), 1)


def test_damaged_gzip_yields_what_comes_before_the_damage(house: House) -> None:
    first = gzip.compress(ndjson(track("a")))
    second = bytearray(gzip.compress(ndjson(track("b"))))
    second[10:30] = b"\xff" * 20
    house.put("a.ndjson.gz", first + bytes(second))
    house.put("padded.ndjson.gz", gzip.compress(ndjson(track("c"))) + b"\0" * 512)
    house.put("tail.ndjson.gz", gzip.compress(ndjson(track("d"))) + b"tail")
    house.land()
    assert house.message_ids() == ["a", "c", "d"]
    assert [row[:2] for row in house.rejects()] == [
        ("a.ndjson.gz", 2),
        ("tail.ndjson.gz", 2),
    ]


def test_name_does_not_decide_whether_a_file_is_zipped(house: House) -> None:
    house.put("a.ndjson", gzip.compress(ndjson(track("a"))))
    house.put("b.ndjson.gz", ndjson(track("b")))
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert house.rejects() == []


@pytest.mark.parametrize("name", ["a.parquet", "a.ndjson.gz", "a.ndjson"])
def test_unreadable_file_is_one_reject_and_a_warning(house: House, name: str) -> None:
    house.put(name, bytes(range(256)) * 20)
    house.put("b.ndjson", [track("b")])
    house.land()
    assert house.message_ids() == ["b"]
    assert house.counts()[0] == (name, 1, 1)
    assert house.rows("select line_number from raw.rejected_events") == [(None,)]
    with house.warehouse.connect(read_only=True) as connection:
        assert unreadable_files(connection)["path"].to_list() == [name]


def test_file_that_cannot_be_opened_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.put("a.ndjson", [track("a")])
    house.put("b.ndjson", [track("b")])
    opened = Path.open

    def refuse(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "a.ndjson":
            raise PermissionError("no")
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        house.land()
        assert house.land() == Landed(0, 0, 0, 0)
    assert house.rejects() == [("a.ndjson", None, "cannot be opened: no")]
    assert house.message_ids() == ["b"]
    house.land()
    assert house.rejects() == []
    assert house.message_ids() == ["a", "b"]


def test_parquet_is_cast_where_it_can_be(house: House) -> None:
    table = pa.table(
        {
            "messageId": [1, 2, 3],
            "type": ["track"] * 3,
            "user_id": [10.0, 11.0, None],
            "timestamp": pa.array([0, 1, 2], pa.timestamp("ms", tz="Europe/Berlin")),
            "properties": ['{"a": 1}', "no object", None],
            "context": [{"sessionId": "s", "ip": None}] * 3,
        }
    )
    pq.write_table(table, house.landing / "a.parquet")
    house.land()
    assert house.rows(
        "select message_id, user_id, properties, context, occurred_at from raw.events"
    ) == [("1", "10.0", '{"a":1}', '{"sessionId":"s"}', datetime(1970, 1, 1))]
    assert house.rejects() == [
        ("a.parquet", 2, "properties is a string, not an object"),
        ("a.parquet", 3, "userId and anonymousId are missing"),
    ]


def test_parquet_column_of_a_wrong_type_rejects_its_rows(house: House) -> None:
    rows = [track("a"), track("b")]
    table = pa.Table.from_pylist(rows)
    at = table.schema.get_field_index("timestamp")
    wrong = table.set_column(at, "timestamp", pa.array([1, 2], pa.int64()))
    pq.write_table(wrong, house.landing / "a.parquet")
    pq.write_table(pa.Table.from_pylist([track("c")]), house.landing / "b.parquet")
    house.land()
    assert house.message_ids() == ["c"]
    assert house.rejects() == [
        ("a.parquet", number, f'timestamp: "{number}" is not ISO 8601')
        for number in (1, 2)
    ]


def test_json_document_lands_by_its_elements(house: House) -> None:
    elements = [track("a"), track(None), track("b", event="Café")]
    house.put("array.json", json.dumps(elements, indent=2))
    house.put("object.json", json.dumps(track("c"), indent=2))
    house.land()
    assert house.message_ids() == ["a", "b", "c"]
    assert house.rejects() == [("array.json", 2, "messageId is missing")]


def test_messages_that_share_a_line_are_read_one_by_one(house: House) -> None:
    batch = [track("a"), {"type": "track"}, track("b")]
    house.put("batches.ndjson", json.dumps(batch) + "\n" + json.dumps([track("c")]))
    house.put("row.json", ndjson(track("d"), track("e")).replace(b"\n", b""))
    house.put("returns.ndjson", ndjson(track("f"), track("g")).replace(b"\n", b"\r"))
    house.put("objects.json", json.dumps(track("h"), indent=2) * 2)
    cut = json.dumps([track("i"), track("j")])[:-20]
    house.put("cut.json", cut)
    house.land()
    assert house.message_ids() == list("abcdefghi")
    assert house.rejects() == [
        ("batches.ndjson", 1, "messageId is missing"),
        ("cut.json", 2, "not JSON: the last line is cut off"),
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_broken_element_takes_no_other_with_it(
    house: House, indent: int | None
) -> None:
    texts = [json.dumps(track(name), indent=indent) for name in "abcd"]
    for name, broken in {
        "unclosed": texts[1][:-1],
        "closed twice": texts[1] + "}",
        "open text": texts[1].replace('"b"', '"b'),
    }.items():
        laid_out = ",\n".join([texts[0], broken, *texts[2:]])
        house.put(f"{name}.json", f"[\n{laid_out}\n]\n")
    house.land()
    assert {*"acd"} <= set(house.message_ids())
    assert {path for path, _, _ in house.rejects()} == {
        *("unclosed.json", "closed twice.json", "open text.json"),
    }


def test_first_line_that_is_broken_takes_no_other_with_it(house: House) -> None:
    house.put("a.ndjson", b'{"type": {"a": 1}\n' + ndjson(track("a"), track("b")))
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert house.rejects() == [("a.ndjson", 1, "not JSON")]


def test_malformed_input_costs_no_good_message(house: House) -> None:
    world = fuzz.make_world(house.landing, lines=300, files=40, seed=0)
    house.land()
    assert fuzz.complaints(world, house.warehouse.path) == []
    before = [
        house.rows(
            f"select columns(lambda c: c <> 'landing_seq') from raw.{name} order by all"
        )
        for name in RAW_TABLES
    ]
    assert house.land(datetime(2027, 1, 1)) == Landed(0, 0, 0, 0)
    after = [
        house.rows(
            f"select columns(lambda c: c <> 'landing_seq') from raw.{name} order by all"
        )
        for name in RAW_TABLES
    ]
    assert after == before


def test_grown_file_replaces_its_old_rejects(house: House) -> None:
    first, second = ndjson(track("a")), ndjson(track("b"))
    house.put("a.ndjson", first + second[:20])
    house.land()
    assert house.rejects() == [("a.ndjson", 2, "not JSON: the last line is cut off")]
    assert house.message_ids() == ["a"]
    house.put("a.ndjson", first + second + b"broken\n")
    house.land()
    assert house.rejects() == [("a.ndjson", 3, "not JSON")]
    assert house.counts() == [("a.ndjson", 3, 1)]
    assert house.message_ids() == ["a", "b"]
    assert house.rows("select distinct file_id from raw.events") == house.rows(
        "select file_id from raw.files"
    )


def test_other_content_at_a_known_path_is_another_file(house: House) -> None:
    house.put("a.ndjson", ndjson(track("a")) + b"broken\n")
    house.land()
    house.put("a.ndjson", ndjson(track("b")) + b"broken too\n")
    house.land()
    assert house.message_ids() == ["a", "b"]
    assert len(house.rejects()) == 2


def test_unterminated_good_last_line_lands(house: House) -> None:
    house.put("a.ndjson", ndjson(track("a"), track("b"))[:-1])
    assert house.land() == Landed(1, 2, 0, 0)


def test_earliest_received_duplicate_stays_whenever_it_lands(house: House) -> None:
    house.put("late.ndjson", [track("a", event="late"), track("b")])
    house.land()
    early = track("a", event="early", receivedAt="2026-06-01T10:00:01Z")
    later = track("b", event="later", receivedAt="2026-06-02T00:00:00Z")
    house.put("early.ndjson", [early, early, later])
    assert house.land() == Landed(1, 3, 0, 0)
    assert house.rows("select message_id, event from raw.events order by all") == [
        ("a", "early"),
        ("b", "Product Viewed"),
    ]


LINES = st.lists(
    st.one_of(
        st.builds(
            lambda number, event, second: json.dumps(
                track(
                    f"m{number}",
                    event=event,
                    receivedAt=f"2026-06-01T10:00:0{second}Z",
                )
            ),
            st.integers(0, 5),
            st.sampled_from(["a", "b"]),
            st.integers(0, 2),
        ),
        st.sampled_from(["broken", "{}", json.dumps(track("bad", context=[]))]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=10, deadline=None)
@given(
    groups=st.lists(LINES, min_size=2, max_size=3, unique_by=tuple),
    data=st.data(),
)
def test_no_order_of_landing_matters(
    groups: list[list[str]], data: st.DataObject
) -> None:
    contents = ["".join(f"{line}\n" for line in lines) for lines in groups]
    results = []
    for turn in ("together", "one by one"):
        order = data.draw(st.permutations(range(len(contents))))
        with tempfile.TemporaryDirectory() as folder:
            house = House(Path(folder))
            for at in order:
                house.put(f"{at}.ndjson", contents[at])
                if turn == "one by one":
                    house.land()
            house.land()
            results.append(
                [
                    house.rows(
                        f"select columns(lambda c: c <> 'landing_seq') from raw.{name} "
                        "order by all"
                    )
                    for name in ("events", "rejected_events")
                ]
                + [house.counts()]
            )
    assert results[0] == results[1]
    kept = {row[0]: row[6] for row in results[0][0]}
    assert kept == earliest_receipts(groups)


def earliest_receipts(groups: list[list[str]]) -> dict[str, datetime]:
    """The oracle: when each message of the good lines was first received."""
    earliest: dict[str, datetime] = {}
    for line in (line for lines in groups for line in lines if ': "m' in line):
        message = json.loads(line)
        received_at = datetime.fromisoformat(message["receivedAt"]).replace(tzinfo=None)
        known = earliest.get(message["messageId"], received_at)
        earliest[message["messageId"]] = min(known, received_at)
    return earliest


def test_fingerprint_changes_with_files_but_not_with_receipts(house: House) -> None:
    before = landing_fingerprint(house.landing)
    house.put("receipts/sends-1.ndjson", [track("a")])
    house.put("b.ndjson.tmp", [track("a")])
    assert landing_fingerprint(house.landing) == before
    house.put("b.ndjson", [track("a")])
    assert landing_fingerprint(house.landing) != before


def test_receipts_land_as_sent_events_once(house: House) -> None:
    receipts = pl.DataFrame(
        {
            "send_id": ["s1", "s2"],
            "channel": ["email", "push"],
            "journey": ["win_back"] * 2,
            "step": ["hello"] * 2,
            "content_id": ["c"] * 2,
            "profile_id": ["p"] * 2,
            "identifier_type": ["user_id", "anonymous_id"],
            "identifier": ["ada", "anon"],
            "sent_at": [datetime(2026, 6, 1), datetime(2026, 6, 2)],
        }
    )
    assert land_receipts(receipts, house.landing) == 2
    assert land_receipts(receipts, house.landing) == 0
    house.land()
    assert house.rows(
        "select message_id, event, user_id, anonymous_id, occurred_at, received_at, "
        "properties ->> '$.send_id' from raw.events order by message_id"
    ) == [
        ("s1", "Email Sent", "ada", None, *[datetime(2026, 6, 1)] * 2, "s1"),
        (
            "s2",
            "Push Notification Sent",
            None,
            "anon",
            *[datetime(2026, 6, 2)] * 2,
            "s2",
        ),
    ]


def test_only_a_run_without_a_later_one_is_newest(house: House) -> None:
    knobs = Settings(lookback_days=None)
    house.land()
    newest = []
    for day in (2, 3, 2, 3, 1):
        with house.warehouse.connect() as connection:
            newest.append(begin_run(connection, datetime(2026, 6, day), knobs))
    assert newest == [True, True, False, True, False]
    assert len(house.rows("from raw.runs")) == 3
    assert house.rows(
        "select as_of, is_newest, lookback_days from raw.current_run"
    ) == [(datetime(2026, 6, 1), False, None)]
