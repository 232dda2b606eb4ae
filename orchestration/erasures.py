"""What stays of people who were erased: a keyed hash of each of their identifiers.

By it whoever bears one of them again is known, and not written to. Without the pepper
beside them the hashes cannot be tried against a list of addresses; it never enters the
warehouse, of which there is a copy for readers.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from orchestration.warehouse import Connection

PEPPER = "pepper"
HASHES = "identifiers.ndjson"
MESSAGE_ID = "message_id"
"""The kind of identifier under which messages are known that are not to come back."""
TOKEN = "erased-"
"""How the anonymous id begins under which the orders of an erased person stay."""

BLOCK_BYTES = 64
INNER, OUTER = 0x36, 0x5C
SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "hmac": pl.String,
    "erased_at": pl.Datetime("us"),
}
ERASED = "create or replace temp table erased as select * from erased_frame"
# The keys are in a table: the text of a statement may be quoted in an error.
KEYS = """
    create or replace temp table erasure_keys as
    select $inner::blob as inner_key, $outer::blob as outer_key
"""
# HMAC (RFC 2104)
KEYED_HASH = """
    create or replace temp macro keyed_hash(kind, value) as sha256(
        (select outer_key from erasure_keys)
        || unhex(sha256(
            (select inner_key from erasure_keys) || encode(kind || '␟' || value)
        ))
    )
"""


class ErasuresError(Exception):
    """It cannot be known who was erased: nobody may be written to until it is."""


@dataclass(frozen=True)
class Erasures:
    """Who was erased: `hashes` has a row per identifier, `hmac` and `erased_at`."""

    pepper: bytes = field(repr=False)
    hashes: pl.DataFrame

    def bring(self, connection: Connection) -> None:
        """Give a connection the table `erased` and the macro `keyed_hash`."""
        key = self.pepper.ljust(BLOCK_BYTES, b"\0")
        pads = {
            name: bytes(byte ^ pad for byte in key)
            for name, pad in (("inner", INNER), ("outer", OUTER))
        }
        connection.register("erased_frame", self.hashes.to_arrow())
        connection.execute(ERASED)
        connection.execute(KEYS, pads)
        connection.execute(KEYED_HASH)
        connection.unregister("erased_frame")


NOBODY = Erasures(b"", pl.DataFrame(schema=SCHEMA))


def read_erasures(folder: Path) -> Erasures:
    """Who was erased from a home; `folder` is that of its settings.

    Raises:
        ErasuresError: if the pepper is gone or a line cannot be read.
    """
    if not folder.exists():
        return NOBODY
    path, pepper = folder / HASHES, folder / PEPPER
    mend = "put it back from a backup; nothing is sent until then"
    try:
        key = pepper.read_bytes()
        lines = path.read_text().splitlines() if path.exists() else []
    except OSError as error:
        raise ErasuresError(
            f"{error.filename} cannot be read ({error.strerror}): {mend}"
        ) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append((row["hmac"], datetime.fromisoformat(row["erased_at"])))
        except (ValueError, KeyError, TypeError):
            reason = "is no hash of an erased identifier"
            raise ErasuresError(f"{path}:{number} {reason}: {mend}") from None
    return Erasures(key, pl.DataFrame(rows, schema=SCHEMA, orient="row"))


def record_erased(
    folder: Path, identifiers: Iterable[tuple[str, str]], erased_at: datetime
) -> None:
    """Add the hashes of identifiers, given as (type, identifier), to those of a home.

    They stand in the order of their hashes, so that which were of one person is not
    seen from where they stand.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / PEPPER).exists():
        write_whole(folder / PEPPER, secrets.token_bytes(32))
    known = read_erasures(folder)
    moments = dict(known.hashes.iter_rows())
    for kind, value in identifiers:
        text = f"{kind}␟{value}".encode()
        moments[hmac.new(known.pepper, text, hashlib.sha256).hexdigest()] = erased_at
    lines = (
        json.dumps({"hmac": digest, "erased_at": moment.isoformat()}) + "\n"
        for digest, moment in sorted(moments.items())
    )
    write_whole(folder / HASHES, "".join(lines).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file for its owner alone, which appears when it is on disk."""
    partial = path.with_name(f".{path.name}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    partial.replace(path)
