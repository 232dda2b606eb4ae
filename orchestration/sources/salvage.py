"""Files that DuckDB's readers refuse, read line by line for all that can be had.

Slower and exact: physical line numbers, the readable prefix of a damaged gzip, lines
of any length or encoding, JSON laid out over many lines. It judges no line.
"""

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

GZIP_MAGIC = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
WIDE_BRACKETS = {b"{\0": "utf-16-le", b"[\0": "utf-16-le"} | {
    b"\0{": "utf-16-be",
    b"\0[": "utf-16-be",
}
BLOCK = 1 << 18
LONGEST = 1 << 28
"""Bytes of the longest line that is looked at."""
LONGEST_LAID_OUT = 1 << 24
"""Bytes of the longest object that may be laid out over lines outside an array."""
KEPT = 1000
TOO_LONG = f"longer than {LONGEST >> 20} MB; its beginning is kept"

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}"]|[^\s,:\[\]{}"]+')
"""A string, a bracket, the quote of a string that never ends, a number or a word."""
IN_A_ROW = re.compile(rb"\}[ \t\r]*\{")
ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u(?P<odd>[dD][89a-fA-F]..|0000)|.)"
)
ODD_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")


class Line(NamedTuple):
    """One physical line or element of a document, or where a file breaks off."""

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


class Group(NamedTuple):
    """Whole lines that follow each other; one alone where there is a problem."""

    line_number: int
    lines: list[bytes]
    problem: str | None = None
    is_cut: bool = False

    def raw_lines(self) -> Iterator[RawLine]:
        """Its lines, one by one."""
        for number, raw in enumerate(self.lines, start=self.line_number):
            yield RawLine(number, raw, self.problem, self.is_cut)


class DamagedError(Exception):
    """The rest of a file cannot be read; the message says why."""


def read_lines(path: Path) -> Iterator[Line]:
    """Every line of a text file from line 1, gzipped or not, by content not by name.

    A document that is laid out over lines comes by its elements, from 1. What is not
    UTF-8 comes with its bytes escaped and the problem named. A gzip that breaks off
    ends in a line with that problem.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    groups = line_groups(path)
    begin, rest = begin_of(line for group in groups for line in group.raw_lines())
    if begin is None:
        return iter(())
    lines: Iterator[RawLine] = chain([begin], rest)
    if begin.raw.lstrip().startswith(b"{") and opens_document(begin):
        laid_out, lines = laid_out_lines(lines)
        if laid_out:
            return map(to_line, elements(chain(laid_out, lines)))
        return (piece for line in lines for piece in pieces_of(line))
    if opens_document(begin):
        return map(to_line, elements(lines))
    return (piece for line in lines for piece in pieces_of(line))


def locate_rejects(path: Path, bad_lines: set[str]) -> Sifted | None:
    """Find the lines that a first reading found bad; None for a JSON document.

    A first reading knows no line numbers and may have mistaken where lines end: unless
    its count of good lines is `sound_count`, the file must be read as a whole.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    bad = {line.encode() for line in bad_lines}
    bad |= {line + b"\r" for line in bad}
    suspects: list[Line] = []
    sound_count = 0
    is_begun = False
    for group in line_groups(path):
        if not is_begun:
            begin, _ = begin_of(group.raw_lines())
            is_begun = begin is not None
            if begin and opens_document(begin):
                return None
        is_text = is_utf8(b"\n".join(group.lines))
        hits = [
            at
            for at, raw in enumerate(group.lines)
            if raw in bad or group.problem or not (is_text or is_utf8(raw))
        ]
        blank_count = group.lines.count(b"") + group.lines.count(b"\r")
        sound_count += len(group.lines) - blank_count - len(hits)
        for at in hits:
            line = RawLine(
                group.line_number + at, group.lines[at], group.problem, group.is_cut
            )
            suspects += pieces_of(line)
    return Sifted(suspects, sound_count)


