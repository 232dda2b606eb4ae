"""Events to Braze, and its transactional email.

An event of `/users/track` counts each time it comes: a doubt stays one. A transactional
email is sent once per `external_send_id` within 24 hours.

https://www.braze.com/docs/api/endpoints/user_data/post_user_track
https://www.braze.com/docs/api/endpoints/messaging/send_messages/post_send_transactional_message
"""

from datetime import timedelta
from typing import Literal

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
from activations.ledger import Outcome
from activations.registry import CHANNELS, ChannelRule
from activations.render import Message

# 3,000 calls in three seconds.
TRACK_LIMITS = Limits(
    calls_per_second=1000,
    source="https://www.braze.com/docs/api/api_limits",
    read_on="2026-11-25",
)
# 250,000 an hour, shared with other calls.
SEND_LIMITS = Limits(
    calls_per_second=69,
    calls_at_once=8,
    source="https://www.braze.com/docs/api/api_limits",
    read_on="2026-11-25",
)
# How Braze calls an address of each type.
IDENTIFIERS = {
    "email": "email",
    "phone": "phone",
    "app_user": "external_id",
    "web_user": "external_id",
}


class BrazeOptions(Options):
    """`braze`: a workspace in which a campaign waits for an event."""

    takes = "channels to people with an email, a phone or an id"

    destination: Literal["braze"]
    url: Url = Field(
        description="the REST endpoint of the cluster",
        examples=["https://rest.iad-01.braze.com"],
    )
    api_key: Credential = Field(
        description="the place of a key with users.track",
        examples=["{env: BRAZE_API_KEY}"],
    )
    event: str = Field(
        default="Rekindle Message",
        min_length=1,
        max_length=255,
        description="the name of the event",
        examples=["Rekindle Message"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Whoever Braze can know."""
        return rule.address_type in IDENTIFIERS

    def open(self, surroundings: Surroundings) -> "BrazeDestination":
        """The workspace."""
        key = self.api_key.read_header(surroundings)
        api = Api(
            "braze",
            self.url,
            limits=TRACK_LIMITS,
            clock=surroundings.clock,
            headers={"authorization": f"Bearer {key}"},
        )
        return BrazeDestination(api, event=self.event)


class TrackedEvent(Request):
    """Something that happened to one person."""

    email: str | None = None
    phone: str | None = Field(default=None, pattern=PHONE_NUMBER)
    external_id: str | None = Field(default=None, min_length=1)
    name: str = Field(min_length=1, max_length=255)
    time: str
    properties: dict[str, str]


class TrackRequest(Request):
    """What `/users/track` takes."""

    events: tuple[TrackedEvent, ...] = Field(min_length=1, max_length=75)


class BrazeDestination(HttpDestination):
    """Tracks one event a message."""

    name = "braze"

    def __init__(self, api: Api, *, event: str) -> None:
        super().__init__(api, TRACK_LIMITS)
        self._event = event

    def call(self, message: Message) -> httpx2.Response:
        """Have the event recorded."""
        identifier = IDENTIFIERS[CHANNELS[message.channel].address_type]
        is_mail = identifier == "email"
        address = mail_address_of(message) if is_mail else message.address
        event = {
            identifier: address,
            "name": self._event,
            "time": f"{message.as_of.isoformat()}Z",
            "properties": properties_of(message),
        }
        body = fitting(TrackRequest, events=(event,))
        return self._api.call("POST", "/users/track", json=body)

    def receipt(self, response: httpx2.Response) -> None:
        """None is given."""

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """Success, with the event among the errors."""
        if response.is_success and said(response).get("errors"):
            return Outcome(send_id, "dead", "braze_event_refused")
        return None


class BrazeEmailOptions(Options):
    """`braze_email`: a transactional campaign of a workspace."""

    takes = "email"

    destination: Literal["braze_email"]
    url: Url = Field(
        description="the REST endpoint of the cluster",
        examples=["https://rest.iad-01.braze.com"],
    )
    api_key: Credential = Field(
        description="the place of a key with transactional.send",
        examples=["{env: BRAZE_API_KEY}"],
    )
    campaign_id: str = Field(
        pattern="^[0-9a-f-]{8,64}$",
        description="the transactional campaign",
        examples=["4b7a2f0e-1f2d-4c61-9d2c-6f3c1a2b3c4d"],
    )
    alias_label: str = Field(
        default="email",
        min_length=1,
        description="the label of the aliases that are email addresses",
        examples=["email"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Email alone."""
        return rule.message_form == "email"

    def open(self, surroundings: Surroundings) -> "BrazeEmailDestination":
        """The campaign."""
        key = self.api_key.read_header(surroundings)
        api = Api(
            "braze_email",
            self.url,
            limits=SEND_LIMITS,
            clock=surroundings.clock,
            headers={"authorization": f"Bearer {key}"},
        )
        return BrazeEmailDestination(api, self)


class Alias(Request):
    """Who is meant, by an alias."""

    alias_name: str = Field(min_length=3)
    alias_label: str


class Recipient(Request):
    """The one who is written to."""

    user_alias: Alias


class TransactionalRequest(Request):
    """What sends a transactional email."""

    external_send_id: str = Field(pattern=r"^[A-Za-z0-9_+/=-]{1,128}$")
    trigger_properties: dict[str, str]
    recipient: Recipient


class BrazeEmailDestination(HttpDestination):
    """Sends each email under its send's id, which Braze knows for a day."""

    name = "braze_email"
    # an hour less than is promised: a clock may differ
    delivery_class = DeliveryClass("key", within=timedelta(hours=23))
    batch_size = 64

    def __init__(self, api: Api, options: BrazeEmailOptions) -> None:
        super().__init__(api, SEND_LIMITS)
        self._alias_label = options.alias_label
        self._path = f"/transactional/v1/campaigns/{options.campaign_id}/send"

    def call(self, message: Message) -> httpx2.Response:
        """Have it sent now."""
        alias = {
            "alias_name": mail_address_of(message),
            "alias_label": self._alias_label,
        }
        body = fitting(
            TransactionalRequest,
            external_send_id=message.send_id,
            trigger_properties=properties_of(message),
            recipient={"user_alias": alias},
        )
        return self._api.call("POST", self._path, json=body)

    def receipt(self, response: httpx2.Response) -> str | None:
        """The id of the dispatch."""
        return said(response).get("dispatch_id")


def properties_of(message: Message) -> dict[str, str]:
    """What a campaign may show of a message."""
    return {
        "send_id": message.send_id,
        "channel": message.channel,
        "content_id": message.content_id,
        **message.fields,
    }
