"""Klaviyo's system webhooks, signed by HMAC-SHA256 over body and timestamp.

https://developers.klaviyo.com/en/docs/working_with_system_webhooks
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import BadRequestError, person, track
from orchestration.sources.inbound.webhooks import (
    TOLERANCE,
    BadSignatureError,
    Call,
    assert_recent,
    digest,
    mapping,
    objects_in,
)


class Klaviyo:
    """Who holds the secret of a webhook."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def lines(self, call: Call) -> list[Line]:
        """One line per event, by the name of its metric, else of its topic."""
        signature = call.header("klaviyo-signature")
        stated = call.header("klaviyo-timestamp")
        signed = hmac.new(self._secret, call.body + stated.encode(), hashlib.sha256)
        if not hmac.compare_digest(signed.hexdigest().encode(), signature.encode()):
            raise BadSignatureError("signature")
        assert_recent(stated, TOLERANCE)
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        meta = mapping(body.get("meta"))
        if meta.get("klaviyo_webhook_id") != call.headers.get("klaviyo-webhook-id"):
            raise BadSignatureError("another webhook's body")
        return [klaviyo_line(event) for event in objects_in(body.get("data"))]


def klaviyo_line(event: Mapping[str, Any]) -> Line:
    """A Klaviyo event, of the profile that comes with it."""
    payload = mapping(event.get("payload"))
    data = mapping(payload.get("data")) or payload
    attributes = mapping(data.get("attributes"))
    included = {
        str(one.get("type")): mapping(one.get("attributes"))
        for one in objects_in(payload.get("included") or [])
    }
    profile = included.get("profile", {})
    related = mapping(mapping(data.get("relationships")).get("profile"))
    properties = mapping(attributes.get("event_properties"))
    email = profile.get("email") or properties.get("Recipient Email Address")
    phone = profile.get("phone_number")
    topic = str(event.get("topic", "")).rpartition(".")[2].replace("_", " ").title()
    return track(
        str(included.get("metric", {}).get("name") or topic),
        f"klaviyo-{event.get('external_id') or data.get('id') or digest(event)}",
        person(
            *(email, phone, mapping(related.get("data")).get("id")),
            user_id=profile.get("external_id"),
        ),
        {**properties, "email": email, "phone": phone},
        at=attributes.get("datetime") or attributes.get("timestamp"),
    )