def line_groups(path: Path) -> Iterator[Group]:
    """All lines as bytes, many at a time, without a byte order mark before the first.

    Raises:
        DamagedError: if nothing at all can be read.
    """
    pieces: list[bytes] = []
    length = 0
    line_number = 1
    damage = ""

    def ended() -> Group:
        line = b"".join(pieces)
        if length > LONGEST:
            return Group(line_number, [line[:KEPT]], TOO_LONG)
        return Group(line_number, [line])

    try:
        for block in text_blocks(path):
            first, *rest = block.split(b"\n")
            if length <= LONGEST:
                pieces.append(first)
            length += len(first)
            if rest:
                yield ended()
                pieces = [rest.pop()]
                length = len(pieces[0])
                if rest:
                    yield Group(line_number + 1, rest)
                line_number += 1 + len(rest)
    except DamagedError as error:
        damage = str(error)
    last = ended()
    text = last.lines[0]
    if damage and line_number == 1 and not text:
        raise DamagedError(damage)
    if text and not (damage and not is_json(text)):
        yield last._replace(is_cut=True)
        line_number, text = line_number + 1, b""
    if damage:
        yield Group(line_number, [text], damage)


def begin_of(
    lines: Iterator[RawLine],
) -> tuple[RawLine | None, Iterator[RawLine]]:
    """The first line that holds something, and those after it."""
    for line in lines:
        if line.problem or line.raw.strip():
            return line, lines
    return None, lines


def opens_document(line: RawLine) -> bool:
    """Whether a file that begins with this line may be one document of many lines."""
    if line.problem or not line.raw.lstrip().startswith((b"{", b"[")):
        return False
    depth = 0
    for token in TOKEN.finditer(line.raw):
        depth += DEPTHS.get(token.group(), 0)
    return depth > 0


DEPTHS = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def laid_out_lines(
    lines: Iterator[RawLine],
) -> tuple[list[RawLine], Iterator[RawLine]]:
    """The lines of the object that a file begins with, if it is whole, and the rest."""
    taken: list[RawLine] = []
    depth = length = 0
    for line in lines:
        taken.append(line)
        length += len(line.raw)
        for token in TOKEN.finditer(line.raw):
            depth += DEPTHS.get(token.group(), 0)
            if depth == 0:
                whole = [*(part.raw for part in taken[:-1]), line.raw[: token.end()]]
                is_whole = is_json(b"\n".join(whole))
                return (taken, lines) if is_whole else ([], chain(taken, lines))
        if line.problem or length > LONGEST_LAID_OUT:
            break
    return [], chain(taken, lines)


def elements(lines: Iterable[RawLine]) -> Iterator[RawLine]:
    """The values of a document, those of an array one by one, numbered from 1.

    What is no whole value is taken apart, so that one broken element takes no other
    with it.
    """
    values = element_texts(lines)
    return (
        value._replace(line_number=number) for number, value in enumerate(values, 1)
    )


def element_texts(lines: Iterable[RawLine]) -> Iterator[RawLine]:
    """The values of a document, each with the number of the line that ends it."""
    depth = base = length = 0
    open_lines: list[RawLine] = []
    for line in lines:
        if line.problem:
            yield from broken_elements(open_lines)
            open_lines, depth, length = [], base, 0
            yield line
            continue
        start = 0
        for token in TOKEN.finditer(line.raw):
            mark = token.group()
            step = DEPTHS.get(mark, 0)
            if mark == b'"':
                # The string ends with its line, and so does what it stands in.
                open_lines.append(line._replace(raw=line.raw[start:]))
                yield from broken_elements(open_lines)
                open_lines, depth, length, start = [], base, 0, len(line.raw)
                break
            if depth > base:
                depth += step
                if depth == base:
                    open_lines.append(line._replace(raw=line.raw[start : token.end()]))
                    raw = b"\n".join(part.raw for part in open_lines)
                    yield RawLine(line.line_number, raw)
                    open_lines, length = [], 0
            elif mark == b"[" and base == 0:
                base = depth = 1
            elif mark == b"]" and base == 1:
                base = depth = 0
            elif step > 0:
                depth += step
                start = token.start()
            else:
                yield RawLine(line.line_number, mark)
        if depth > base:
            # Its indentation shows where the next one may begin.
            begins = not open_lines and not line.raw[:start].strip()
            open_lines.append(line._replace(raw=line.raw[0 if begins else start :]))
            length += len(line.raw)
            if length > LONGEST:
                yield from broken_elements(open_lines)
                open_lines, depth, length = [], base, 0
    yield from broken_elements(open_lines)


