"""Lines that are on disk before they are acknowledged.

Whoever writes while the disk is busy shares the next write: a disk that takes a hundred
writes a second takes thousands of requests. A file grows for an hour at most, line by
whole line, and is read as it grows: a run that meets the last line half written rejects
it, and the next run reads it.
"""

import asyncio
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from activations.channels.file import flush_to_disk
from orchestration.settings import wall_clock
from orchestration.sources.inbound import INBOUND

LONGEST_GROWTH = timedelta(hours=1)
LARGEST_FILE = 1 << 24
"""Bytes after which a new file begins: a file that grew is read whole by each run."""
MAX_WAITING = 1 << 26
LOCK = ".lock"

Line = Mapping[str, Any]


class JournalError(Exception):
    """Lines could not be written, and must not be acknowledged."""


class Journal:
    """The files of one process in the landing folder."""

    def __init__(self, landing: Path) -> None:
        self._landing = landing
        self._folder = landing / INBOUND
        self._path = self._folder
        self._file: int | None = None
        self._began_at = datetime.min
        self._byte_count = 0
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self.is_failing = False

    async def write(self, lines: Sequence[Line]) -> None:
        """Return when the lines are on disk, all of them.

        Raises:
            JournalError: if the disk does not take them, or takes others too slowly.
        """
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        if self._waiting_bytes + len(content) > MAX_WAITING:
            raise JournalError("more waits to be written than the disk keeps up with")
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((content, written))
        self._waiting_bytes += len(content)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups())
        await written

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        if self._writer:
            await self._writer
        self._end_file()

    async def _write_groups(self) -> None:
        while self._waiting:
            group, self._waiting, self._waiting_bytes = self._waiting, [], 0
            content = b"".join(part for part, _ in group)
            problem = None
            try:
                await asyncio.to_thread(self._store, content)
            # whatever it is, whoever waits has to hear of it
            except Exception as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                problem = JournalError(f"the disk took nothing ({reason})")
            self.is_failing = problem is not None
            for _, written in group:
                # whoever waited may have been given up
                if not written.done():
                    if problem:
                        written.set_exception(problem)
                    else:
                        written.set_result(None)

    def _store(self, content: bytes) -> None:
        """Add to the file and wait for the disk; what is not there whole is not there.

        Raises:
            OSError: if it is not.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with standing_still(self._landing):
            self._add(content, wall_clock())

    def _add(self, content: bytes, now: datetime) -> None:
        is_full = self._byte_count + len(content) > LARGEST_FILE and self._byte_count
        is_old = not self._began_at <= now < self._began_at + LONGEST_GROWTH
        if is_full or is_old or not self._is_there():
            self._end_file()
        descriptor = self._begin_file(now) if self._file is None else self._file
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self._byte_count)
            self._end_file()
            raise
        self._byte_count += len(content)

    def _is_there(self) -> bool:
        """Whether the file is still the one of its name."""
        with suppress(FileNotFoundError):
            return self._file is not None and os.path.samestat(
                os.fstat(self._file), self._path.stat()
            )
        return False

    def _begin_file(self, now: datetime) -> int:
        name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.ndjson"
        self._path = self._folder / name
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._file = os.open(self._path, flags, 0o600)
        self._began_at, self._byte_count = now, 0
        try:
            # it lasts a power cut only if its folder, and that folder's, name it
            for folder in (self._folder, self._folder.parent):
                flush_to_disk(folder)
        except OSError:
            self._end_file()
            raise
        return self._file

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def standing_still(landing: Path) -> Iterator[None]:
    """Keep these files from growing, for as long as somebody writes one anew.

    What comes meanwhile waits; it goes to another file where this one was replaced.
    """
    folder = landing / INBOUND
    if not folder.is_dir():
        yield
        return
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
