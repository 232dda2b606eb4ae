"""Landing files without one person: their lines go, others lose the mention of them.

A file that holds the person is written anew, one event a line, or as a Parquet file
where it was one; every other stays as it is.
"""

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.sources.folder import (
    PARQUET_MAGIC,
    FoundFile,
    find_files,
    is_finished,
)
from orchestration.sources.salvage import GZIP_MAGIC, DamagedError, read_lines

SHORTEST = 6
"""Characters from which an identifier is looked for anywhere, not among ids alone."""
SHORTEST_NUMBER = 9
"""The same of one of digits alone, which a price or a product may have too."""
IDS = ("userId", "user_id", "anonymousId", "anonymous_id")
ID_FIELDS = frozenset(
    {
        *(*IDS, "previousId", "previous_id", "loyaltyId", "loyalty_id"),
        *("customerId", "customer_id", "profileId", "profile_id"),
    }
)
"""Fields in which a short text or number is an identifier."""
MESSAGE_IDS = ("messageId", "message_id")
OBJECTS = ("context", "properties", "traits")
PHONE_DIGITS = 9
"""Last digits of a phone number, which are the same however it is written."""
NOTHING = r"[^\s\S]"
ROWS = 10_000
ERASED = "[erased]"


@dataclass(frozen=True)
class Person:
    """What one person is known by.

    `spellings` are identifiers and addresses as they are written somewhere;
    `message_ids` are their own messages, `mentioned_in` those of others that name them.
    """

    spellings: frozenset[str]
    message_ids: frozenset[str] = frozenset()
    mentioned_in: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Person({len(self.spellings)} spellings)"

    @cached_property
    def ids(self) -> frozenset[str]:
        """Every spelling, as what stands in a field of ids is compared."""
        return frozenset(folded(spelling) for spelling in self.spellings)

    @cached_property
    def telling(self) -> frozenset[str]:
        """The spellings that name the person wherever they stand."""
        return frozenset(filter(is_telling, self.spellings))

    @cached_property
    def phones(self) -> frozenset[str]:
        """The last digits of phone numbers."""
        digits = (
            re.sub(r"\D", "", spelling)
            for spelling in self.spellings
            if re.fullmatch(r"\+?[\d\s()./-]{8,}", spelling)
        )
        return frozenset(
            number[-PHONE_DIGITS:] for number in digits if len(number) >= PHONE_DIGITS
        )

    @cached_property
    def words(self) -> str:
        """What is looked for within a longer text, as alternatives of a pattern."""
        longest_first = sorted(self.telling, key=len, reverse=True)
        return "|".join(map(re.escape, longest_first)) or NOTHING

    @cached_property
    def parts(self) -> re.Pattern[str]:
        """The same, where it is no part of a longer address or id."""
        return re.compile(rf"(?<![\w.%-])(?:{self.words})(?![\w-]|\.\w)", re.IGNORECASE)

    @cached_property
    def hint(self) -> re.Pattern[str]:
        """What a line has to hold, for a closer look to be worth it."""
        short = self.spellings - self.telling
        words = [
            self.words,
            *(rf"""["'\s:,]{re.escape(word)}["'\s,}}\]]""" for word in short),
            *(r"\D{0,3}".join(number) for number in self.phones),
            r"\\u[0-9a-f]{4}",
        ]
        return re.compile("|".join(words), re.IGNORECASE)

    def is_named_by(self, text: str) -> bool:
        """Whether a text holds a spelling that names the person wherever it stands."""
        if self.parts.search(text):
            return True
        digits = re.sub(r"\D", "", text)
        return len(text) <= len(digits) + 8 and digits[-PHONE_DIGITS:] in self.phones

    def is_named_in(self, value: object, field: str = "") -> bool:
        """Whether anything within a JSON value, which stands in a field, names them."""
        if isinstance(value, Mapping):
            return any(
                self.is_named_by(name) or self.is_named_in(item, name)
                for name, item in value.items()
            )
        if isinstance(value, list | tuple):
            return any(self.is_named_in(item, field) for item in value)
        if value is None or isinstance(value, bool):
            return False
        text = (
            value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        )
        return self.is_named_by(text) or (
            field in ID_FIELDS and folded(text) in self.ids
        )

    def without(self, value: Any, field: str = "") -> Any:
        """A JSON value with `null` in place of all that names the person."""
        if isinstance(value, Mapping):
            return {
                name: self.without(item, name)
                for name, item in value.items()
                if not self.is_named_by(name)
            }
        if isinstance(value, list):
            return [self.without(item, field) for item in value]
        return None if self.is_named_in(value, field) else value

    def cut_from(self, text: str) -> str:
        """A text with `[erased]` in place of each long spelling."""
        return self.parts.sub(ERASED, text)

    def forget_event(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """An event as it may stay: as it is, without the mention, or not at all."""
        message_id = next((event[key] for key in MESSAGE_IDS if event.get(key)), None)
        if message_id in self.message_ids:
            return None
        if not self.is_named_in(event):
            return event
        if message_id not in self.mentioned_in:
            return None
        kept: dict[str, Any] = self.without(event)
        return kept if any(kept.get(key) for key in IDS) else None

    def forget_line(self, line: str) -> str | None:
        """A landed line as it may stay; none if not at all."""
        if not self.hint.search(line):
            return line
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return None if self.parts.search(line) else line
        if not isinstance(event, dict):
            return None if self.is_named_in(event) else line
        kept = self.forget_event(event)
        if kept is event or kept is None:
            return line if kept is event else None
        return json.dumps(kept, ensure_ascii=False)


def folded(text: str) -> str:
    """A text as spellings are compared."""
    return text.strip().casefold()


def is_telling(spelling: str) -> bool:
    """Whether a text names one person wherever it stands."""
    shortest = SHORTEST_NUMBER if spelling.isdecimal() else SHORTEST
    return len(spelling) >= shortest


def find_landed(landing: Path, person: Person) -> tuple[dict[str, int], dict[str, str]]:
    """Lines in which the person stands, by file, and what could not be looked into."""
    counts: dict[str, int] = {}
    problems: dict[str, str] = {}
    for file in everything(landing):
        if file.problem and not file.location.is_file():
            continue
        try:
            count = sum(changes(file.location, person))
        except (DamagedError, OSError, pa.ArrowException) as error:
            problems[file.path] = f"cannot be read: {error}"
            continue
        if count and file.problem:
            problems[file.path] = f"names the person, and is {file.problem}"
        elif count:
            counts[file.path] = count
        if person.is_named_by(file.path):
            problems[file.path] = "names the person by its own name"
    return counts, problems


def everything(landing: Path) -> Iterator[FoundFile]:
    """All files in a landing folder, those too that somebody may be writing still."""
    yield from find_files(landing)
    for path in sorted(landing.rglob("*")):
        if path.is_file() and not is_finished(path.name):
            name = path.relative_to(landing).as_posix()
            yield FoundFile(name, path, problem="not finished")


def changes(path: Path, person: Person) -> Iterator[bool]:
    """For each line or row of a file whether it would be another, or none."""
    if is_table(path):
        for batch in pq.ParquetFile(path).iter_batches(ROWS):
            for row in batch.to_pylist():
                yield forget_row(row, person) is not row
    else:
        for line in read_lines(path):
            yield person.forget_line(line.line) is not line.line


def forget_in_file(path: Path, person: Person) -> None:
    """Write a file anew without the person; one that nothing is left of is removed.

    Raises:
        DamagedError, OSError: if it cannot be read or written.
    """
    write = forget_in_table if is_table(path) else forget_in_lines
    with rewritten(path) as partial:
        kept_count = write(path, partial, person)
    if not kept_count:
        path.unlink()


@contextmanager
def rewritten(path: Path) -> Iterator[Path]:
    """Give a path to write, which takes the place of `path` with its rights."""
    partial = path.with_name(f".{path.name}.erasing.part")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    yield partial
    shutil.copymode(path, partial)
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def forget_in_lines(path: Path, target: Path, person: Person) -> int:
    """Write the lines that stay; returns how many."""
    with path.open("rb") as stream:
        is_zipped = stream.read(2) == GZIP_MAGIC
    opened: Callable[..., IO[str]] = gzip.open if is_zipped else open
    kept_count = 0
    with opened(target, "wt", encoding="utf-8", newline="\n") as stream:
        for line in read_lines(path):
            kept = person.forget_line(line.line)
            if kept is not None:
                stream.write(f"{kept}\n")
                kept_count += 1
    return kept_count


def forget_in_table(path: Path, target: Path, person: Person) -> int:
    """Write the rows that stay; returns how many."""
    file = pq.ParquetFile(path)
    # a dictionary would keep the values that no row has any more
    schema = pa.schema(
        field.with_type(field.type.value_type)
        if pa.types.is_dictionary(field.type)
        else field
        for field in file.schema_arrow
    )
    kept_count = 0
    with pq.ParquetWriter(target, schema) as writer:
        for batch in file.iter_batches(ROWS):
            rows = [
                kept
                for row in batch.to_pylist()
                if (kept := forget_row(row, person)) is not None
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            kept_count += len(rows)
    return kept_count


def forget_row(row: dict[str, Any], person: Person) -> dict[str, Any] | None:
    """A row of a table as it may stay; none if not at all."""
    event = unfold(row)
    kept = person.forget_event(event)
    if kept is event or kept is None:
        return None if kept is None else row
    return {
        key: json.dumps(kept.get(key), ensure_ascii=False)
        if isinstance(value, str) and key in OBJECTS
        else kept.get(key)
        for key, value in row.items()
    }


def unfold(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with the objects that it holds as text read."""
    unfolded = dict(row)
    for key in OBJECTS:
        if isinstance(row.get(key), str | bytes):
            try:
                unfolded[key] = json.loads(row[key])
            except ValueError:
                continue
    return unfolded


def is_table(path: Path) -> bool:
    """Whether a file is a Parquet file, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