def broken_elements(lines: list[RawLine]) -> Iterator[RawLine]:
    """What lines hold of which no value ends: whole elements that follow, or lines.

    An element begins where a line is indented like the first and opens an object.
    """
    if not lines:
        return
    indent = len(lines[0].raw) - len(lines[0].raw.lstrip())
    opening = lines[0].raw[:indent] + b"{"
    starts = [at for at, line in enumerate(lines) if line.raw.startswith(opening)]
    for start, end in pairwise(sorted({0, *starts, len(lines)})):
        part = lines[start:end]
        text = b"\n".join(line.raw for line in part).strip(b" \t\r\n,")
        whole = next(
            (text for text in (text, text.rstrip(b"] \t\r\n")) if is_json(text)), None
        )
        if whole is not None:
            yield RawLine(part[-1].line_number, whole)
            continue
        for line in part:
            raw = line.raw.strip(b" \t\r,")
            if raw not in (b"", b"]"):
                yield line._replace(raw=raw)


def pieces_of(line: RawLine) -> Iterator[Line]:
    """A line, or the messages that stand in it: a whole batch, or several in a row."""
    begin = line.raw.lstrip()
    pieces: list[RawLine] = []
    if line.problem is None and begin.startswith(b"["):
        if begin[1:].lstrip().startswith(b"{"):
            pieces = list(elements([line]))
    elif line.problem is None and begin.startswith(b"{") and IN_A_ROW.search(begin):
        pieces = list(elements([line]))
        if not all(is_json(piece.raw) for piece in pieces):
            pieces = []
    for piece in pieces or [line]:
        yield to_line(piece._replace(line_number=line.line_number))


def to_line(line: RawLine) -> Line:
    """Decode one line."""
    try:
        text = mend(line.raw.decode())
        return Line(line.line_number, text, line.problem, line.is_cut)
    except UnicodeDecodeError as error:
        position, byte = error.start + 1, line.raw[error.start]
        return Line(
            line.line_number,
            line.raw.decode(errors="backslashreplace"),
            line.problem or f"not UTF-8: byte 0x{byte:02x} at {position}",
            line.is_cut,
        )


def mend(text: str) -> str:
    """A line without what no text can hold: half a character, NUL, a mark of order.

    JavaScript writes an emoji that was cut in two as a lone surrogate.
    """
    text = text.removeprefix("\ufeff")
    if not ODD_ESCAPE.search(text):
        return text
    return ESCAPE.sub(
        lambda escape: r"\ufffd" if escape["odd"] else escape.group(), text
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
    if is_wide(first):
        encoding = WIDE_BRACKETS.get(first[:2], "utf-16")
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
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
        blocks = iter(lambda: file.read(BLOCK), b"")
        begin = next(blocks, b"")
        blocks = chain([begin], blocks)
        if begin.startswith(GZIP_MAGIC):
            yield from unzip(blocks)
        elif begin and not is_text(begin):
            raise DamagedError("neither text nor gzip")
        else:
            yield from blocks


def unzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The text of a gzip, a block at a time; its members follow each other.

    Raises:
        DamagedError: where it cannot be read on.
    """
    member = zlib.decompressobj(wbits=31)
    for block in blocks:
        is_full = False
        rest = block
        while rest or is_full:
            if member.eof:
                # Zeros may follow as padding.
                rest = rest.lstrip(b"\0")
                if rest and not rest.startswith(GZIP_MAGIC[: len(rest)]):
                    raise DamagedError("gzip is damaged: bytes after its end")
                member = zlib.decompressobj(wbits=31) if rest else member
                continue
            before = member.copy()
            try:
                text = member.decompress(rest, BLOCK)
            except zlib.error as error:
                yield from readable_prefix(before, rest)
                raise DamagedError(f"gzip is damaged: {error}") from None
            yield text
            is_full = len(text) == BLOCK and not member.eof
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise DamagedError("gzip breaks off before its end")


def readable_prefix(member: "zlib._Decompress", block: bytes) -> Iterator[bytes]:
    """What a damaged block still yields up to the damage, found by halves."""
    while len(block) > 1:
        half = len(block) // 2
        trial = member.copy()
        try:
            yield trial.decompress(block[:half])
        except zlib.error:
            block = block[:half]
        else:
            member, block = trial, block[half:]


def is_json(raw: bytes) -> bool:
    """Whether a line stands as a whole."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def is_wide(block: bytes) -> bool:
    """Whether a file that begins so is UTF-16, marked as such or not."""
    return block.startswith(UTF_16) or block[:2] in WIDE_BRACKETS


def begins_as_json(block: bytes) -> bool:
    """Whether a file that begins so may hold objects."""
    begin = block.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return is_wide(block) or begin in (b"{", b"[")


def is_text(block: bytes) -> bool:
    """Whether a file that begins so may hold lines, be it after one of noise."""
    return begins_as_json(block) or b"\0" not in block or b'\n{"' in block
