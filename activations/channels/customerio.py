"""Events to Customer.io. It promises no key for repeats: a doubt stays one.

https://docs.customer.io/integrations/api/track/tag/track-events/track/
"""

from datetime import UTC
from typing import Literal
from urllib.parse import quote

import httpx2
from pydantic import Field

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

# 3,000 calls in three seconds.
LIMITS = Limits(
    calls_per_second=1000,
    source="https://docs.customer.io/integrations/api/track/",
    read_on="2026-11-27",
)


class CustomerIoOptions(Options):
    """`customerio`: a workspace in which a campaign waits for an event."""

    takes = "channels to people with an email or an id"

    destination: Literal["customerio"]
    site_id: Credential = Field(
        description="the place of the site id", examples=["{env: CUSTOMERIO_SITE_ID}"]
    )
    api_key: Credential = Field(
        description="the place of the Track API key",
        examples=["{env: CUSTOMERIO_API_KEY}"],
    )
    event: str = Field(
        default="Rekindle Message",
        min_length=1,
        max_length=100,
        description="the name of the event",
        examples=["Rekindle Message"],
    )
    url: Url = Field(
        default="https://track.customer.io",
        description="the Track API, elsewhere in the EU",
        examples=["https://track-eu.customer.io"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Whoever Customer.io can know."""
        return rule.address_type in ("email", "app_user", "web_user")

    def open(self, surroundings: Surroundings) -> "CustomerIoDestination":
        """The workspace."""
        login = (
            self.site_id.read_header(surroundings),
            self.api_key.read_header(surroundings),
        )
        api = Api(
            "customerio",
            self.url,
            limits=LIMITS,
            clock=surroundings.clock,
            login=login,
        )
        return CustomerIoDestination(api, event=self.event)


class EventRequest(Request):
    """What tracks an event."""

    name: str = Field(min_length=1, max_length=100)
    timestamp: int
    data: dict[str, str]


class CustomerIoDestination(HttpDestination):
    """Tracks one event a message."""

    name = "customerio"

    def __init__(self, api: Api, *, event: str) -> None:
        super().__init__(api, LIMITS)
        self._event = event

    def call(self, message: Message) -> httpx2.Response:
        """Have the event recorded."""
        is_mail = CHANNELS[message.channel].address_type == "email"
        person = mail_address_of(message) if is_mail else message.address
        body = fitting(
            EventRequest,
            name=self._event,
            timestamp=int(message.as_of.replace(tzinfo=UTC).timestamp()),
            data={
                "send_id": message.send_id,
                "channel": message.channel,
                "content_id": message.content_id,
                **message.fields,
            },
        )
        path = f"/api/v1/customers/{quote(person, safe='')}/events"
        return self._api.call("POST", path, json=body)

    def receipt(self, response: httpx2.Response) -> None:
        """None is given."""
