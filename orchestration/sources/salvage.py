"""Files that DuckDB's readers refuse, read line by line for all that can be had.

Slower and exact: physical line numbers, the readable prefix of a damaged gzip, lines
of any length or encoding. It judges no line.
"""

import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GZIP_MAGIC = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLOCK = 1 << 18


class Line(NamedTuple):
    """One physical line, or the place where a file breaks off."""

    line_number: int
    line: str
    problem: str | None = None
    is_cut: bool = False


class Sifted(NamedTuple):
    """A file read beside a first reading: the lines at fault, a count of the rest."""

    suspects: list[Line]
    sound_count: int


class RawLine(NamedTuple):
    """A line before it is decoded."""

    line_number: int
    raw: bytes
    problem: str | None = None
    is_cut: bool = False


class DamagedError(Exception):
    """The rest of a compressed file cannot be read; the message says why."""


def read_lines(path: Path) -> Iterator[Line]:
    """Every line of a text file from line 1, gzipped or not, by content not by name.

    What is not UTF-8 comes with its bytes escaped and the problem named. A gzip that
    breaks off ends in a line with that problem.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    return read_document(path) or map(to_line, raw_lines(path))


def sift(path: Path, bad_lines: set[str]) -> Sifted | None:
    """Find the lines that a first reading found bad; None for a JSON document.

    A first reading knows no line numbers and may have mistaken where lines end: unless
    its count of good lines is `sound_count`, the file must be read as a whole.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    if read_document(path):
        return None
    bad = {line.encode() for line in bad_lines}
    bad |= {line + b"\r" for line in bad}
    lengths = {len(line) for line in bad}
    suspects = []
    sound_count = 0
    for line in raw_lines(path):
        raw = line.raw
        if (
            line.problem
            or (len(raw) in lengths and raw in bad)
            or not (raw.isascii() or is_utf8(raw))
        ):
            suspects.append(to_line(line))
        elif raw.strip(b" \t\r"):
            sound_count += 1
    return Sifted(suspects, sound_count)


def raw_lines(path: Path) -> Iterator[RawLine]:
    """Every line as bytes, without a byte order mark before the first.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    pieces: list[bytes] = []
    line_number = 1
    damage = ""
    try:
        for block in text_blocks(path):
            first, *rest = block.split(b"\n")
            pieces.append(first)
            for piece in rest:
                yield RawLine(line_number, b"".join(pieces))
                pieces = [piece]
                line_number += 1
    except DamagedError as error:
        damage = str(error)
    last = b"".join(pieces)
    if damage and line_number == 1 and not last:
        raise DamagedError(damage)
    if last and not (damage and not is_json(last)):
        yield RawLine(line_number, last, is_cut=True)
        line_number, last = line_number + 1, b""
    if damage:
        yield RawLine(line_number, last, damage)


def to_line(line: RawLine) -> Line:
    """Decode one line."""
    try:
        return Line(line.line_number, line.raw.decode(), line.problem, line.is_cut)
    except UnicodeDecodeError as error:
        position, byte = error.start + 1, line.raw[error.start]
        return Line(
            line.line_number,
            line.raw.decode(errors="backslashreplace"),
            line.problem or f"not UTF-8: byte 0x{byte:02x} at {position}",
            line.is_cut,
        )


def is_utf8(raw: bytes) -> bool:
    """Whether bytes are text."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unzipped and turned from UTF-16 where they need it."""
    blocks = raw_blocks(path)
    first = next(blocks, b"")
    if first.startswith(UTF_16):
        decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        yield decoder.decode(first).encode()
        for block in blocks:
            yield decoder.decode(block).encode()
    else:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from blocks


def raw_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unzipped where they begin like a gzip.

    Raises:
        DamagedError: where a gzip cannot be read on.
    """
    with path.open("rb") as file:
        block = file.read(BLOCK)
        if not block.startswith(GZIP_MAGIC):
            if block and not is_text(block, begins_as_json=path.suffix == ".gz"):
                raise DamagedError("neither text nor gzip")
            while block:
                yield block
                block = file.read(BLOCK)
            return
        unzip = zlib.decompressobj(wbits=31)
        while block:
            before = unzip.copy()
            try:
                yield unzip.decompress(block)
            except zlib.error as error:
                yield from readable_prefix(before, block)
                raise DamagedError(f"gzip is damaged: {error}") from None
            block = unzip.unused_data or file.read(BLOCK)
            if unzip.eof:
                # Members follow each other, with zeros as padding.
                block = block.lstrip(b"\0")
                if block and not block.startswith(GZIP_MAGIC[: len(block)]):
                    raise DamagedError("gzip is damaged: bytes after its end")
                unzip = zlib.decompressobj(wbits=31) if block else unzip
        if not unzip.eof:
            raise DamagedError("gzip breaks off before its end")


def readable_prefix(unzip: "zlib._Decompress", block: bytes) -> Iterator[bytes]:
    """What a damaged block still yields, byte by byte up to the damage."""
    for at in range(len(block)):
        try:
            yield unzip.decompress(block[at : at + 1])
        except zlib.error:
            return


def read_document(path: Path) -> Iterator[Line] | None:
    """The elements of a `.json` file that is one array or one object, as its lines."""
    if path.suffix != ".json":
        return None
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return None
    messages = document if isinstance(document, list) else [document]
    return (
        Line(number, json.dumps(message, ensure_ascii=False))
        for number, message in enumerate(messages, start=1)
    )


def is_json(raw: bytes) -> bool:
    """Whether a line stands as a whole."""
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def is_text(block: bytes, *, begins_as_json: bool) -> bool:
    """Whether a file that begins so may hold lines."""
    if block.startswith(UTF_16):
        return True
    begin = block.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return begin in (b"{", b"[") or not (begins_as_json or b"\0" in block)
