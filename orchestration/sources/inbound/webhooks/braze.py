"""Braze Currents by its custom HTTP connector, let in by a bearer token.

https://www.braze.com/docs/user_guide/data/distribution/braze_currents
"""

import hmac
from collections.abc import Mapping
from typing import Any

from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import BadRequestError, person, track
from orchestration.sources.inbound.webhooks import (
    BadSignatureError,
    Call,
    digest,
    mapping,
    objects_in,
)


class Braze:
    """Who holds the token of an export."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def lines(self, call: Call) -> list[Line]:
        """One line per event, by Braze's name for it."""
        stated = call.header("authorization")
        if not hmac.compare_digest(stated.encode(), self._expected):
            raise BadSignatureError("token")
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        return [braze_line(event) for event in objects_in(body.get("events"))]


def braze_line(event: Mapping[str, Any]) -> Line:
    """A Currents event of the user that it names."""
    user = mapping(event.get("user"))
    properties = mapping(event.get("properties"))
    email = properties.get("email_address")
    phone = properties.get("to_phone_number") or properties.get("user_phone_number")
    return track(
        str(event.get("event_type", "")),
        f"braze-{event.get('id') or digest(event)}",
        person(email, phone, user.get("user_id"), user_id=user.get("external_user_id")),
        {**properties, "phone": phone},
        at=event.get("time"),
    )
