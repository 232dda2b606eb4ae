"""Webhooks of any tool by https://www.standardwebhooks.com.

A body that is a message of the Segment spec, or a batch of them, is taken as it is; any
other is one event: its `type`, `timestamp` and `data`.
"""

from collections.abc import Mapping
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from orchestration.sources.envelope import TYPES
from orchestration.sources.inbound.collect import messages_in
from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import BadRequestError, person, track
from orchestration.sources.inbound.webhooks import BadSignatureError, Call, mapping


class Standard:
    """Who holds the secret of a webhook."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)

    def lines(self, call: Call) -> list[Line]:
        """The lines of one webhook."""
        try:
            self._webhook.verify(call.body, dict(call.headers), json_parse=False)
        # what it raises where a signature is no base64, or a body no UTF-8
        except (WebhookVerificationError, ValueError):
            raise BadSignatureError("signature") from None
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        webhook_id = call.header("webhook-id")
        if "batch" in body:
            return [
                {**message, "messageId": own_id(each) or f"{webhook_id}-{index}"}
                for index, (each, message) in enumerate(
                    zip(body["batch"], messages_in("batch", body), strict=True)
                )
            ]
        if body.get("type") in TYPES:
            (message,) = messages_in(str(body["type"]), body)
            return [{**message, "messageId": own_id(body) or webhook_id}]
        data = mapping(body.get("data"))
        return [
            track(
                str(body.get("type", "")),
                webhook_id,
                person(
                    *(data.get("anonymousId"), data.get("email"), data.get("phone")),
                    user_id=data.get("userId") or data.get("user_id"),
                ),
                data,
                at=body.get("timestamp"),
            )
        ]


def own_id(message: Mapping[str, Any]) -> Any:
    """The id that a message came with."""
    return message.get("messageId") or message.get("message_id")
