"""Any receiver of Standard Webhooks: signed JSON, the send's id as the message's id.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx2
from pydantic import Field
from standardwebhooks.webhooks import Webhook

from activations.channels import DeliveryClass
from activations.channels.http import Api, HttpDestination, Limits
from activations.channels.options import (
    Credential,
    CredentialError,
    Options,
    Surroundings,
    Url,
)
from activations.parts import Duration
from activations.registry import ChannelRule
from activations.render import Message

LIMITS = Limits(
    calls_per_second=100,
    calls_at_once=8,
    source="the receiver says so by Retry-After",
    read_on="2026-11-25",
)


class WebhookOptions(Options):
    """`webhook`: a receiver that checks signatures and takes each id once."""

    takes = "any channel"

    destination: Literal["webhook"]
    url: Url = Field(
        description="where messages are posted", examples=["https://x.example/in"]
    )
    secrets: tuple[Credential, ...] = Field(
        min_length=1,
        description="places of the signing secrets; several while they change",
        examples=["[{env: WEBHOOK_SECRET}]"],
    )
    remembers: Duration = Field(
        default=timedelta(hours=24),
        gt=timedelta(0),
        description="how long the receiver knows an id that it took",
        examples=["24h"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Any message can be posted."""
        return True

    def open(self, surroundings: Surroundings) -> "WebhookDestination":
        """The receiver, with the secrets to sign by."""
        signers = []
        for place in self.secrets:
            try:
                signers.append(Webhook(place.read(surroundings).get_secret_value()))
            except CredentialError:
                raise
            except Exception:
                raise CredentialError(
                    f"{place.file or place.env} holds no base64, as whsec_..."
                ) from None
        return WebhookDestination(
            Api("webhook", self.url, limits=LIMITS, clock=surroundings.clock),
            signers,
            remembers=self.remembers,
            clock=surroundings.clock,
        )


class WebhookDestination(HttpDestination):
    """Posts each message; a repeat has the same id and the same body."""

    name = "webhook"
    batch_size = 64

    def __init__(
        self,
        api: Api,
        signers: Sequence[Webhook],
        *,
        remembers: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(api, LIMITS)
        self.delivery_class = DeliveryClass("key", within=remembers)
        self._signers = signers
        self._clock = clock

    def call(self, message: Message) -> httpx2.Response:
        """Post it, signed for the moment of the attempt."""
        now = self._clock()
        timestamp = int(now.replace(tzinfo=UTC).timestamp())
        body = json.dumps(
            {
                "type": "message.send",
                "timestamp": f"{message.as_of.isoformat()}Z",
                "data": {
                    "send_id": message.send_id,
                    "channel": message.channel,
                    "address": message.address,
                    "content_id": message.content_id,
                    "message": dict(message.fields),
                },
            },
            ensure_ascii=False,
        )
        signatures = [
            signer.sign(message.send_id, now, body) for signer in self._signers
        ]
        return self._api.call(
            "POST",
            "",
            content=body.encode(),
            headers={
                "content-type": "application/json",
                "webhook-id": message.send_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": " ".join(signatures),
            },
        )

    def receipt(self, response: httpx2.Response) -> None:
        """A receiver gives none: the id is the sender's."""
