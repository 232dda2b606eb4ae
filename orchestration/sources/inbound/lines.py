"""Lines of the Segment spec, as this service writes them about somebody."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from orchestration.settings import EPOCH, parse_moment
from orchestration.sources.inbound.journal import Line


class BadRequestError(ValueError):
    """A body that cannot be read as what it should be; says what is wrong with it."""


def track(
    event: str,
    message_id: str,
    person: Mapping[str, str],
    properties: Mapping[str, Any],
    *,
    at: object = None,
) -> Line:
    """One track call; without a time that can be read it happened when it came."""
    moment = moment_text(at)
    return {
        "type": "track",
        "event": event,
        "messageId": message_id,
        **person,
        **({"timestamp": moment} if moment else {}),
        "properties": {
            name: value for name, value in properties.items() if value is not None
        },
    }


def person(*identifiers: object, user_id: object = None) -> dict[str, str]:
    """Who somebody is: by the user id, else by the first identifier that is there."""
    if user_id not in (None, ""):
        return {"userId": str(user_id)}
    known = (str(found) for found in identifiers if found not in (None, ""))
    return {"anonymousId": found} if (found := next(known, None)) else {}


def moment_text(at: object) -> str | None:
    """Seconds since 1970, or a text that already says when, as ISO 8601."""
    try:
        text = iso(EPOCH + timedelta(seconds=float(str(at))))
    except (ValueError, OverflowError):
        text = str(at)
    try:
        parse_moment(text)
    except ValueError:
        return None
    return text


def iso(moment: datetime) -> str:
    """A naive UTC moment as ISO 8601, to the millisecond."""
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def read_json(body: bytes) -> Any:
    """A body as JSON, which has no NaN.

    Raises:
        BadRequestError: if it is none.
    """

    def refuse(word: str) -> None:
        raise BadRequestError(f"the body is no JSON: {word}")

    try:
        return json.loads(body, parse_constant=refuse)
    except BadRequestError:
        raise
    except (ValueError, RecursionError):
        raise BadRequestError("the body is no JSON") from None
