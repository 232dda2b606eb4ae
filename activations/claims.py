"""Every claim ever made, in a file beside the ledger: a ledger put back is behind it.

A line per claimed send, with the ledger's count of claims at that moment. It is on disk
before the message is handed over and after the ledger knows, so that no crash makes the
ledger look older than it is. It names no address and no identifier.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import polars as pl

FIELDS = (
    "send_id",
    "enrollment_id",
    "journey",
    "step",
    "channel",
    "profile_id",
    "destination",
    "content_id",
    "message_class",
    "as_of",
)
LONGEST_LINE = 1 << 14


class Claims:
    """The claims of one ledger, oldest first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: int | None = None

    @property
    def mark(self) -> int:
        """How many claims the ledger counted at the last line; 0 without one."""
        if self._mark is None:
            self._mark = self._read_mark()
        return self._mark

    def append(self, mark: int, sends: Sequence[Mapping[str, object]]) -> None:
        """Write claims, and wait until they are on disk."""
        is_new = not self.path.exists()
        self._cut_torn_line()
        lines = "".join(
            json.dumps({"mark": mark, **{name: send[name] for name in FIELDS}}) + "\n"
            for send in sends
        )
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(lines.encode())
            stream.flush()
            os.fsync(descriptor)
        if is_new:
            flush_folder(self.path.parent)
        self._mark = mark

    def read(self) -> pl.DataFrame:
        """One row per claimed send: its fields, `claim_count`; the last claim's word.

        A line that cannot be read is left out: what it claimed has other witnesses, or
        is not known.
        """
        schema = {**dict.fromkeys(FIELDS, pl.String), "claim_count": pl.Int64}
        found: dict[str, dict[str, object]] = {}
        for line in self._lines():
            try:
                claim = json.loads(line)
                fields = {name: claim[name] for name in FIELDS}
            except (ValueError, KeyError, TypeError):
                continue
            earlier = found.get(fields["send_id"], {"claim_count": 0})
            count = int(str(earlier["claim_count"])) + 1
            found[fields["send_id"]] = {**fields, "claim_count": count}
        return pl.DataFrame(list(found.values()), schema=schema)

    def forget(self, send_ids: Collection[str]) -> None:
        """Remove the claims of sends for good; the count goes on from the last left."""
        lines = self._lines()
        kept = [line for line in lines if send_id_of(line) not in send_ids]
        if len(kept) == len(lines):
            return
        partial = self.path.with_name(f".{self.path.name}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"".join(line + b"\n" for line in kept))
            stream.flush()
            os.fsync(descriptor)
        partial.replace(self.path)
        flush_folder(self.path.parent)
        self._mark = None

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        # what a crash cut short was handed to nobody
        return self.path.read_bytes().split(b"\n")[:-1]

    def _read_mark(self) -> int:
        if not self.path.exists():
            return 0
        with self.path.open("rb") as stream:
            stream.seek(max(0, self.path.stat().st_size - 2 * LONGEST_LINE))
            lines = stream.read().split(b"\n")[:-1]
        for line in reversed(lines):
            try:
                return int(json.loads(line)["mark"])
            except (ValueError, KeyError, TypeError):
                continue
        return 0

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = max(0, size - 2 * LONGEST_LINE)
            stream.seek(start)
            tail = stream.read()
            if not tail.endswith(b"\n"):
                stream.truncate(start + tail.rfind(b"\n") + 1)


def send_id_of(line: bytes) -> object:
    """The send that a line claims; none where it cannot be read."""
    try:
        return json.loads(line)["send_id"]
    except (ValueError, KeyError, TypeError):
        return None


def flush_folder(path: Path) -> None:
    """Make a new name in a folder survive a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
