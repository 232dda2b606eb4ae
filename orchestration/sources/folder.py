"""The landing folder: which files lie in it, what each holds, why some are not read.

It looks at names, kinds and bytes; lines and their meaning are no matter of it.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path

from orchestration.sources.salvage import (
    GZIP_MAGIC,
    DamagedError,
    begins_as_json,
    is_wide,
    unzip,
)

TEXT_SUFFIXES = (".ndjson", ".jsonl", ".json")
ANY_ZIP = ".gz"
SUFFIXES = (*TEXT_SUFFIXES, ANY_ZIP, ".parquet")
UNFINISHED = (".tmp", ".part")

PARQUET_MAGIC = b"PAR1"
BLOCK = 1 << 20
LONG_LINE = 1 << 23
"""Bytes without a line feed from which a file is read line by line.

DuckDB leaves out a line that is longer than its buffer (32 MB), without a word.
"""


class Form(Enum):
    """How a file is read: by its first bytes, never by its name."""

    TABLE = ".parquet"
    TEXT = ".ndjson"
    ZIPPED = ".ndjson.gz"
    ODD = ""
    """Line by line: damaged, of another encoding, or with lines of great length."""


@dataclass(frozen=True)
class FoundFile:
    """What lies below the landing folder, as a listing shows it."""

    path: str
    location: Path
    byte_count: int = 0
    modified_ns: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Content:
    """What a file holds: its hash, that of its first bytes, its form; or a problem."""

    file_id: str
    prefix_id: str | None
    byte_count: int
    form: Form
    problem: str | None = None


def find_files(landing: Path) -> list[FoundFile]:
    """Everything at any depth that is finished, by path, with what keeps it shut.

    Links are followed to files inside the folder only. A linked folder is not entered:
    inside the landing folder its files are found where they are.
    """
    root = landing.resolve()
    found: list[FoundFile] = []

    def note_shut_folder(error: OSError) -> None:
        location = Path(error.filename)
        if location != landing or not isinstance(error, FileNotFoundError):
            found.append(shut(landing, location, f"cannot be entered: {error}"))

    for folder, subfolders, names in os.walk(landing, onerror=note_shut_folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in filter(is_finished, chain(names, links)):
            file = look_at(landing, root, Path(folder, name))
            if file:
                found.append(file)
    return sorted(found, key=lambda file: file.path)


def look_at(landing: Path, root: Path, location: Path) -> FoundFile | None:
    """One entry of the listing; None if it is gone or is a folder found elsewhere."""
    problem = ""
    try:
        is_link = location.is_symlink()
        target = location.resolve(strict=True)
        status = target.stat()
    except FileNotFoundError:
        if not location.is_symlink():
            # Renamed since it was listed: its new name is for the next run.
            return None
        problem = "a link to nothing"
    except (OSError, RuntimeError) as error:
        problem = f"cannot be opened: {error}"
    else:
        if is_link and not target.is_relative_to(root):
            problem = "a link that leads out of the landing folder is not followed"
        elif is_link and stat.S_ISDIR(status.st_mode):
            return None
        elif not stat.S_ISREG(status.st_mode):
            problem = "no regular file"
        elif not location.name.lower().endswith(SUFFIXES):
            problem = f"not read: its name ends in none of {', '.join(SUFFIXES)}"
    if problem:
        return shut(landing, location, problem)
    return FoundFile(
        printable(location.relative_to(landing)),
        location,
        status.st_size,
        status.st_mtime_ns,
    )


def shut(landing: Path, location: Path, problem: str) -> FoundFile:
    """Something that is not read, and why."""
    path = printable(location.relative_to(landing))
    return FoundFile(path, location, problem=problem)


def printable(path: Path) -> str:
    """A path as text; bytes of a name that are not UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


def is_finished(name: str) -> bool:
    """Whether a name says that nobody is still writing."""
    return not name.startswith(".") and not name.lower().endswith(UNFINISHED)


def inspect(file: FoundFile, prefix_bytes: int) -> Content:
    """Read a file once: its hash, that of its first bytes, and its form."""
    digests = Digests(prefix_bytes)
    try:
        with file.location.open("rb") as stream:
            blocks = digests.follow(iter(lambda: stream.read(BLOCK), b""))
            try:
                form = form_of(blocks)
                is_foreign = is_bare_zip(file.path) and not holds_json(file, form)
            except DamagedError:
                form, is_foreign = Form.ODD, False
            for _ in blocks:
                pass
    except OSError as error:
        return no_content(f"cannot be opened: {error}")
    if is_foreign:
        return no_content("not read: named .gz alone, and holds no JSON")
    whole = digests.whole.hexdigest()
    return Content(whole, digests.prefix_id, digests.byte_count, form)


class Digests:
    """Hashes of a file as its blocks go by."""

    def __init__(self, prefix_bytes: int) -> None:
        self.whole = hashlib.sha256()
        self.prefix_bytes = prefix_bytes
        self.prefix_id: str | None = None
        self.byte_count = 0

    def follow(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks, hashed."""
        for block in blocks:
            missing = self.prefix_bytes - self.byte_count
            if 0 < missing <= len(block):
                self.whole.update(block[:missing])
                self.prefix_id = self.whole.hexdigest()
                self.whole.update(block[missing:])
            else:
                self.whole.update(block)
            self.byte_count += len(block)
            yield block


def no_content(problem: str) -> Content:
    """Stands for a file that is not read."""
    return Content("", None, 0, Form.ODD, problem)


def form_of(blocks: Iterator[bytes]) -> Form:
    """The form of a file; what it need not see of the blocks it leaves.

    Raises:
        DamagedError: where a gzip cannot be read on.
    """
    begin = next(blocks, b"")
    if begin.startswith(PARQUET_MAGIC):
        return Form.TABLE
    is_zipped = begin.startswith(GZIP_MAGIC)
    blocks = chain([begin], blocks)
    reach = 0
    for number, block in enumerate(unzip(blocks) if is_zipped else blocks):
        if number == 0 and is_wide(block):
            return Form.ODD
        reach = 0 if b"\n" in block else reach + len(block)
        if reach > LONG_LINE:
            return Form.ODD
    return Form.ZIPPED if is_zipped else Form.TEXT


def is_bare_zip(path: str) -> bool:
    """Whether a name says no more than that the file is zipped."""
    name = path.lower()
    return name.endswith(ANY_ZIP) and not name.endswith(
        tuple(f"{suffix}{ANY_ZIP}" for suffix in TEXT_SUFFIXES)
    )


def holds_json(file: FoundFile, form: Form) -> bool:
    """Whether a file of lines begins as JSON does; an empty one may."""
    if form is Form.TABLE:
        return True
    with file.location.open("rb") as stream:
        blocks = iter(lambda: stream.read(BLOCK), b"")
        begin = next(blocks, b"")
        if begin.startswith(GZIP_MAGIC):
            begin = next(unzip(iter([begin])), b"")
    return not begin.strip() or begins_as_json(begin)
