"""Push, email and texts by OneSignal: a message of one key is sent once in 30 days.

https://documentation.onesignal.com/reference/idempotent-notification-requests
"""

from datetime import timedelta
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid3

import httpx2
from pydantic import Field

from activations.addresses import PHONE_NUMBER
from activations.channels import DeliveryClass
from activations.channels.http import (
    Api,
    HttpDestination,
    Limits,
    Request,
    fitting,
    mail_address_of,
    said,
)
from activations.channels.options import Credential, Options, Surroundings, Url
from activations.ledger import BOUNCED, Outcome
from activations.registry import CHANNELS, ChannelRule
from activations.render import Message

# Far below what is allowed; Retry-After says when it is too much.
LIMITS = Limits(
    calls_per_second=100,
    calls_at_once=8,
    source="https://documentation.onesignal.com/reference/rate-limits",
    read_on="2026-11-27",
)


class OneSignalOptions(Options):
    """`onesignal`: an app of OneSignal's; of devices it has its own ids."""

    takes = "push, email and texts"

    destination: Literal["onesignal"]
    app_id: str = Field(
        pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="the app",
        examples=["4b7a2f0e-1f2d-4c61-9d2c-6f3c1a2b3c4d"],
    )
    api_key: Credential = Field(
        description="the place of the app's API key",
        examples=["{env: ONESIGNAL_API_KEY}"],
    )
    sms_from: str | None = Field(
        default=None,
        pattern=PHONE_NUMBER,
        description="the number that texts are from",
        examples=["'+4915112345678'"],
    )
    url: Url = Field(
        default="https://api.onesignal.com",
        description="the API",
        examples=["https://api.onesignal.com"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Devices, email addresses and phones."""
        return rule.address_type == "device_token" or rule.message_form in (
            "email",
            "sms",
        )

    def open(self, surroundings: Surroundings) -> "OneSignalDestination":
        """The app."""
        key = self.api_key.read_header(surroundings)
        api = Api(
            "onesignal",
            self.url,
            limits=LIMITS,
            clock=surroundings.clock,
            headers={"authorization": f"Key {key}"},
        )
        return OneSignalDestination(api, self)


class NotificationRequest(Request):
    """What sends a message to one address."""

    app_id: str
    idempotency_key: str
    name: str
    include_subscription_ids: tuple[str, ...] | None = None
    email_to: tuple[str, ...] | None = None
    include_phone_numbers: tuple[str, ...] | None = None
    headings: dict[str, str] | None = None
    contents: dict[str, str] | None = None
    url: str | None = None
    email_subject: str | None = Field(default=None, min_length=1)
    email_body: str | None = Field(default=None, min_length=1)
    sms_from: str | None = None
    data: dict[str, str] | None = None


class Phone(Request):
    """A number that a text can go to."""

    number: str = Field(pattern=PHONE_NUMBER)


class OneSignalDestination(HttpDestination):
    """Creates one message a call, under a key that its send's id gives."""

    name = "onesignal"
    delivery_class = DeliveryClass("key", within=timedelta(days=29))
    batch_size = 64

    def __init__(self, api: Api, options: OneSignalOptions) -> None:
        super().__init__(api, LIMITS)
        self._options = options

    def call(self, message: Message) -> httpx2.Response:
        """Have it sent now."""
        body = fitting(
            NotificationRequest,
            app_id=self._options.app_id,
            # of one name always the same; other versions are not taken everywhere
            idempotency_key=str(uuid3(NAMESPACE_URL, message.send_id)),
            name=message.content_id,
            **self._shown(message),
        )
        return self._api.call("POST", "/notifications", json=body)

    def _shown(self, message: Message) -> dict[str, Any]:
        fields = message.fields
        form = CHANNELS[message.channel].message_form
        if form == "email":
            return {
                "email_to": (mail_address_of(message),),
                "email_subject": fields["subject"],
                "email_body": fields["html"],
            }
        if form == "sms":
            fitting(Phone, number=message.address)
            return {
                "include_phone_numbers": (message.address,),
                "contents": {"en": fields["body"]},
                "sms_from": self._options.sms_from,
            }
        return {
            "include_subscription_ids": (message.address,),
            "headings": {"en": fields["title"]},
            "contents": {"en": fields["body"]},
            "url": fields["link"],
            "data": {"send_id": message.send_id},
        }

    def receipt(self, response: httpx2.Response) -> str | None:
        """The id of the message."""
        return said(response).get("id")

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """Success without an id: nobody at this address is subscribed."""
        if response.is_success and not said(response).get("id"):
            return Outcome(send_id, "dead", f"{BOUNCED}: onesignal_not_subscribed")
        return None
