"""Webhooks of the tools that deliver: who signed them, and the lines that they are.

A signature is checked over the bytes that came, before any of them is read. Event names
and properties stay the tool's own: the seeds say what they mean. Each event keeps the
tool's id, so that one that comes again is landed once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from orchestration.settings import precise_clock
from orchestration.sources.inbound.lines import BadRequestError, read_json

TOLERANCE = timedelta(minutes=5)


class BadSignatureError(Exception):
    """Nobody whom we know signed this, or not lately."""


@dataclass(frozen=True)
class Call:
    """A request as it came: the address that the tool calls, its headers, its bytes."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            BadRequestError: if it is none.
        """
        return read_json(self.body)

    def header(self, name: str) -> str:
        """A header that a signature needs.

        Raises:
            BadSignatureError: if it is not there.
        """
        value = self.headers.get(name)
        if not value:
            raise BadSignatureError(f"{name} is missing")
        return value


def assert_recent(stated: str, tolerance: timedelta) -> None:
    """Refuse what was signed too long ago, or is still to come.

    Raises:
        BadSignatureError: if it was, or no time can be read.
    """
    age = precise_clock() - moment_of(stated)
    if not -TOLERANCE <= age <= tolerance:
        raise BadSignatureError("the signature is too old")


def moment_of(stated: str) -> datetime:
    """A moment in seconds since 1970, as ISO 8601 or as HTTP writes dates; naive UTC.

    Raises:
        BadSignatureError: if it is none of them.
    """
    for read in (
        lambda text: datetime.fromtimestamp(float(text), UTC),
        datetime.fromisoformat,
        parsedate_to_datetime,
    ):
        try:
            moment: datetime = read(stated)
            return (
                moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
            )
        except (ValueError, OverflowError, OSError):
            continue
    raise BadSignatureError("the timestamp is none")


def objects_in(value: Any) -> Sequence[Mapping[str, Any]]:
    """A list of JSON objects.

    Raises:
        BadRequestError: if it is none.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRequestError("expected a list of JSON objects")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def digest(event: Mapping[str, Any]) -> str:
    """An id for an event that came without: the same for the same event."""
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()[:32]
