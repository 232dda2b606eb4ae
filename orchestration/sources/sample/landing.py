"""Writes the world's events as landing files, as the Segment spec has them."""

import gzip
import json
from pathlib import Path

import polars as pl

from orchestration.sources.sample.dice import Text
from orchestration.sources.sample.fragments import Raw, json_object

#: file name endings, which say how a file is written
NDJSON_GZ, NDJSON, SNAKE_CASE, PARQUET = ".ndjson.gz", ".ndjson", ".jsonl", ".parquet"
FORMS = (NDJSON_GZ,) * 7 + (PARQUET, NDJSON, SNAKE_CASE)
#: one good line in so many is followed by a broken copy of itself
BROKEN_EVERY = 1500

_TIME = "%Y-%m-%dT%H:%M:%S%.3fZ"


def form_of(day: int) -> str:
    """The form of a day's file: most are compressed lines, every other form occurs."""
    return FORMS[day % len(FORMS)]


def write_landing(
    events: pl.DataFrame, landing: Path, name: str, form: str = NDJSON_GZ, nth: int = 0
) -> int:
    """Write one landing file; returns how many broken lines went in with the good.

    The file appears under its name only when it is whole. Parquet has no broken lines;
    how the first one of another file is broken goes by the file's number, `nth`.
    """
    path = landing / f"{name}{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    columns = envelope(events)
    broken = 0
    if form == PARQUET:
        columns.write_parquet(partial, compression="zstd")
    else:
        lines = as_lines(columns, snake_case=form == SNAKE_CASE)
        content, broken = _with_broken_lines(lines, nth)
        if form == NDJSON_GZ:
            content = gzip.compress(content, compresslevel=1, mtime=0)
        partial.write_bytes(content)
    partial.replace(path)
    return broken


def envelope(events: pl.DataFrame) -> pl.DataFrame:
    """The events with the column names and times of the spec."""
    is_skewed = pl.col("skew") != 0
    is_named = pl.col("type").is_in(["page", "screen"])
    return events.select(
        "type",
        pl.col("message_id").alias("messageId"),
        pl.col("user_id").alias("userId"),
        pl.col("anonymous_id").alias("anonymousId"),
        pl.when(~is_named).then("event").alias("event"),
        pl.when(is_named).then("event").alias("name"),
        pl.col("previous_id").alias("previousId"),
        pl.when(~is_skewed).then(_moment(pl.col("at"))).alias("timestamp"),
        _moment(pl.col("at") + pl.col("skew")).alias("originalTimestamp"),
        _moment(
            pl.when(is_skewed).then("received_at").otherwise("sent_at") + pl.col("skew")
        ).alias("sentAt"),
        _moment(pl.col("received_at")).alias("receivedAt"),
        "context",
        "properties",
        "traits",
    )


def as_lines(columns: pl.DataFrame, snake_case: bool = False) -> list[str]:
    """One JSON object per event."""
    fields: dict[str, Text | Raw] = {}
    for series in columns:
        name = _snake(series.name) if snake_case else series.name
        column = series.to_arrow().cast("string")
        is_json = series.name in ("context", "properties", "traits")
        fields[name] = Raw(column) if is_json else column
    lines: list[str] = json_object(columns.height, **fields, version="2").to_pylist()
    return lines


def _moment(milliseconds: pl.Expr) -> pl.Expr:
    return milliseconds.cast(pl.Datetime("ms")).dt.to_string(_TIME)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _with_broken_lines(lines: list[str], nth: int) -> tuple[bytes, int]:
    """The lines, and broken copies between them, each broken in another way."""
    parts: list[bytes] = []
    broken = 0
    for start in range(0, len(lines), BROKEN_EVERY):
        chunk = lines[start : start + BROKEN_EVERY]
        parts.append(("\n".join(chunk) + "\n").encode())
        if len(chunk) == BROKEN_EVERY:
            parts.append(_broken(chunk[-1], nth + broken) + b"\n")
            broken += 1
    return b"".join(parts), broken


def _broken(line: str, number: int) -> bytes:
    fields = json.loads(line)
    for name in {
        2: ("messageId", "message_id"),
        3: ("userId", "user_id", "anonymousId", "anonymous_id"),
    }.get(number % 5, ()):
        fields.pop(name, None)
    return {
        0: line[: len(line) * 2 // 3].encode(),
        1: b"ERROR upstream connect error or disconnect before headers",
        2: json.dumps(fields).encode(),
        3: json.dumps(fields).encode(),
        4: line.replace('"version"', '"note":"caf\u00e9","version"').encode("latin-1"),
    }[number % 5]
