"""Events to Klaviyo, whose flows write to people: an event of one id counts once.

A repeat is no backfill: a backfilled event starts no flow, and if the first was never
taken nobody would be written to.

https://developers.klaviyo.com/en/reference/create_event
"""

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
)
from activations.channels.options import Credential, Options, Surroundings, Url
from activations.registry import CHANNELS, ChannelRule
from activations.render import Message

REVISION = "2026-10-15"
# 3,500 a minute, 350 in one second.
LIMITS = Limits(
    calls_per_second=58,
    calls_at_once=8,
    source="https://developers.klaviyo.com/en/reference/create_event",
    read_on="2026-11-25",
)
MEDIA_TYPE = "application/vnd.api+json"
# How Klaviyo calls an address of each type.
IDENTIFIERS = {
    "email": "email",
    "phone": "phone_number",
    "app_user": "external_id",
    "web_user": "external_id",
}


class KlaviyoOptions(Options):
    """`klaviyo`: an account in which a flow waits for an event."""

    takes = "channels to people with an email, a phone or an id"

    destination: Literal["klaviyo"]
    api_key: Credential = Field(
        description="the place of a private key that may write events",
        examples=["{env: KLAVIYO_API_KEY}"],
    )
    metric: str = Field(
        default="Rekindle Message",
        min_length=1,
        max_length=127,
        description="the name of the event",
        examples=["Rekindle Message"],
    )
    url: Url = Field(
        default="https://a.klaviyo.com",
        description="the API",
        examples=["https://a.klaviyo.com"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Whoever Klaviyo can know."""
        return rule.address_type in IDENTIFIERS

    def open(self, surroundings: Surroundings) -> "KlaviyoDestination":
        """The account."""
        key = self.api_key.read_header(surroundings)
        api = Api(
            "klaviyo",
            self.url,
            limits=LIMITS,
            clock=surroundings.clock,
            headers={
                "authorization": f"Klaviyo-API-Key {key}",
                "revision": REVISION,
                # a revision that is no more is to be refused, not read as another
                "x-klaviyo-revision-fall-forward-opt-out": "1",
                "accept": MEDIA_TYPE,
                "content-type": MEDIA_TYPE,
            },
        )
        return KlaviyoDestination(api, metric=self.metric)


class MetricName(Request):
    """What happened."""

    name: str = Field(min_length=1, max_length=127)


class Metric(Request):
    """The metric, as a resource."""

    type: Literal["metric"] = "metric"
    attributes: MetricName


class Identity(Request):
    """To whom it happened."""

    email: str | None = Field(default=None, min_length=3, max_length=254)
    phone_number: str | None = Field(default=None, pattern=PHONE_NUMBER)
    external_id: str | None = Field(default=None, min_length=1)


class Profile(Request):
    """The profile, as a resource."""

    type: Literal["profile"] = "profile"
    attributes: Identity


class OfMetric(Request):
    """The data of a metric."""

    data: Metric


class OfProfile(Request):
    """The data of a profile."""

    data: Profile


class EventAttributes(Request):
    """An event that counts once per profile, metric and id."""

    properties: dict[str, str] = Field(max_length=400)
    time: str
    unique_id: str = Field(min_length=1)
    metric: OfMetric
    profile: OfProfile


class Event(Request):
    """The event, as a resource."""

    type: Literal["event"] = "event"
    attributes: EventAttributes


class EventRequest(Request):
    """What creates an event (`EventCreateQueryV2`)."""

    data: Event


class KlaviyoDestination(HttpDestination):
    """Creates one event a message; never by a bulk job, which fails as a whole."""

    name = "klaviyo"
    delivery_class = DeliveryClass("key")
    batch_size = 64

    def __init__(self, api: Api, *, metric: str) -> None:
        super().__init__(api, LIMITS)
        self._metric = metric

    def call(self, message: Message) -> httpx2.Response:
        """Have the event recorded."""
        identifier = IDENTIFIERS[CHANNELS[message.channel].address_type]
        is_mail = identifier == "email"
        address = mail_address_of(message) if is_mail else message.address
        body = fitting(
            EventRequest,
            data={
                "attributes": {
                    "properties": {
                        "send_id": message.send_id,
                        "channel": message.channel,
                        "content_id": message.content_id,
                        **message.fields,
                    },
                    "time": f"{message.as_of.isoformat(timespec='seconds')}+00:00",
                    "unique_id": message.send_id,
                    "metric": {"data": {"attributes": {"name": self._metric}}},
                    "profile": {"data": {"attributes": {identifier: address}}},
                }
            },
        )
        return self._api.call("POST", "/api/events", json=body)

    def receipt(self, response: httpx2.Response) -> None:
        """None is given: the id is the sender's."""
