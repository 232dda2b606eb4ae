"""SendGrid's event webhook, signed by ECDSA over timestamp and body.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import person, track
from orchestration.sources.inbound.webhooks import (
    BadSignatureError,
    Call,
    assert_recent,
    digest,
    objects_in,
)

LATE_TOLERANCE = timedelta(hours=25)
"""SendGrid tries for a day, and does not say whether it signs each try anew."""


class SendGrid:
    """Who holds SendGrid's verification key."""

    def __init__(self, key: str) -> None:
        # of which kind it is, the settings have seen
        self._key = cast(
            EllipticCurvePublicKey, load_der_public_key(base64.b64decode(key))
        )

    def lines(self, call: Call) -> list[Line]:
        """One line per event; `send_id` is the custom argument of that name."""
        signature = call.header("x-twilio-email-event-webhook-signature")
        stated = call.header("x-twilio-email-event-webhook-timestamp")
        try:
            self._key.verify(
                base64.b64decode(signature, validate=True),
                stated.encode() + call.body,
                ECDSA(SHA256()),
            )
        except (InvalidSignature, ValueError):
            raise BadSignatureError("signature") from None
        assert_recent(stated, LATE_TOLERANCE)
        return [
            sendgrid_line(event)
            for event in objects_in(call.json())
            if event.get("event") != "processed"
        ]


def sendgrid_line(event: Mapping[str, Any]) -> Line:
    """A SendGrid event under its own name: `bounce` is an Email Bounce."""
    name = str(event.get("event"))
    if (name, event.get("type")) == ("bounce", "blocked"):
        name = "blocked"
    taken = ("event", "timestamp", "ip", "url", "useragent")
    return track(
        f"Email {name.replace('_', ' ').title()}",
        f"sendgrid-{event.get('sg_event_id') or digest(event)}",
        person(event.get("email")),
        {
            **{key: value for key, value in event.items() if key not in taken},
            "channel": "email",
            "link_url": event.get("url"),
            "user_agent": event.get("useragent"),
        },
        at=event.get("timestamp"),
    )
